"""Confusion of boxes: pairs, counts, and the images that show them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nascli.data.detection.dataset import AnnotatedImage, Category, DetectionSplit
from nascli.detect.coco_eval import Detection, ImageScore, score_images
from nascli.detect.confusion import (
    BoxConfusion,
    count_confusions,
    draw_worst_images,
    find_worst_images,
    write_error_analysis,
)
from nascli.detect.visualize import draw_ground_truth
from nascli.report.confusion_plot import plot_box_confusion, write_box_confusion

CATEGORIES = (Category(3, "cat"), Category(8, "dog"))
Box = list[float]


def image(number: int, boxes: list[Box], labels: list[int], crowd: list[bool], path: Path) -> AnnotatedImage:
    sides = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return AnnotatedImage(
        number,
        path,
        100,
        80,
        sides,
        np.array(labels, dtype=np.int64),
        sides[:, 2:].prod(1),
        np.array(crowd, dtype=bool),
    )


@pytest.fixture
def split(tmp_path: Path) -> DetectionSplit:
    """A cat, a dog and a crowd of dogs on one image; one image without boxes."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (100, 80), "gray").save(tmp_path / name)
    boxes = [[10.0, 10, 20, 20], [50.0, 10, 20, 20], [0.0, 50, 100, 30]]
    images = (
        image(1, boxes, [1, 2, 2], [False, False, True], tmp_path / "a.png"),
        image(2, [], [], [], tmp_path / "b.png"),
    )
    return DetectionSplit("val", Path("val.json"), CATEGORIES, images)


def found(number: int, category: int, box: Box, score: float = 0.9) -> Detection:
    return Detection(image_id=number, category_id=category, bbox=box, score=score)


@pytest.mark.parametrize(
    ("detections", "counts"),
    [
        pytest.param([], [[0, 0, 1], [0, 0, 1], [0, 0, 0]], id="both missed"),
        pytest.param([found(1, 3, [10, 10, 20, 20])], [[1, 0, 0], [0, 0, 1], [0, 0, 0]], id="the cat found"),
        pytest.param([found(1, 8, [10, 10, 20, 20])], [[0, 1, 0], [0, 0, 1], [0, 0, 0]], id="the cat as a dog"),
        pytest.param(
            # the dog overlaps better, but the cat is of the right class
            [found(1, 8, [10, 10, 20, 20]), found(1, 3, [12, 10, 20, 20])],
            [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
            id="equal classes first",
        ),
        pytest.param(
            [found(1, 3, [10, 10, 20, 20]), found(1, 3, [11, 10, 20, 20])],
            [[1, 0, 0], [0, 0, 1], [1, 0, 0]],
            id="found twice",
        ),
        pytest.param([found(2, 8, [0, 0, 9, 9])], [[0, 0, 1], [0, 0, 1], [0, 1, 0]], id="on an image without boxes"),
        pytest.param([found(1, 8, [20, 60, 9, 9])], [[0, 0, 1], [0, 0, 1], [0, 0, 0]], id="in the crowd"),
        pytest.param([found(1, 3, [10, 10, 20, 20], 0.4)], [[0, 0, 1], [0, 0, 1], [0, 0, 0]], id="too low a score"),
        pytest.param([found(1, 3, [0, 0, 0, 0])], [[0, 0, 1], [0, 0, 1], [1, 0, 0]], id="an empty box"),
    ],
)
def test_what_is_counted(split: DetectionSplit, detections: list[Detection], counts: list[list[int]]) -> None:
    confusion = count_confusions(split, detections, 0.5)
    assert confusion.counts.tolist() == counts
    assert BoxConfusion.from_dict(confusion.to_dict()).to_dict() == confusion.to_dict()


def test_the_classes_shown_are_those_mistaken_most() -> None:
    counts = np.diag([5, 5, 5, 5, 0, 0])
    counts[2, 3] = 4
    counts[0, -1] = 9
    confusion = BoxConfusion(("a", "b", "c", "d", "e"), counts, 0.5)
    assert confusion.most_confused(2) == [2, 3]
    assert confusion.most_confused(9) == [0, 1, 2, 3], "the fifth was never met"


@pytest.mark.parametrize("classes", [1, 5, 80])
def test_a_figure_of_any_number_of_classes(classes: int) -> None:
    names = tuple(f"class {k} of a rather long name" for k in range(classes))
    counts = np.random.default_rng(0).integers(0, 2000, (classes + 1, classes + 1))
    assert plot_box_confusion(BoxConfusion(names, counts, 0.5)).png.startswith(b"\x89PNG")


def test_the_worst_come_first_and_of_equal_ones_those_with_more_boxes(split: DetectionSplit) -> None:
    full = split.images[0]
    scores = [ImageScore(replace(full, id=1), 0.5), ImageScore(split.images[1], 0.0), ImageScore(full, 0.0)]
    assert [each.ap for each in find_worst_images(scores, 2)] == [0.0, 0.0]
    assert find_worst_images(scores, 1)[0].image is full


def test_the_worst_are_drawn_twice_with_truth_and_what_was_found(split: DetectionSplit, tmp_path: Path) -> None:
    detections = [found(1, 8, [10, 10, 20, 20]), found(1, 3, [70, 60, 9, 9]), found(1, 3, [80, 5, 9, 9])]
    worst = find_worst_images(score_images(split, detections))
    (file,) = draw_worst_images(split, worst, detections, tmp_path / "worst")
    assert file.name == "01-000001.png"
    with Image.open(file) as sheet:
        assert (sheet.width, sheet.height > 2 * 400) == (500, True), "enlarged, one above the other"
    wide = replace(split.images[0], width=100)
    assert len(draw_worst_images(split, [ImageScore(wide, 0.0)], [], tmp_path / "again")) == 1


def test_the_truth_is_drawn_with_crowds(split: DetectionSplit, tmp_path: Path) -> None:
    files = draw_ground_truth(split, tmp_path / "truth", 5)
    assert [file.name for file in files] == ["val-000001.png", "val-000002.png"]
    with Image.open(files[0]) as with_boxes, Image.open(files[1]) as without:
        assert len(with_boxes.getcolors(1 << 20) or []) > len(without.getcolors(1 << 20) or [])


def test_error_analysis_needs_no_images(split: DetectionSplit, tmp_path: Path) -> None:
    """Numbers of a results file are of use where the images are not."""
    for each in split.images:
        each.path.unlink()
    out = tmp_path / "out"
    out.mkdir()
    (worst,) = write_error_analysis(split, [], out)
    assert (worst["image_id"], worst["ap"]) == (1, 0.0)
    assert write_box_confusion(out).name == "confusion.png"
    assert sorted(path.name for path in out.iterdir()) == ["confusion.json", "confusion.png"]
