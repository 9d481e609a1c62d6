"""`nascli detect check`, `show` and `score`: the data of a detector without a training, and results of any tool."""

from pathlib import Path
from typing import Literal

from nascli.cli.data_notes import note_issues
from nascli.cli.detect_recipe import COCO, KEYS, resolve_recipe
from nascli.cli.detect_view import describe_split, show_issues, show_scores
from nascli.cli.options import (
    JSON,
    OVERWRITE,
    RECIPE,
    SET,
    Call,
    Setting,
    command,
    field_settings,
    run_label,
    runs_folder,
)
from nascli.cli.processes import require_one_process
from nascli.config import DetectDataConfig, DetectRecipe
from nascli.errors import InputError
from nascli.files import check_writable, fill_folder
from nascli.records import write_record
from nascli.text import quote_command
from nascli.units import count_of

AUGMENTED = Setting[bool]("--augmented", "Draw the training images as training augments them.", False)
FOLDER = Setting[Path | None]("--out", "Folder to write into.", metavar="DIR")
ENGINE = Setting[Literal["auto", "trained", "folded", "openvino"]](
    "--engine", "What answers: the detector as it was trained, or a faster form; auto is the fastest here.", "trained"
)
PRECISION = Setting[Literal["float32", "bfloat16"]]("--precision", "What the engine computes in.", "float32")
RESULTS = Setting[Path]("results", "A COCO results file of any tool.", ..., metavar="RESULTS.json")

DATA = [COCO, *field_settings(DetectRecipe, KEYS), RECIPE, SET]
"""The options that say which data."""


@command("check", [*DATA, JSON], examples=["nascli detect check --coco", "nascli detect check --dataset coco:my/data"])
def check(call: Call) -> None:
    """Check the data: decode every image and list what is wrong, by kind.

    Exit code 2 where something has to be repaired before the data can be used.
    """
    from nascli.data.detection.registry import audit_detection_data
    from nascli.data.issues import select_refused

    require_one_process("detect check")
    terminal = call.terminal()
    config = resolve_recipe(call, terminal)[0].data
    with terminal.status("reading annotations, decoding every image"):
        splits = audit_detection_data(config)
    show_issues(terminal, splits)
    serious = sum(each.count for split in splits for each in select_refused(split.issues, strict=config.strict))
    described = [split.to_dict() for split in splits]
    terminal.result({"dataset": config.dataset, "usable": not serious, "splits": described})
    if serious:
        raise InputError(
            f"{config.dataset}: {count_of(serious, 'issue')} {'keeps' if serious == 1 else 'keep'} it from being used",
            "Repair those that are marked refused" + (", skipped or lenient" if config.strict else ""),
        )
    terminal.next(_next_command(config, "show", len(splits)))


@command(
    "show",
    [*DATA, AUGMENTED, FOLDER, OVERWRITE, JSON],
    examples=["nascli detect show --coco", "nascli detect show --augmented --max-train-images 20 --out drawn"],
)
def show(call: Call) -> None:
    """Draw the first images of each split with their own boxes.

    With --augmented only the training split, as training augments it.
    """
    from nascli.data.detection.registry import load_detection_splits
    from nascli.detect.predict import choose_output_folder
    from nascli.detect.sampler import preview_transforms
    from nascli.detect.visualize import GROUND_TRUTH_IMAGES, draw_augmented, draw_ground_truth

    require_one_process("detect show")
    terminal, augmented = call.terminal(), call[AUGMENTED]
    recipe, _ = resolve_recipe(call, terminal)
    config = recipe.data
    counts = (config.max_train_images or GROUND_TRUTH_IMAGES, config.max_val_images or GROUND_TRUTH_IMAGES)
    transforms = preview_transforms(recipe, counts[0]) if augmented else []
    splits = load_detection_splits(config)[: 1 if augmented else None]
    label = run_label(config.dataset, "data")
    folder = choose_output_folder(runs_folder() / "detect", label, call[FOLDER], call[OVERWRITE])
    images: list[dict[str, object]] = []
    with fill_folder(folder) as place:
        for split, count in zip(splits, counts, strict=False):
            files = draw_augmented(split, transforms, place) if augmented else draw_ground_truth(split, place, count)
            terminal.show(f"{split.source}: {describe_split(split)}; the first {len(files)} drawn")
            note_issues(terminal, split.source, split.issues)
            images += [
                {"split": split.name, "image_id": image.id, "file": str(image.path), "drawn": str(folder / file.name)}
                for image, file in zip(split.images, files, strict=False)
            ]
    terminal.show(f"drawn in {folder}")
    terminal.result({"out": str(folder), "images": images})
    terminal.next(_next_command(config, "train", 2 if augmented else len(splits)))


@command(
    "score",
    [RESULTS, *DATA, FOLDER, OVERWRITE, JSON],
    examples=["nascli detect score results.json --coco", "nascli detect score results.json --coco --out scored"],
)
def score(call: Call) -> None:
    """Score a COCO results file of any tool; no image is needed.

    With --out, the scores, the confusion and the worst images are written too.
    """
    from nascli.data.detection.registry import load_ground_truth
    from nascli.detect.coco_eval import METRIC, score_detections
    from nascli.detect.confusion import write_error_analysis
    from nascli.detect.predict import check_output_folder
    from nascli.detect.results import read_results
    from nascli.detect.results_file import DETECTION_FILE
    from nascli.report.confusion_plot import write_box_confusion

    require_one_process("detect score")
    terminal, results, out = call.terminal(), call[RESULTS], call[FOLDER]
    config = resolve_recipe(call, terminal)[0].data
    split = load_ground_truth(config)
    read = read_results(results, split, strict=config.strict)
    found = read.detections
    folder = check_output_folder(out, call[OVERWRITE]) if out else None
    if folder:
        check_writable(folder / DETECTION_FILE)
    terminal.note(
        f"{split.source}: {describe_split(split)}, {count_of(len(split.categories), 'class')}; {len(found):,} found"
    )
    note_issues(terminal, split.source, split.issues)
    note_issues(terminal, results, read.issues)
    report = {
        "results": str(results),
        "dataset": config.dataset,
        "split": split.name,
        "issues": [each.to_dict() for each in split.issues],
        "results_issues": [each.to_dict() for each in read.issues],
        "metric": METRIC,
        **score_detections(split, found).to_dict(),
    }
    show_scores(terminal, f"{results} on {config.dataset}, {split.name}", report, [])
    for each in read.doubts:
        terminal.note(f"warning: {each.first}: {each.remedy}")
    terminal.result(report)  # before anything is written: a full disk shall not take the scores
    if folder:
        with fill_folder(folder) as place:
            report["worst_images"] = write_error_analysis(split, found, place)
            write_record(place / DETECTION_FILE, report)
            write_box_confusion(place)
        terminal.show(f"\nwritten: {folder}")
        terminal.result(report)


def _next_command(config: DetectDataConfig, name: str, splits: int) -> str:
    """The command that takes the same splits; where there is one alone, a part of it is held out."""
    words = ["nascli", "detect", name, "--dataset", config.dataset, "--data-dir", config.data_dir]
    fraction = config.val_fraction or (0.2 if splits == 1 and config.evaluate_on == "val" else 0)
    chosen = {"--val-split": config.val_split, "--val-fraction": fraction}
    return quote_command(words + [str(word) for option in chosen.items() if option[1] for word in option])
