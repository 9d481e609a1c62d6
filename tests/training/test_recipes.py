"""Every shipped training recipe: it parses, builds a network, and opens with its promise."""

import re
import shlex
from pathlib import Path

import pytest

from nascli.config import TrainRecipe, load_recipe, recipes_folder, to_toml
from nascli.genotype.sources import zoo_genotype
from nascli.models.spec import PRESETS, resolve_network

RECIPES = sorted((recipes_folder() / "train").glob("*.toml"))
PROMISES = ("Source:", "Expect:", "Hardware and time:", "Command:", "Not verified:")


def test_the_recipes_were_found() -> None:
    assert {"cifar10", "cifar10-cpu", "cifar10-paper", "digits", "imagenet-mobile"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_a_recipe_is_valid_and_builds_its_network(path: Path) -> None:
    recipe = load_recipe(TrainRecipe, path)
    size = recipe.network.image_size or (PRESETS[recipe.network.preset].image_size if recipe.network.preset else 32)
    spec = resolve_network(zoo_genotype("nasnet-a"), recipe.network, classes=10, image_size=size, aux_head=True)
    assert spec.image_size == size


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_a_recipe_opens_with_its_promise_and_its_command(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert all(promise in head for promise in PROMISES)
    (command,) = re.findall(r"Command: (nascli train .+)", head)
    assert "--dataset" in shlex.split(command)
    if f"--recipe {path.stem}" not in command:
        from nascli.cli.train import DEFAULT_RECIPES

        assert DEFAULT_RECIPES[shlex.split(command)[shlex.split(command).index("--dataset") + 1]] == path.stem


def test_the_paper_recipe_holds_the_published_numbers() -> None:
    recipe = load_recipe(TrainRecipe, recipes_folder() / "train" / "cifar10-paper.toml")
    train, data = recipe.train, recipe.data
    assert (train.epochs, train.batch_size, train.lr, train.momentum) == (600, 32, 0.025, 0.9)
    assert (train.weight_decay, train.drop_path_prob, train.aux_weight, train.clip_norm) == (5e-4, 0.4, 0.4, 5)
    assert (data.crop_padding, data.flip, data.cutout) == (4, True, 16)
    spec = resolve_network(zoo_genotype("nasnet-a"), recipe.network, classes=10, image_size=32)
    assert (spec.filters, spec.cells_per_stage, spec.stem_filters) == (32, 6, 96)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_a_recipe_written_by_a_run_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(TrainRecipe, path)
    (tmp_path / "recipe.toml").write_text(to_toml(recipe))
    assert load_recipe(TrainRecipe, tmp_path / "recipe.toml") == recipe
