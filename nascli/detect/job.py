"""A detection run as `nascli detect` makes it: data, backbone and recipe brought together, results in a run folder.

The folder: `network.json` and `detector.json` (what was built), `checkpoint.pt` and `metrics.jsonl` while it trains,
then `weights.safetensors`, `results.json` (a COCO results file), `detection.json` (the scores), `confusion.json`,
`detections/` (the first images) and `worst/` (those with the lowest average precision).
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nascli.config import DetectRecipe, load_recipe
from nascli.data.detection.dataset import DetectionData, DetectionSplit
from nascli.data.detection.registry import load_detection_data
from nascli.detect.coco_eval import METRIC, Detection
from nascli.detect.confusion import write_error_analysis
from nascli.detect.model import DetectorSpec, build_detector, is_detector, read_detector, write_detector
from nascli.detect.results_file import DETECTION_FILE, RESULTS_FILE, format_results, hash_results
from nascli.detect.sampler import BatchSampler
from nascli.detect.task import DetectTask
from nascli.detect.visualize import draw_detections
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.device import check_precision, cpu_threads, temporary_seed
from nascli.engine.dist import SINGLE_PROCESS, DistContext, device_name
from nascli.engine.fit import fit, leave_if_stopped
from nascli.engine.start import Start, resume_start
from nascli.engine.task import Run, TrainPlan
from nascli.errors import DeviceMemoryError, InputError
from nascli.files import write_text, writing
from nascli.models.families import build
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import WEIGHTS_FILE, save_weights
from nascli.records import sha256_json, write_record
from nascli.runs.find import check_same_data, read_run
from nascli.runs.record import RUN_FILE, START_FILE, check_recipe_file, with_changes

MAY_MOVE = ("dataset", "data_dir", "max_megapixels")
"""Of a recipe's `data`: where they lie and how they are read; which they are is compared."""

_RESTORE = "Put the annotations back as they were, say where they lie with --dataset or --data-dir, or start a new run"

_MAY_CHANGE = {
    "data": set(MAY_MOVE),
    "detector": {"grad_checkpointing"},
    "train": {"checkpoint_minutes", "checkpoint_steps"},
}
"""Keys that may change when a run is resumed: they do not touch a weight."""


@dataclass(frozen=True)
class DetectJob:
    """A detector to train, with its data and the processes that train it.

    Args:
        detector: With the weights to start from (in a resumed run the checkpoint's replace them).
        backbone: The origin of the backbone's weights, in words.
        start: The same weights as they are kept in the run folder; None where they follow from the seed.
    """

    recipe: DetectRecipe
    spec: DetectorSpec
    detector: nn.Module
    data: DetectionData
    sampler: BatchSampler
    backbone: str
    device: torch.device
    dist: DistContext = SINGLE_PROCESS
    start: Start | None = None

    @property
    def plan(self) -> TrainPlan:
        """Batches and steps."""
        return self.sampler.plan

    @property
    def scored(self) -> DetectionSplit:
        """The split whose average precision is measured."""
        return self.data.train if self.recipe.data.evaluate_on == "train" else self.data.val

    @property
    def identity(self) -> str:
        """SHA-256 over recipe, network and data: what a checkpoint belongs to."""
        values: list[Any] = [
            self.recipe.model_dump(mode="json", exclude=_MAY_CHANGE),
            self.spec.network.model_dump(mode="json", exclude={"preprocessing"}),  # detection has its own
            self.describe_data()["sha256"],
            *([self.start.sha256] if self.start else []),
        ]
        return sha256_json(values)

    def describe_data(self) -> dict[str, Any]:
        """The data as `run.json` names them, so that a resumed run is known to have the same.

        Returns:
            `name`; images and boxes of both splits; `sha256` over classes and annotations of both, wherever they lie.
            An image that another of its size has replaced is not noticed.
        """
        digest = hashlib.sha256(json.dumps([(each.id, each.name) for each in self.data.categories]).encode())
        counts: dict[str, int] = {}
        for name, split in (("train", self.data.train), ("val", self.scored)):
            counts |= {f"{name}_images": len(split.images), f"{name}_boxes": split.boxes}
            for image in split.images:
                digest.update(f"{image.id} {image.width} {image.height}\n".encode())
                for values in (image.boxes, image.labels, image.areas, image.crowd):
                    digest.update(values.tobytes())
        return {"name": self.data.name, **counts, "sha256": digest.hexdigest()}

    def task(self, run: Run) -> DetectTask:
        """The job as a task of the engine; it trains `detector` in place."""
        return DetectTask(self.detector, self.data.train, self.scored, self.sampler, run)


