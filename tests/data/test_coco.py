"""COCO-format annotations: what is read, what is skipped, and every issue by its kind."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nascli.config import DETECTION_DATASETS, DetectDataConfig
from nascli.data.detection.dataset import (
    DetectionData,
    DetectionSplit,
    open_image,
    read_annotated_image,
    to_corners,
    to_sides,
    training_target,
)
from nascli.data.detection.formats.coco import parse_split
from nascli.data.detection.formats.coco_files import find_coco_splits
from nascli.data.detection.image_check import check_headers, check_images
from nascli.data.detection.recognize import FORMATS
from nascli.data.detection.registry import NAMED, load_detection_data
from nascli.data.images.decoding import image_to_tensor
from nascli.data.issues import raise_if_refused
from nascli.errors import CorruptFileError, InputError
from tests.detect.coco_folder import annotation, categories, damage_pixels, write_annotations, write_coco

Values = dict[str, Any]


def valid() -> Values:
    return {
        "images": [
            {"id": 9, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 4, "file_name": "b.png", "width": 20, "height": 20},
        ],
        "annotations": [
            annotation(1, 9, 7, [1.5, 2.25, 10.125, 11.0], area=100.5, segmentation=[[1, 2, 3, 4, 5, 6]]),
            annotation(2, 9, 3, [0, 0, 40, 30], iscrowd=1),
            annotation(5, 9, 3, [30, 20, 20, 20]),
        ],
        "categories": categories(),
    }


def read_split(annotations: Path, folder: Path) -> DetectionSplit:
    """A split whose issues need no repair."""
    (raw,) = find_coco_splits(annotations).values()
    split = parse_split(replace(raw, folders=(folder,)), "train")
    raise_if_refused(split.source, split.issues)
    return split


def read(folder: Path, values: object) -> DetectionSplit:
    return read_split(write_annotations(folder, "train", values), folder)


def load_coco(folder: Path, **limits: int) -> DetectionData:
    return load_detection_data(DetectDataConfig(dataset=f"coco:{folder}", **limits))


def test_everything_is_read_without_opening_a_image(tmp_path: Path) -> None:
    split = read(tmp_path, valid())  # there is no image at all
    first, second = split.images
    assert [category.name for category in split.categories] == ["red thing", "blue thing"]
    assert first.labels.tolist() == [2, 1, 1], "ids 3 and 7 become 1 and 2"
    assert first.boxes.tolist()[0] == [1.5, 2.25, 10.125, 11.0]
    assert first.areas.tolist() == [100.5, 1200.0, 400.0], "without an area, width times height"
    assert first.crowd.tolist() == [False, True, False]
    assert (second.id, second.path.name, len(second.boxes)) == (4, "b.png", 0), "kept as a negative"
    assert split.boxes == 2


def test_training_target_has_no_crowd_and_stays_inside(tmp_path: Path) -> None:
    first, second = read(tmp_path, valid()).images
    target = training_target(first)
    assert target["labels"].tolist() == [2, 1]
    assert target["boxes"].tolist() == [[1.5, 2.25, 11.625, 13.25], [30, 20, 40, 30]]
    assert training_target(second)["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ([5, 5, 0, 4], "box empty or inverted"),
        ([5, 5, 4, -1], "box empty or inverted"),
        ([float("nan"), 5, 4, 4], "box not finite"),
        ([5, 5, float("inf"), 4], "box not finite"),
        ([1e308, 5, 1e308, 4], "box not finite"),
        ([10**400, 5, 4, 4], "box not finite"),
        ([5, 5, 1e300, 1e300], "box too large"),
        ([5, 5, 1e6, 1e5], "box too large"),
        ([40, 5, 4, 4], "box outside its image"),
        ([-9, 5, 9, 4], "box outside its image"),
        ([39.995, 5, 4, 4], "box outside its image"),
    ],
)
def test_boxes_that_mean_nothing_are_skipped_and_counted(tmp_path: Path, box: list[float], kind: str) -> None:
    values = valid()
    values["annotations"].append(annotation(77, 9, 3, box))
    split = read(tmp_path, values)
    assert [(each.kind, each.count) for each in split.skipped] == [(kind, 1)]
    assert "annotation id 77 (image id 9)" in split.skipped[0].first
    assert len(split.images[0].boxes) == 3


def test_what_is_kept_is_counted_with_its_first_example(tmp_path: Path) -> None:
    values = valid()
    values["categories"].append({"id": 0, "name": "nothing special"})
    values["images"].append({"id": 5, "file_name": "c.png", "width": 20, "height": 20})
    values["annotations"] += [annotation(80, 5, 0, [1, 1, 0, 0]), annotation(81, 9, 0, [1, 1, 5, 5])]
    split = read(tmp_path, values)
    assert {each.kind: (each.count, each.outcome.value) for each in split.issues} == {
        "category id 0": (1, "kept"),
        "crowd box": (1, "kept"),
        "box over the edge of its image": (1, "kept"),
        "box empty or inverted": (1, "skipped"),
        "image without boxes": (1, "kept"),
        "image that lost all its boxes": (1, "kept"),
    }
    assert split.images[0].labels.tolist() == [3, 2, 2, 1], "0 is the first class, and label 1"


def test_an_error_counts_the_other_issues(tmp_path: Path) -> None:
    values = valid()
    for entry in values["annotations"]:
        entry["category_id"] = 0
    with pytest.raises(InputError, match=r"annotation id 1: .*; 2 more issues are listed by nascli detect check"):
        read(tmp_path, values)


def change(path: str, value: object) -> Callable[[Values], None]:
    """Set the value at a path such as `images/0/id`; `None` removes it."""

    def mutate(values: Values) -> None:
        *parents, last = path.split("/")
        target: Any = values
        for part in parents:
            target = target[int(part) if part.isdigit() else part]
        if value is None:
            del target[last]
        else:
            target[last] = value

    return mutate


@pytest.mark.parametrize(
    ("mutate", "phrases"),
    [
        (change("images", None), ["no list 'images'"]),
        (change("annotations", {}), ["no list 'annotations'"]),
        (change("categories", []), ["'categories' is empty"]),
        (change("images", []), ["'images' is empty"]),
        (change("images", [3]), ["images[0] is 3"]),
        (change("images/0/id", 9.5), ["image at position 0", "9.5", "whole numbers"]),
        (change("images/1/id", None), ["image at position 1", "None"]),
        (change("images/1/id", 9), ["image id 9 is given twice"]),
        (change("images/0/file_name", None), ["image id 9 has no file_name"]),
        (change("images/0/width", "wide"), ["image id 9", "width is 'wide'"]),
        (change("images/0/height", -1), ["image id 9", "height is -1"]),
        (change("images/0/height", True), ["image id 9", "height is True"]),
        (change("categories/0/id", 7), ["category id 7 is given twice"]),
        (change("categories/0/name", ""), ["category id 3 has no name"]),
        (change("annotations/0/id", 1.5), ["annotation at position 0", "1.5"]),
        (change("annotations/0/image_id", 8), ["annotation id 1", "image_id 8 is not among"]),
        (change("annotations/0/category_id", 0), ["annotation id 1", "category_id 0 is not among", "Known: 3, 7"]),
        (change("annotations/1/bbox", None), ["annotation id 2", "bbox None"]),
        (change("annotations/0/bbox", [1, 2, 3]), ["annotation id 1", "not four numbers"]),
        (change("annotations/0/bbox", [1, 2, 3, "four"]), ["annotation id 1", "not four numbers"]),
        (change("annotations/0/area", "big"), ["annotation id 1", "area 'big'"]),
        (change("annotations/0/iscrowd", "2"), ["annotation id 1", "iscrowd '2'"]),
        (change("images/0/id", 2**70), ["image at position 0"]),
    ],
)
def test_issues_name_file_id_and_remedy(tmp_path: Path, mutate: Callable[[Values], None], phrases: list[str]) -> None:
    values = valid()
    mutate(values)
    with pytest.raises(InputError) as caught:
        read(tmp_path, values)
    for phrase in ["instances_train.json", *phrases]:
        assert phrase in str(caught.value)


def test_damaged_and_absent_files(tmp_path: Path) -> None:
    path = write_annotations(tmp_path, "train", valid())
    path.write_text(path.read_text()[:-40])
    with pytest.raises(CorruptFileError, match=r"instances_train\.json are not JSON"):
        read_split(path, tmp_path)
    path.write_text("[]")
    with pytest.raises(InputError, match="not COCO annotations"):
        read_split(path, tmp_path)
    with pytest.raises(InputError, match="no such"):
        read_split(tmp_path / "none.json", tmp_path)


def test_ten_thousand_boxes_on_one_image(tmp_path: Path) -> None:
    values = valid()
    values["annotations"] = [annotation(k, 9, 3, [k % 30, k % 20, 5, 5]) for k in range(10_000)]
    assert read(tmp_path, values).boxes == 10_000


def test_training_images_with_too_many_boxes_are_skipped_and_counted(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    whole = load_coco(folder)
    most = max(len(image.boxes) for image in whole.train.images)
    data = load_coco(folder, max_boxes=most - 1)
    (skipped,) = data.train.skipped
    assert (skipped.kind, skipped.count) == ("image with too many boxes", 8 - len(data.train.images))
    assert data.train.source == whole.train.source
    assert len(data.val.images) == 4, "all are scored"


def test_a_coco_folder_and_its_limits(tmp_path: Path) -> None:
    data = load_coco(write_coco(tmp_path), max_train_images=3, max_val_images=2)
    assert [image.id for image in data.train.images] == [1, 2, 3]
    assert len(data.val.images) == 2
    pixels = read_annotated_image(data.train.images[0])
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == torch.uint8


def test_folders_as_other_tools_export_them(tmp_path: Path) -> None:
    original = write_coco(tmp_path / "coco")
    for split, folder in (("train2017", "train"), ("val2017", "valid")):
        (original / split).rename(tmp_path / folder)
        annotations = original / "annotations" / f"instances_{split}.json"
        annotations.rename(tmp_path / folder / "_annotations.coco.json")
    data = load_coco(tmp_path)
    assert (len(data.train.images), len(data.val.images)) == (8, 4)
    assert data.val.images[0].path.parent == tmp_path / "valid"


def test_one_json_file_has_nothing_to_validate_on(tmp_path: Path) -> None:
    file = write_coco(tmp_path) / "annotations" / "instances_train2017.json"
    beside = tmp_path / "train2017" / "boxes.json"
    file.rename(beside)
    data = load_detection_data(DetectDataConfig(dataset=f"coco:{beside}", evaluate_on="train"))
    assert data.val == data.train
    with pytest.raises(InputError, match="evaluate_on=train"):
        load_detection_data(DetectDataConfig(dataset=f"coco:{beside}"))


@pytest.mark.parametrize("inside", ["", "coco"])
def test_the_folder_of_coco_may_be_the_data_dir_or_lie_in_it(tmp_path: Path, inside: str) -> None:
    write_coco(tmp_path / inside)
    assert len(load_detection_data(DetectDataConfig(dataset="coco", data_dir=str(tmp_path))).train.images) == 8


def test_every_detection_data_set_of_the_config_can_be_found() -> None:
    named = [name for name in DETECTION_DATASETS if ":" not in name]
    formats = [name.partition(":")[0] for name in DETECTION_DATASETS if ":" in name]
    assert (list(NAMED), list(FORMATS)) == (named, formats)


def test_missing_data_say_where_to_put_them(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_detection_data(DetectDataConfig(dataset="coco", data_dir=str(tmp_path)))
    for phrase in (
        "instances_train2017.json",
        str(tmp_path / "coco" / "annotations"),
        str(tmp_path / "coco" / "val2017"),
    ):
        assert phrase in str(caught.value)
    with pytest.raises(InputError, match=r"'coc'.*Did you mean coco\?"):
        load_detection_data(DetectDataConfig(dataset="coc"))


def test_missing_images_other_classes_and_nothing_to_learn(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    (folder / "train2017" / "0003.png").unlink()
    with pytest.raises(InputError, match=r"image id 3 is not on disk: .*0003\.png"):
        load_coco(folder)
    assert len(load_coco(folder, max_train_images=2).train.images) == 2, "it is not among those used"
    file = folder / "annotations" / "instances_val2017.json"
    values = json.loads(file.read_text())
    values["categories"][0]["name"] = "green thing"
    file.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"instances_val2017\.json: its categories are not those of"):
        load_coco(folder, max_train_images=2)
    (folder / "annotations" / "instances_train2014.json").write_text("{}")
    with pytest.raises(InputError, match=r"instances_train2014\.json and instances_train2017\.json"):
        load_coco(folder)


def test_no_box_to_learn_from(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    for file in (folder / "annotations").iterdir():
        values = json.loads(file.read_text())
        file.write_text(json.dumps({**values, "annotations": []}))
    with pytest.raises(InputError, match="no box to learn from in 8 training images"):
        load_coco(folder)


def test_images_are_held_against_their_annotations_without_decoding(tmp_path: Path) -> None:
    """Issues that a header tells are reported before the first step, others where all is decoded."""
    folder = write_coco(tmp_path)
    images = folder / "train2017"
    whole = (images / "0002.png").read_bytes()
    (images / "0001.png").write_bytes(whole[: len(whole) // 2])
    damage_pixels(images / "0002.png")
    (images / "0003.png").write_bytes(b"no image")
    (images / "0004.png").unlink()
    Image.new("RGB", (30, 20)).save(images / "0005.png")
    Image.new("RGB", (64, 64)).save(images / "0006.jpg", quality=80)
    (images / "0006.jpg").replace(images / "0006.png")  # the suffix does not matter
    with (images / "0006.png").open("ab") as file:
        file.write(b"0" * 500)  # nor does what comes after the end
    split = read_split(folder / "annotations" / "instances_train2017.json", images)
    by_header = {each.kind: each for each in check_headers(split)}
    assert {kind: each.count for kind, each in by_header.items()} == {
        "image not on disk": 1,
        "image cannot be read": 2,
        "image of another size": 1,
    }
    assert "image id 1: image" in by_header["image cannot be read"].first
    assert "30x20 pixels" in by_header["image of another size"].first
    assert {each.kind: each.count for each in check_images(split, decode=True)[0]} == {
        "image not on disk": 1,
        "image cannot be read": 3,
        "image of another size": 1,
    }
    with pytest.raises(InputError, match=r"image id 4 is not on disk.*3 more issues"):
        load_coco(folder)


def test_an_image_that_is_damaged_or_of_another_size(tmp_path: Path) -> None:
    images = load_coco(write_coco(tmp_path)).train.images
    content = images[0].path.read_bytes()
    images[0].path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptFileError, match=r"0001\.png cannot be decoded"):
        read_annotated_image(images[0])
    Image.new("RGB", (30, 20)).save(images[1].path)
    with pytest.raises(InputError, match=r"image id 2\) has 30x20 pixels, its annotations say 64x64"):
        read_annotated_image(images[1])


def test_a_camera_s_rotation_is_followed_where_the_annotations_did(tmp_path: Path) -> None:
    values = valid()
    values["images"] = [{"id": 9, "file_name": "a.jpg", "width": 40, "height": 30}]
    values["annotations"] = []
    split = read(tmp_path, values)
    image = split.images[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    for stored in ((40, 30), (30, 40)):
        Image.new("RGB", stored).save(tmp_path / "a.jpg", exif=exif)
        assert read_annotated_image(image).shape == (3, 30, 40)
        assert check_headers(split) == ()
    assert open_image(tmp_path / "a.jpg").size == (40, 30), "on a user's own image it always is"


def test_images_of_every_mode_become_rgb(tmp_path: Path) -> None:
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 32768, dtype=np.uint16)).save(deep)
    assert (image_to_tensor(open_image(deep)) == 127).all(), "16 bits are scaled, not cut off"
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(clear)
    assert (image_to_tensor(open_image(clear)) == 255).all(), "what is transparent is white"
    for mode in ("1", "L", "LA", "P", "CMYK", "F"):
        path = tmp_path / f"{mode}.tiff"
        Image.new(mode, (5, 3)).save(path)
        assert image_to_tensor(open_image(path)).shape == (3, 3, 5)


@given(st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 2, *[st.floats(0.01, 1e4)] * 2), max_size=5))
def test_corners_and_sides_round_trip(boxes: list[tuple[float, float, float, float]]) -> None:
    sides = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    np.testing.assert_allclose(to_sides(to_corners(sides)), sides, rtol=0, atol=1e-8)
