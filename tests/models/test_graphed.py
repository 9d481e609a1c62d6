"""An engine whose work is captured answers as the plain one: on the CPU, by a stream that repeats operations."""

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from launches import META, StepCounter
from torch import Tensor

from nascli.config import LatencyConfig
from nascli.errors import InputError
from nascli.models.deploy import layer_times
from nascli.models.deploy.engines import ENGINES, Engine, build_engine, build_folded, list_engines
from nascli.models.deploy.fuse import fold
from nascli.models.deploy.graphs import GraphedEngine
from nascli.models.deploy.layer_table import require_keys
from nascli.models.deploy.layer_times import time_layers
from nascli.models.families import build_network
from nascli.models.interface import ImageClassifier
from tests.graph_stream import OperationStream
from tests.mobile import trained_mobile

Result = TypeVar("Result")
CPU = torch.device("cpu")


def network() -> ImageClassifier:
    torch.manual_seed(0)
    return build_network("nasnet-a", "cifar10", filters=4, cells_per_stage=1, image_size=16).eval()


def images(count: int = 2, seed: int = 0, size: int = 16) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def plain() -> Engine:
    return build_folded(network(), CPU)


def graph(engine: Engine, stream: OperationStream | None = None) -> GraphedEngine[Tensor]:
    return GraphedEngine(engine, stream or OperationStream())


def test_replays_give_the_plain_logits_whatever_the_images(plain: Engine) -> None:
    stream = OperationStream()
    engine = graph(plain, stream)
    found = [engine(images(seed=seed).contiguous(memory_format=layout)) for seed, layout in enumerate(LAYOUTS)]
    for seed, logits in enumerate(found):  # after all calls: none of them overwrote another's
        torch.testing.assert_close(logits, plain(images(seed=seed)).detach(), rtol=0, atol=0)
        assert not logits.requires_grad
    assert (stream.warmed_up, stream.captured, stream.replayed) == (1, 1, 3)


LAYOUTS = [torch.contiguous_format, torch.channels_last, torch.contiguous_format, torch.channels_last]


def test_each_number_and_size_of_images_has_a_graph_of_its_own(plain: Engine) -> None:
    engine = graph(plain)
    for count, size in [(2, 16), (3, 16), (2, 20)] * 3:
        torch.testing.assert_close(engine(images(count, size=size)), plain(images(count, size=size)), rtol=0, atol=0)
    assert engine.captures == 3


def test_what_comes_once_is_not_captured_and_few_graphs_are_kept(plain: Engine) -> None:
    stream = OperationStream()
    engine = graph(plain, stream)
    for _ in range(2):
        for count in range(1, 10):
            engine(images(count))
    assert stream.captured == 0  # each was forgotten before it came again
    for count in (9, 1, 1, 9):
        engine(images(count))
    assert stream.captured == 2


def test_the_mode_it_is_called_in_does_not_matter(plain: Engine) -> None:
    engine = graph(plain)
    with torch.inference_mode():
        for _ in range(2):
            engine(images())
    with torch.enable_grad():
        logits = engine(images(seed=1))
    torch.testing.assert_close(logits, plain(images(seed=1)).detach(), rtol=0, atol=0)
    assert engine.captures == 1
    assert not logits.is_inference()


def test_arithmetic_that_changes_is_captured_anew(plain: Engine) -> None:
    engine = graph(plain)
    for precision in ("highest", "high") * 2:
        torch.set_float32_matmul_precision(precision)
        engine(images())
    torch.set_float32_matmul_precision("highest")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain(images())  # leaves copies of the weights in autocast's cache, which no graph may read
        for _ in range(2):
            engine(images())
        expected = plain(images())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(engine(images()), expected, rtol=0, atol=0)
    assert engine.captures == 3


class Failing(OperationStream):
    def capture(self, function: Callable[[], Result], pool: object = None) -> Callable[[], Result]:
        super().capture(function)
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_where_nothing_can_be_captured_it_is_the_plain_engine(plain: Engine) -> None:
    stream = Failing()
    engine = graph(plain, stream)
    for seed in range(4):
        torch.testing.assert_close(engine(images(seed=seed)), plain(images(seed=seed)).detach(), rtol=0, atol=0)
    assert (engine.captures, stream.captured) == (0, 1)


def test_where_memory_runs_out_graphs_are_let_go(plain: Engine) -> None:
    def answer(images: Tensor) -> Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(images)

    engine = graph(answer)
    for _ in range(2):
        engine(images(2))
    assert engine.captures == 1
    with pytest.raises(torch.OutOfMemoryError):
        engine(images(3))
    for _ in range(2):
        torch.testing.assert_close(engine(images(2)), plain(images(2)).detach(), rtol=0, atol=0)
    assert engine.captures == 2


def test_a_folded_network_waits_for_nothing() -> None:
    folded = fold(network()).to(META)
    with torch.no_grad(), StepCounter(META) as counter:
        folded(images().to(META))
    assert counter.copies.total() == 1  # that of the images
    assert not counter.reads


def test_it_is_the_engine_of_choice_on_a_gpu_alone() -> None:
    assert list_engines(torch.device("cuda"))[-1] == "graphed"
    assert "graphed" not in list_engines(CPU)
    assert "graphed" in ENGINES
    with pytest.raises(InputError, match="CUDA"):
        build_engine(network(), CPU, "graphed")


def test_layers_are_timed_in_graphs_where_networks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[OperationStream] = []

    def make(device: torch.device) -> OperationStream:
        streams.append(OperationStream())
        return streams[-1]

    monkeypatch.setattr(layer_times, "GraphStream", make)
    form = LatencyConfig(engine="graphed", precision="float32", device="cpu")
    mobile = trained_mobile()
    (timed,) = time_layers(mobile, [require_keys(mobile.spec)[1]], form)
    assert timed.seconds > 0
    assert [each.captured for each in streams] == [1, 1]  # the layer, and what is around it
