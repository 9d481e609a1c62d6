"""Average precision: known values, and equality with pycocotools called directly."""

import contextlib
import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nascli.data.detection.dataset import AnnotatedImage, Category, DetectionSplit
from nascli.detect.coco_eval import SUMMARY, Detection, score_detections, score_images
from nascli.errors import InputError

Box = list[float]
CATEGORIES = (Category(2, "cat"), Category(5, "dog"), Category(9, "owl"))
FROM_NOUGHT = (Category(0, "cat"), Category(5, "dog"), Category(9, "owl"))


def image(number: int, boxes: list[Box], labels: list[int], crowd: list[bool] | None = None) -> AnnotatedImage:
    sides = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return AnnotatedImage(
        id=number,
        path=Path(f"{number}.jpg"),
        width=200,
        height=200,
        boxes=sides,
        labels=np.array(labels, dtype=np.int64),
        areas=sides[:, 2] * sides[:, 3],
        crowd=np.array(crowd or [False] * len(boxes), dtype=np.bool_),
    )


def split(*images: AnnotatedImage) -> DetectionSplit:
    return DetectionSplit("val", Path("val.json"), CATEGORIES, images)


def found(number: int, category: int, box: Box, score: float = 0.9) -> Detection:
    return Detection(image_id=number, category_id=category, bbox=box, score=score)


ONE = split(image(1, [[10, 10, 50, 50]], [1]))
TWO = split(image(1, [[10, 10, 50, 50], [100, 100, 40, 40]], [1, 1]))


@pytest.mark.parametrize(
    ("truth", "detections", "ap", "ap50"),
    [
        pytest.param(ONE, [found(1, 2, [10, 10, 50, 50])], 1, 1, id="exact"),
        pytest.param(ONE, [], 0, 0, id="nothing found"),
        pytest.param(ONE, [found(1, 5, [10, 10, 50, 50])], 0, 0, id="another class"),
        # IoU 40/50 = 0.8: right at the seven thresholds 0.50 to 0.80
        pytest.param(ONE, [found(1, 2, [10, 10, 40, 50])], 0.7, 1, id="IoU 0.8"),
        # one of two found: precision 1 at the 51 recalls 0 to 0.50 of 101
        pytest.param(TWO, [found(1, 2, [10, 10, 50, 50])], 51 / 101, 51 / 101, id="half found"),
        # a better scored false box comes first: precision 1/2 at every recall
        pytest.param(
            ONE, [found(1, 2, [150, 150, 9, 9], 0.95), found(1, 2, [10, 10, 50, 50])], 0.5, 0.5, id="false box first"
        ),
        # the second box on the same object is false, but comes after full recall
        pytest.param(ONE, [found(1, 2, [10, 10, 50, 50]), found(1, 2, [10, 10, 50, 50], 0.5)], 1, 1, id="found twice"),
    ],
)
def test_known_values(truth: DetectionSplit, detections: list[Detection], ap: float, ap50: float) -> None:
    score = score_detections(truth, detections)
    assert score.summary["ap"] == pytest.approx(ap)
    assert score.summary["ap50"] == pytest.approx(ap50)
    assert score.classes[0].ap == pytest.approx(ap)


def test_classes_and_sizes_without_boxes_have_no_number() -> None:
    score = score_detections(ONE, [found(1, 2, [10, 10, 50, 50]), found(1, 5, [0, 0, 5, 5])])
    cat, dog, owl = score.classes
    assert (cat.name, cat.boxes) == ("cat", 1)
    assert cat.ap == pytest.approx(1)
    assert (dog.boxes, dog.ap, dog.ap50, owl.ap) == (0, None, None, None)
    assert score.summary["ap_small"] is None
    assert score.summary["ap_medium"] == pytest.approx(1)
    json.dumps(score.to_dict(), allow_nan=False)


def test_a_crowd_counts_neither_for_nor_against() -> None:
    crowd = image(1, [[10, 10, 50, 50], [100, 100, 90, 90]], [1, 1], [False, True])
    inside = [found(1, 2, [110 + 5 * k, 110, 30, 30], 0.99) for k in range(3)]
    score = score_detections(split(crowd), [*inside, found(1, 2, [10, 10, 50, 50])])
    assert score.summary["ap"] == pytest.approx(1)
    assert score.boxes == 1


def random_case(seed: int) -> tuple[DetectionSplit, list[Detection]]:
    rng = np.random.default_rng(seed)
    images, detections = [], []
    for number in (3, 11, 7):
        count = int(rng.integers(0, 5))
        boxes = [[float(v) for v in (*rng.integers(0, 100, 2), *rng.integers(5, 100, 2))] for _ in range(count)]
        labels = [int(label) for label in rng.integers(1, 4, count)]
        images.append(image(number, boxes, labels, [bool(v) for v in rng.random(count) < 0.2]))
        for box, label in zip(boxes, labels, strict=True):
            shaken = [round(float(v), 3) for v in np.array(box) + rng.normal(0, 4, 4)]
            shaken[2:] = [max(side, 1.0) for side in shaken[2:]]
            category = CATEGORIES[label - 1 if rng.random() < 0.8 else int(rng.integers(3))].id
            detections.append(found(number, category, shaken, float(rng.random())))
        for _ in range(int(rng.integers(0, 4))):
            box = [float(v) for v in (*rng.integers(0, 100, 2), *rng.integers(5, 90, 2))]
            detections.append(found(number, CATEGORIES[int(rng.integers(3))].id, box, float(rng.random())))
    return split(*images), detections


