"""The splits of a data set held against each other: their classes, and images that both have."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nascli.data.detection.dataset import Category, DetectionSplit
from nascli.data.images.shared_files import find_shared_files
from nascli.data.issues import IssueLog
from nascli.text import as_read

MAX_COUNTED = 100
"""Detections per image that count in COCO's average precision."""


def match_categories(split: DetectionSplit, train: DetectionSplit) -> DetectionSplit:
    """The split with the labels of the training split, its categories matched by name.

    Its own ids stay, since files of results refer to them.
    """
    if split.categories == train.categories:
        return split
    log = IssueLog()
    labels = _match_names(split.categories, train.categories, log)
    present = set(np.concatenate([image.labels for image in split.images]).tolist() if split.images else ())
    alone = [each.name for label, each in enumerate(split.categories, 1) if label in present and label not in labels]
    if alone:
        there = set(range(1, len(train.categories) + 1)) - set(labels.values())
        rest = ", ".join(repr(train.categories[label - 1].name) for label in sorted(there))
        example = (
            f"its categories are not those of {train.source}: {', '.join(map(repr, alone))} "
            f"{'is' if len(alone) == 1 else 'are'} here alone" + (f", {rest} there" if rest else "")
        )
        log.add("categories of the splits differ", example, len(alone))
        return replace(split, issues=(*split.issues, *log.issues))
    for label, category in enumerate(split.categories, 1):
        if label not in labels:
            log.add("category of one split alone", f"{category.name!r} is not in {train.source}")
    for label, category in enumerate(train.categories, 1):
        if label not in labels.values():
            log.add("category of one split alone", f"{category.name!r} of {train.source} is not in {split.source}")
    numbers = np.array([0, *(labels.get(label, 0) for label in range(1, len(split.categories) + 1))], dtype=np.int64)
    images = tuple(replace(image, labels=numbers[image.labels]) for image in split.images)
    categories = _with_own_ids(split.categories, train.categories, labels)
    return replace(
        split,
        images=images,
        categories=categories,
        issues=(*split.issues, *log.issues),
        absent_ids=frozenset(each.id for label, each in enumerate(categories, 1) if label not in labels.values()),
    )


def note_shared_images(val: DetectionSplit, train: DetectionSplit) -> DetectionSplit:
    """The validation split, with an issue if files of the training split, or equal ones of their names, are in it."""
    log = IssueLog()
    known, own = ([Path(os.path.normpath(image.path)) for image in split.images] for split in (train, val))
    for one, other in find_shared_files(known, own):
        log.add("image of both splits", str(one) if one == other else f"{one} and {other}")
    return replace(val, issues=(*val.issues, *log.issues))


def note_crowded(scored: DetectionSplit) -> DetectionSplit:
    """The split, with an issue if images have more boxes than COCO counts detections."""
    log = IssueLog()
    for image in scored.images:
        if image.learned_boxes > MAX_COUNTED:
            log.add("image with more than 100 boxes", f"image id {image.id} has {image.learned_boxes:,} boxes")
    return replace(scored, issues=(*scored.issues, *log.issues))


def _match_names(own: Sequence[Category], others: Sequence[Category], log: IssueLog) -> dict[int, int]:
    """The label among `others` of each own label whose name is there: as it is written, else but for capitals."""
    written = {as_read(category.name): label for label, category in enumerate(others, 1)}
    folded: dict[str, list[int]] = {}
    for name, label in written.items():
        folded.setdefault(name.casefold(), []).append(label)
    matched: dict[int, int] = {}
    for label, category in enumerate(own, 1):
        name = as_read(category.name)
        found = written.get(name)
        if found is None and len(alike := folded.get(name.casefold(), [])) == 1 and alike[0] not in matched.values():
            found = alike[0]
            log.add("category spelled differently", f"{category.name!r} is {others[found - 1].name!r} in training")
        if found is not None and found not in matched.values():
            matched[label] = found
            if category.id != others[found - 1].id:
                example = f"{category.name!r} is {category.id} here and {others[found - 1].id} in training"
                log.add("categories numbered differently", example)
    return matched


def _with_own_ids(
    own: Sequence[Category], others: Sequence[Category], labels: Mapping[int, int]
) -> tuple[Category, ...]:
    """The other split's categories, with the ids of this one; a category that is not here gets an id that is free."""
    ids = {found: own[label - 1].id for label, found in labels.items()}
    taken = {category.id for category in own}
    for label, category in enumerate(others, 1):
        if label not in ids:
            ids[label] = category.id if category.id not in taken else max(taken) + 1
            taken.add(ids[label])
    return tuple(Category(ids[label], category.name) for label, category in enumerate(others, 1))
