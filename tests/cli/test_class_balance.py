"""Classes of unequal size: weights in the loss, balanced batches, what they do to a rare class, what is refused."""

import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from nascli.classify.class_balance import draw_balanced_order, find_class_weights, weigh_targets
from nascli.classify.task import AugmentedBatches, plan_batches
from nascli.config import FineTuneConfig
from nascli.data.dataset import ImageData
from nascli.data.in_memory import ImageArray
from nascli.data.streaming import ImageFiles
from nascli.engine.checkpoint import CheckpointStore
from nascli.errors import InputError, Interrupted
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
from tests.cli.program import Nascli
from tests.processes import FIRST, SECOND

BALANCED = AUGMENTATION.model_copy(update={"sampling": "balanced"})


def make_skewed() -> ImageData:
    """12 images of class a, 6 of b, 2 of c."""
    data = make_data(train=20)
    return replace(data, train=data.train.relabel(torch.tensor([0] * 12 + [1] * 6 + [2] * 2)))


@pytest.mark.parametrize(
    "setting", ["train.class_weights=balanced", pytest.param("data.sampling=balanced", marks=pytest.mark.slow)]
)
def test_the_recall_of_a_rare_class_rises(nascli: Nascli, setting: str) -> None:
    """Threes and fives, 100 each, and four eights."""
    digits = load_digits()
    for label, count in ((3, 100), (5, 100), (8, 4)):
        images = (digits.images[digits.target == label] * 15.9).astype(np.uint8)
        for split, places in (("train", range(count)), ("val", range(120, 160))):
            folder = Path("digits", split, str(label))
            folder.mkdir(parents=True)
            for k in places:
                Image.fromarray(images[k]).save(folder / f"{k}.png")
    line = "train --cell cell.json --dataset folder:digits --filters 6 --cells-per-stage 1 --epochs 6 --batch-size 32"
    recall = {}
    for name, more in {"plain": "", "balanced": f"--set {setting}"}.items():
        assert nascli(f"{line} --out {name} {more}").code == 0
        recall[name] = [each["top1"] for each in nascli(f"evaluate {name} --json").json["per_class"]]
    assert recall["plain"][2] < 0.2
    assert recall["balanced"][2] > recall["plain"][2] + 0.3
    assert min(recall["balanced"][:2]) > 0.8


def test_the_weights_follow_the_formula() -> None:
    balanced = find_class_weights(make_skewed(), "balanced")
    assert balanced is not None
    assert balanced.tolist() == pytest.approx([20 / (3 * 12), 20 / (3 * 6), 20 / (3 * 2)])
    mean = (12 + 6 * 1 + 2 * 5) / 20
    table = find_class_weights(make_skewed(), {"c": 5.0})
    assert table is not None
    assert table.tolist() == pytest.approx([1 / mean, 1 / mean, 5 / mean])
    assert find_class_weights(make_skewed(), {}) is None


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_each_images_own_times_its_weight(smoothing: float) -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels, weights = torch.tensor([0, 2, 1, 2]), torch.tensor([0.5, 2.0, 3.0])
    own = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    loss = partial(F.cross_entropy, logits)
    torch.testing.assert_close(loss(weigh_targets(labels, weights, smoothing)), (own * weights[labels]).mean())
    one = weigh_targets(labels, torch.ones(3), smoothing)
    torch.testing.assert_close(loss(one), loss(labels, label_smoothing=smoothing))
    other = torch.tensor([1, 0, 1, 0])
    mixed = 0.3 * F.one_hot(labels, 3) + 0.7 * F.one_hot(other, 3)
    expected = 0.3 * weigh_targets(labels, weights, smoothing) + 0.7 * weigh_targets(other, weights, smoothing)
    torch.testing.assert_close(weigh_targets(mixed, weights, smoothing), expected)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any), st.integers(0, 60), st.integers(0, 99))
