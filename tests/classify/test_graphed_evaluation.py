"""Evaluations in which a captured forward pass is replayed: on the CPU, by a stream that repeats operations."""

from typing import Any

import pytest
import torch

from nascli.classify import task as classify_task
from nascli.classify.metrics import evaluate
from nascli.classify.tta import plan_tta
from nascli.config import TrainConfig
from nascli.data.transforms import Normalizer
from nascli.engine.graphs import WORTH_FORWARD, Forward, choose_forward, replay_forward
from nascli.engine.task import Run
from tests.classify.small_training import CPU, EVERYTHING, make_data, make_network, run_fit
from tests.graph_stream import Failing, Full, OperationStream

CUDA = torch.device("cuda")


class Lost(Failing):
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


class Graphed:
    """A training of three epochs whose evaluations are captured: its result, streams and messages."""

    def __init__(self, config: TrainConfig, stream: type[OperationStream] = OperationStream) -> None:
        self.streams, self.notes, self.asked = list[OperationStream](), list[str](), list[tuple[float, bool]]()

        def choose(forward: Forward, batches: float, run: Run, *, allowed: bool) -> Forward:
            self.asked.append((batches, allowed))
            self.streams.append(stream())
            return replay_forward(forward, self.streams[-1], run)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(classify_task, "choose_forward", choose)
            self.result = run_fit(make_network(), config, data=make_data(test=300), log=self.notes.append)


def assert_equal_figures(graphed: Graphed, config: TrainConfig) -> None:
    plain = run_fit(make_network(), config, data=make_data(test=300))
    assert [each.metrics for each in graphed.result.records] == [each.metrics for each in plain.records]


@pytest.mark.parametrize("ema_decay", [0.0, 0.8])
def test_weights_that_train_on_are_seen(ema_decay: float) -> None:
    """300 images are a batch of 256 and one of 44: each is captured the second time."""
    config = EVERYTHING.model_copy(update={"ema_decay": ema_decay})
    graphed = Graphed(config)
    (stream,) = graphed.streams
    assert (stream.warmed_up, stream.captured, stream.replayed) == (2, 2, 4)
    assert len({record.metrics["loss"] for record in graphed.result.records}) == 3
    assert_equal_figures(graphed, config)
    assert graphed.notes == []


@pytest.mark.parametrize(("stream", "reason"), [(Failing, "(CUDA error: operation not permitted"), (Full, "memory")])
def test_what_cannot_be_captured_is_evaluated_as_before(stream: type[OperationStream], reason: str) -> None:
    graphed = Graphed(EVERYTHING, stream)
    (note,) = graphed.notes
    assert note.startswith("CUDA graphs: not used in evaluations, since ")
    assert reason in note
    assert_equal_figures(graphed, EVERYTHING)


def test_a_lost_device_is_no_reason_to_go_on() -> None:
    with pytest.raises(torch.AcceleratorError):
        Graphed(EVERYTHING, Lost)


@pytest.mark.parametrize("update", [{}, {"graphs": False}, {"grad_checkpointing": True}])
def test_a_training_says_what_is_left_and_whether_graphs_are_wanted(update: dict[str, Any]) -> None:
    graphed = Graphed(EVERYTHING.model_copy(update=update))
    assert graphed.asked == [(3 * 300 / 256, not update)]


def test_each_view_of_an_image_is_one_replay() -> None:
    data, network, stream, run = make_data(test=40), make_network().eval(), OperationStream(), Run(CPU)
    split, tta = plan_tta(data.val, crops=5, flip=True, padding=1)
    given: tuple[Any, ...] = (network, split, Normalizer(data.mean, data.std), run)
    found = evaluate(*given, forward=replay_forward(network, stream, run), batch_size=20, tta=tta)
    assert found == evaluate(*given, batch_size=20, tta=tta)
    assert (stream.warmed_up, stream.captured, stream.replayed) == (1, 1, 19)


def test_a_network_is_captured_on_a_gpu_alone_where_it_pays() -> None:
    network = make_network()
    assert choose_forward(network, WORTH_FORWARD, Run(CPU)) is network
    assert choose_forward(network, WORTH_FORWARD - 1, Run(CUDA)) is network
    assert choose_forward(network, WORTH_FORWARD, Run(CUDA), allowed=False) is network
