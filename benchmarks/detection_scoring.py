"""Time of COCO's numbers: nascli, pycocotools, its successors, torchmetrics on the same boxes, equal numbers first.

    python benchmarks/detection_scoring.py --json detection_scoring.json

The boxes are drawn from a seed: by default 5,000 images with 36,000 true boxes of 80 classes, as many as COCO's
validation split has, one in a hundred a crowd, and 100 detected boxes per image, some near a true one. Every tool gets
the boxes in memory in its own form, and is timed from there to the twelve numbers. Peers that are not installed are
left out. torchmetrics' boxes are of single precision, so its numbers may differ a little.
"""

import contextlib
import importlib.util
import pkgutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Column, Figures, Task, arguments, compare, peak_mib, progress, serve

from nascli.data.detection.dataset import AnnotatedImage, Category, DetectionSplit
from nascli.detect.coco_eval import SUMMARY, Detection, score_detections

BASELINE, REFERENCE, TORCHMETRICS = "nascli", "pycocotools", "torchmetrics"

LIBRARIES = {
    REFERENCE: ("pycocotools.coco:COCO", "pycocotools.cocoeval:COCOeval"),
    "faster-coco-eval": ("faster_coco_eval:COCO", "faster_coco_eval:COCOeval_faster"),
    "ultrafast-pycocotools": ("ultrafast_pycocotools:COCO", "ultrafast_pycocotools:COCOeval"),
}
"""Those with the interface of pycocotools: their classes of an index and of an evaluation."""

VARIANTS = (REFERENCE, BASELINE, *(name for name in LIBRARIES if name != REFERENCE), TORCHMETRICS)

TOLERANCE = 1e-9
"""By how much a number may differ from the reference's."""

COARSE_TOLERANCE = 2e-3
"""The same for numbers from boxes of single precision."""

WIDTH, HEIGHT, CLASSES = 640, 480, 80


