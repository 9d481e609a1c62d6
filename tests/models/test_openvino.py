"""OpenVINO gives what the trained network gives, for every cell, batch and size; what it cannot do is refused."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from nascli.errors import InputError, UnknownStepError
from nascli.genotype.genotype import Genotype
from nascli.genotype.resolve import zoo_genotype
from nascli.models.deploy import engines, openvino, translation
from nascli.models.deploy.engines import build_engine, list_engines
from nascli.models.deploy.openvino import OpenvinoEngine, supports
from nascli.models.families import build_network
from nascli.models.interface import ImageClassifier
from tests.fakes import hide_package
from tests.genotype.genotype_st import genotypes
from tests.models.test_fuse import DIFFERENT, SIZES, difference, trained
from tests.published import CELL_NAMES

CPU = torch.device("cpu")
CASES = [(name, SIZES[0]) for name in CELL_NAMES] + [(name, size) for name in DIFFERENT for size in SIZES[1:]]


@pytest.mark.parametrize(("name", "numbers"), CASES, ids=str)
def test_published_cells_give_the_same_logits(name: str, numbers: dict[str, object]) -> None:
    network = trained(zoo_genotype(name), **numbers)
    images = torch.randn(2, 3, network.spec.image_size, network.spec.image_size)
    assert difference(build_engine(network, CPU, "openvino", "float32"), network, images) < 1e-5


@settings(max_examples=6)
@given(genotypes())
def test_any_cell_gives_the_same_logits_for_any_batch_and_size(genotype: Genotype) -> None:
    network = trained(genotype, image_size=16)
    engine = build_engine(network, CPU, "openvino", "float32")
    for shape in ((1, 3, 16, 16), (3, 3, 13, 22), (1, 3, 16, 16)):
        images = torch.randn(shape)
        assert difference(engine, network, images) < 1e-5
        assert difference(engine, network, images.contiguous(memory_format=torch.channels_last)) < 1e-5


def test_logits_stay_what_they_were_when_others_follow() -> None:
    engine = build_engine(trained(zoo_genotype("nasnet-a"), image_size=16), CPU, "openvino", "float32")
    images = torch.randn(2, 3, 16, 16)
    first = engine(images)
    kept = first.clone()
    assert not torch.equal(engine(2 * images), first)
    assert torch.equal(first, kept)
    assert torch.equal(engine(images), kept)


def test_residual_networks_are_translated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "trace_program", pytest.fail)
    torch.manual_seed(0)
    network = build_network("resnet-20", image_size=16).eval()
    assert difference(build_engine(network, CPU, "openvino", "float32"), network, torch.randn(3, 3, 16, 16)) < 1e-5


class Doubled(nn.Module):
    """A step that is not among those that networks of nascli have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) * 2


def test_a_network_with_another_step_goes_through_the_converter() -> None:
    torch.manual_seed(0)
    network = build_network("resnet-8", image_size=8).eval()
    network.dropout = Doubled()  # type: ignore[assignment]
    engine = build_engine(network, CPU, "openvino", "float32")
    for batch in (1, 3):
        assert difference(engine, network, torch.randn(batch, 3, 8, 8)) < 1e-5


class Branching(nn.Module):
    """A step that depends on the values of its input, which cannot be recorded."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_recorded_answers_as_it_was_trained() -> None:
    network = build_network("resnet-8", image_size=8).eval()
    network.dropout = Branching()  # type: ignore[assignment]
    images = torch.randn(2, 3, 8, 8)
    assert difference(build_engine(network, CPU), network, images) < 1e-5
    for engine in ("folded", "openvino"):
        with pytest.raises(UnknownStepError, match="engine trained"):
            build_engine(network, CPU, engine)


@pytest.mark.skipif(not supports("bfloat16"), reason="this CPU has no instructions for bfloat16")
def test_bfloat16_is_near() -> None:
    network = trained(zoo_genotype("nasnet-a"), image_size=16)
    images = torch.randn(2, 3, 16, 16)
    assert 1e-6 < difference(build_engine(network, CPU, "openvino", "bfloat16"), network, images) < 5e-2


def test_it_is_the_engine_of_choice_on_a_cpu() -> None:
    assert list_engines(CPU) == ("trained", "folded", "openvino")
    assert list_engines(torch.device("cuda")) == ("trained", "folded", "graphed")
    assert isinstance(build_engine(network(), CPU), OpenvinoEngine)


def network() -> ImageClassifier:
    return trained(zoo_genotype("nasnet-a"), image_size=16)


def test_what_it_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(call: Callable[[], object]) -> str:
        with pytest.raises(InputError) as error:
            call()
        return str(error.value)

    assert "cuda" in refused(lambda: build_engine(network(), torch.device("cuda"), "openvino"))
    monkeypatch.setattr(openvino, "supports", lambda precision: precision == "float32")
    assert "instructions for bfloat16" in refused(lambda: build_engine(network(), CPU, "openvino", "bfloat16"))


SIGNALLED = """
import faulthandler, gc, signal
faulthandler.enable()  # as pytest and -X dev do: it has a stack for signals, too
import torch
from nascli.genotype.resolve import zoo_genotype
from nascli.models.deploy.engines import build_engine
from nascli.models.families import build_network
network = build_network(zoo_genotype("enas"), "cifar10", filters=4, cells_per_stage=1, image_size=8).eval()
engines = [build_engine(network, torch.device("cpu"), "openvino") for _ in range(3)]
for engine in engines:
    engine(torch.zeros(1, 3, 8, 8))
while engines:
    del engines[0], engine
    engine = None
    gc.collect()
pages = [bytearray(40_000) for _ in range(200)]  # lie where a stack was that is gone
signal.signal(signal.SIGINT, lambda *told: print("interrupted"))
signal.raise_signal(signal.SIGINT)
"""


def test_a_process_can_be_interrupted_when_engines_came_and_went() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_it_reports_to_nobody_that_it_is_used() -> None:
    build_engine(network(), CPU, "openvino", "float32")
    assert "openvino" in sys.modules
    assert "openvino_telemetry.main" not in sys.modules


def test_without_the_package_the_folded_network_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "openvino")
    assert list_engines(CPU) == ("trained", "folded")
    with pytest.raises(InputError, match="not installed"):
        build_engine(network(), CPU, "openvino")
    assert engines.ENGINES["folded"](network(), CPU, "float32")(torch.randn(1, 3, 16, 16)).shape == (1, 3)
