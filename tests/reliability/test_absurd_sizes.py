"""Sizes that nobody means: refused by the bounds of their keys, or explained by the memory that they would take."""

import typing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from nascli.config import DetectRecipe, SearchRecipe, TrainRecipe, load_recipe
from nascli.config.section import Section
from nascli.data.detection.dataset import AnnotatedImage
from nascli.detect.coco_eval import Detection
from nascli.detect.confusion import pair_boxes
from nascli.errors import InputError
from tests.cli.program import Nascli
from tests.front_door.made import write_classes
from tests.reliability.bounded import bounded

RECIPES: tuple[type[Section], ...] = (SearchRecipe, TrainRecipe, DetectRecipe)
DRY = "--cell nasnet-a --cells-per-stage 1 --device cpu --set train.threads=1 --dry-run"


def _list_whole_numbers(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """The dotted keys of all whole numbers but the seed, which may be any."""
    for name, field in model.model_fields.items():
        kinds = typing.get_args(field.annotation) or (field.annotation,)
        if int in kinds and name != "seed":
            yield above + name
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _list_whole_numbers(kind, f"{above}{name}.")


KEYS = [(recipe, key) for recipe in RECIPES for key in _list_whole_numbers(recipe)]


def test_every_whole_number_has_bounds() -> None:
    assert len(KEYS) > 60
    for recipe, key in KEYS:
        for value in (10**12, -(10**12), 2**63, 10**3000):
            with bounded(5, 100), pytest.raises(InputError) as refused:
                load_recipe(recipe, None, {key: value})
            assert key.rpartition(".")[2] in str(refused.value)
            assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("size", ["--filters 16000", "--filters 100000000", "--cells-per-stage 1000000"])
def test_a_network_larger_than_the_memory_is_explained(size: str, tmp_path: Path, nascli: Nascli) -> None:
    data = write_classes(tmp_path / "data", counts=(2, 1))
    with bounded(60, 3000):
        ran = nascli(f"train {DRY} --dataset folder:{data} {size} --json")
    assert "did not expect" not in ran.err
    assert ran.code == 0 or ran.json["error"]["code"] in ("out_of_memory", "bad_input")


@pytest.mark.parametrize("cell", ["nasnet-a", "resnet-20"])
@pytest.mark.parametrize("option", ["--filters", "--classes", "--image-size"])
@pytest.mark.parametrize("number", ["0", "-1", "100000000", "9" * 20])
def test_sizes_of_a_network_that_is_only_shown(cell: str, option: str, number: str, nascli: Nascli) -> None:
    with bounded(20, 2000):
        ran = nascli(f"build --cell {cell} {option} {number} --json")
    assert ran.code == 2, ran.err
    assert ran.json["error"]["code"] in ("bad_input", "usage")
    assert option.strip("-").replace("-", "_") in ran.err.replace("-", "_")


def test_thousands_of_boxes_on_an_image_are_paired_in_little_memory() -> None:
    corners = np.random.default_rng(0).random((3000, 2)) * 500
    boxes, labels = np.concatenate((corners, np.full((3000, 2), 9.0)), 1), np.ones(3000, dtype=np.int64)
    image = AnnotatedImage(1, Path("x"), 512, 512, boxes, labels, boxes[:, 2], np.zeros(3000, dtype=np.bool_))
    found = [Detection(image_id=1, category_id=7, bbox=box, score=1.0) for box in boxes[::-1].tolist()]
    with bounded(60, 300):
        pairs = pair_boxes(image, found, {7: 1})
    assert pairs.detected.tolist() == [*range(2999, -1, -1)]
