"""The job of a training: prepared from a recipe, or again from a run folder to be resumed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nascli.classify.job import MAY_CHANGE, TrainJob, as_seen, check_classes, describe_data
from nascli.classify.start import take_start
from nascli.classify.teacher import TeacherEngine, open_same_teacher, open_teacher
from nascli.config import DataConfig, TrainRecipe, load_recipe
from nascli.data.dataset import ImageData
from nascli.data.registry import ALLOW_UNREADABLE, load_dataset
from nascli.data.streaming import worker_count
from nascli.engine.device import check_precision
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.start import resume_start
from nascli.errors import InputError
from nascli.models.families import NETWORK_FILE, find_family
from nascli.models.spec import Architecture, read_network, resolve_network
from nascli.models.start import StartWeights
from nascli.models.tuning import find_lr_factors
from nascli.runs.find import check_same_data, read_run
from nascli.runs.record import RUN_FILE, check_recipe_file, with_changes

_ALLOW_UNREADABLE = (
    f"{ALLOW_UNREADABLE} (for a run that was begun: in its recipe.toml, before --resume; the file has to stay)"
)
"""The option that allows for more images that cannot be decoded."""

_RESTORE = (
    "Restore the images (those that cannot be decoded, too: data.max_unreadable_images in recipe.toml skips them), say "
    "where they lie with --dataset or --data-dir, or start a new run"
)
"""The ways on from a run whose data are not the same any more."""


def prepare_train_job(
    recipe: TrainRecipe,
    architecture: Architecture,
    device: torch.device,
    dist: DistContext = SINGLE_PROCESS,
    weights: StartWeights | None = None,
) -> TrainJob:
    """Load the data and fit the network to them; open the teacher.

    Args:
        weights: Those to begin with, of this architecture; None are fresh ones.

    Raises:
        InputError: The data or the teacher are not there, or the network cannot be built for the data's size, or the
            teacher has other classes, or the weights do not fit.
        CorruptFileError: A file is damaged.
    """
    name = recipe.train.teacher
    teacher = open_teacher(name) if name else None
    keeps = weights is not None and weights.knows_images and recipe.start.preprocessing == "keep"
    prepared = weights.spec if weights is not None and keeps else None
    data = load_dataset(
        _share_cores(recipe.data, dist),
        recipe.network.image_size,
        stream_size=find_family(architecture.family).stream_size(recipe.network),
        preprocessing=prepared.preprocessing if prepared else None,
        allow_option=_ALLOW_UNREADABLE,
        holdout_seed=recipe.seed,
    )
    spec = resolve_network(
        architecture,
        recipe.network,
        classes=data.classes,
        image_size=data.image_size,
        aux_head=recipe.train.aux_weight > 0,
        class_names=data.class_names,
        mean=(prepared or data).mean,
        std=(prepared or data).std,
        preprocessing=data.preprocessing,
    )
    asked = TeacherEngine(teacher, as_seen(data, spec), recipe.train, device) if teacher else None
    job = TrainJob(recipe, spec, data, device, dist, asked)
    if weights is None:
        _refuse_frozen_noise(recipe)
        return job
    network = job.new_network()
    find_lr_factors(network, recipe.train)  # refuses, before there is a folder, what is no decay
    return replace(job, start=take_start(network, weights, recipe, data))


def _refuse_frozen_noise(recipe: TrainRecipe) -> None:
    """InputError where fresh weights are to be frozen."""
    frozen = {"freeze": recipe.train.freeze, "freeze_batch_norm": recipe.train.freeze_batch_norm != "off"}
    key = next((key for key, value in frozen.items() if value), None)
    if key:
        raise InputError(
            f"train.{key}: this training begins with fresh weights, which hold nothing to keep",
            "Say whose weights it begins with, by --from",
            field=f"train.{key}",
        )


def resume_train_job(
    folder: Path,
    moved: Mapping[str, object],
    device: torch.device,
    dist: DistContext = SINGLE_PROCESS,
    note: Callable[[str], None] = lambda text: None,
) -> TrainJob:
    """The job of a run folder, to be resumed.

    Args:
        folder: Holds `run.json`, `recipe.toml` and `network.json`.
        moved: Where data and teacher are now, by dotted key of the recipe (`data.data_dir`), as far as that is said.
        note: Called with what was changed in `recipe.toml`.

    Raises:
        InputError: A file is absent, or data or teacher are not the same any more (see `describe_data`), or the device
            cannot train in the run's precision.
        CorruptFileError: A file is damaged.
    """
    recipe = load_recipe(TrainRecipe, folder / "recipe.toml", moved)
    if not (folder / NETWORK_FILE).is_file():
        raise InputError(f"{folder} was stopped before it began", "Start it again, with --out and --overwrite")
    changes: list[str] = []
    start = None
    if (folder / RUN_FILE).is_file():
        record = read_run(folder, "train")
        changes = check_recipe_file(TrainRecipe, record, folder, MAY_CHANGE, note)
        start = resume_start(record, folder)
    spec = read_network(folder / NETWORK_FILE)
    with with_changes(changes):
        data = load_dataset(
            _share_cores(recipe.data, dist),
            spec.image_size,
            preprocessing=spec.preprocessing,
            allow_option=_ALLOW_UNREADABLE,
            holdout_seed=recipe.seed,
        )
        check_precision(recipe.train, device)
        check_classes(spec, data, folder)
        check_same_data(folder, describe_data(data), _describe_counts, _RESTORE)
        teacher = _reopen_teacher(folder, recipe, as_seen(data, spec), device, note)
    return TrainJob(recipe, spec, data, device, dist, teacher, start)


def _reopen_teacher(
    folder: Path, recipe: TrainRecipe, data: ImageData, device: torch.device, note: Callable[[str], None]
) -> TeacherEngine | None:
    """The teacher of a run, answering by the same engine as before where that is there."""
    name = recipe.train.teacher
    if name is None:
        return None
    begun = read_run(folder).get("teacher") or {}
    engine = begun.get("engine", "auto")
    teacher = TeacherEngine(open_same_teacher(name, begun.get("sha256")), data, recipe.train, device, engine)
    if (now := teacher.description["engine"]) not in ("timm", engine):
        note(f"the teacher answers by the engine {now}, before by {engine}: the weights may differ in rounding")
    return teacher


def _describe_counts(data: Mapping[str, Any]) -> str:
    test = f", {data['test_images']:,} test images" if "test_images" in data else ""
    return f"{data['train_images']:,} training and {data['val_images']:,} validation images{test}"


def _share_cores(data: DataConfig, dist: DistContext) -> DataConfig:
    """The same section; where `workers` is not given, the processes of this machine divide its cores among them."""
    if dist.size == 1 or data.workers is not None:
        return data
    return data.model_copy(update={"workers": max(1, worker_count(None) // dist.local_size)})