def drawn_boxes(task: Task) -> tuple[DetectionSplit, list[Detection]]:
    """Truth and detections that follow from the seed."""
    rng = np.random.default_rng(task["seed"])
    categories = tuple(Category(10 * k, f"class {k}") for k in range(1, CLASSES + 1))
    owners = np.bincount(rng.integers(0, task["images"], task["boxes"]), minlength=task["images"])
    images: list[AnnotatedImage] = []
    detections: list[Detection] = []
    for number, count in enumerate(owners.tolist(), 1):
        boxes, labels = random_boxes(rng, count), rng.integers(1, CLASSES + 1, count)
        path = Path(f"{number}.jpg")
        crowd = rng.random(count) < 0.01
        images.append(AnnotatedImage(number, path, WIDTH, HEIGHT, boxes, labels, boxes[:, 2:].prod(1), crowd))
        near = np.flatnonzero(rng.random(count) < 0.8)[: task["found"]]
        shaken = boxes[near] * rng.normal(1, 0.05, (len(near), 4))
        strangers = task["found"] - len(near)
        found = np.concatenate((shaken, random_boxes(rng, strangers))).round(2)
        classes = np.concatenate((labels[near], rng.integers(1, CLASSES + 1, strangers)))
        scores = rng.random(task["found"]) * np.where(np.arange(task["found"]) < len(near), 1.0, 0.6)
        for box, label, score in zip(found.tolist(), classes.tolist(), scores.tolist(), strict=True):
            detections.append(Detection(image_id=number, category_id=10 * label, bbox=box, score=score))
    return DetectionSplit("val", Path("val.json"), categories, tuple(images)), detections


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(count, 4) x, y, width, height inside the image, sides from 8 to 400 pixels, small ones as likely as large."""
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (count, 2)))
    corners = rng.random((count, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    return np.concatenate((corners, sides), 1).round(2)


def by_nascli(task: Task) -> Figures:
    split, detections = drawn_boxes(task)
    since = now()
    summary = score_detections(split, detections).summary
    return time_numbers(since, [-1.0 if summary[name] is None else summary[name] for name in SUMMARY])


def by_library(task: Task) -> Figures:
    index, evaluator = (pkgutil.resolve_name(name) for name in LIBRARIES[task["measure"]])
    split, detections = drawn_boxes(task)
    values = as_coco(split)
    with contextlib.redirect_stdout(sys.stderr):  # they print what they do
        since = now()
        truth = index()
        truth.dataset = values
        truth.createIndex()
        evaluation = evaluator(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return time_numbers(since, list(evaluation.stats[: len(SUMMARY)]))


def by_torchmetrics(task: Task) -> Figures:
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    split, detections = drawn_boxes(task)
    by_image: dict[int, list[Detection]] = {image.id: [] for image in split.images}
    for each in detections:
        by_image[each["image_id"]].append(each)
    found = [
        {
            "boxes": torch.tensor([each["bbox"] for each in group]).reshape(-1, 4),
            "scores": torch.tensor([each["score"] for each in group]),
            "labels": torch.tensor([each["category_id"] for each in group], dtype=torch.int64),
        }
        for group in by_image.values()
    ]
    truth = [
        {
            "boxes": torch.from_numpy(image.boxes).float(),
            "labels": torch.from_numpy(image.labels) * 10,
            "iscrowd": torch.from_numpy(image.crowd).long(),
            "area": torch.from_numpy(image.areas).float(),
        }
        for image in split.images
    ]
    since = now()
    metric = MeanAveragePrecision(box_format="xywh", backend=REFERENCE)
    metric.update(found, truth)
    values = metric.compute()
    sizes = ("small", "medium", "large")
    keys = ["map", "map_50", "map_75", *(f"map_{size}" for size in sizes), "mar_1", "mar_10", "mar_100"]
    return time_numbers(since, [float(values[key]) for key in [*keys, *(f"mar_{size}" for size in sizes)]])


def as_coco(split: DetectionSplit) -> dict[str, Any]:
    """The truth as a COCO file holds it."""
    annotations: list[dict[str, Any]] = []
    for image in split.images:
        for box, label, area, crowd in zip(
            image.boxes.tolist(), image.labels.tolist(), image.areas.tolist(), image.crowd.tolist(), strict=True
        ):
            place = {"id": len(annotations) + 1, "image_id": image.id, "category_id": 10 * label}
            annotations.append(place | {"bbox": box, "area": area, "iscrowd": int(crowd)})
    return {
        "images": [{"id": image.id, "width": WIDTH, "height": HEIGHT} for image in split.images],
        "annotations": annotations,
        "categories": [{"id": each.id, "name": each.name} for each in split.categories],
    }


def now() -> tuple[float, float]:
    """Seconds on the clock, and of all processors in this process."""
    return time.perf_counter(), time.process_time()


def time_numbers(since: tuple[float, float], numbers: Sequence[float | None]) -> Figures:
    seconds, processor = (after - before for before, after in zip(since, now(), strict=True))
    values = dict(zip(SUMMARY, numbers, strict=True))
    return {"seconds": seconds, "processor_seconds": processor, "peak_mib": peak_mib(), "numbers": values}


MEASURES = {BASELINE: by_nascli, TORCHMETRICS: by_torchmetrics, **dict.fromkeys(LIBRARIES, by_library)}


def is_installed(variant: str) -> bool:
    package = LIBRARIES[variant][0].partition(":")[0].partition(".")[0] if variant in LIBRARIES else variant
    return importlib.util.find_spec(package) is not None


def compare_numbers(measurements: Sequence[Figures]) -> None:
    """Note by how much the last measurement differs from the reference's; stop where it is too much."""
    reference, last = measurements[0]["numbers"], measurements[-1]
    last["difference"] = max(abs(float(last["numbers"][name]) - float(reference[name])) for name in SUMMARY)
    if last["difference"] > (COARSE_TOLERANCE if last["variant"] == TORCHMETRICS else TOLERANCE):
        raise SystemExit(f"{last['variant']} and {REFERENCE} differ by {last['difference']:.3g}: nothing to compare")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--boxes", type=int, default=36_000, help="true boxes in all")
    parser.add_argument("--found", type=int, default=100, help="detected boxes per image")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    absent = [name for name in VARIANTS if not is_installed(name)]
    if absent:
        progress(f"left out, not installed: {', '.join(absent)}")
    variants: dict[str, Task] = {name: {} for name in VARIANTS if name not in absent}
    columns = [
        Column("seconds", "seconds"),
        Column("processor_seconds", "of processors"),
        Column("over_nascli", f"x {BASELINE}", figure="seconds", under=BASELINE),
        Column("peak_mib", "peak, MiB", ".0f"),
        Column("difference", f"differs from {REFERENCE}", ".1g"),
    ]
    title = f"{asked.images:,} images, {asked.boxes:,} boxes"
    compare(__file__, asked, title, variants, columns, check=compare_numbers)


if __name__ == "__main__" and not serve(MEASURES):
    main()
