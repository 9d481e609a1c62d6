"""The choice of what a trained network computes in: fewer bits where they are faster here and classify as well.

Top-1 is measured on held-out images, latency on this machine; what was not measured is never chosen.

Shapes: N batch, H height, W width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import torch
from torch import Tensor

from nascli.classify.evaluate import TrainedRun
from nascli.classify.job import check_classes
from nascli.classify.metrics import evaluate
from nascli.data.dataset import ImageData, Split
from nascli.data.registry import load_dataset
from nascli.data.transforms import Normalizer
from nascli.engine.device import generator_for
from nascli.engine.task import Run
from nascli.errors import InputError, NascliError
from nascli.models.deploy.engines import Engine
from nascli.models.deploy.export import describe
from nascli.models.deploy.ir import Ir, serialize
from nascli.models.deploy.openvino import Model, OpenvinoEngine, import_openvino, supports
from nascli.models.deploy.optimized import AdmittedPrecision, describe_machine, int8_rest, write_optimized
from nascli.models.deploy.program import make_images
from nascli.models.deploy.quantize import FEWEST_IMAGES, import_nncf, quantize
from nascli.models.deploy.timing import time_in_turn
from nascli.models.deploy.translation import convert
from nascli.models.interface import ImageClassifier
from nascli.models.latency import Latency
from nascli.models.serialization import WEIGHTS_FILE, load_network
from nascli.models.tensor_files import digest_tensors
from nascli.runs.record import versions
from nascli.units import count_of

CALIBRATION_IMAGES = 300
"""Training images that the ranges of numbers in int8 are measured on."""

MOST_IMAGES = 5_000
"""Held-out images that top-1 is measured on at most."""

_GAIN = 0.05
"""The part of the time that fewer bits must save: below it, a gain may be chance."""

_BATCH_SIZE = 32
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class OptimizeOptions:
    """The choice that is asked for.

    Args:
        precision: The one to try beside float32; `auto` tries all that work here.
        max_drop: Percentage points of top-1 that may be lost, less than these.
        batches: Every N to time; the last decides.
        log: Takes notes for the user.
    """

    precision: Literal["bfloat16", "int8", "auto"] = "auto"
    max_drop: float = 0.5
    batches: tuple[int, ...] = (1,)
    log: Callable[[str], None] = print

    def check(self) -> tuple[AdmittedPrecision, ...]:
        """The precisions to measure, float32 first.

        Raises:
            InputError: OpenVINO or NNCF is not installed, or the CPU has no instructions for the one that is asked for.
        """
        import_openvino()
        if self.precision == "int8":
            import_nncf()
        elif self.precision == "bfloat16" and not supports("bfloat16"):
            raise InputError("this CPU has no instructions for bfloat16", "Give --precision int8 or auto")
        if self.precision != "auto":
            return "float32", self.precision
        tried: list[AdmittedPrecision] = ["float32"]
        if supports("bfloat16"):
            tried.append("bfloat16")
        else:
            self.log("bfloat16 is not tried: this CPU has no instructions for it")
        try:
            import_nncf()
            tried.append("int8")
        except InputError as error:
            self.log(f"int8 is not tried: {error}")
        if len(tried) == 1:
            raise InputError("there is no precision but float32 to try here", 'pip install "nascli[int8]"')
        return tuple(tried)


@dataclass(frozen=True)
class Candidate:
    """A precision that was measured.

    `top1` is a fraction, `drop` in percentage points below float32; `latencies` are those of each batch.
    """

    precision: AdmittedPrecision
    top1: float
    drop: float
    latencies: tuple[Latency, ...]

    @property
    def seconds(self) -> float:
        """The latency of the batch that decides."""
        return self.latencies[-1].seconds

    def to_dict(self) -> dict[str, object]:
        """Every number by name."""
        return {**vars(self), "latencies": [each.model_dump() for each in self.latencies]}


@dataclass(frozen=True)
class OptimizeReport:
    """The candidates, float32 first, and the one that was admitted; `values` are those of the record."""

    candidates: tuple[Candidate, ...]
    admitted: Candidate
    values: Mapping[str, Any]


def optimize(trained: TrainedRun, options: OptimizeOptions) -> OptimizeReport:
    """Measure each precision on the CPU, and write the admitted one beside the weights.

    Raises:
        InputError: A package is absent, or the data set has other classes or too few images.
        CorruptFileError: Weights or data are damaged.
        NascliError: All but float32 lose too much; nothing is written.
    """
    precisions, weights = options.check(), trained.folder / WEIGHTS_FILE
    network = load_network(trained.folder)
    own_split = trained.data.val_fraction > 0  # then the data's own split is the one that was not trained or chosen on
    data = load_dataset(
        trained.data, trained.spec.image_size, preprocessing=trained.spec.preprocessing, measured=own_split
    )
    check_classes(trained.spec, data, trained.folder)
    model, content, calibrated = convert(network), None, 0
    if "int8" in precisions:
        images = _choose_calibration(data, network)
        content, calibrated = serialize(quantize(model, images), describe(trained.spec)), len(images)
    engines = dict(_open(model, precisions, content))
    held_out = _limit(data.val, MOST_IMAGES)
    run, normalizer = Run(_CPU, log=options.log), Normalizer(trained.spec.mean, trained.spec.std)
    scores = {
        name: evaluate(engine, held_out, normalizer, run, batch_size=_BATCH_SIZE) for name, engine in engines.items()
    }
    times = {batch: time_in_turn(engines, make_images(trained.spec, batch), "openvino") for batch in options.batches}
    best = scores["float32"].top1
    candidates = tuple(
        Candidate(name, score.top1, 100 * (best - score.top1), tuple(times[batch][name] for batch in options.batches))
        for name, score in scores.items()
    )
    admitted = admit(candidates, options.max_drop)
    values = {
        "precision": admitted.precision,
        "weights_sha256": digest_tensors(weights),
        "cell": trained.spec.name,
        "image_size": trained.spec.image_size,
        "dataset": data.name,
        "split": data.val_name,
        "images": scores["float32"].images,
        "calibration_images": calibrated,
        "max_drop": options.max_drop,
        "candidates": [each.to_dict() for each in candidates],
        "machine": describe_machine(),
        "versions": versions()
        | {name: metadata.version(name) for name in ("openvino", *(["nncf"] if content else []))},
    }
    write_optimized(weights, values, content if admitted.precision == "int8" else None)
    return OptimizeReport(candidates, admitted, values)


def admit(candidates: Sequence[Candidate], max_drop: float) -> Candidate:
    """The fastest of those that lose less than `max_drop` points; float32, the first, unless one saves time.

    Raises:
        NascliError: All others lose too much.
    """
    first, *others = candidates
    kept = [each for each in others if each.drop < max_drop or each.drop <= 0]
    if not kept:
        losses = ", ".join(f"{each.precision} loses {each.drop:.2f}" for each in others)
        raise NascliError(
            f"no precision loses less than {max_drop:g} points of top-1: {losses}; nothing was written",
            "A higher --max-drop admits more; without the file float32 is used",
        )
    fastest = min(kept, key=lambda each: each.seconds)
    return fastest if fastest.seconds < (1 - _GAIN) * first.seconds else first


def _open(
    model: Model, precisions: Sequence[AdmittedPrecision], content: Ir | None
) -> Iterator[tuple[AdmittedPrecision, Engine]]:
    """The engine of each precision; that of int8 from the content of the files that would be written."""
    for name in precisions:
        if name != "int8":
            yield name, OpenvinoEngine(model, name)
        elif content:
            yield name, OpenvinoEngine(content.open(), int8_rest())


def _choose_calibration(data: ImageData, network: ImageClassifier) -> list[Tensor]:
    """Training images as the network gets them, (1, 3, H, W) each, from all over the split."""
    if len(data.train) < FEWEST_IMAGES:
        raise InputError(
            f"int8 needs {FEWEST_IMAGES} training images or more to be calibrated on, data set {data.name} has "
            f"{len(data.train)}",
            "Give --dataset one with more of the same classes, or --precision bfloat16",
        )
    normalizer = Normalizer(network.spec.mean, network.spec.std)
    batches = _limit(data.train, CALIBRATION_IMAGES).evaluation_batches(_BATCH_SIZE)
    images = [image for batch, _ in batches for image in torch.split(normalizer(batch), 1)]
    if len(images) < FEWEST_IMAGES:
        raise InputError(
            f"int8 needs {count_of(FEWEST_IMAGES, 'training image')} to be calibrated on, {len(images)} of data set "
            f"{data.name} can be decoded",
            "nascli data check says why",
        )
    return images


def _limit(split: Split, most: int) -> Split:
    """Some images of a split, the same each time."""
    if len(split) <= most:
        return split
    chosen = torch.randperm(len(split), generator=generator_for(0, "optimize"))[:most]
    return split.take(chosen.sort().values)
