"""Training a classifier: it learns, repeats itself, stops and resumes, and says when it diverges."""

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nascli.classify.metrics import evaluate
from nascli.config import DataConfig, TrainConfig
from nascli.data.dataset import ImageData
from nascli.data.in_memory import ImageArray
from nascli.data.transforms import Normalizer
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.meters import EpochRecord
from nascli.engine.optim import WeightAverage, make_optimizer
from nascli.engine.task import Run, TrainPlan
from nascli.errors import DivergedError, InputError, Interrupted
from nascli.models.cells.network import CellNetwork
from nascli.records import read_lines
from nascli.signals import StopRequest
from tests.classify.small_training import (
    AUGMENTATION,
    CPU,
    EVERYTHING,
    equal,
    make_data,
    make_network,
    run_fit,
    weights,
)

TIMES = ("seconds", "images_per_second")


def without_times(records: list[EpochRecord]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.to_dict().items() if key not in TIMES} for record in records]


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = read_lines(folder / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def test_it_learns_and_says_what_it_reached() -> None:
    network, records = make_network(), list[EpochRecord]()
    config = EVERYTHING.model_copy(update={"epochs": 12, "drop_path_prob": 0.1})
    result = run_fit(network, config, augmentation=DataConfig(flip=True), on_epoch=records.append)
    assert result.evaluation.top1 > 0.9
    assert result.evaluation.top5 == 1.0
    assert result.evaluation.images == 30
    assert len(result.records) == len(records) == 12
    assert result.train_loss == records[-1].train_loss < records[0].train_loss
    assert [record.step for record in records] == [4 * epoch for epoch in range(1, 13)]
    assert 0 < records[-1].lr < 0.01 < max(record.lr for record in records) <= 0.05
    assert result.seconds == pytest.approx(sum(record.seconds for record in records), abs=0.01)


def test_the_network_is_left_with_the_weights_that_were_measured() -> None:
    network = make_network()
    result = run_fit(network)
    data = make_data()
    again = evaluate(network, data.val, Normalizer(data.mean, data.std), Run(CPU), batch_size=7)
    assert again.top1 == result.evaluation.top1
    assert again.loss == pytest.approx(result.evaluation.loss, rel=1e-5)


def test_equal_seeds_give_equal_weights_and_another_seed_others() -> None:
    networks = [make_network() for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        run_fit(network, seed=seed)
        torch.rand(5)  # the caller's draws must not matter
    assert equal(weights(networks[0]), weights(networks[1]))
    assert not equal(weights(networks[0]), weights(networks[2]))


def test_the_callers_random_state_is_left_as_it_was() -> None:
    network = make_network()
    state = torch.get_rng_state()
    run_fit(network)
    assert torch.equal(torch.get_rng_state(), state)


RMSPROP = {"optimizer": "rmsprop", "schedule": "exponential", "grad_accum_steps": 2}
ADAMW = {"optimizer": "adamw", "lr": 0.01}
MUON = {"optimizer": "muon", "lr": 0.01}


@pytest.mark.parametrize(
    ("last", "change"), [(1, {}), (4, {}), (6, {}), (8, {}), (11, {}), (6, RMSPROP), (6, ADAMW), (5, MUON)]
)
def test_stopped_after_any_step_and_resumed_it_ends_where_it_would_have(
    tmp_path: Path, last: int, change: dict[str, object]
) -> None:
    config, mixed = EVERYTHING.model_copy(update=change), AUGMENTATION.model_copy(update={"mixup": 0.2, "cutmix": 1.0})
    run = partial(run_fit, config=config, augmentation=mixed)
    whole, records = make_network(), list[EpochRecord]()
    straight = run(whole, store=CheckpointStore(tmp_path / "whole", "x"), on_epoch=records.append)
    stop, parts = StopRequest(), make_network()

    def ask(step: int, loss: float) -> None:
        stop.requested = step == last

    with pytest.raises(Interrupted) as caught:
        run(parts, store=CheckpointStore(tmp_path / "parts", "x"), stop=stop, on_step=ask)
    assert f"after step {last} of 12" in caught.value.message
    assert f"--resume {tmp_path / 'parts'}" in caught.value.hint
    fresh = make_network(seed=99)
    resumed = run(fresh, store=CheckpointStore(tmp_path / "parts", "x"))
    assert equal(weights(fresh), weights(whole))
    assert resumed.evaluation == straight.evaluation
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole") == without_times(records)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()


def test_a_checkpoint_inside_an_epoch_is_gone_on_from(tmp_path: Path) -> None:
    whole = make_network()
    run_fit(whole)
    often = EVERYTHING.model_copy(update={"checkpoint_minutes": 1e-9})

    class PulledPlugError(Exception):
        pass

    def pull(step: int, loss: float) -> None:
        if step == 7:
            raise PulledPlugError

    with pytest.raises(PulledPlugError):
        run_fit(make_network(), often, store=CheckpointStore(tmp_path / "parts", "x"), on_step=pull)
    notes, steps, fresh = list[str](), list[int](), make_network(seed=99)
    run_fit(
        fresh,
        often,
        store=CheckpointStore(tmp_path / "parts", "x", notes.append),
        on_step=lambda step, loss: steps.append(step),
    )
    assert notes == ["resuming from checkpoint.pt, step 6"]
    assert steps == [7, 8, 9, 10, 11, 12]
    assert equal(weights(fresh), weights(whole))


def test_a_stop_during_the_evaluation_is_not_lost(tmp_path: Path) -> None:
    whole, stop, fresh = make_network(), StopRequest(), make_network(seed=99)
    run_fit(whole)
    data = make_data()

    class Slow(ImageArray):
        def evaluation_batches(self, batch_size: int) -> Any:  # noqa: ANN401 - as above
            for batch in super().evaluation_batches(10):
                stop.requested = True
                yield batch

        def take(self, indices: Tensor) -> "Slow":
            return self

        def to(self, device: torch.device) -> "Slow":
            return self

    assert isinstance(data.val, ImageArray)
    slow = replace(data, val=Slow(data.val.images, data.val.labels))
    with pytest.raises(Interrupted, match="after step 4 of 12"):
        run_fit(make_network(), data=slow, store=CheckpointStore(tmp_path / "parts", "x"), stop=stop)
    run_fit(fresh, store=CheckpointStore(tmp_path / "parts", "x"))
    assert equal(weights(fresh), weights(whole))


def test_a_finished_run_that_is_resumed_gives_its_result_again(tmp_path: Path) -> None:
    first, second = make_network(), make_network(seed=99)
    done = run_fit(first, store=CheckpointStore(tmp_path / "parts", "x"))
    assert run_fit(second, store=CheckpointStore(tmp_path / "parts", "x")) == done
    assert equal(weights(first), weights(second))


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    steps = itertools.count(1)
    network = make_network()

    def poison(module: nn.Module, given: object, output: Tensor) -> Tensor | None:
        return output * float("nan") if module.training and next(steps) == 6 else None

    network.classifier.register_forward_hook(poison)
    folder = tmp_path / "parts"
    with pytest.raises(DivergedError, match=r"the loss is nan \(loss nan, auxiliary [\d.]+\) at step 6") as caught:
        run_fit(network, store=CheckpointStore(folder, "x"))
    assert "train.lr" in caught.value.hint
    state = CheckpointStore(folder, "x").load()
    assert state is not None
    assert state["step"] == 4
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state["modules"].values())


@pytest.mark.parametrize(
    "change",
    [
        {"aux_weight": 0.0},
        {"drop_path_prob": 0.0},
        {"ema_decay": 0.0},
        {"label_smoothing": 0.0},
        {"clip_grad_norm": 0.01},
        {"weight_decay": 0.1},
        {"momentum": 0.5},
        {"nesterov": True},
        {"warmup_epochs": 0.0},
        {"lr": 0.04},
        {"batch_size": 17},
        {"precision": "bfloat16"},
        {"grad_accum_steps": 2},
        {"lr_base_size": 32},
        {"schedule": "exponential"},
        {"optimizer": "rmsprop"},
        {"optimizer": "adamw"},
        {"optimizer": "muon"},
    ],
)
def test_every_setting_has_an_effect(change: dict[str, object]) -> None:
    config = EVERYTHING.model_copy(update={"epochs": 2})
    first, second = make_network(), make_network()
    run_fit(first, config)
    run_fit(second, config.model_copy(update=change))
    assert not equal(weights(first), weights(second))


@pytest.mark.parametrize(
    "change",
    [
        {"crop_padding": 0},
        {"flip": False},
        {"cutout": 0},
        {"rand_augment": 1},
        {"color_jitter": 1.0},
        {"mixup": 1.0},
        {"cutmix": 1.0},
    ],
)
def test_every_augmentation_has_an_effect(change: dict[str, object]) -> None:
    first, second = make_network(), make_network()
    run_fit(first)
    run_fit(second, augmentation=AUGMENTATION.model_copy(update=change))
    assert not equal(weights(first), weights(second))


def test_drop_path_grows_from_zero_with_the_step_and_is_off_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    watched = property(lambda network: seen[-1] if seen else 0.0, lambda network, prob: seen.append(prob))
    monkeypatch.setattr(CellNetwork, "drop_path_prob", watched)
    run_fit(make_network())
    assert seen == pytest.approx([0.3 * step / 12 for step in range(12)] + [0.0])


def test_an_epoch_shows_each_image_at_most_once_in_a_new_order() -> None:
    plan = TrainPlan(EVERYTHING, images=70)
    orders = [plan.order(5, epoch).tolist() for epoch in range(3)]
    assert all(len(set(order)) == len(order) == plan.steps_per_epoch * plan.batch_size == 64 for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders[0] == plan.order(5, 0).tolist()


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    result = run_fit(make_network(), data=make_data(train=9))
    assert len(result.records) == 3


def test_one_image_is_too_few() -> None:
    with pytest.raises(InputError, match="1 training image is too few"):
        run_fit(make_network(), data=make_data(train=1))


def test_batch_norms_and_biases_are_not_decayed() -> None:
    network = make_network()
    decayed, free = make_optimizer(network, TrainConfig(lr=0.05, momentum=0.9, weight_decay=5e-4)).param_groups
    names = {id(p): name for name, p in network.named_parameters()}
    assert decayed["weight_decay"] == 5e-4
    assert free["weight_decay"] == 0
    assert {names[id(p)] for p in free["params"]} == {name for name, p in network.named_parameters() if p.ndim == 1}
    assert len(decayed["params"]) + len(free["params"]) == len(names)


def test_the_average_is_exponential_over_weights_and_statistics() -> None:
    layer = nn.BatchNorm1d(1)
    average = WeightAverage(layer, 0.9)
    averaged = average.module
    assert isinstance(averaged, nn.BatchNorm1d)
    expected = None
    for value in (1.0, 2.0, 5.0):
        with torch.no_grad():
            layer.weight.fill_(value)
            layer.running_mean = torch.full((1,), 10 * value)
        average.update(layer)
        expected = value if expected is None else 0.9 * expected + 0.1 * value
        assert averaged.weight.item() == pytest.approx(expected)
        assert averaged.running_mean is not None
        assert averaged.running_mean.item() == pytest.approx(10 * expected)


def test_evaluation_counts_and_does_not_depend_on_the_batch_size() -> None:
    class Fixed(nn.Module):
        """Logits that rank class 0 first, then 1, 2, ..."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.arange(8.0).flip(0).expand(len(x), 8)

    labels = torch.tensor([0, 0, 4, 5, 7, 1])
    split = ImageArray(torch.zeros((6, 3, 2, 2), dtype=torch.uint8), labels)
    network = Fixed().train()
    for batch_size in (1, 4, 6):
        found = evaluate(network, split, Normalizer((0, 0, 0), (1, 1, 1)), Run(CPU), batch_size=batch_size)
        assert found.top1 == pytest.approx(2 / 6)
        assert found.top5 == pytest.approx(4 / 6)
        probabilities = torch.arange(8.0).flip(0).log_softmax(0)
        assert found.loss == pytest.approx(-probabilities[labels].mean().item(), rel=1e-6)
    assert network.training


def test_training_on_streamed_images_learns_the_same_as_in_memory_after_each_resume(tmp_path: Path) -> None:
    from PIL import Image

    from nascli.data.streaming import ImageFiles

    memory = make_data()
    assert isinstance(memory.train, ImageArray)
    paths = []
    for k, image in enumerate(memory.train.images):
        paths.append(tmp_path / f"{k}.png")
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(paths[-1])
    streamed = ImageFiles(tuple(paths), memory.train.labels, image_size=8, workers=0)
    data: ImageData = replace(memory, train=streamed)
    whole, fresh, stop = make_network(), make_network(seed=99), StopRequest()
    run_fit(whole, data=data)

    def ask(step: int, loss: float) -> None:
        stop.requested = step == 6

    with pytest.raises(Interrupted):
        run_fit(make_network(), data=data, store=CheckpointStore(tmp_path / "parts", "x"), stop=stop, on_step=ask)
    run_fit(fresh, data=data, store=CheckpointStore(tmp_path / "parts", "x"))
    assert equal(weights(fresh), weights(whole))


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """The loss of step 6 is a number, its gradient is not."""
    steps, network, folder = itertools.count(1), make_network(), tmp_path / "parts"
    often = EVERYTHING.model_copy(update={"checkpoint_steps": 1})

    def poison(gradient: Tensor) -> Tensor | None:
        return gradient * float("inf") if next(steps) == 6 else None

    network.classifier.weight.register_hook(poison)  # type: ignore[no-untyped-call]
    with pytest.raises(DivergedError, match=r"the gradient is (inf|nan) at step 6"):
        run_fit(network, often, store=CheckpointStore(folder, "x"))
    state = CheckpointStore(folder, "x").load()
    assert state is not None
    assert state["step"] == 5
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state["modules"].values())


@pytest.mark.parametrize(("steps", "expected"), [(0, []), (1, [0, 1, 2, 3, 4, 5, 6, 7]), (3, [0, 0, 0, 3, 4, 4, 6, 6])])
def test_a_checkpoint_every_so_many_steps(tmp_path: Path, steps: int, expected: list[int]) -> None:
    """Beside those at the end of each epoch, which is of four steps."""
    folder, found = tmp_path / "parts", list[int]()

    class PulledPlugError(Exception):
        pass

    def look(step: int, loss: float) -> None:
        state = CheckpointStore(folder, "x").load()
        found.append(state["step"] if state else 0)
        if step == 8:
            raise PulledPlugError

    config = EVERYTHING.model_copy(update={"checkpoint_steps": steps})
    with pytest.raises(PulledPlugError):
        run_fit(make_network(), config, store=CheckpointStore(folder, "x"), on_step=look)
    assert found == (expected or [0, 0, 0, 0, 4, 4, 4, 4])


def test_memory_that_runs_out_in_measuring_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, found, notes = make_network(), make_network(), list[str]()
    straight = run_fit(expected)
    forward = CellNetwork.forward

    def guarded(network: CellNetwork, images: Tensor) -> Tensor:
        if len(images) > 8:
            raise torch.OutOfMemoryError("no room")
        return forward(network, images)

    monkeypatch.setattr(CellNetwork, "forward", guarded)
    result = run_fit(found, log=notes.append)
    assert equal(weights(found), weights(expected))
    assert result.evaluation.top1 == straight.evaluation.top1
    assert result.evaluation.loss == pytest.approx(straight.evaluation.loss, rel=1e-5)
    assert notes == [f"out of memory: from here on {count} images are evaluated at once" for count in (15, 7)] * 3
