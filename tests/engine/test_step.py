"""One step: in parts it gives the gradient of the whole, and memory that runs out makes the parts smaller."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from nascli.errors import NascliError
from nascli.models.cells.network import CellNetwork
from tests.classify.small_training import EVERYTHING, FixedTraining, equal, make_network, run_fit, weights

PLAIN = EVERYTHING.model_copy(update={"ema_decay": 0.0, "drop_path_prob": 0.0})


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(count, 3, 8, 8, dtype=torch.float64, generator=generator)
    return images.to(memory_format=torch.channels_last), torch.arange(count) % 3


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_parts_add_up_to_the_whole(parts: int) -> None:
    whole, divided = FixedTraining(PLAIN, 1), FixedTraining(PLAIN, parts)
    losses = [state.step(*batch()) for state in (whole, divided)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(divided.state.modules.state_dict(), whole.state.modules.state_dict())


def test_labels_may_be_probabilities() -> None:
    images, labels = batch()
    states = FixedTraining(PLAIN, 1), FixedTraining(PLAIN, 1)
    soft = nn.functional.one_hot(labels, 3).double()
    losses = [state.step(images, wanted) for state, wanted in zip(states, (labels, soft), strict=True)]
    torch.testing.assert_close(*losses)


class Small:
    """Stands in for a device whose memory holds so many images."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.asked: list[int] = []
        forward = CellNetwork.forward_with_aux

        def guarded(network: CellNetwork, images: Tensor) -> tuple[Tensor, Tensor | None]:
            self.asked.append(len(images))
            if len(images) > room:
                raise torch.OutOfMemoryError("no room")
            return forward(network, images)

        monkeypatch.setattr(CellNetwork, "forward_with_aux", guarded)


def test_memory_that_runs_out_makes_the_parts_smaller_and_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    small, whole, notes = Small(monkeypatch, 12), FixedTraining(PLAIN, 1), list[str]()
    whole.step_within_memory(*batch(), 5)
    small = Small(monkeypatch, 4)
    state = FixedTraining(PLAIN, 1)
    state.step_within_memory(*batch(), 5, log=notes.append)
    assert state.state.micro_batches == 4
    assert small.asked == [12, 6, 3, 3, 3, 3]
    assert [note.split(",")[0] for note in notes] == [
        "out of memory: from step 1 on a batch of 12 images is computed in 2 micro-batches",
        "out of memory: from step 1 on a batch of 12 images is computed in 4 micro-batches",
    ]
    torch.testing.assert_close(state.state.modules.state_dict(), whole.state.modules.state_dict())


def test_memory_that_does_not_hold_two_images_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Small(monkeypatch, 1)
    with pytest.raises(torch.OutOfMemoryError):
        FixedTraining(PLAIN, 1).step_within_memory(*batch(), 5)


def test_memory_that_runs_out_while_weights_change_is_no_reason_to_change_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = FixedTraining(PLAIN, 1)

    def full() -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(state.state.optimizer, "step", full)
    with pytest.raises(NascliError, match="not enough memory to change the weights"):
        state.step_within_memory(*batch(), 5)
    assert state.state.micro_batches == 1


def test_without_retries_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Small(monkeypatch, 4)
    with pytest.raises(torch.OutOfMemoryError):
        FixedTraining(PLAIN, 1).step_within_memory(*batch(), 5, log=list[str]().append, retry_on_oom=False)


def test_a_whole_training_goes_on_in_smaller_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, found = make_network(), make_network()
    run_fit(expected, PLAIN.model_copy(update={"grad_accum_steps": 2}))
    tries = itertools.count()
    forward = CellNetwork.forward_with_aux

    def guarded(network: CellNetwork, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if next(tries) == 0:
            raise torch.OutOfMemoryError("no room")
        return forward(network, images)

    monkeypatch.setattr(CellNetwork, "forward_with_aux", guarded)
    notes = list[str]()
    run_fit(found, PLAIN, log=notes.append)
    assert len(notes) == 1
    assert equal(weights(found), weights(expected))
