"""A training as `nascli train` runs it: data, network and recipe brought together, results in a run folder."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nascli.classify.class_balance import check_class_images, find_class_weights, find_empty_classes
from nascli.classify.image_sizes import check_sizes
from nascli.classify.task import answers_once, fit_classifier, plan_batches
from nascli.classify.teacher import TeacherEngine
from nascli.config import TrainRecipe
from nascli.data.dataset import ImageData
from nascli.data.folders.split_names import find_role
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.device import check_precision, cpu_threads, temporary_seed
from nascli.engine.dist import SINGLE_PROCESS, DistContext, device_name
from nascli.engine.start import Start
from nascli.engine.task import Run, TrainPlan
from nascli.errors import DeviceMemoryError, InputError
from nascli.files import writing
from nascli.models.cost import measure_cost
from nascli.models.families import NETWORK_FILE, build, find_family
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import WEIGHTS_FILE, save_weights
from nascli.models.spec import NetworkSpec, write_network
from nascli.models.tuning import freeze_weights
from nascli.records import sha256_json
from nascli.runs.record import START_FILE

MAY_MOVE = ("dataset", "data_dir", "workers", "max_unreadable_images", "max_megapixels")
"""Of a recipe's `data`: where the images lie and how they are read; which they are is compared."""

MAY_CHANGE = {
    "data": set(MAY_MOVE),
    "train": {"checkpoint_minutes", "checkpoint_steps", "grad_checkpointing", "graphs", "teacher"},
}
"""Keys that may change when a run is resumed: they do not touch a weight. A teacher may move, but not be another."""

_UNNAMED = (
    "Give --dataset one with as many class folders, whose sorted names stand in the order of the network's outputs "
    "(of ImageNet's, n01440764 and so on, some are enough where timm is installed: pip install 'nascli[timm]')"
)


@dataclass(frozen=True)
class TrainJob:
    """A training of `nascli train`; the classes of the data are the network's, and the teacher's.

    Args:
        start: The weights that it begins with; None are fresh ones.
    """

    recipe: TrainRecipe
    spec: NetworkSpec
    data: ImageData
    device: torch.device
    dist: DistContext = SINGLE_PROCESS
    teacher: TeacherEngine | None = None
    start: Start | None = None

    @property
    def images(self) -> ImageData:
        """The data with the colors scaled as the network expects them."""
        return as_seen(self.data, self.spec)

    @property
    def identity(self) -> str:
        """SHA-256 over recipe, network, data, teacher and the weights that it begins with.

        Two jobs of one identity make the same weights.
        """
        recipe = self.recipe.model_dump(mode="json", exclude=MAY_CHANGE)
        network = self.spec.model_dump(mode="json", exclude={"preprocessing"})  # touches no weight either
        teacher = [self.teacher.description["sha256"]] if self.teacher else []
        start = [self.start.sha256] if self.start else []
        return sha256_json([recipe, network, describe_data(self.data)["sha256"], *teacher, *start])

    @property
    def unused_keys(self) -> list[str]:
        """Recipe keys that change nothing: above 0 and not for this family of networks, or of a teacher without one."""
        train = self.recipe.train
        keys = [key for key in find_family(self.spec.family).unused_train_keys if getattr(train, key)]
        if self.teacher is None:
            fields = type(train).model_fields
            about = ("teacher_weight", "teacher_temperature")
            keys += [key for key in about if getattr(train, key) != fields[key].default]
        return [f"train.{key}" for key in keys]

    @property
    def plan(self) -> TrainPlan:
        """Batches and learning rates."""
        return plan_batches(self.data, self.recipe.train, self.dist)

    def check(self) -> None:
        """Refuse what cannot be trained from its beginning; a resumed run keeps its micro-batches, which `fit` checks.

        Raises:
            InputError: A micro-batch would have one image, on which batch normalization cannot train; or several
                processes cannot have equal ones; or the precision needs another device; or the network takes no images
                of a size in `train.image_sizes`; or a class has no image to hold out; or an epoch would be chosen by
                the test split; or classes cannot be weighted or balanced as the recipe says.
        """
        if self.recipe.data.val_fraction:
            _check_validation(self.data, "data.val_fraction")
        elif key := self.recipe.train.chooses if find_role(self.data.val_name) == "test" else "":
            raise InputError(
                f"{key} would choose an epoch by the test split of {self.data.name}, which then says no more how good "
                "the network is on new images",
                "Hold images out to choose by: --val-fraction 0.1",
                field=key,
            )
        elif key := self.recipe.train.chooses:
            _check_validation(self.data, key)
        find_class_weights(self.data, self.recipe.train.class_weights)
        if self.recipe.data.sampling == "balanced":
            check_class_images(self.data, "data.sampling = balanced")
        check_sizes(self.spec, self.recipe.train.image_sizes)
        check_precision(self.recipe.train, self.device)
        self.plan.check_micro_batches()

    def new_network(self) -> ImageClassifier:
        """The network with the weights that it begins with; fresh ones follow from the seed.

        The caller's random state is left as it was.

        Raises:
            InputError: What is to be frozen is not in it, or is all of it.
        """
        with temporary_seed(self.recipe.seed, "init"):
            network = build(self.spec)
        if self.start is not None:
            self.start.fill(network)
        freeze_weights(network, self.recipe.train)
        return network


