"""Latency: what is counted and what is not, beside which reference, under which conditions; speed is not asserted."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nascli.engine.device import cpu_threads
from nascli.errors import InputError, UnknownStepError
from nascli.models.deploy import openvino, timing
from nascli.models.deploy.timing import measure_latency, settle_engine, time_in_turn
from nascli.models.families import build_network
from nascli.models.interface import ImageClassifier

CPU = torch.device("cpu")
IMAGE = torch.zeros(1, 3, 8, 8)


def network() -> ImageClassifier:
    return build_network("resnet-8", filters=2, image_size=8, classes=3)


class Clock:
    """A clock that only an engine moves on, by so many seconds each time that it is called."""

    def __init__(self, patch: pytest.MonkeyPatch, passes: Iterable[float]) -> None:
        self.now, self.calls, self._passes = 0.0, 0, iter(passes)
        patch.setattr("nascli.models.deploy.timing.time.perf_counter", lambda: self.now)

    def engine(self, images: Tensor) -> Tensor:
        self.now += next(self._passes)
        self.calls += 1
        return images


def test_the_figure_is_the_lower_quartile_without_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = itertools.cycle([0.25, 2.0, 4.0])
    clock = Clock(monkeypatch, itertools.chain([100.0], [50.0] * 3, busy))
    latency = time_in_turn({"float32": clock.engine}, IMAGE, "openvino")["float32"]
    assert (latency.seconds, latency.median, latency.upper) == (0.25, 2.0, 4.0)
    assert latency.repeats == 15


@pytest.mark.parametrize(
    ("seconds", "longest", "repeats"), [(0.25, 1.0, 5), (0.001, 1.0, 200), (2.0, float("inf"), 15)]
)
def test_slow_networks_take_few_passes_and_quick_ones_many(
    seconds: float, longest: float, repeats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, itertools.repeat(seconds))
    latency = time_in_turn({"float32": clock.engine}, IMAGE, "openvino", longest=longest)["float32"]
    assert latency.seconds == pytest.approx(seconds)
    assert latency.repeats == repeats
    assert clock.calls < repeats + 5


@pytest.mark.parametrize(("engine", "name", "threads"), [("auto", "openvino", 2), ("folded", "folded", 1)])
def test_a_figure_has_its_spread_its_reference_and_what_it_holds_for(engine: str, name: str, threads: int) -> None:
    ours = network()
    with cpu_threads(threads):
        latency = measure_latency(ours, engine)
    assert 0 < latency.seconds <= latency.median <= latency.upper
    assert latency.reference > 0
    assert (latency.engine, latency.precision, latency.device, latency.threads) == (name, "float32", "cpu", threads)
    assert (latency.image_size, latency.batch) == (8, 1)
    assert latency.conditions == f"1 image of 8×8 px, {name} in float32, {threads} thread{'s' * (threads > 1)}"


def test_a_measurement_leaves_random_numbers_as_they_were() -> None:
    ours = network()
    before = torch.random.get_rng_state()
    timing._reference.cache_clear()
    measure_latency(ours, "folded")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_engine_that_does_not_know_a_step_is_passed_over_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: ImageClassifier) -> object:
        raise UnknownStepError("a step that is not translated")

    monkeypatch.setattr("nascli.models.deploy.engines.convert", fail)
    said: list[str] = []
    assert settle_engine(network(), "auto", "float32", CPU, said.append) == "folded"
    assert "openvino does not know a step of resnet-8; folded is timed" in said[0]
    with pytest.raises(UnknownStepError):
        settle_engine(network(), "openvino", "float32", CPU)


def test_bfloat16_without_instructions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "supports", lambda precision: precision == "float32")
    with pytest.raises(InputError, match="no instructions for bfloat16"):
        settle_engine(network(), "auto", "bfloat16", CPU)


HOLDER = """
import sys
from nascli.locks import lock_machine
with lock_machine("latency"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_measurement_at_a_time_is_made_on_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("nascli.locks._LONGEST_TURN", 0.2)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="nascli-latency is in use"):
            time_in_turn({"float32": lambda images: images}, IMAGE, "openvino")
        holder.kill()
    for _ in range(2):
        assert time_in_turn({"float32": lambda images: images}, IMAGE, "openvino")["float32"].repeats >= 15
    assert os.stat(tmp_path / "nascli-latency").st_mode & 0o777 == 0o777
