"""What `nascli detect` shows: the data it read, the plan, the scores, the predictions."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from nascli.cli.console import Terminal, duration, table

if TYPE_CHECKING:
    from nascli.data.detection.dataset import DetectionData, DetectionSplit
    from nascli.detect.job import DetectJob
    from nascli.detect.predict import ImageDetections

ALL_CLASSES = 20
"""Up to so many classes are all listed; of more, the best and the worst few."""

FEW_CLASSES = 5


def describe_data(terminal: Terminal, data: "DetectionData") -> None:
    """What was read, and aloud what was left out of it."""
    terminal.note(
        f"{data.name}: {amount(data.train)} to train on, {amount(data.val)} to validate on, "
        f"{len(data.categories)} classes"
    )
    for split in {each.source: each for each in (data.train, data.val)}.values():
        for each in split.skipped:
            terminal.note(f"{split.source}: {each.count:,} skipped: {each.kind} (first: {each.first})")


def amount(split: "DetectionSplit") -> str:
    """What a split holds, in words."""
    empty = sum(1 for image in split.images if not len(image.boxes))
    crowds = sum(int(image.crowd.sum()) for image in split.images)
    more = "".join(f", {n:,} {word}" for n, word in ((crowds, "crowds"), (empty, "images without boxes")) if n)
    return f"{len(split.images):,} images with {split.boxes:,} boxes{more}"


def show_check(terminal: Terminal, splits: Sequence["DetectionSplit"]) -> None:
    """Each split's findings: what comes of them, how many, of what kind, the first example."""
    colours = {"refused": "red", "skipped": "yellow", "kept": "dim"}
    for split in splits:
        terminal.show(Text(f"{split.source}: {amount(split)}, {len(split.categories)} classes", style="bold"))
        for each in sorted(split.issues, key=lambda each: list(colours).index(each.outcome)):
            line = Text(f"  {each.outcome:7} ", style=colours[each.outcome])
            line.append(f"{each.count:>7,}  {each.kind}: {each.remedy}", style="default")
            terminal.show(line)
            terminal.show(Text(f"                   first: {each.first}", style="dim"))
        if not split.issues:
            terminal.show("  nothing to remark")


def show_run(terminal: Terminal, report: dict[str, Any], folder: Path) -> None:
    """The report of a finished run as tables."""
    split = report["split"] if report["split"] == "val" else f"{report['split']} (the images it was trained on)"
    files = [
        ("steps", f"{report['steps']:,} in {duration(report['seconds'])}"),
        ("peak memory", _mebibytes(report["peak_memory"])),
        ("detections", str(folder / "detections")),
        ("worst images", str(folder / "worst")),
        ("confusion", str(folder / "confusion.png")),
        ("COCO results file", str(folder / "results.json")),
    ]
    show_scores(terminal, f"{report['cell']} on {report['dataset']}, {split}", report, files)


def show_scores(terminal: Terminal, title: str, report: dict[str, Any], more: Sequence[tuple[str, str]]) -> None:
    """COCO's twelve numbers and the classes as tables.

    Args:
        terminal: Where they go.
        title: What was scored.
        report: What `DetectionScore.to_dict` holds, with whatever else.
        more: Rows to stand below the numbers.
    """
    rows = [
        ("AP, mean over IoU 0.50 to 0.95", _points(report["ap"])),
        ("AP at IoU 0.50 / 0.75", f"{_points(report['ap50'])} / {_points(report['ap75'])}"),
        ("AP small / medium / large", _row(report, "ap_small", "ap_medium", "ap_large")),
        ("AR of 1 / 10 / 100 boxes an image", _row(report, "ar_1", "ar_10", "ar_100")),
        ("AR small / medium / large", _row(report, "ar_small", "ar_medium", "ar_large")),
        ("images / boxes", f"{report['images']:,} / {report['boxes']:,}"),
        *more,
    ]
    terminal.show(table(f"{title}: COCO average precision and recall in %", ("", ""), rows))
    present = [each for each in report["per_class"] if each["boxes"]]
    ranked = sorted(present, key=lambda each: -(each["ap"] or 0))
    if len(present) <= ALL_CLASSES:
        _show_classes(terminal, "by class", present)
    else:
        _show_classes(terminal, f"the best {FEW_CLASSES} of {len(present)} classes with boxes", ranked[:FEW_CLASSES])
        _show_classes(terminal, f"the worst {FEW_CLASSES}", ranked[-FEW_CLASSES:])


def _show_classes(terminal: Terminal, title: str, classes: Sequence[dict[str, Any]]) -> None:
    cells = [(each["name"], str(each["boxes"]), _points(each["ap"]), _points(each["ap50"])) for each in classes]
    terminal.show(table(title, ("class", "boxes", "AP", "AP50"), cells))


def _row(report: dict[str, Any], *keys: str) -> str:
    return " / ".join(_points(report[key]) for key in keys)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def show_predictions(terminal: Terminal, predictions: Sequence["ImageDetections"], threshold: float) -> None:
    """One row a picture."""
    rows = [(str(each.path), str(len(each.objects)), each.summary()) for each in predictions]
    terminal.show(table(f"boxes with a score of at least {threshold:g}", ("picture", "boxes", "found"), rows))
    terminal.show(f"drawn in {predictions[0].drawn.parent}")


def show_estimate(terminal: Terminal, job: "DetectJob") -> None:
    """The plan of a run and its cost, measured now."""
    from nascli.detect.estimate import estimate_detect_job
    from nascli.engine.estimate import peak_memory

    plan = estimate_detect_job(job)
    peak = peak_memory(job.device)
    config = job.recipe.detector
    rows = [
        ("backbone", f"{job.spec.network.name}: {job.backbone}"),
        ("head", f"{config.head}, {config.rpn_post_nms_top_n:,} proposals an image"),
        ("params", f"{plan.params:,}"),
        ("input", f"shorter side {config.min_size} px, longer at most {config.max_size} px"),
        ("to train on", f"{plan.train_images:,} images, {plan.train_boxes:,} boxes, {plan.classes} classes"),
        ("to score", f"{plan.scored_images:,} images, {plan.scored_boxes:,} boxes"),
        ("steps", f"{plan.steps:,} in {plan.epochs} epochs"),
        ("a step", f"{plan.seconds_per_step * 1000:.0f} ms"),
        ("peak memory", _mebibytes(peak)),
        ("estimated total", duration(plan.seconds)),
    ]
    terminal.show(table(f"plan on {job.data.name}; no run was made", ("", ""), rows))
    about = {"dry_run": True, "dataset": job.data.name, "backbone": job.backbone}
    terminal.result({**about, **asdict(plan), "peak_memory": peak})
    terminal.next("nascli detect with the same options, without --dry-run")
