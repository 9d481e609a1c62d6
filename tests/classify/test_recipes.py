"""Every shipped training recipe: it parses, builds a network, and opens with its promise."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from nascli.config import NETWORK_SECTIONS, TrainRecipe, load_recipe, recipes_folder, to_toml
from nascli.genotype.resolve import zoo_genotype
from nascli.models.families import build, find_family
from nascli.models.spec import resolve_network
from tests.cells import resolve_cells
from tests.classify.small_training import make_data, run_fit
from tests.mobile import published_chain, resolve_mobile

RECIPES = sorted((recipes_folder() / "train").glob("*.toml"))
PROMISES = ("Source:", "Expect:", "Hardware and time:", "Command:", "Not verified:")


CELLS = {"cells": "nasnet-a", "mobile": "mnasnet-a1"}
LEAST: dict[str, dict[str, Any]] = {
    "cells": {"filters": 4, "stem_filters": 8, "cells_per_stage": 1},
    "mobile": {"width": 0.1, "head_filters": 32},
}


def family_in(recipe: TrainRecipe) -> str:
    return next(family for family, section in NETWORK_SECTIONS.items() if type(recipe.network) is section)


def test_the_recipes_were_found() -> None:
    cifar = {"cifar10", "cifar10-cpu", "cifar10-fast", "cifar10-paper"}
    imagenet = {"imagenet-mobile", "imagenet-mobile-paper", "imagenet-large-paper", "imagenet-modern"}
    mobile = {"digits-mnasnet", "mnasnet-cifar", "mnasnet-paper"}
    assert cifar | imagenet | mobile | {"digits"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_a_recipe_is_valid_and_builds_its_network(path: Path) -> None:
    recipe = load_recipe(TrainRecipe, path)
    family = family_in(recipe)
    size = recipe.network.image_size or find_family(family).stream_size(recipe.network) or 32
    genotype = zoo_genotype(CELLS[family])
    spec = resolve_network(genotype, recipe.network, classes=10, image_size=size, aux_head=True)
    with torch.device("meta"):  # at full size, without the memory
        network = build(spec)
        logits, auxiliary = network.forward_with_aux(torch.empty(2, 3, size, size))
    assert logits.shape == (2, 10)
    assert (auxiliary is not None) == (family == "cells")
    assert auxiliary is None or auxiliary.shape == (2, 10)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_a_recipe_opens_with_its_promise_and_its_command(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert all(promise in head for promise in PROMISES)
    (command,) = re.findall(r"Command: (nascli train .+)", head)
    assert "--dataset" in shlex.split(command)
    if f"--recipe {path.stem}" not in command:
        from nascli.cli.train_source import DEFAULT_RECIPES

        dataset = shlex.split(command)[shlex.split(command).index("--dataset") + 1]
        assert DEFAULT_RECIPES[family_in(load_recipe(TrainRecipe, path))][dataset] == path.stem


def test_the_paper_recipe_holds_the_published_numbers() -> None:
    recipe = load_recipe(TrainRecipe, recipes_folder() / "train" / "cifar10-paper.toml")
    train, data = recipe.train, recipe.data
    assert (train.epochs, train.batch_size, train.lr, train.momentum) == (600, 32, 0.025, 0.9)
    assert (train.weight_decay, train.drop_path_prob, train.aux_weight, train.clip_grad_norm) == (5e-4, 0.4, 0.4, 5)
    assert (data.crop_padding, data.flip, data.cutout) == (4, True, 16)
    spec = resolve_cells(zoo_genotype("nasnet-a"), recipe.network, classes=10, image_size=32)
    assert (spec.filters, spec.cells_per_stage, spec.stem_filters) == (32, 6, 96)


@pytest.mark.parametrize(
    ("name", "batch", "rate", "decay", "drop", "filters"),
    [("mobile", 32 * 50, 0.04 * 50, 4e-5, 0.0, 44), ("large", 16 * 100, 0.015 * 100, 5e-5, 0.3, 168)],
)
def test_the_papers_imagenet_recipes_hold_the_published_numbers(
    name: str, batch: int, rate: float, decay: float, drop: float, filters: int
) -> None:
    recipe = load_recipe(TrainRecipe, recipes_folder() / "train" / f"imagenet-{name}-paper.toml")
    train = recipe.train
    assert (train.batch_size, train.lr, train.weight_decay, train.drop_path_prob) == (batch, rate, decay, drop)
    assert (train.optimizer, train.rmsprop_decay, train.rmsprop_epsilon) == ("rmsprop", 0.9, 1.0)
    assert (train.schedule, train.decay_rate, train.decay_epochs) == ("exponential", 0.97, 2.4)
    assert (train.label_smoothing, train.aux_weight, train.clip_grad_norm, train.ema_decay) == (0.1, 0.4, 10, 0.9999)
    assert train.epochs == 250_000 // (1_281_167 // batch)
    spec = resolve_cells(zoo_genotype("nasnet-a"), recipe.network, classes=1000)
    assert (spec.filters, spec.dropout, spec.batch_norm_momentum, spec.batch_norm_epsilon) == (filters, 0.5, 3e-4, 1e-3)


def test_the_recipe_of_mnasnet_holds_the_published_numbers() -> None:
    """Section 5 of the paper, and the released code for what it omits; momentum 0.99 is 0.01 here."""
    recipe = load_recipe(TrainRecipe, recipes_folder() / "train" / "mnasnet-paper.toml")
    train, data = recipe.train, recipe.data
    assert train.lr * train.batch_size / train.lr_base_size == pytest.approx(0.256)
    assert (train.epochs, train.warmup_epochs) == (round(437_898 * 1_024 / 1_281_167), 5)
    assert (train.optimizer, train.momentum, train.rmsprop_decay, train.rmsprop_epsilon) == ("rmsprop", 0.9, 0.9, 1e-3)
    assert (train.schedule, train.decay_rate, train.decay_epochs) == ("exponential", 0.97, 2.4)
    assert (train.weight_decay, train.label_smoothing, train.clip_grad_norm, train.ema_decay) == (1e-5, 0.1, 0, 0.9999)
    assert (data.flip, data.color_jitter) == (True, 0)
    spec = resolve_network(published_chain("mnasnet-a1"), recipe.network)
    assert spec == resolve_mobile(published_chain("mnasnet-a1"), preset="mnasnet")
    assert (spec.dropout, spec.batch_norm_momentum, spec.batch_norm_epsilon) == (0.2, 0.01, 1e-3)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_a_recipe_trains_two_steps(path: Path) -> None:
    """A small network on the recipe's stem, few and small images; everything else as the recipe has it."""
    recipe = load_recipe(TrainRecipe, path)
    least = {"epochs": 1, "batch_size": 4, "grad_accum_steps": min(2, recipe.train.grad_accum_steps), "threads": 1}
    train = recipe.train.model_copy(update=least)
    family = family_in(recipe)
    numbers = recipe.network.model_copy(update=LEAST[family])
    size = 64 if (find_family(family).stream_size(numbers) or 32) > 32 else 32
    data = make_data(train=8, test=4, size=size)
    aux_head = recipe.train.aux_weight > 0
    spec = resolve_network(zoo_genotype(CELLS[family]), numbers, classes=3, image_size=size, aux_head=aux_head)
    network = build(spec)
    before = network.classifier.weight.clone()
    result = run_fit(network, train, data=data, augmentation=recipe.data, seed=0)
    assert result.evaluation.images == 4
    assert not torch.equal(network.classifier.weight, before)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_a_recipe_written_by_a_run_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(TrainRecipe, path)
    (tmp_path / "recipe.toml").write_text(to_toml(recipe))
    assert load_recipe(TrainRecipe, tmp_path / "recipe.toml") == recipe
