"""New splits of a data set: in proportion by class, with images that are nearly the same on one side."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping

from nascli.data.audit.duplicates import Duplicates, Place
from nascli.data.audit.exporting import Plan
from nascli.data.audit.inventory import Inventory
from nascli.errors import InputError

_EMPTY = ""
"""Stands for the class of images without boxes."""


def plan_splits(inventory: Inventory, parts: Mapping[str, float], duplicates: Iterable[Duplicates], seed: int) -> Plan:
    """Divide all images of a data set.

    Images that are one go to the same split. Each such group, large ones first, goes to the split that lacks most of
    its classes, measured by how many of each there are.

    Args:
        parts: The part of the images that each split gets; together 1.

    Raises:
        InputError: There are too few images for a split to get any.
    """
    groups = _group(inventory, duplicates)
    random.Random(seed).shuffle(groups)
    groups.sort(key=len, reverse=True)
    counts = [Counter(name for place in group for name in _classes(inventory, place)) for group in groups]
    total = sum(counts, Counter[str]())
    lacking = {split: {name: part * count for name, count in total.items()} for split, part in parts.items()}
    plan: dict[str, list[Place]] = {split: [] for split in parts}
    for group, count in zip(groups, counts, strict=True):

        def need(split: str, count: Counter[str] = count) -> float:
            return sum(number * lacking[split][name] / total[name] for name, number in count.items())

        chosen = max(parts, key=need)
        plan[chosen] += group
        for name, number in count.items():
            lacking[chosen][name] -= number
    if empty := [split for split, places in plan.items() if not places]:
        raise InputError(
            f"{inventory.dataset}: no image is left for {empty[0]}; its {sum(map(len, groups))} images are "
            f"{len(groups)} different ones",
            "Ask for a larger part",
        )
    return {split: sorted(places) for split, places in plan.items()}


def _classes(inventory: Inventory, place: Place) -> tuple[str, ...]:
    return inventory.splits[place[0]].images[place[1]].classes or (_EMPTY,)


def _group(inventory: Inventory, duplicates: Iterable[Duplicates]) -> list[list[Place]]:
    """All images, those that are one in one group."""
    joined = [list(group.places) for group in duplicates]
    known = {place for group in joined for place in group}
    alone = ((s, k) for s, split in enumerate(inventory.splits) for k in range(len(split.images)))
    return joined + [[place] for place in alone if place not in known]
