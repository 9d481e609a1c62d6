"""Training images that grow over the epochs: which size when, resumed, streamed, refused."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from nascli.classify.image_sizes import find_side
from nascli.classify.task import AugmentedBatches, plan_batches
from nascli.config import FineTuneConfig
from nascli.data.in_memory import ImageArray
from nascli.data.streaming import ImageFiles
from nascli.engine.checkpoint import CheckpointStore
from nascli.errors import Interrupted
from nascli.models.families import build
from nascli.models.interface import ImageClassifier
from nascli.signals import StopRequest
from tests.classify.small_training import AUGMENTATION, CPU, EVERYTHING, equal, make_data, make_spec, run_fit, weights
from tests.cli.program import Nascli, write_images

GROWING = FineTuneConfig(**(EVERYTHING.model_dump() | {"image_sizes": (8, 12, 16)}))


def make_network(seed: int = 0) -> ImageClassifier:
    torch.manual_seed(seed)
    return build(make_spec(size=16))


@given(st.integers(1, 40), st.lists(st.integers(8, 400), min_size=1, max_size=6, unique=True))
def test_each_size_has_an_equal_part_of_the_epochs_and_the_last_one_the_end(epochs: int, sizes: list[int]) -> None:
    config = FineTuneConfig(epochs=epochs, image_sizes=tuple(sizes))
    sides = [find_side(config, epoch, 500) for epoch in range(epochs)]
    assert sides == sorted(sides, key=sizes.index)
    assert sides[-1] == sizes[-1]
    counts = [sides.count(size) for size in sizes]
    assert max(counts) - min(counts) <= 1


def test_without_sizes_images_have_their_own() -> None:
    assert find_side(FineTuneConfig(), 3, 32) == 32


def test_images_grow_and_are_measured_at_full_size() -> None:
    seen: dict[bool, list[int]] = {True: [], False: []}

    def watch(module: nn.Module, given: tuple[Tensor]) -> None:
        seen[module.training].append(given[0].shape[-1])

    network = make_network()
    next(network.children()).register_forward_pre_hook(watch)
    run_fit(network, GROWING.model_copy(update={"ema_decay": 0.0}), data=make_data(size=16))
    assert seen == {True: [8] * 4 + [12] * 4 + [16] * 4, False: [16] * 3}


@pytest.mark.parametrize("last", [3, 6])
def test_stopped_and_resumed_it_ends_where_it_would_have(tmp_path: Path, last: int) -> None:
    run = partial(run_fit, config=GROWING, data=make_data(size=16))
    whole, stop, fresh = make_network(), StopRequest(), make_network(9)
    straight = run(whole)

    def ask(step: int, loss: float) -> None:
        stop.requested = step == last

    with pytest.raises(Interrupted):
        run(make_network(), store=CheckpointStore(tmp_path, "x"), stop=stop, on_step=ask)
    assert run(fresh, store=CheckpointStore(tmp_path, "x")).evaluation == straight.evaluation
    assert equal(weights(fresh), weights(whole))


def test_streamed_images_are_read_at_the_size_of_the_epoch(tmp_path: Path) -> None:
    data = make_data(size=16)
    assert isinstance(data.train, ImageArray)
    paths = tuple(tmp_path / f"{k}.png" for k in range(len(data.train)))
    for path, image in zip(paths, data.train.images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    files = ImageFiles(paths, data.train.labels, 16, workers=0)
    plan = plan_batches(data, GROWING)
    batches = AugmentedBatches(replace(data, train=files), AUGMENTATION, plan, 1, CPU)
    for epoch, side in enumerate((8, 12, 16)):
        assert {tuple(images.shape) for images, *_ in batches.read(epoch, 0)} == {(16, 3, side, side)}


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ("train.image_sizes=[8,48]", "up to 32"),
        ("train.image_sizes=[8,32] --preset imagenet-mobile", "takes is 32"),
        ("train.image_sizes=[4]", "image_sizes[0]"),
    ],
)
def test_sizes_that_cannot_be_are_refused(nascli: Nascli, more: str, word: str) -> None:
    ran = nascli(f"train --cell cell.json --dataset folder:images --image-size 32 --out run --set {more}")
    assert (ran.code, word in ran.err, Path("run").exists()) == (2, True, False), ran.err


def test_an_estimate_is_of_the_largest_size_in_memory(nascli: Nascli) -> None:
    write_images(Path("large"), size=32)
    line = "train --cell cell.json --dataset folder:large --filters 4 --cells-per-stage 1 --epochs 2 --dry-run --json"
    small, mixed, full = (
        nascli(f"{line} {more}").json
        for more in ("--set train.image_sizes=[16]", "--set train.image_sizes=[16,32]", "")
    )
    assert small["memory"] < mixed["memory"] == full["memory"]
    assert small["mult_adds"] == full["mult_adds"]
