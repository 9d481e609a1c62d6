"""What `nascli detect` shows: the data it read, the plan, the scores, the predictions."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nascli.cli.console import Terminal, duration, table

if TYPE_CHECKING:
    from nascli.data.annotated import DetectionData, DetectionSplit
    from nascli.detection.job import DetectJob
    from nascli.detection.predict import Prediction


def describe_data(terminal: Terminal, data: "DetectionData") -> None:
    """What was read, and aloud what was left out of it."""
    terminal.note(
        f"{data.name}: {_amount(data.train)} to train on, {_amount(data.val)} to validate on, "
        f"{len(data.categories)} classes"
    )
    for split in {each.source: each for each in (data.train, data.val)}.values():
        for reason, ids in split.dropped_by_reason().items():
            shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
            terminal.note(f"{split.source}: {len(ids)} boxes dropped, {reason} (annotation ids {shown})")


def _amount(split: "DetectionSplit") -> str:
    empty = sum(1 for image in split.images if not len(image.boxes))
    crowds = sum(int(image.crowd.sum()) for image in split.images)
    more = "".join(f", {n:,} {word}" for n, word in ((crowds, "crowds"), (empty, "images without boxes")) if n)
    return f"{len(split.images):,} images with {split.boxes:,} boxes{more}"


def show_scores(terminal: Terminal, report: dict[str, Any], folder: Path) -> None:
    """The report of a finished run as tables."""

    def points(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}"

    rows = [
        ("AP, mean over IoU 0.50 to 0.95", points(report["ap"])),
        ("AP at IoU 0.50", points(report["ap50"])),
        ("AP at IoU 0.75", points(report["ap75"])),
        ("AP small / medium / large", " / ".join(points(report[f"ap_{s}"]) for s in ("small", "medium", "large"))),
        ("images / boxes", f"{report['images']:,} / {report['boxes']:,}"),
        ("steps", f"{report['steps']:,} in {duration(report['seconds'])}"),
        ("pictures", str(folder / "pictures")),
        ("COCO results file", str(folder / "results.json")),
    ]
    split = report["split"] if report["split"] == "val" else f"{report['split']} (the images it was trained on)"
    terminal.show(
        table(f"{report['cell']} on {report['dataset']}, {split}: COCO average precision in %", ("", ""), rows)
    )
    present = [each for each in report["per_class"] if each["boxes"]]
    if len(present) <= 20:
        cells = [(each["name"], str(each["boxes"]), points(each["ap"]), points(each["ap50"])) for each in present]
        terminal.show(table("by class", ("class", "boxes", "AP", "AP50"), cells))


def show_predictions(terminal: Terminal, predictions: Sequence["Prediction"], threshold: float) -> None:
    """One row a picture."""
    rows = [(str(each.path), str(len(each.objects)), each.summary()) for each in predictions]
    terminal.show(table(f"boxes with a score of at least {threshold:g}", ("picture", "boxes", "found"), rows))
    terminal.show(f"drawn in {predictions[0].drawn.parent}")


def show_estimate(terminal: Terminal, job: "DetectJob") -> None:
    """The plan of a run and its cost, measured now."""
    from nascli.detection.estimate import estimate_job

    plan = estimate_job(job)
    config = job.recipe.detector
    rows = [
        ("backbone", f"{job.spec.network.genotype.name}: {job.backbone}"),
        ("params", f"{plan.params:,}"),
        ("input", f"shorter side {config.min_size} px, longer at most {config.max_size} px"),
        ("to train on", f"{plan.train_images:,} images, {plan.train_boxes:,} boxes, {plan.classes} classes"),
        ("to score", f"{plan.scored_images:,} images, {plan.scored_boxes:,} boxes"),
        ("steps", f"{plan.steps:,} in {plan.epochs} epochs"),
        ("a step", f"{plan.seconds_per_step * 1000:.0f} ms"),
        ("estimated total", duration(plan.seconds)),
    ]
    terminal.show(table(f"plan on {job.data.name}; no run was made", ("", ""), rows))
    terminal.result({"dry_run": True, "dataset": job.data.name, "backbone": job.backbone, **asdict(plan)})
    terminal.next("nascli detect with the same options, without --dry-run")