def with_ties_from_nought(truth: DetectionSplit, detections: list[Detection]) -> tuple[DetectionSplit, list[Detection]]:
    """The same with the first category's id 0, and scores of one digit, so that many are equal."""
    ids = dict(zip((each.id for each in CATEGORIES), (each.id for each in FROM_NOUGHT), strict=True))
    tied = [
        found(each["image_id"], ids[each["category_id"]], each["bbox"], round(each["score"], 1)) for each in detections
    ]
    return replace(truth, categories=FROM_NOUGHT), tied


def by_pycocotools(truth: DetectionSplit, detections: list[Detection], folder: Path) -> COCOeval:
    """Its evaluation, of files."""
    annotations = [
        {
            "id": 100 * k + n + 1,
            "image_id": each.id,
            "category_id": truth.categories[each.labels[n] - 1].id,
            "bbox": each.boxes[n].tolist(),
            "area": each.areas[n],
            "iscrowd": int(each.crowd[n]),
        }
        for k, each in enumerate(truth.images)
        for n in range(len(each.boxes))
    ]
    values = {
        "images": [{"id": each.id} for each in truth.images],
        "annotations": annotations,
        "categories": [{"id": each.id, "name": each.name} for each in truth.categories],
    }
    (folder / "truth.json").write_text(json.dumps(values))
    (folder / "found.json").write_text(json.dumps(detections))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "found.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_pycocotools_from_files(seed: int, tmp_path: Path) -> None:
    truth, detections = random_case(seed)
    if seed >= 6:
        truth, detections = with_ties_from_nought(truth, detections)
    evaluation = by_pycocotools(truth, detections, tmp_path)
    score = score_detections(truth, detections)
    expected = dict(zip(SUMMARY, evaluation.stats.tolist(), strict=True))
    ours = {name: -1 if value is None else value for name, value in score.summary.items()}
    assert ours == pytest.approx(expected, rel=0, abs=1e-9)
    for k, each in enumerate(score.classes):
        precision = evaluation.eval["precision"][:, :, k, 0, -1]
        for ap, measured in ((each.ap, precision), (each.ap50, precision[0])):
            assert (-1 if ap is None else ap) == pytest.approx(measured.mean(), rel=0, abs=1e-9)


@pytest.mark.parametrize("seed", [1, 7])
def test_an_image_is_scored_as_if_it_were_alone(seed: int) -> None:
    truth, detections = random_case(seed)
    scores = score_images(truth, detections)
    assert [each.image.id for each in scores] == [each.id for each in truth.images if (~each.crowd).any()]
    for each in scores:
        alone = [one for one in detections if one["image_id"] == each.image.id]
        assert each.ap == pytest.approx(score_detections(split(each.image), alone).summary["ap"])


def test_nothing_is_printed_and_the_input_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    detections = [found(1, 2, [10, 10, 50, 50])]
    score_detections(ONE, detections)
    assert capsys.readouterr() == ("", "")
    assert detections == [found(1, 2, [10, 10, 50, 50])]


@pytest.mark.parametrize(
    ("detection", "phrase"),
    [
        (found(8, 2, [0, 0, 1, 1]), "detection 1: image_id 8"),
        (found(1, 1, [0, 0, 1, 1]), "detection 1: category_id 1"),
    ],
)
def test_foreign_ids_are_refused(detection: Detection, phrase: str) -> None:
    with pytest.raises(InputError, match=phrase):
        score_detections(ONE, [found(1, 2, [10, 10, 50, 50]), detection])


@pytest.mark.parametrize("box", [[10, 10, 50, math.nan], [-math.inf, 10, math.inf, 50]])
def test_boxes_and_scores_that_are_not_finite_are_refused(box: Box) -> None:
    with pytest.raises(InputError, match="detection 1: bbox"):
        score_detections(ONE, [found(1, 2, [10, 10, 50, 50]), found(1, 2, box)])
    with pytest.raises(InputError, match="score nan"):
        score_images(ONE, [found(1, 2, [10, 10, 50, 50], math.nan)])


FORKED = """
import os, signal
from tests.detect.test_coco_eval import ONE, found, score_detections
detections = [found(1, 2, [10, 10, 50, 50])]

def score_in_a_fork():
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # the end of one that hangs
        try:
            print(len(score_detections(ONE, detections).classes), flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
        os._exit(0)
    os.waitpid(child, 0)

score_in_a_fork()
score_detections(ONE, detections)
score_in_a_fork()
"""


def test_a_fork_of_a_process_that_has_scored_is_refused_rather_than_left_to_hang() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["3", "NascliError"]