def test_a_balanced_order_has_each_class_equally_often_and_no_image_before_all_others(
    sizes: list[int], count: int, seed: int
) -> None:
    labels = torch.cat([torch.full((size,), k) for k, size in enumerate(sizes)])
    order = draw_balanced_order(labels, count, torch.Generator().manual_seed(seed))
    assert torch.equal(order, draw_balanced_order(labels, count, torch.Generator().manual_seed(seed)))
    assert len(order) == count == len(set(order.tolist()))
    drawn = Counter(labels[order % len(labels)].tolist())
    shares = [drawn[k] for k, size in enumerate(sizes) if size]
    assert max(shares) - min(shares) <= 1
    times = Counter((order % len(labels)).tolist())
    for label, size in enumerate(sizes):
        counts = [times[int(place)] for place in (labels == label).nonzero()]
        assert max(counts, default=0) - min(counts, default=0) <= 1
        assert len(counts) == size


def test_processes_share_a_balanced_order() -> None:
    data, config = make_skewed(), EVERYTHING.model_copy(update={"batch_size": 4})
    whole, first, second = (
        list(AugmentedBatches(data, BALANCED, plan_batches(data, config, *dist), 1, CPU).read(1, 0))
        for dist in ((), (FIRST,), (SECOND,))
    )
    for batch, one, two in zip(whole, first, second, strict=True):
        assert all(torch.equal(each, torch.cat(shares)) for each, *shares in zip(batch, one, two, strict=True))


def test_streamed_images_that_come_again_are_cropped_anew(tmp_path: Path) -> None:
    data = make_skewed()
    assert isinstance(data.train, ImageArray)
    paths = tuple(tmp_path / f"{k}.png" for k in range(20))
    for path, image in zip(paths, data.train.images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    files = replace(data, train=ImageFiles(paths, data.train.labels, 8, workers=0))
    augmentation = BALANCED.model_copy(update={"crop_padding": 0, "cutout": 0, "flip": False})
    batches = AugmentedBatches(files, augmentation, plan_batches(data, EVERYTHING), 1, CPU)
    ((images, labels),) = list(batches.read(0, 0))
    rare = images[labels == 2]
    assert len(rare) >= 5
    assert len(torch.unique(rare, dim=0)) == len(rare)


def test_stopped_and_resumed_it_ends_where_it_would_have(tmp_path: Path) -> None:
    config = FineTuneConfig(**(EVERYTHING.model_dump() | {"class_weights": {"c": 2.0}, "batch_size": 4}))
    augmentation = BALANCED.model_copy(update={"mixup": 0.4})
    run = partial(run_fit, config=config, augmentation=augmentation, data=make_skewed())
    whole, stop, fresh = make_network(), StopRequest(), make_network(9)
    run(whole)

    def ask(step: int, loss: float) -> None:
        stop.requested = step == 7

    with pytest.raises(Interrupted):
        run(make_network(), store=CheckpointStore(tmp_path, "x"), stop=stop, on_step=ask)
    run(fresh, store=CheckpointStore(tmp_path, "x"))
    assert equal(weights(fresh), weights(whole))
    others = make_network()
    run(others, config=config.model_copy(update={"class_weights": {}}))
    assert not equal(weights(others), weights(whole))


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ("train.class_weights={cat=2.0,owl=3.0}", "'owl'"),
        ("train.class_weights={cat=0.0}", "class_weights"),
        ("train.class_weights=balanced --set data.sampling=balanced", "twice"),
        ("train.class_weights=level", "class_weights"),
    ],
)
def test_weights_that_cannot_be_are_refused(nascli: Nascli, more: str, word: str) -> None:
    ran = nascli(f"train --cell cell.json --dataset folder:images --out run --set {more}")
    assert (ran.code, word in ran.err, Path("run").exists()) == (2, True, False), ran.err


@pytest.mark.parametrize("setting", ["train.class_weights=balanced", "data.sampling=balanced"])
def test_a_class_without_training_images_is_named(nascli: Nascli, setting: str) -> None:
    for image in Path("images/train/dog").iterdir():
        image.unlink()
    shutil.copy("images/val/dog/00.png", "images/train/dog/00.txt")
    ran = nascli(f"train --cell cell.json --dataset folder:images --out run --set {setting}")
    assert (ran.code, "dog" in ran.err, Path("run").exists()) == (2, True, False), ran.err


def test_a_class_that_the_data_name_and_lack_is_named() -> None:
    with pytest.raises(InputError, match="no training images of 'c'"):
        find_class_weights(make_data(train=2), "balanced")
