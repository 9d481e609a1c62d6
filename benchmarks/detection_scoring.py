"""How long COCO's numbers take: nascli, pycocotools and torchmetrics on the same boxes, equal numbers first.

    python benchmarks/detection_scoring.py --json detection_scoring.json

The boxes are drawn from a seed: by default 5,000 images with 36,000 true boxes of 80 classes, as many as COCO's
validation split has, one in a hundred a crowd, and 100 found boxes an image, some near a true one. Everyone is handed
the boxes in memory in the form it takes, and is timed from there to the twelve numbers. torchmetrics takes part where
it is installed, with either of its backends; its boxes are of single precision, so its numbers may differ a little.
"""

import importlib.util
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    Figures,
    Task,
    arguments,
    console,
    fresh,
    grid,
    in_turn,
    progress,
    ratios,
    serve,
    spread,
    three,
    write,
)

from nascli.data.detection.dataset import AnnotatedImage, Category, DetectionSplit
from nascli.detect.coco_eval import SUMMARY, Detection, score_detections

BASELINE, REFERENCE = "nascli", "pycocotools"
VARIANTS = {REFERENCE: "", BASELINE: "", "torchmetrics": "pycocotools", "torchmetrics faster": "faster_coco_eval"}
"""Who scores; for torchmetrics by which backend."""

TOLERANCE = {REFERENCE: 0.0, BASELINE: 1e-9, "torchmetrics": 2e-3, "torchmetrics faster": 2e-3}
"""By how much a number may differ from the reference's."""

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
    """(count, 4) x, y, width, height inside the picture, sides from 8 to 400 pixels, small ones as likely as large."""
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (count, 2)))
    corners = rng.random((count, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    return np.concatenate((corners, sides), 1).round(2)


def by_nascli(task: Task) -> Figures:
    split, detections = drawn_boxes(task)
    since = time.perf_counter()
    summary = score_detections(split, detections).summary
    return figures(since, [-1.0 if summary[name] is None else summary[name] for name in SUMMARY])


def by_pycocotools(task: Task) -> Figures:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    split, detections = drawn_boxes(task)
    values = as_coco(split)
    sys.stdout = sys.stderr  # it prints what it does
    since = time.perf_counter()
    truth = COCO()
    truth.dataset = values
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return figures(since, evaluation.stats.tolist())


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
    since = time.perf_counter()
    metric = MeanAveragePrecision(box_format="xywh", backend=VARIANTS[task["measure"]])
    metric.update(found, truth)
    values = metric.compute()
    sizes = ("small", "medium", "large")
    keys = ["map", "map_50", "map_75", *(f"map_{size}" for size in sizes), "mar_1", "mar_10", "mar_100"]
    return figures(since, [float(values[key]) for key in [*keys, *(f"mar_{size}" for size in sizes)]])


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


def figures(since: float, numbers: list[float | None]) -> Figures:
    seconds = time.perf_counter() - since
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak, "numbers": dict(zip(SUMMARY, numbers, strict=True))}


MEASURES = {
    BASELINE: by_nascli,
    REFERENCE: by_pycocotools,
    "torchmetrics": by_torchmetrics,
    "torchmetrics faster": by_torchmetrics,
}


def largest_difference(one: Figures, other: Figures) -> float:
    return max(abs(float(one["numbers"][name]) - float(other["numbers"][name])) for name in SUMMARY)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--boxes", type=int, default=36_000, help="true boxes in all")
    parser.add_argument("--found", type=int, default=100, help="found boxes an image")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    peers = bool(importlib.util.find_spec("torchmetrics"))
    variants = [variant for variant in VARIANTS if peers or not variant.startswith("torchmetrics")]
    if not peers:
        progress("torchmetrics is left out: it is not installed")
    task = {key: getattr(asked, key) for key in ("images", "boxes", "found", "seed")}
    measurements: list[dict[str, Any]] = []
    for number, variant in in_turn(variants, asked.rounds):
        taken = fresh(__file__, {"measure": variant, **task})
        measurements.append({"round": number, "variant": variant, **taken})
        progress(f"round {number}, {variant}: {taken['seconds']:.2f} s, {taken['peak_mib']:.0f} MiB")
        difference = largest_difference(taken, measurements[0])
        if difference > TOLERANCE[variant]:
            raise SystemExit(f"{variant} and {REFERENCE} differ by {difference:.3g}: there is nothing to compare")
    by_variant = {variant: [each for each in measurements if each["variant"] == variant] for variant in variants}
    differences = {
        variant: max(largest_difference(each, measurements[0]) for each in taken)
        for variant, taken in by_variant.items()
    }
    seconds = {variant: [each["seconds"] for each in by_variant[variant]] for variant in variants}
    results: dict[str, Any] = {
        "seconds": {variant: spread(values) for variant, values in seconds.items()},
        "over_nascli": {variant: ratios(seconds[variant], seconds[BASELINE]) for variant in variants},
        "peak_mib": {variant: spread([each["peak_mib"] for each in by_variant[variant]]) for variant in variants},
        "largest_difference": differences,
    }
    title = f"{asked.images:,} images, {asked.boxes:,} boxes; {asked.rounds} rounds: median, least to greatest"
    table = grid(title, "who", "seconds", f"x {BASELINE}", "peak, MiB", f"differs from {REFERENCE}")
    for variant in variants:
        table.add_row(
            variant,
            three(results["seconds"][variant]),
            three(results["over_nascli"][variant]),
            three(results["peak_mib"][variant], ".0f"),
            f"{differences[variant]:.1g}",
        )
    console().print(table)
    write(asked, {**results, "measurements": measurements})


if __name__ == "__main__" and not serve(MEASURES):
    main()
