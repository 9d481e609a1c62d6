"""Teachers: trained networks whose answers a training imitates (distillation).

Shapes: N images, K classes, H rows, W columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.config import FineTuneConfig, TrainingPrecision
from nascli.data.dataset import Color, ImageData, Split
from nascli.data.folders.index import list_names
from nascli.data.transforms import Normalizer, resize
from nascli.engine.device import autocast
from nascli.engine.dist import DistContext
from nascli.engine.inference import ChunkedInference
from nascli.errors import InputError, NascliError
from nascli.hub import PREFIX, download
from nascli.models.deploy.engines import ENGINES, Engine, find_engine, list_engines
from nascli.models.families import NETWORK_FILE
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import WEIGHTS_FILE, check_weights, load_network
from nascli.models.tensor_files import hash_tensors
from nascli.records import sha256_json
from nascli.runs.find import find_run
from nascli.text import nfc

TIMM = "timm:"
"""The prefix of a teacher that timm publishes."""

_CHUNK = 256
"""Images that a teacher answers for at once at most."""

_OTHER_CLASSES = "Train a teacher on these classes first, with nascli train"


@dataclass(frozen=True)
class Teacher:
    """A trained network, and how images are prepared for it.

    Args:
        name: As the recipe has it.
        network: On the CPU, in evaluation mode.
        class_names: Of its outputs; None where they are not known.
        mean, std: Those of its training, for normalization.
    """

    name: str
    network: nn.Module
    image_size: int
    classes: int
    class_names: tuple[str, ...] | None
    mean: Color
    std: Color

    @cached_property
    def sha256(self) -> str:
        """Digest of all that its answers follow from: weights, classes, preparation."""
        known = (self.image_size, self.classes, self.class_names, self.mean, self.std)
        return sha256_json([known, hash_tensors(self.network.state_dict())])

    def find_outputs(self, class_names: Sequence[str]) -> list[int]:
        """The output for each of these classes. Those of a teacher without names have to be in the same order.

        Raises:
            InputError: They are not the teacher's classes; the message names some.
        """
        if self.class_names is None:
            if self.classes != len(class_names):
                counts = f"{self.classes} classes, the data have {len(class_names)}"
                raise InputError(f"teacher {self.name} has {counts}", _OTHER_CLASSES)
            return list(range(self.classes))
        places = {nfc(name): place for place, name in enumerate(self.class_names)}
        wanted = [nfc(name) for name in class_names]
        if unknown := [name for name in wanted if name not in places]:
            raise InputError(f"teacher {self.name} does not know the classes {list_names(unknown)}", _OTHER_CLASSES)
        if surplus := [name for name in places if name not in wanted]:
            raise InputError(
                f"teacher {self.name} has classes that the data lack: {list_names(surplus)}", _OTHER_CLASSES
            )
        return [places[name] for name in wanted]


def find_teacher(text: str, runs: Path, note: Callable[[str], None]) -> str:
    """A teacher as a recipe keeps it: `timm:NAME` as it is, else the folder that a path or `latest` stands for."""
    return text if text.startswith(TIMM) else str(find_run(text, "train", runs, note))


def teacher_files(name: str | None) -> list[Path]:
    """The files that a teacher is read from; none where timm keeps it."""
    return [] if name is None or name.startswith(TIMM) else [Path(name) / NETWORK_FILE, Path(name) / WEIGHTS_FILE]


def open_teacher(name: str) -> Teacher:
    """The teacher in a folder of `nascli train` or `nascli build`, or the one that timm has as `timm:NAME`.

    Raises:
        InputError: There is none, or timm is not installed or cannot fetch it.
        CorruptFileError: A file is damaged.
    """
    if name.startswith(TIMM):
        return _open_timm(name)
    check_weights(Path(name))
    network = load_network(name)
    spec = network.spec
    return Teacher(name, network, spec.image_size, spec.classes, spec.class_names, spec.mean, spec.std)


def _open_timm(name: str) -> Teacher:
    try:
        import timm
    except ImportError as error:
        raise InputError(f"teacher {name} needs timm, which is not installed", 'pip install "nascli[timm]"') from error
    short = name.removeprefix(TIMM)
    file: dict[str, str] = {}
    if ":" not in short:  # else a source of timm's own, as local-dir:FOLDER
        published = timm.models.get_pretrained_cfg(short) if timm.is_model(short) else None
        if published is None or not published.has_weights:
            near = timm.list_models(f"*{short}*", pretrained=True)[:3]
            hint = f"It has {', '.join(near)}" if near else "timm.list_models(pretrained=True) gives their names"
            raise InputError(f"teacher {name}: timm has no such network with weights", hint)
        if published.hf_hub_id:
            file = {"file": str(download(f"{PREFIX}{published.hf_hub_id}").path)}
    try:
        network: Any = timm.create_model(short, pretrained=True, pretrained_cfg_overlay=file).eval()
    except Exception as error:  # timm raises what the network, a file or a network's constructor raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"teacher {name}: timm cannot make it ({reason})") from error
    config = network.pretrained_cfg
    labels = config.get("label_names")
    names = tuple(map(str, labels)) if labels else None
    size, mean, std = config["input_size"][-1], tuple(config["mean"]), tuple(config["std"])
    return Teacher(name, network, size, network.num_classes, names, mean, std)


def open_same_teacher(name: str, begun: str | None) -> Teacher:
    """The teacher that a training is resumed with.

    Args:
        begun: The digest of the teacher that it began with, if it is known.

    Raises:
        NascliError: It is gone, or another; the message says how to say where it is now.
    """
    moved = "Say where it lies now with --teacher, or start a new run"
    try:
        teacher = open_teacher(name)
    except NascliError as error:
        raise error.reword(f"the teacher of this run: {error.message}", moved) from error
    if begun not in (None, teacher.sha256):
        raise InputError(f"teacher {name} is not the one that the run was begun with: its weights are others", moved)
    return teacher


class TeacherEngine:
    """A teacher's logits for the images of a training, by the fastest engine on its device.

    Args:
        data: The training's, whose classes and normalization are the student's.
        config: Its precision is the teacher's, too, on a GPU.
        engine: Name of the engine; where it is not there, and for `auto`, it is the fastest.

    Raises:
        InputError: The teacher has other classes than the data.
    """

    def __init__(
        self, teacher: Teacher, data: ImageData, config: FineTuneConfig, device: torch.device, engine: str = "auto"
    ) -> None:
        self.weight, self.temperature = config.teacher_weight, config.teacher_temperature
        self._outputs = torch.tensor(teacher.find_outputs(data.class_names), device=device)
        factors = [ours / theirs for ours, theirs in zip(data.std, teacher.std, strict=True)]
        shifts = [(ours - own) / std for ours, own, std in zip(data.mean, teacher.mean, teacher.std, strict=True)]
        self._factor, self._shift = (torch.tensor(each, device=device).view(3, 1, 1) for each in (factors, shifts))
        self._size = teacher.image_size
        self._precision: TrainingPrecision = config.precision if device.type == "cuda" else "float32"
        engine_name, self._answer = _open_engine(teacher.network, device, engine)
        self.description = {"name": teacher.name, "sha256": teacher.sha256, "engine": engine_name}
        self._chunked = ChunkedInference(self._compute, _CHUNK)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W), normalized for the student, to logits float32 (N, K) in the order of its classes."""
        return torch.cat(list(self._chunked(images)))

    def answer_all(self, split: Split, normalizer: Normalizer, dist: DistContext) -> Tensor:
        """The logits (N, K) for all images of a split, of which each process computes its share."""
        answers = torch.zeros(len(split), len(self._outputs), device=self._outputs.device)
        batches = dist.shard(split).evaluation_batches(_CHUNK)
        answers[dist.rank :: dist.size] = torch.cat([self(normalizer(images)) for images, _ in batches])
        dist.sum_([answers])
        return answers

    @torch.no_grad()
    def _compute(self, images: Tensor) -> Tensor:
        prepared = images * self._factor + self._shift
        with autocast(self._precision, images.device):
            logits = self._answer(resize(prepared, self._size))
        return logits.float()[:, self._outputs]


def _open_engine(network: nn.Module, device: torch.device, name: str) -> tuple[str, Engine]:
    """The name of an engine, and the engine; timm's networks are called as they are."""
    if not isinstance(network, ImageClassifier):
        return "timm", network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    chosen = name if name in list_engines(device) else "auto"
    return find_engine(chosen, ENGINES, device, "float32", lambda build: build(network, device, "float32"))


def distillation_loss(logits: Tensor, answers: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(answers / T) || softmax(logits / T)), the mean over images; logits (N, K) each.

    References: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2. T^2 keeps the
    gradient's size as T changes.
    """
    ours, theirs = ((each / temperature).log_softmax(dim=1) for each in (logits, answers))
    return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
