"""Values in results that name an image or a class, matched to the ids of the split that they are of."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from nascli.data.detection.dataset import DetectionSplit
from nascli.data.detection.formats.values import is_blank, read_whole
from nascli.data.issues import IssueLog
from nascli.detect.results_file import Entry, ResultEntries
from nascli.text import as_read, nfc
from nascli.units import shorten

IMAGE_KEYS = ("image_id", "file_name", "filename", "image", "image_name", "image_path")
_CATEGORY_KEYS = ("category_id", "category_name", "category", "class_name", "label", "class", "name")
"""Keys that say the image and the class, COCO's own first."""

UNLISTED = "result of an unlisted image"

_Value = tuple[str, Hashable]
"""A key of an entry, and what stands there."""


def match_image_ids(found: ResultEntries, split: DetectionSplit, log: IssueLog) -> list[int | None]:
    """The image id that each entry means; each kind of issue is counted once per entry."""
    return _match(found.entries, IMAGE_KEYS, _ImageTable(split, found.image_names).find, log)


def match_category_ids(found: ResultEntries, split: DetectionSplit, log: IssueLog) -> list[int | None]:
    """The category id that each entry means."""
    return _match(found.entries, _CATEGORY_KEYS, _CategoryTable(split, found.category_names).find, log)


@dataclass(frozen=True)
class _Match:
    """The meaning of a value that names an image or a class: an id of the split, and the kind of issue if it is one."""

    id: int | None
    kind: str = ""
    example: str = ""


def _match(
    entries: Sequence[Entry],
    keys: Sequence[str],
    find: Callable[[Sequence[_Value]], Mapping[_Value, _Match]],
    log: IssueLog,
) -> list[int | None]:
    named: list[_Value] = []
    for entry in entries:
        key = keys[0]
        if is_blank(entry.get(key)):
            key = next((each for each in keys if not is_blank(entry.get(each))), key)
        value = entry.get(key)
        named.append((key, value if isinstance(value, Hashable) else repr(value)))
    first = {value: position for position, value in reversed(list(enumerate(named)))}
    matches = find(list(first))
    for value, count in Counter(named).items():
        match = matches[value]
        if match.kind:
            log.add(match.kind, f"entry {first[value]}: {value[0]} {match.example}", count)
    return [matches[value].id for value in named]


class _ImageTable:
    """The images of a split, by all that names them."""

    def __init__(self, split: DetectionSplit, own_names: Mapping[object, str]) -> None:
        self._split, self._own_names = split, own_names
        self._written = {image.written_id: image.id for image in split.images if image.written_id}
        self._ids = {image.id for image in split.images} - set(self._written.values())
        self._names: dict[str, set[int]] = {}
        for image in split.images:
            for name in {nfc(image.path.name), nfc(image.path.stem)}:
                self._names.setdefault(name, set()).add(image.id)

    def find(self, values: Sequence[_Value]) -> dict[_Value, _Match]:
        """The image of each value.

        Numbers that are no ids may all be names of files: 101 for 000101.jpg.
        """
        found = {each: self._find(each[1]) for each in values}
        if values and all(match.kind == UNLISTED for match in found.values()):
            numbers = {number: ids for name, ids in self._names.items() if (number := read_whole(name)) is not None}
            by_number = {each: numbers.get(read_whole(each[1]) or -1, set()) for each in values}
            if all(len(ids) == 1 for ids in by_number.values()):
                return {each: self._name(each[1], next(iter(ids))) for each, ids in by_number.items()}
        return found

    def _find(self, value: Hashable) -> _Match:
        if value in self._own_names and (ids := self._look_up_name(self._own_names[value])):
            (number,) = ids
            kind = "" if number == value else "image numbered differently"
            return _Match(number, kind, f"{value!r} is {self._own_names[value]} there, which has the id {number} here")
        if type(value) is int and value in self._ids:
            return _Match(value)
        if isinstance(value, str) and value in self._written:
            return _Match(self._written[value])
        whole, named = read_whole(value), self._look_up_name(value) if isinstance(value, str) else set()
        meant = {whole} & self._ids if whole is not None else set()
        if len(meant | named) > 1:
            return _Match(None, "result of one of two images", f"{shorten(repr(value))} is an id and a file name")
        if meant:
            return _Match(whole, "id of another type", f"{shorten(repr(value))} is read as {whole}")
        if named:
            return self._name(value, next(iter(named)))
        if isinstance(value, bool) or is_blank(value) or not isinstance(value, int | str | float):
            return _Match(
                None, "result without image", f"is {shorten(repr(value))}, not an image of {self._split.source}"
            )
        return _Match(None, UNLISTED, f"{shorten(repr(value))} is not in {self._split.source}")

    def _name(self, value: object, number: int) -> _Match:
        return _Match(number, "image named in place of its id", f"{shorten(repr(value))} is the image id {number}")

    def _look_up_name(self, text: str) -> set[int]:
        """The one image of this file name, with or without folders and ending; empty where there is not one alone."""
        name = nfc(text).replace("\\", "/").rsplit("/", 1)[-1]
        stem = name.rpartition(".")[0]
        candidates = (self._names.get(each, set()) for each in (name, stem) if each)
        return next((ids for ids in candidates if len(ids) == 1), set())


class _CategoryTable:
    """The classes of a split, by id and by name."""

    def __init__(self, split: DetectionSplit, own_names: Mapping[object, str]) -> None:
        self._split, self._own_names = split, own_names
        self._names: dict[str, set[int]] = {}
        for category in split.categories:
            for name in {as_read(category.name), as_read(category.name).casefold()}:
                self._names.setdefault(name, set()).add(category.id)

    def find(self, values: Sequence[_Value]) -> dict[_Value, _Match]:
        """The category of each value."""
        return {each: self._find(each[1], [value for _, value in values]) for each in values}

    def _find(self, value: Hashable, all_values: Sequence[Hashable]) -> _Match:
        ids = self._split.labels_by_id
        if value in self._own_names:
            named = self._look_up_name(self._own_names[value])
            if named is not None and named != value:
                example = f"{value!r} is {self._own_names[value]!r} there, which has the id {named} here"
                return _Match(named, "category numbered differently", example)
        if type(value) is int and value in ids:
            return _Match(value)
        if isinstance(value, str) and (named := self._look_up_name(value)) is not None:
            example = f"{shorten(repr(value))} is the category id {named}"
            return _Match(named, "category named in place of its id", example)
        whole = read_whole(value)
        if whole is not None and whole in ids:
            return _Match(whole, "id of another type", f"{shorten(repr(value))} is read as {whole}")
        known = ", ".join(f"{each.id} {each.name}" for each in self._split.categories[:10])
        known += ", ..." if len(ids) > 10 else ""
        counted = all(isinstance(each, int) and 0 <= each <= len(ids) for each in all_values)
        perhaps = "; perhaps the file counts its classes from 0 or 1 and does not give ids" if counted else ""
        example = f"is {shorten(repr(value))}, not one of {self._split.source} ({known}){perhaps}"
        return _Match(None, "result of an unknown category", example)

    def _look_up_name(self, text: str) -> int | None:
        candidates = (self._names.get(name, set()) for name in (as_read(text), as_read(text).casefold()))
        return next((next(iter(ids)) for ids in candidates if len(ids) == 1), None)
