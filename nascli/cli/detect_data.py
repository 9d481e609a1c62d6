"""`nascli detect check` and `show`: the data of a detector without a training."""

from pathlib import Path

from nascli.cli.data_notes import note_issues
from nascli.cli.detect_recipe import COCO, KEYS, resolve_recipe
from nascli.cli.detect_view import describe_split, show_issues
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
from nascli.files import fill_folder
from nascli.text import quote_command
from nascli.units import count_of

AUGMENTED = Setting[bool]("--augmented", "Draw the training images as training augments them.", False)
FOLDER = Setting[Path | None]("--out", "Folder to write into.", metavar="DIR")

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


def _next_command(config: DetectDataConfig, name: str, splits: int) -> str:
    """The command that takes the same splits; where there is one alone, a part of it is held out."""
    words = ["nascli", "detect", name, "--dataset", config.dataset, "--data-dir", config.data_dir]
    fraction = config.val_fraction or (0.2 if splits == 1 and config.evaluate_on == "val" else 0)
    chosen = {"--val-split": config.val_split, "--val-fraction": fraction}
    return quote_command(words + [str(word) for option in chosen.items() if option[1] for word in option])
