"""A detection run as `nascli detect` makes it: data, backbone and recipe brought together, results in a run folder.

The folder: `network.json` and `detector.json` (what was built), `checkpoint.pt` and `metrics.jsonl` while it trains,
then `weights.safetensors`, `results.json` (a COCO results file), `detection.json` (the scores), `confusion.json`,
`detections/` (the first images) and `worst/` (those with the lowest average precision).
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nascli.classify.job import device_name
from nascli.config import DetectRecipe, NetworkConfig, load_recipe
from nascli.data.detection.dataset import DetectionData, DetectionSplit
from nascli.data.detection.registry import load_detection_data
from nascli.detect.coco_eval import METRIC, Detection
from nascli.detect.error_analysis import write_error_analysis
from nascli.detect.fit import fit_detector
from nascli.detect.model import (
    DetectorSpec,
    build_detector,
    is_detector,
    read_detector,
    save_detector_weights,
    write_detector,
)
from nascli.detect.plan import DetectPlan
from nascli.detect.state import DetectEpoch, start_state
from nascli.detect.visualize import draw_detections
from nascli.engine.checkpoint import NEWEST, CheckpointStore
from nascli.engine.device import cpu_threads
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.errors import InputError
from nascli.files import write_json, write_text
from nascli.models.families import NETWORK_FILE, build
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import load_network
from nascli.models.spec import Architecture, resolve_network
from nascli.seeding import derive_seed
from nascli.signals import StopRequest

_NOT_IDENTITY = {
    "data": {"data_dir"},
    "detector": {"grad_checkpointing"},
    "train": {"checkpoint_minutes", "checkpoint_steps"},
}
"""What may change when a run is resumed: it does not touch a weight."""


@dataclass(frozen=True)
class DetectJob:
    """What detector is trained, on what, how, and where.

    Args:
        recipe: Every number of the run.
        spec: What was built.
        detector: With the weights to start from (in a resumed run the checkpoint's replace them).
        data: Both splits.
        plan: The unchanging numbers of its training.
        backbone: Where the backbone's weights come from, in words.
    """

    recipe: DetectRecipe
    spec: DetectorSpec
    detector: nn.Module
    data: DetectionData
    plan: DetectPlan
    backbone: str

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return self.plan.device

    @property
    def scored(self) -> DetectionSplit:
        """The split whose average precision is measured."""
        return self.data.train if self.recipe.data.evaluate_on == "train" else self.data.val

    @property
    def identity(self) -> str:
        """SHA-256 over recipe, network, classes, and the amount of data: what a checkpoint belongs to."""
        parts: list[Any] = [
            self.recipe.model_dump(mode="json", exclude=_NOT_IDENTITY),
            self.spec.network.model_dump(mode="json", exclude={"preprocessing"}),  # detection has its own
            [(category.id, category.name) for category in self.spec.categories],
            [len(self.data.train.images), self.data.train.boxes],
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def trained_backbone(folder: Path) -> ImageClassifier:
    """The network of a train run, or of any folder with `network.json` and `weights.safetensors`.

    Raises:
        InputError: The folder holds no trained network.
        CorruptFileError: A file in it is damaged.
    """
    if is_detector(folder):
        raise InputError(f"{folder} is a run of nascli detect, not of nascli train", "Give a train run to --backbone")
    if not (folder / NETWORK_FILE).is_file():
        raise InputError(f"{folder}: there is no {NETWORK_FILE} in it", "Give a train run to --backbone")
    return load_network(folder)


def random_backbone(architecture: Architecture, config: NetworkConfig, seed: int) -> ImageClassifier:
    """A network of fresh weights, which follow from the seed.

    Unless `config` gives a batch-norm momentum it is 0.1: the ImageNet presets' 3e-4 would need many thousand steps
    until the statistics say anything about the network.
    """
    if config.batch_norm_momentum is None:
        config = config.model_copy(update={"batch_norm_momentum": 0.1})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        return build(resolve_network(architecture, config))


def prepare_job(
    recipe: DetectRecipe,
    data: DetectionData,
    network: ImageClassifier,
    *,
    trained: bool,
    backbone: str,
    device: torch.device,
    dist: DistContext = SINGLE_PROCESS,
) -> DetectJob:
    """A new job; the weights of the heads follow from the recipe's seed.

    Args:
        recipe: Every number of the run.
        data: From `load_detection_data`.
        network: The backbone; it becomes part of the detector.
        trained: Whether its weights are trained ones.
        backbone: Where they come from, in words.
        device: Where to compute.
        dist: The processes that do.

    Raises:
        InputError: Numbers that contradict each other.
    """
    if recipe.detector.freeze_batch_norm and not trained:
        raise InputError(
            "detector.freeze_batch_norm = true: the batch norms of random weights have nothing to keep",
            "Give a trained --backbone, or add --set detector.freeze_batch_norm=false",
        )
    plan = DetectPlan.of(recipe, data.train, network.spec, device, dist)
    plan.check_parts()
    spec = DetectorSpec(network.spec, recipe.detector, data.categories)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "heads"))
        detector = build_detector(network, recipe.detector, len(data.categories))
    return DetectJob(recipe, spec, detector, data, plan, backbone)


def reopen_job(
    folder: Path, data_dir: str | None, device: torch.device, dist: DistContext = SINGLE_PROCESS
) -> DetectJob:
    """The job of a run folder, to go on with; its weights come from the checkpoint.

    Args:
        folder: The run.
        data_dir: Where the data lie now; None is where they lay.
        device: Where to compute.
        dist: The processes that do; the first reads the annotations and tells the others.

    Raises:
        InputError: The run was stopped before its first checkpoint, the annotations have other classes now, or the
            device cannot compute what the run needs.
        CorruptFileError: A file is damaged.
    """
    recipe, spec = dist.raise_together(lambda: _read_begun(folder, data_dir))
    data = dist.broadcast_from_main(lambda: load_detection_data(recipe.data))
    if spec.categories != data.categories:
        raise InputError(
            f"{data.train.source}: its categories are not those that the run in {folder} began with",
            "Put the annotations back as they were",
        )
    plan = DetectPlan.of(recipe, data.train, spec.network, device, dist)
    detector = build_detector(build(spec.network), spec.config, len(spec.categories))
    return DetectJob(recipe, spec, detector, data, plan, f"checkpoint in {folder}")


def _read_begun(folder: Path, data_dir: str | None) -> tuple[DetectRecipe, DetectorSpec]:
    if not (folder / NEWEST).is_file():
        raise InputError(
            f"{folder} was stopped before its first checkpoint", "Start it again, with --out and --overwrite"
        )
    recipe = load_recipe(DetectRecipe, folder / "recipe.toml", {"data.data_dir": data_dir})
    return recipe, read_detector(folder)


def run_job(
    job: DetectJob,
    folder: Path | None,
    *,
    stop: StopRequest,
    on_epoch: Callable[[DetectEpoch], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train to the end, from the last checkpoint in `folder` if there is one; score; write everything.

    Args:
        job: What to train.
        folder: A run folder that this process alone writes; None where another of several writes it.
        stop: Looked at after each step.
        on_epoch: Told of each epoch that ends.
        on_step: Told after each step: steps made, mean loss of the epoch so far.
        note: Told what checkpoint is gone on from.

    Returns:
        What `detection.json` holds; without a folder, less the worst images.

    Raises:
        DivergedError: A loss is not finite.
        Interrupted: `stop` was requested; the state is saved.
    """
    with cpu_threads(job.recipe.train.threads):
        if folder is not None:
            write_detector(folder, job.spec)
        store = CheckpointStore(folder, job.identity, note) if folder is not None else None
        state = start_state(job.detector, job.plan)
        score, found = fit_detector(
            state, job.plan, job.data.train, job.scored, store=store, stop=stop, on_step=on_step, on_epoch=on_epoch
        )
        worst = _write_found(job, found, folder) if folder is not None else []
        report = {
            "dataset": job.data.name,
            "split": job.scored.name,
            "metric": METRIC,
            **score.to_dict(),
            "worst_images": worst,
            "cell": job.spec.network.name,
            "params": sum(p.numel() for p in job.detector.parameters() if p.requires_grad),
            "epochs": len(state.records),
            "steps": state.step,
            "train_loss": state.records[-1].train_loss,
            "seconds": round(sum(record.seconds for record in state.records), 1),
            "device": device_name(job.device, job.plan.dist),
        }
        if folder is not None:
            write_json(folder / "detection.json", report)
        return report


def _write_found(job: DetectJob, found: list[Detection], folder: Path) -> list[dict[str, Any]]:
    """Weights, what they find, and pictures of it; the worst images as `detection.json` names them."""
    save_detector_weights(folder, job.detector)
    write_text(folder / "results.json", json.dumps(found) + "\n")
    draw_detections(job.scored, found, folder / "detections")
    return write_error_analysis(job.scored, found, folder)
