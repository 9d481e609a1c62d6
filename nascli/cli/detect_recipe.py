"""The recipe of the `nascli detect` commands: that of the data set, with the options above it."""

from pathlib import Path
from typing import TYPE_CHECKING

from nascli.cli.console import Terminal
from nascli.cli.options import RECIPE, SET, Call, Setting
from nascli.config import DetectRecipe, find_recipe, load_recipe, parse, read_toml
from nascli.errors import InputError
from nascli.runs.record import RECIPE_FILE

if TYPE_CHECKING:
    from nascli.detect.start import DetectorWeights

COCO = Setting[bool]("--coco", "Short for --dataset coco.", False)
KEYS = {
    "--dataset": "data.dataset",
    "--data-dir": "data.data_dir",
    "--max-train-images": "data.max_train_images",
    "--val-split": "data.val_split",
    "--val-fraction": "data.val_fraction",
    "--strict": "data.strict",
}


def resolve_recipe(call: Call, terminal: Terminal, run: Path | None = None) -> tuple[DetectRecipe, Path]:
    """The recipe with the options above it, and its file; that of a run where one is given."""
    keys = call.keys(DetectRecipe)
    if call[COCO] and keys.setdefault("data.dataset", "coco") != "coco":
        raise InputError(
            f"--coco and --dataset {keys['data.dataset']} exclude each other", "--coco is short for --dataset coco"
        )
    if run:
        call.refuse("a run has a recipe of its own; it excludes", [RECIPE])
        file = run / RECIPE_FILE
        return load_recipe(DetectRecipe, file, keys, call[SET]), file
    name = call[RECIPE] or ("digit-scenes" if keys.get("data.dataset") in (None, "digit-scenes") else "coco")
    if not call[RECIPE]:
        terminal.note(f"recipe {name} (another with --recipe)")
    file = find_recipe("detect", name)
    return load_recipe(DetectRecipe, file, keys, call[SET]), file


def take_numbers(call: Call, recipe: DetectRecipe, file: Path, weights: "DetectorWeights") -> DetectRecipe:
    """The recipe with the numbers of a detector that it begins with.

    The options' numbers stand above them, and those of a recipe that the user names, where no shape follows from them.
    """
    from nascli.detect.start import SHAPING

    options = [*call.keys(DetectRecipe), *(text.partition("=")[0].strip() for text in call[SET])]
    given = {key.removeprefix("detector.") for key in options if key.startswith("detector.")}
    if call[RECIPE]:
        given |= read_toml(file).get("detector", {}).keys() - set(SHAPING)
    numbers = weights.spec.config.model_dump() | recipe.detector.model_dump(include=given)
    start = {**recipe.start.model_dump(), "weights": str(weights.folder)}
    return parse(DetectRecipe, {**recipe.model_dump(exclude_none=True), "detector": numbers, "start": start}, "options")
