"""The network that `nascli train` trains: its architecture and numbers, the weights it begins with, its recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nascli.cli.console import Terminal
from nascli.cli.options import CELL, RECIPE, SET, Call, runs_folder
from nascli.config import NetworkConfig, TrainRecipe, find_recipe, load_recipe, read_toml
from nascli.errors import InputError

if TYPE_CHECKING:
    from nascli.models.families import ArchitectureSource
    from nascli.models.spec import NetworkSpec
    from nascli.models.start import StartWeights

DEFAULT_RECIPES = {
    "cells": {"digits": "digits", "cifar10": "cifar10", "cifar100": "cifar10", "imagenet": "imagenet-mobile"},
    "mobile": {
        "digits": "digits-mnasnet",
        "cifar10": "mnasnet-cifar",
        "cifar100": "mnasnet-cifar",
        "imagenet": "mnasnet-paper",
    },
}
"""The recipe of a family and a data set, where the user names none; other families have those of the cells."""

_FREE = {"image_size", "dropout", "batch_norm_momentum"}
"""Numbers of a network that its weights do not fix: a recipe's stand above those that come with the weights."""


@dataclass(frozen=True)
class TrainSource:
    """A network to train, and its recipe.

    Args:
        weights: Those to begin with; None are fresh ones.
        files: The files that all of it was made from.
    """

    recipe: TrainRecipe
    architecture: "ArchitectureSource"
    weights: "StartWeights | None"
    files: tuple[Path, ...]


def open_source(call: Call, terminal: Terminal) -> TrainSource:
    """Whatever the options name.

    Raises:
        InputError: Neither an architecture nor weights are given, or what is given is not there or contradicts itself.
        CorruptFileError: A file is damaged.
    """
    from nascli.classify.teacher import find_teacher, teacher_files
    from nascli.genotype.resolve import find_cell
    from nascli.models.families import open_architecture, source_of_network

    cell, word = call[CELL], _find_word(call)
    if cell is None and word is None:
        raise InputError(
            "--cell is missing",
            "Give a genotype file, a search run, or a zoo name such as nasnet-a; or weights to begin with, by --from",
        )
    source = open_architecture(find_cell(cell, runs_folder(), terminal.note)) if cell is not None else None
    weights = None
    if word is not None:
        word, weights = _open_weights(call, terminal, word, source)
        source = source_of_network(weights.spec, weights.files[0])
    assert source is not None
    if weights is None and source.unused_weights:
        terminal.note(f"{source.unused_weights}. This training begins with fresh weights")
    keys = call.keys(TrainRecipe)
    is_sized = weights is not None and cell is not None  # by the options already
    numbers = source.numbers if is_sized else _name_numbers(keys.get("network.preset"), source.numbers)
    asked = load_recipe(TrainRecipe, None, numbers | keys, call[SET])
    name = call[RECIPE] or _default_recipe(terminal, source.architecture.family, asked.data.dataset)
    path = find_recipe("train", name) if name else None
    if weights and path:
        given = read_toml(path).get("network", {})
        numbers = {key: value for key, value in numbers.items() if key.partition(".")[2] not in _FREE & given.keys()}
    recipe = load_recipe(TrainRecipe, path, numbers | keys, call[SET], terminal.note)
    begin = recipe.start.model_copy(update={"weights": word})
    name = recipe.train.teacher
    teacher = find_teacher(name, runs_folder(), terminal.note) if name else None
    train = recipe.train.model_copy(update={"teacher": teacher})
    recipe = recipe.model_copy(update={"start": begin, "train": train})
    files = (*(weights.files if weights else (source.file,)), path, *teacher_files(teacher))
    return TrainSource(recipe, source, weights, tuple(file for file in files if file))


def _find_named_recipe(call: Call) -> Path | None:
    name = call[RECIPE]
    return find_recipe("train", name) if name else None


def _find_word(call: Call) -> str | None:
    """The weights that the options, or the recipe that they name, begin with."""
    keys = {key: value for key, value in call.keys(TrainRecipe).items() if key.startswith("start.")}
    texts = [text for text in call[SET] if text.lstrip().startswith("start.")]
    path = _find_named_recipe(call)
    return load_recipe(TrainRecipe, path, keys, texts).start.weights


def _open_weights(
    call: Call, terminal: Terminal, word: str, cell: "ArchitectureSource | None"
) -> "tuple[str, StartWeights]":
    """The weights of `--from`, and the word that names them whatever is run next."""
    from nascli.models.start import find_start, open_start
    from nascli.references import is_reference

    path = find_start(word, runs_folder(), terminal.note)
    weights = open_start(path, _ask_network(call, cell) if cell else None)
    return word if is_reference(word) else str(path), weights


def _ask_network(call: Call, cell: "ArchitectureSource") -> "NetworkSpec":
    """The network that the cell is built as, by the options and the recipe that they name alone."""
    from nascli.models.families import find_family
    from nascli.models.spec import resolve_network

    keys = call.keys(TrainRecipe)
    numbers = _name_numbers(keys.get("network.preset"), cell.numbers)
    path = _find_named_recipe(call)
    config = load_recipe(TrainRecipe, path, numbers | keys, call[SET]).network
    if not config.model_fields_set - {"family", *NetworkConfig.model_fields}:
        config = config.model_copy(update={"preset": find_family(cell.architecture.family).default_preset})
    return resolve_network(cell.architecture, config)


def _default_recipe(terminal: Terminal, family: str, dataset: str) -> str | None:
    """The recipe of a data set, named on the terminal; None where it has none."""
    recipes = DEFAULT_RECIPES.get(family, DEFAULT_RECIPES["cells"])
    name = recipes.get(dataset)
    if name:
        terminal.note(f"recipe {name} (another with --recipe)")
    else:
        terminal.note(
            f"no recipe for {dataset}: what is not given has its default. --recipe {recipes['imagenet']} suits photos, "
            f"{recipes['cifar10']} small images"
        )
    return name


def _name_numbers(preset: str | None, numbers: dict[str, Any]) -> dict[str, Any]:
    """Macro numbers that stand above the recipe's: those of `--preset`, or of a network.json."""
    from nascli.models.families import find_family

    if preset is None:
        return numbers
    if len(numbers) > 1:
        raise InputError("--preset and a network.json exclude each other", "The file holds every macro number")
    published = find_family(numbers["network.family"]).presets.get(preset, {})
    return numbers | {f"network.{name}": value for name, value in published.items() if name != "image_size"}
