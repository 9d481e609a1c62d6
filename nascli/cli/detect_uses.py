"""What detect does besides training: find boxes on pictures, check data, show data, score a results file."""

import shlex
from pathlib import Path

from nascli.cli.console import Terminal
from nascli.cli.detect_views import amount, show_check, show_predictions, show_scores
from nascli.cli.options import run_name, runs_folder
from nascli.config import DetectDataConfig, DetectRecipe
from nascli.errors import InputError, NascliError
from nascli.files import write_json
from nascli.runs import find_run

NAME = "detect"


def predict(
    terminal: Terminal,
    paths: list[Path],
    source: str,
    *,
    threshold: float,
    out: Path | None,
    overwrite: bool,
    device: str,
) -> None:
    """Find boxes on a person's own pictures, by the detector of a run."""
    from nascli.detect.model import load_detector
    from nascli.detect.predict import choose_output_folder, collect_images, predict_boxes
    from nascli.engine.device import resolve_device

    run_folder = find_run(source, NAME, runs_folder())
    where = resolve_device(device)
    detector = load_detector(run_folder, where)
    pictures = collect_images(paths)
    folder = choose_output_folder(run_folder, "predictions", out, overwrite)
    predictions = predict_boxes(detector, pictures, folder, device=where, threshold=threshold)
    show_predictions(terminal, predictions, threshold)
    images = [prediction.to_dict() for prediction in predictions]
    terminal.result({"run": str(run_folder), "out": str(folder), "threshold": threshold, "images": images})
    lower = max(threshold - 0.2, 0.05)
    words = ["nascli", NAME, "--run", str(run_folder), "--predict", str(paths[0]), "--threshold", f"{lower:.2g}"]
    terminal.next(shlex.join(words))


def check(terminal: Terminal, config: DetectDataConfig) -> None:
    """Say what is wrong with a data set, by kind; InputError where it has to be repaired before it can be used."""
    from nascli.data.detection.issues import select_refused
    from nascli.data.detection.registry import audit_detection_data

    with terminal.notes.status("reading annotations, decoding every picture"):
        splits = audit_detection_data(config)
    show_check(terminal, splits)
    serious = sum(each.count for split in splits for each in select_refused(split.issues))
    files = [
        {
            "file": str(split.source),
            "split": split.name,
            "images": len(split.images),
            "boxes": split.boxes,
            "classes": len(split.categories),
            "issues": [vars(each) | {"outcome": each.outcome, "remedy": each.remedy} for each in split.issues],
        }
        for split in splits
    ]
    terminal.result({"dataset": config.dataset, "usable": not serious, "splits": files})
    if serious:
        raise InputError(
            f"{config.dataset}: {serious:,} faults keep it from being used", "Repair those that are marked refused"
        )
    terminal.next(_command(config, "--show-data"))


def show_data(terminal: Terminal, recipe: DetectRecipe, *, augmented: bool, out: Path | None, overwrite: bool) -> None:
    """Draw the first pictures of each split with their own boxes; augmented, the first split as training varies it."""
    from nascli.data.detection.registry import load_detection_splits
    from nascli.detect.predict import choose_output_folder
    from nascli.detect.sampler import preview_transforms
    from nascli.detect.visualize import GROUND_TRUTH_IMAGES, draw_augmented, draw_ground_truth

    config = recipe.data
    counts = (config.max_train_images or GROUND_TRUTH_IMAGES, config.max_val_images or GROUND_TRUTH_IMAGES)
    transforms = preview_transforms(recipe, counts[0]) if augmented else []
    splits = load_detection_splits(config)[: 1 if augmented else None]
    folder = choose_output_folder(runs_folder() / NAME, run_name(config.dataset, "data"), out, overwrite)
    images: list[dict[str, object]] = []
    for split, count in zip(splits, counts, strict=False):
        try:
            files = draw_augmented(split, transforms, folder) if augmented else draw_ground_truth(split, folder, count)
        except OSError as error:
            raise _unwritable(folder, error) from error
        terminal.show(f"{split.source}: {amount(split)}; the first {len(files)} drawn")
        images += [
            {"split": split.name, "image_id": image.id, "file": str(image.path), "drawn": str(file)}
            for image, file in zip(split.images, files, strict=False)
        ]
    terminal.show(f"drawn in {folder}")
    terminal.result({"out": str(folder), "images": images})
    terminal.next(_command(config))


def evaluate(terminal: Terminal, results: Path, config: DetectDataConfig, *, out: Path | None, overwrite: bool) -> None:
    """Score a COCO results file of any tool; with `out`, write the scores, the confusion and the worst images too."""
    from nascli.data.detection.registry import load_ground_truth
    from nascli.detect.coco_eval import METRIC, read_results, score_detections
    from nascli.detect.error_analysis import write_error_analysis
    from nascli.detect.predict import check_output_folder
    from nascli.report.confusion_plot import write_box_confusion

    found = read_results(results)
    split = load_ground_truth(config)
    folder = check_output_folder(out, overwrite) if out else None
    terminal.note(f"{split.source}: {amount(split)}, {len(split.categories)} classes; {len(found):,} found")
    report = {
        "results": str(results),
        "dataset": config.dataset,
        "split": split.name,
        "metric": METRIC,
        **score_detections(split, found).to_dict(),
    }
    extra: list[tuple[str, str]] = []
    if folder:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            report["worst_images"] = write_error_analysis(split, found, folder)
            write_json(folder / "detection.json", report)
            write_box_confusion(folder)
        except OSError as error:
            raise _unwritable(folder, error) from error
        extra.append(("written", str(folder)))
    show_scores(terminal, f"{results} on {config.dataset}, {split.name}", report, extra)
    terminal.result(report)


def _command(config: DetectDataConfig, *more: str) -> str:
    return shlex.join(["nascli", "detect", "--dataset", config.dataset, "--data-dir", config.data_dir, *more])


def _unwritable(folder: Path, error: OSError) -> NascliError:
    return NascliError(f"{folder} cannot be written: {error.strerror or error}", "Choose another --out")
