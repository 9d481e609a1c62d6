"""A look at a whole data set: counts, sizes, balance, images that are unreadable or there more than once, odd boxes."""

import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nascli.data.audit.duplicates import (
    Duplicates,
    Fingerprint,
    Place,
    find_duplicates,
    take_fingerprints,
)
from nascli.data.audit.inventory import Inventory, LabeledImage, LabeledSplit
from nascli.data.detection.image_check import name_damage
from nascli.data.folders.split_names import find_role
from nascli.data.images.decoding import read_size
from nascli.data.images.shared_files import find_shared_files
from nascli.data.issues import Issue, IssueLog, select_refused
from nascli.errors import NascliError
from nascli.units import count_of

_DECODED = ("image cannot be read", "image too large")
"""Issues that decoding finds, too, and all of them."""

_SHARED = "image of both splits"
"""An issue that is looked for anew, over all splits."""

_RARE = 100
"""Times as often as the rarest class that the most frequent one may be there without a remark."""
_WHOLE = 0.95
"""Part of an image's area from which a box is taken to be around the whole of it."""
_LONG = 25
"""Ratio of sides from which a box is very long and thin."""


@dataclass(frozen=True)
class SplitSummary:
    """The counts of a split: `classes` are images, or boxes, of each class; `sizes` are (width, height)."""

    split: LabeledSplit
    classes: dict[str, int]
    sizes: tuple[tuple[int, int], ...]
    issues: tuple[Issue, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        images, boxes = self.split.images, self.split.boxes
        return {
            "split": self.split.name,
            "file": self.split.source,
            "images": len(images),
            **({} if boxes is None else {"boxes": boxes.boxes}),
            "classes": self.classes,
            "sizes": self.describe_sizes(),
            "issues": [each.to_dict() for each in self.issues],
        }

    def describe_sizes(self) -> dict[str, list[float]]:
        """Least, median and largest width, height and ratio of width to height; empty where no size is known."""
        if not self.sizes:
            return {}
        columns: dict[str, list[float]] = {
            "width": [size[0] for size in self.sizes],
            "height": [size[1] for size in self.sizes],
            "aspect": [round(width / height, 3) for width, height in self.sizes],
        }
        return {name: [min(each), statistics.median(each), max(each)] for name, each in columns.items()}


@dataclass(frozen=True)
class DataCheck:
    """The outcome of a check.

    Args:
        duplicates: Groups of images that are one, within a split or over several.
        odd: Boxes to look at: kind of issue, image, position of the box.
    """

    inventory: Inventory
    splits: tuple[SplitSummary, ...]
    duplicates: tuple[Duplicates, ...]
    odd: tuple[tuple[str, Place, int], ...]

    @property
    def issues(self) -> list[Issue]:
        """Those of all splits."""
        return [each for split in self.splits for each in split.issues]

    def list_refused(self, *, strict: bool = False) -> list[Issue]:
        """The issues that keep the data from being used."""
        return select_refused(self.issues, strict=strict)

    def image(self, place: Place) -> LabeledImage:
        """The image at a place."""
        return self.inventory.splits[place[0]].images[place[1]]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        names = [split.name for split in self.inventory.splits]
        groups = [
            {
                "equal": len({*group.files}) == 1,
                "images": [{"split": names[place[0]], "file": str(self.image(place).source)} for place in group.places],
            }
            for group in self.duplicates
        ]
        splits = [each.to_dict() for each in self.splits]
        return {"dataset": self.inventory.dataset, "task": self.inventory.task, "splits": splits, "duplicates": groups}


def check_data(
    inventory: Inventory, *, quick: bool = False, on_image: Callable[[int, int], None] | None = None
) -> DataCheck:
    """Check a data set.

    Args:
        quick: Decode no image: what is damaged inside, or there twice under other names, is not found.
        on_image: Called with the images decoded and all of them.
    """
    logs = [IssueLog() for _ in inventory.splits]
    for split, log in zip(inventory.splits, logs, strict=True):
        for issue in split.check_headers():
            if issue.kind != _SHARED and (quick or issue.kind not in _DECODED):
                log.join(issue)
    if quick:
        _note_shared_files(inventory, logs)
    found = _measure(inventory, logs) if quick else _decode(inventory, logs, on_image)
    duplicates = find_duplicates({place: each for place, each in found.items() if isinstance(each, Fingerprint)})
    _note_duplicates(inventory, duplicates, logs)
    odd = [each for s, split in enumerate(inventory.splits) for each in _find_odd_boxes(s, split)]
    for kind, (s, k), box in odd:
        logs[s].add(kind, f"{inventory.splits[s].images[k].source}, box {box + 1}")
    sizes: list[list[tuple[int, int]]] = [[] for _ in inventory.splits]
    for (s, _), each in found.items():
        sizes[s].append(each.size if isinstance(each, Fingerprint) else each)
    summaries = tuple(
        _summarize(inventory, split, measured, log)
        for split, measured, log in zip(inventory.splits, sizes, logs, strict=True)
    )
    return DataCheck(inventory, summaries, tuple(duplicates), tuple(odd))


def _summarize(
    inventory: Inventory, split: LabeledSplit, sizes: Sequence[tuple[int, int]], log: IssueLog
) -> SplitSummary:
    counts = Counter(name for image in split.images for name in image.classes)
    if counts and find_role(split.name) not in ("val", "test") and max(counts.values()) > _RARE * min(counts.values()):
        rare = min(counts, key=lambda name: counts[name])
        log.add("class much rarer than others", f"{rare!r} is there {count_of(counts[rare], 'time')}")
    classes = {name: counts[name] for name in inventory.class_names}
    return SplitSummary(split, classes, tuple(sizes), log.issues)


def _decode(
    inventory: Inventory, logs: Sequence[IssueLog], on_image: Callable[[int, int], None] | None
) -> dict[Place, Fingerprint]:
    """The fingerprint of every image that can be decoded; the others, and remarks, go into the logs."""
    images = dict(_list_present(inventory))
    sources = [
        (each.source, (each.annotated.width, each.annotated.height) if each.annotated else None, each.max_megapixels)
        for each in images.values()
    ]
    prints = {}
    for place, each in zip(images, take_fingerprints(sources, on_image), strict=True):
        if isinstance(each, Fingerprint):
            prints[place] = each
            for kind, example in each.notes:
                logs[place[0]].add(kind, f"{images[place].source}: {example}")
        else:
            logs[place[0]].add(name_damage(each), each.message)
    return prints


def _measure(inventory: Inventory, logs: Sequence[IssueLog]) -> dict[Place, tuple[int, int]]:
    """The size of every image by its header."""
    sizes = {}
    for place, image in _list_present(inventory):
        if image.annotated:
            sizes[place] = (image.annotated.width, image.annotated.height)
        elif isinstance(image.source, Path):
            try:
                sizes[place] = read_size(image.source, upright=True)
            except NascliError as error:
                logs[place[0]].add("image cannot be read", error.message)
    return sizes


def _list_present(inventory: Inventory) -> Iterator[tuple[Place, LabeledImage]]:
    """The images that are there: whether annotated ones are, was said before."""
    for s, split in enumerate(inventory.splits):
        for k, image in enumerate(split.images):
            if image.annotated is None or os.path.lexists(image.annotated.path):
                yield (s, k), image


def _note_shared_files(inventory: Inventory, logs: Sequence[IssueLog]) -> None:
    """Count images of a later split that are in an earlier one under the same name."""
    paths = [[image.source for image in split.images if isinstance(image.source, Path)] for split in inventory.splits]
    parts = 1 if inventory.task == "detect" else 2
    for s, own in enumerate(paths):
        earlier = [path for others in paths[:s] for path in others]
        for one, other in find_shared_files(earlier, own, parts):
            logs[s].add(_SHARED, f"{one} and {other}")


def _note_duplicates(inventory: Inventory, groups: Iterable[Duplicates], logs: Sequence[IssueLog]) -> None:
    """Count the images of each group that have an earlier one beside them or in another split."""
    for group in groups:
        for position, (s, k) in enumerate(group.places):
            equal = [
                place
                for place, file in zip(group.places[:position], group.files, strict=False)
                if file == group.files[position]
            ]
            earlier = equal or group.places[:position]
            if not earlier:
                continue
            other = next((place for place in earlier if place[0] != s), None)
            kind = ("image" if equal else "nearly the same image") + (" of both splits" if other else " more than once")
            one, copy = (inventory.splits[a].images[b] for a, b in (other or earlier[0], (s, k)))
            logs[s].add(kind, f"{one.source} and {copy.source}")
            if one.annotated is None and one.classes != copy.classes:
                logs[s].add("image in two classes", f"{one.source} and {copy.source}")


def _find_odd_boxes(s: int, split: LabeledSplit) -> Iterator[tuple[str, Place, int]]:
    for k, image in enumerate(each.annotated for each in split.images):
        if image is None or not len(image.boxes):
            continue
        width, height = image.boxes[:, 2], image.boxes[:, 3]
        whole = width * height >= _WHOLE * image.width * image.height
        long = np.maximum(width, height) > _LONG * np.minimum(width, height)
        for kind, odd in (("box around the whole image", whole), ("box very long and thin", long)):
            for box in np.flatnonzero(odd).tolist():
                yield kind, (s, k), box
