"""Every shipped search recipe: it parses, its parts go together, and it opens with its promise."""

import re
import shlex
from pathlib import Path

import pytest

from nascli.config import SearchRecipe, load_recipe, recipes_folder
from nascli.genotype.space import find_space, resolve_space
from nascli.search.builders import build_strategy, check_recipe
from tests.cells import cell_config

RECIPES = sorted((recipes_folder() / "search").glob("*.toml"))
PROMISES = ("Source:", "Expect:", "Hardware and time:", "Command:", "Not verified:")


def test_the_recipes_were_found() -> None:
    names = {path.stem for path in RECIPES}
    cifar = {"cifar10-chains", "cifar10-cpu", "cifar10-gpu", "cifar10-mnasnet", "cifar10-paper", "cifar10-table"}
    assert names == cifar | {"digits", "digits-mnasnet"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_its_parts_go_together(path: Path) -> None:
    recipe = load_recipe(SearchRecipe, path)
    check_recipe(recipe)
    space = resolve_space(recipe.space)
    tokens = build_strategy(recipe, space).ask()
    assert tokens is not None
    assert len(tokens) == len(space.decision_sizes)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_it_opens_with_its_promise_and_its_command(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert all(promise in head for promise in PROMISES)
    (command,) = re.findall(r"Command: (nascli search.*)", head)
    if f"--recipe {path.stem}" not in command:
        from nascli.cli.search_recipe import DEFAULT_RECIPES, OTHER_RECIPES

        words = shlex.split(command)
        dataset = words[words.index("--dataset") + 1] if "--dataset" in words else "digits"
        space = find_space(words[words.index("--space") + 1] if "--space" in words else "nasnet")
        assert DEFAULT_RECIPES.get((dataset, space.family), OTHER_RECIPES[space.family]) == path.stem


def test_the_paper_recipe_holds_the_published_numbers() -> None:
    recipe = load_recipe(SearchRecipe, recipes_folder() / "search" / "cifar10-paper.toml")
    assert (recipe.search.trials, recipe.rerank.top, recipe.train.epochs) == (20_000, 250, 20)
    ppo = recipe.ppo
    assert (ppo.hidden, ppo.init_range, ppo.batch_size, ppo.lr) == (100, 0.1, 20, 0.00035)
    assert (ppo.entropy_weight, ppo.baseline_decay) == (0.00001, 0.95)
    assert (cell_config(recipe.network).cells_per_stage, recipe.search.holdout) == (2, 0.1)