def prepare_detect_job(
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
        network: The backbone; it becomes part of the detector.
        trained: Whether its weights are trained ones.
        backbone: Their origin, in words.

    Raises:
        InputError: Numbers that contradict each other, or a precision that the device cannot train in.
    """
    if recipe.detector.freeze_batch_norm and not trained:
        raise InputError(
            "detector.freeze_batch_norm = true: the batch norms of random weights have nothing to keep",
            "Give a trained --backbone, or add --set detector.freeze_batch_norm=false",
        )
    check_precision(recipe.train, device)
    sampler = BatchSampler.of(recipe, data.train, network.spec.mean, dist)
    sampler.plan.check_micro_batches()
    spec = DetectorSpec(network.spec, recipe.detector, data.categories)
    with temporary_seed(recipe.seed, "heads"):
        detector = build_detector(network, recipe.detector, len(data.categories))
    return DetectJob(recipe, spec, detector, data, sampler, backbone, device, dist)


def resume_detect_job(
    folder: Path,
    device: torch.device,
    dist: DistContext = SINGLE_PROCESS,
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> DetectJob:
    """The job of a run folder; its weights come from the checkpoint, or before the first one from where they did.

    Of several processes the first reads the annotations for all.

    Args:
        dataset: What the same data are called now; None is what they were called.
        data_dir: Where the data are now; None is where they were.
        note: Called with what was changed in `recipe.toml`.

    Raises:
        InputError: The run was stopped before it wrote what it trains, the data are not the same any more (see
            `DetectJob.describe_data`), or the device cannot train in the run's precision.
        CorruptFileError: A file is damaged.
    """
    moved = {"data.dataset": dataset, "data.data_dir": data_dir}
    changes = dist.raise_together(lambda: _check_recipe(folder, note))
    recipe, spec, start = dist.raise_together(lambda: _read_run(folder, moved))
    check_precision(recipe.train, device)
    with with_changes(changes):
        data = dist.broadcast_from_main(lambda: load_detection_data(recipe.data))
        with temporary_seed(recipe.seed, "init"):
            network = build(spec.network)
        with temporary_seed(recipe.seed, "heads"):
            detector = build_detector(network, spec.config, len(spec.categories))
        if start is not None:
            start.fill(detector)
        sampler = BatchSampler.of(recipe, data.train, spec.network.mean, dist)
        job = DetectJob(recipe, spec, detector, data, sampler, f"checkpoint in {folder}", device, dist, start)
        if spec.categories != data.categories:
            what = f"{data.train.source}: its categories are not those that the run in {folder} began with"
            raise InputError(what, _RESTORE)
        if (folder / "run.json").is_file():
            check_same_data(folder, job.describe_data(), _describe_counts, _RESTORE)
    return job


def _check_recipe(folder: Path, note: Callable[[str], None]) -> list[str]:
    if not (is_detector(folder) and (folder / RUN_FILE).is_file()):
        return []
    return check_recipe_file(DetectRecipe, read_run(folder, "detect"), folder, _MAY_CHANGE, note)


def _read_run(folder: Path, moved: Mapping[str, object]) -> tuple[DetectRecipe, DetectorSpec, Start | None]:
    """Recipe and detector of a run, and the weights that it begins with, unless they follow from the seed."""
    if not is_detector(folder):
        raise InputError(f"{folder} was stopped before it began", "Start it again, with --out and --overwrite")
    record = read_run(folder, "detect") if (folder / RUN_FILE).is_file() else {}
    recipe = load_recipe(DetectRecipe, folder / "recipe.toml", moved)
    return recipe, read_detector(folder), resume_start(record, folder)


def run_detect_job(job: DetectJob, folder: Path | None, run: Run) -> dict[str, Any]:
    """Train to the end, from the last checkpoint in `folder` if there is one; measure; write all files.

    Returns:
        The content of `detection.json`; without a folder it has no worst images.

    Raises:
        NascliError: See `train_detector` and `write_detections`.
    """
    report, detections = train_detector(job, folder, run)
    return report if folder is None else write_detections(job, report, detections, folder)


def train_detector(job: DetectJob, folder: Path | None, run: Run) -> tuple[dict[str, Any], list[Detection]]:
    """Train to the end, from the last checkpoint in `folder` if there is one; measure.

    Args:
        job: Its detector is trained in place, on the device and by the processes of `run`.
        folder: A run folder that this process alone writes; None where another of several writes it.

    Returns:
        The scores and the cost of the training, and the detections behind the scores.

    Raises:
        DivergedError: A loss or a gradient is not finite.
        Interrupted: `run.stop` was requested; the state is saved.
        DeviceMemoryError: The device cannot hold one image.
        NascliError: The folder cannot be written.
    """
    recipe, task = job.recipe, job.task(run)
    with cpu_threads(recipe.train.threads):
        store = None
        if folder is not None:
            write_detector(folder, job.spec)
            store = CheckpointStore(folder, job.identity, run.log, "detect")
        try:
            state = fit(task, recipe.seed, run, store)
            records = state.records
            is_last = state.kept == len(records) and records[-1].metrics["ap"] is not None
            measured = task.result if is_last else None
            score, detections = measured or task.measure(job.detector, lambda: leave_if_stopped(run, store))
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(
                f"the device has not enough memory for one image of up to {recipe.detector.max_size} pixels",
                "Lower detector.max_size, or add --set detector.grad_checkpointing=true",
            ) from error
    report = {
        "dataset": job.data.name,
        "split": job.scored.name,
        "metric": METRIC,
        **score.to_dict(),
        "worst_images": [],
        "cell": job.spec.network.name,
        "params": sum(p.numel() for p in job.detector.parameters() if p.requires_grad),
        "epochs": len(records),
        "kept_epoch": state.kept,
        "steps": records[-1].step,
        "train_loss": records[-1].train_loss,
        "seconds": round(sum(record.seconds for record in records), 1),
        "device": device_name(job.device, job.dist),
    }
    return report, detections


def write_detections(
    job: DetectJob, report: dict[str, Any], detections: Sequence[Detection], folder: Path
) -> dict[str, Any]:
    """Write what `train_detector` gave: weights, detections, drawings, and the report.

    Returns:
        The content of `detection.json`: the report with the worst images.

    Raises:
        NascliError: The folder cannot be written; the checkpoint stays, so that the run can be resumed.
    """
    save_weights(folder / WEIGHTS_FILE, job.detector)
    with writing(folder / START_FILE):
        (folder / START_FILE).unlink(missing_ok=True)
    text = format_results(job.scored, detections)
    write_text(folder / RESULTS_FILE, text)
    draw_detections(job.scored, detections, folder / "detections")
    worst = write_error_analysis(job.scored, detections, folder)
    whole = report | {"worst_images": worst, **hash_results(text)}
    write_record(folder / DETECTION_FILE, whole)
    return whole


def _describe_counts(data: Mapping[str, Any]) -> str:
    return (
        f"{data['train_images']:,} training images with {data['train_boxes']:,} boxes and {data['val_images']:,} "
        f"validation images with {data['val_boxes']:,}"
    )
