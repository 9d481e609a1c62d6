"""The recipe of a search, as the options of a command name it."""

from pathlib import Path
from typing import Literal

from nascli.cli.options import RECIPE, SET, Call, Setting
from nascli.config import SPACE_SECTIONS, TRADE_OFFS, ByFamily, SearchRecipe, find_recipe, load_recipe
from nascli.errors import InputError

DEFAULT_RECIPES = {("digits", "cells"): "digits", ("digits", "mobile"): "digits-mnasnet", ("digits", "edges"): "digits"}
"""The recipe of a data set and a family of spaces, where the user names none."""

OTHER_RECIPES = {"cells": "cifar10-cpu", "mobile": "cifar10-mnasnet"}
"""The recipe of any other data set; a family without one has that of the cells."""

TARGETS = {
    Setting[str | None](
        f"--target-{name}", f"Aim at {meaning}: the reward weighs the accuracy by it.", metavar=unit
    ): key
    for name, meaning, unit, key in (
        ("latency", "a latency of one image in the engine, like 20ms", "TIME", "latency"),
        ("mult-adds", "multiply-accumulates per image, like 300M", "N", "mult_adds"),
        ("params", "trainable parameters, like 4M", "N", "params"),
    )
}
TRADE_OFF = Setting[Literal["soft", "hard"] | None](
    "--trade-off",
    "Weight of such a target. soft: twice the cost for 5 % of accuracy, on both sides; hard: none up to it, and beyond "
    "it the accuracy is divided by the overrun.",
)


def read_search_recipe(call: Call) -> tuple[SearchRecipe, Path]:
    """The recipe that the options name or imply, with their values in it; and its file."""
    terminal, keys = call.terminal(), call.keys(SearchRecipe)
    space = {"name": keys.pop("space.name")} if "space.name" in keys else {}
    family = ByFamily(SPACE_SECTIONS).find_family(space)
    other = OTHER_RECIPES.get(family, OTHER_RECIPES["cells"])
    name = call[RECIPE] or DEFAULT_RECIPES.get((keys.get("data.dataset", "digits"), family), other)
    if not call[RECIPE]:
        terminal.note(f"recipe {name} (another with --recipe)")
    if space:  # in place of all that the recipe says of its own space
        keys = {"space": space, "network.family": family} | keys
    keys |= _read_objective(call)
    path = find_recipe("search", name)
    recipe = load_recipe(SearchRecipe, path, keys, call[SET], terminal.note)
    return recipe, path


def _read_objective(call: Call) -> dict[str, object]:
    """The options on a target as keys of the recipe."""
    given = {setting: key for setting, key in TARGETS.items() if call[setting] is not None}
    if len(given) > 1:
        raise InputError(f"{' and '.join(each.flag for each in given)}: a reward weighs one cost", "Give one of them")
    keys: dict[str, object] = {}
    for setting, key in given.items():
        keys |= {"objective.quantity": key, "objective.target": call[setting]}
    if trade_off := call[TRADE_OFF]:
        keys["objective.below"], keys["objective.above"] = TRADE_OFFS[trade_off]
    return keys