def _check_validation(data: ImageData, key: str) -> None:
    """InputError, which names it, where a class has no image among those that an epoch is chosen by."""
    if absent := find_empty_classes(data, data.val):
        name = absent[0]
        raise InputError(
            f"data set {data.name}: class {name!r} has no image to validate on in {data.val_name}, and {key} "
            "chooses by them",
            f"Add images of {name!r} (one training image cannot be held out), remove the class, or leave {key} out",
            field=key,
        )


def as_seen(data: ImageData, spec: NetworkSpec) -> ImageData:
    """The data with the colors scaled as a network expects them."""
    return replace(data, mean=spec.mean, std=spec.std)


def describe_data(data: ImageData) -> dict[str, Any]:
    """The data as `run.json` names them, so that a resumed run is known to have the same.

    Returns:
        `name`; `train_images` and `val_images`, and `test_images` where the data's own split is kept for the end;
        `sha256` over the labels of all, in order, the class names, and mean and deviation of the colors, which are
        measured where images lie in memory. So images that came, went or changed are noticed; of streamed ones an image
        that another of its class has replaced is not, nor others than the `data.max_train_images` that were chosen of
        all.
    """
    digest = hashlib.sha256(json.dumps([data.class_names, data.mean, data.std]).encode())
    splits = {"train": data.train, "val": data.val} | ({} if data.test is None else {"test": data.test})
    for split in splits.values():
        digest.update(split.labels.cpu().numpy().tobytes())
    counts = {f"{name}_images": len(split) for name, split in splits.items()}
    return {"name": data.name, **counts, "sha256": digest.hexdigest()}


def check_classes(spec: NetworkSpec, data: ImageData, folder: Path) -> None:
    """InputError, which names both, where the classes of the data are not those of the network in `folder`.

    A network without class names (its weights are another tool's) has to have as many classes as the data.
    """
    if spec.classes != data.classes:
        raise InputError(
            f"{folder} was trained for {spec.classes} classes, data set {data.name} has {data.classes}",
            "Give --dataset one with the same classes" if spec.class_names else _UNNAMED,
        )
    for label, (ours, theirs) in enumerate(zip(spec.class_names or (), data.class_names, strict=False)):
        if ours != theirs:
            raise InputError(
                f"{folder} was trained with {ours!r} as class {label}, in data set {data.name} that is {theirs!r}",
                "Give --dataset one with the same classes",
            )


def run_train_job(job: TrainJob, folder: Path | None, run: Run) -> dict[str, Any]:
    """Train to the end, from the last checkpoint in `folder` if there is one.

    Writes `network.json`, `checkpoint.pt`, `metrics.jsonl` and, at the end, `weights.safetensors`: the averaged
    weights where the recipe has a moving average.

    Args:
        folder: A run folder that this process alone writes; None where another of several writes it.
        run: Has the device and processes of the job.

    Returns:
        The results for `run.json`.

    Raises:
        DivergedError: A loss is not finite.
        Interrupted: `run.stop` was requested; a checkpoint is written.
        NascliError: The device's memory does not suffice, or the folder cannot be written.
    """
    recipe = job.recipe
    with cpu_threads(recipe.train.threads):
        store = None
        if folder is not None:
            write_network(folder / NETWORK_FILE, job.spec)
            store = CheckpointStore(folder, job.identity, run.log)
        network = job.new_network()
        if job.teacher and run.log:
            once = answers_once(job.data.train, recipe.data)
            when = "once per image" if once else "in each step, since the images are changed at random"
            run.log("teacher {name} answers by the engine {engine}, ".format(**job.teacher.description) + when)
        try:
            train, images = recipe.train, job.images
            result = fit_classifier(network, images, train, recipe.data, recipe.seed, run, store, job.teacher)
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(
                f"the device has not enough memory for two images of {job.spec.image_size} pixels at once",
                "Start again with fewer --filters, or with --set train.grad_checkpointing=true",
            ) from error
        if folder is not None:
            save_weights(folder / WEIGHTS_FILE, network)
            with writing(folder / START_FILE):
                (folder / START_FILE).unlink(missing_ok=True)
        cost = measure_cost(job.spec)
        return {
            "label": "final",
            "dataset": job.data.name,
            "cell": job.spec.name,
            "split": job.data.val_name if job.data.test is None else job.data.test_name,
            **asdict(result.evaluation),
            "validation": None if job.data.test is None else asdict(result.validation),
            "train_loss": result.train_loss,
            "epochs": len(result.records),
            "kept_epoch": result.kept,
            "params": cost.params,
            "mult_adds": cost.mult_adds,
            "image_size": cost.image_size,
            "classes": job.spec.classes,
            "seconds": result.seconds,
            "device": device_name(job.device, job.dist),
            "unused_keys": job.unused_keys,
        }
