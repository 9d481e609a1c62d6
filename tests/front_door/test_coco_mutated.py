"""COCO files changed at random: in any way without a traceback, in ways that keep their meaning without another box."""

import contextlib
import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nascli.config import DetectDataConfig
from nascli.data.detection.dataset import DetectionSplit
from nascli.data.detection.registry import audit_detection_data, load_detection_data
from nascli.data.issues import IssueOutcome
from nascli.errors import CorruptFileError, InputError
from tests.front_door.made import Lists, write_coco

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(
            [0, -1, 1, 2**63, 10**400, "", " ", "1", "1.0", "nan", "inf", "\x00", "../..", "\ud800", "[b]"]
        ),
        st.text(max_size=8),
    ),
    lambda inside: st.lists(inside, max_size=5) | st.dictionaries(st.text(max_size=4), inside, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("mutated") / "data")


@pytest.fixture(scope="module")
def lists(folder: Path) -> Lists:
    values: Lists = json.loads((folder / "annotations" / "instances_train2017.json").read_text())
    return values


def read(folder: Path, values: object) -> DetectionSplit:
    """The training split of these values, whatever is wrong in it."""
    file = folder / "annotations" / "instances_train2017.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    return audit_detection_data(DetectDataConfig(dataset=f"coco:{folder}"))[0]


def list_places(values: object, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in JSON values, as keys and positions."""
    yield place
    entries = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in entries:
        yield from list_places(value, (*place, key))


def put(values: Any, place: Sequence[Any], value: object) -> Any:  # noqa: ANN401 - any JSON
    """A copy of the values with another one at a place."""
    if not place:
        return value
    changed = copy.deepcopy(values)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return changed


@given(data=st.data())
@QUICK
def test_any_value_anywhere_is_read_or_refused(folder: Path, lists: Lists, data: st.DataObject) -> None:
    values: Any = lists
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(sorted(list_places(values), key=repr)))
        values = put(values, place, data.draw(ODD))
    try:
        split = read(folder, values)
    except (InputError, CorruptFileError):
        return
    for image in split.images:
        assert np.isfinite(image.boxes).all()
        assert ((image.labels > 0) & (image.labels <= len(split.categories))).all()
    if not any(each.outcome is IssueOutcome.REFUSED for each in split.issues):
        data_set = load_detection_data(DetectDataConfig(dataset=f"coco:{folder}"))
        assert len(data_set.train.images) == len(split.images)


@given(text=st.binary(max_size=60), cut=st.integers(0, 2000))
@QUICK
def test_any_bytes_are_read_or_refused(folder: Path, lists: Lists, text: bytes, cut: int) -> None:
    file = folder / "annotations" / "instances_train2017.json"
    for content in (text, b"{" + text, json.dumps(lists).encode()[:cut] + text):
        file.write_bytes(content)
        with contextlib.suppress(InputError, CorruptFileError):
            audit_detection_data(DetectDataConfig(dataset=f"coco:{folder}"))


def every(key: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Lists], object]:
    return lambda lists: [change(entry) for entry in lists[key]]


def spell_references(lists: Lists) -> None:
    for entry in lists["annotations"]:
        entry["image_id"], entry["category_id"] = float(entry["image_id"]), f" {entry['category_id']} "


def name_images(lists: Lists) -> None:
    for entry in lists["images"]:
        entry["id"] = f"photo {float(entry['id'])}"
    for entry in lists["annotations"]:
        entry["image_id"] = f"photo {float(entry['image_id'])}"


def outline(entry: dict[str, Any]) -> None:
    x, y, width, height = map(float, json.loads(str(entry["bbox"]).replace("'", "")))
    entry["segmentation"] = [[x, y, x + width, y + height], [x + width, y]]
    entry["bbox"] = random.Random(str(entry)).choice([None, [], ""])


SAME: dict[str, Callable[[Lists], object]] = {
    "references": spell_references,
    "image ids": name_images,
    "category ids": every("categories", lambda entry: entry.update(id=str(entry["id"]))),
    "annotation ids": every("annotations", lambda entry: entry.pop("id", None)),
    "areas": every("annotations", lambda entry: entry.update(area=float("nan"))),
    "crowd flags": every("annotations", lambda entry: entry.update(iscrowd="false")),
    "one text": every("annotations", lambda entry: entry.update(bbox=str(entry["bbox"]))),
    "numbers": every(
        "annotations", lambda entry: entry.update(bbox=[f"{each}.0" for each in json.loads(str(entry["bbox"]))])
    ),
    "outlines": every("annotations", outline),
    "widths": every("images", lambda entry: entry.update(width="")),
    "heights": every("images", lambda entry: entry.update(height=f"{entry['height']}.0")),
    "folders": every("images", lambda entry: entry.update(file_name=f"E:\\new\\{entry['file_name']}")),
    "capitals": every("images", lambda entry: entry.update(file_name=entry["file_name"].upper())),
    "other key": every("images", lambda entry: entry.update(coco_url=f"http://a.org/{entry.pop('file_name')}?w=9")),
    "order": lambda lists: lists.update({key: entries[::-1] for key, entries in lists.items()}),
}
"""Changes after which a file means what it meant, in an order in which they can follow each other."""


@given(chosen=st.sets(st.sampled_from(list(SAME)), min_size=1))
@QUICK
def test_changes_that_keep_the_meaning_keep_the_boxes(folder: Path, lists: Lists, chosen: set[str]) -> None:
    expected = {image.path: image for image in read(folder, lists).images}
    changed = copy.deepcopy(lists)
    for name, change in SAME.items():
        if name in chosen:
            change(changed)
    split = read(folder, changed)
    assert {each.outcome for each in split.issues} <= {IssueOutcome.LENIENT}
    assert split.issues or chosen == {"order"}
    for image in split.images:
        same = expected[image.path]
        order = np.lexsort(image.boxes.T), np.lexsort(same.boxes.T)
        assert (image.width, image.height) == (same.width, same.height)
        assert image.boxes[order[0]].tolist() == same.boxes[order[1]].tolist()
        assert image.labels[order[0]].tolist() == same.labels[order[1]].tolist()
        assert image.areas[order[0]].tolist() == same.areas[order[1]].tolist()
        assert not image.crowd.any()
