"""The latency of networks in the engines that answer, timed so that other work on the machine does least harm.

- One measurement at a time is made on a machine: others, of whatever process, wait.
- What is compared is timed in turn, pass by pass, and a small reference network that never changes with it.
- The figure is the lower quartile.

Shapes: N batch, H height, W width.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from nascli.errors import NascliError
from nascli.genotype.resolve import zoo_genotype
from nascli.locks import lock_machine
from nascli.models.deploy.engines import (
    ENGINES,
    TOLERANCES,
    Engine,
    build_engine,
    build_trained,
    compare_logits,
    find_engine,
    list_engines,
)
from nascli.models.deploy.openvino import Precision
from nascli.models.deploy.program import make_images
from nascli.models.families import build_network
from nascli.models.interface import ImageClassifier
from nascli.models.latency import Latency

_CPU = torch.device("cpu")
_WARM_UP = 3
_FEWEST, _ROUNDS, _MOST = 5, 15, 200
"""Rounds of passes: the fewest of networks that are slow, the usual number, and the most of those that are quick."""

_SHORTEST = 0.5
"""Seconds that the rounds take at least: other work on a machine comes in bursts."""

_LONGEST = 1.0
"""Seconds after which the fewest rounds suffice, where many networks are to be timed."""

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True)
class EngineTiming:
    """The speed of one engine, and how far its logits are from the network's in float32.

    `difference` is the largest of a logit relative to the largest logit, on the images of this batch.
    """

    latency: Latency
    layout: str
    difference: float

    @property
    def images_per_second(self) -> float:
        """N over the seconds."""
        return self.latency.batch / self.latency.seconds

    def to_dict(self) -> dict[str, object]:
        """Every number by name; seconds with their quartiles."""
        own = {"layout": self.layout, "difference": self.difference, "images_per_second": self.images_per_second}
        return {**self.latency.model_dump(), **own}


def time_engines(
    network: ImageClassifier,
    batches: Sequence[int],
    *,
    engines: Sequence[str] | None = None,
    precision: Precision = "float32",
    device: torch.device = _CPU,
) -> Iterator[EngineTiming]:
    """Time engines of a network on random images of its size, after their logits were compared with the network's.

    Channels last in memory, without gradients, with the threads of the context.

    Args:
        network: Any weights will do, speed does not depend on them; it is left as it is.
        batches: Every N to measure with.
        engines: Names in `ENGINES`; None is `list_engines`.

    Yields:
        One row per engine and N, as soon as it is measured.

    Raises:
        NascliError: An engine gives other logits, or other measurements do not end.
        InputError: An engine does not work here.
    """
    trained = build_trained(network, device)
    images = {batch: _make_images(network, batch, device) for batch in batches}
    expected = {batch: _run(trained, images[batch]) for batch in batches}
    for name in engines or list_engines(device, precision):
        engine = ENGINES[name](network, device, precision)
        for batch in batches:
            difference = compare_logits(
                _run(engine, images[batch]),
                expected[batch],
                TOLERANCES[precision],
                subject=f"the engine {name} in {precision} gives",
                hint="Nothing is measured of what computes something else",
            )
            latency = time_in_turn({precision: engine}, images[batch], name)[precision]
            yield EngineTiming(latency, "channels last", difference)


def settle_engine(
    network: ImageClassifier,
    name: str,
    precision: Precision,
    device: torch.device,
    log: Callable[[str], None] = lambda text: None,
) -> str:
    """The engine that networks of this kind are timed in: for `auto` the folded network where the usual one fails.

    For bfloat16 on a CPU `auto` is OpenVINO, also where it does not work: torch computes in it more slowly than in
    float32.

    Args:
        network: One of them, on the CPU; it answers once.
        name: One of `ENGINES`, or `auto`.
        log: Is told of an engine that cannot take the network.

    Raises:
        InputError: There is no engine of that name, or it does not work here.
        NascliError: It cannot take the network.
    """
    wanted = "openvino" if (name, device.type, precision) == ("auto", "cpu", "bfloat16") else name
    try:
        chosen, engine = find_engine(
            wanted, ENGINES, device, precision, lambda build: build(network, device, precision)
        )
        _run(engine, _make_images(network, 1, device))
    except NascliError:
        raise
    except Exception as error:  # whatever the engine's own package raises
        reason = f"the engine cannot take {network.spec.name}: {' '.join(str(error).split())[:200]}"
        if name != "auto":
            raise NascliError(reason, "Choose another engine, or auto") from error
        log(f"{reason}; the folded network is timed in its place")
        return "folded"
    usual = list_engines(device, precision)[-1]
    if wanted == "auto" and chosen != usual:
        log(f"the engine {usual} does not know a step of {network.spec.name}; {chosen} is timed in its place")
    return chosen


def measure_latency(
    network: ImageClassifier, engine: str = "auto", precision: Precision = "float32", device: torch.device = _CPU
) -> Latency:
    """The latency of one image of the network's size, with the threads of the context; takes a second or two.

    Args:
        network: On the CPU; any weights will do. It is left as it is.
        engine: One of `ENGINES`, or `auto`.

    Raises:
        InputError: The engine does not work here, or other measurements do not end.
    """
    name, built = find_engine(engine, ENGINES, device, precision, lambda build: build(network, device, precision))
    return time_in_turn({precision: built}, _make_images(network, 1, device), name, longest=_LONGEST)[precision]


def time_in_turn(
    engines: Mapping[Name, Engine], images: Tensor, name: str, *, longest: float = math.inf
) -> dict[Name, Latency]:
    """The latency of engines on the same images, pass by pass in turn, on a GPU each to its end.

    Args:
        engines: By precision.
        images: (N, 3, H, W), on the device of the engines.
        name: That of the engine in `ENGINES`.
        longest: Seconds after which fewer passes suffice.

    Raises:
        InputError: Other measurements on this machine do not end.
    """
    kind = "openvino" if name == "openvino" else "folded"  # one pool of threads, or the two would disturb each other
    reference, fixed = _reference(kind, images.device)
    calls = [(engine, images) for engine in engines.values()] + [(reference, fixed)]
    with torch.inference_mode():
        for each in calls:
            _time(*each)  # an engine compiles as it is called first
        with lock_machine("latency"):
            rounds = _time_rounds(calls, longest)
    *quartiles, (least, _, _) = (
        statistics.quantiles(times, n=4, method="inclusive") for times in zip(*rounds, strict=True)
    )
    return {
        precision: Latency(
            seconds=lower,
            median=median,
            upper=upper,
            reference=least,
            engine=name,
            precision=precision,
            device=str(images.device),
            threads=torch.get_num_threads(),
            image_size=images.shape[-1],
            batch=len(images),
            repeats=len(rounds),
        )
        for precision, (lower, median, upper) in zip(engines, quartiles, strict=True)
    }


def time_alone(engine: Engine, images: Tensor) -> tuple[float, float, float]:
    """The quartiles of passes of one engine with nothing in between, which finds in the caches what it left there.

    For parts that are smaller than a network: after another network's pass each would pay for what that one evicted.
    The caller holds the lock of the machine.
    """
    with torch.inference_mode():
        for _ in range(_WARM_UP):
            _time(engine, images)
        times: list[float] = []
        while len(times) < _MOST and (len(times) < _ROUNDS or sum(times) < _SHORTEST):
            times.append(_time(engine, images))
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return lower, median, upper


def _time_rounds(calls: Sequence[tuple[Engine, Tensor]], longest: float) -> list[list[float]]:
    """The seconds of each call, round by round."""
    for _ in range(_WARM_UP):
        for each in calls:
            _time(*each)
    rounds: list[list[float]] = []
    taken = 0.0
    while not _suffice(len(rounds), taken, longest):
        rounds.append([_time(*each) for each in calls])
        taken += sum(rounds[-1])
    return rounds


def _suffice(rounds: int, taken: float, longest: float) -> bool:
    usual = rounds >= _ROUNDS and (taken >= _SHORTEST or rounds >= _MOST)
    return usual or (rounds >= _FEWEST and taken >= longest)


def _time(engine: Engine, images: Tensor) -> float:
    since = time.perf_counter()
    engine(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - since


@lru_cache
def _reference(name: str, device: torch.device) -> tuple[Engine, Tensor]:
    """The reference network in an engine, and its image: once for each process."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = build_network(zoo_genotype("nasnet-a"), "cifar10", filters=4, cells_per_stage=1)
    return build_engine(network, device, name), _make_images(network, 1, device)


def _make_images(network: ImageClassifier, batch: int, device: torch.device) -> Tensor:
    return make_images(network.spec, batch).to(device).contiguous(memory_format=torch.channels_last)


def _run(engine: Engine, images: Tensor) -> Tensor:
    """The logits in full float32: a GPU else rounds the inputs of convolutions, in each engine at other places.

    They are those of the second call there, with which a graph begins.
    """
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # its default is False
        if images.is_cuda:
            engine(images)
        return engine(images)
