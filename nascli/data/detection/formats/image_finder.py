"""The image files that annotations name, though written on another machine, by another system, or in other letters."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from nascli.data.folders.split_names import find_role
from nascli.data.images.formats import image_endings
from nascli.data.images.walk import is_service_name
from nascli.text import nfc

BACKSLASHES = "image path with backslashes"
SPELLING = "image found under another spelling"
NAME_ALONE = "image found by its name alone"
OUTSIDE = "image outside the data set"

_HOST = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://[^/]*")
_DEEPEST = 6
"""Folders below a candidate that are still looked into."""


class ImageFinder:
    """Finds files below the folders in which the images of a split may lie.

    A name that is a path below one of them is taken as it is. For the others all files below are listed, and a name is
    the one file that has its last parts: as many as there are in it, and as there have to be for one file to be left.

    Args:
        folders: Candidates, the likeliest first.
        own_name: What the data call the split: folders that are named for another split are left out.
        note: Called with a kind of issue and an example, for each file that is not where its name says, or is outside
            of all folders.
    """

    def __init__(self, folders: Sequence[Path], own_name: str, note: Callable[[str, str], None]) -> None:
        self._folders = [str(folder) for folder in dict.fromkeys(folders)]
        self._role, self._note = find_role(own_name), note
        self._listed: dict[str, frozenset[str]] = {}
        self._hits: set[str] = set()
        self._index: dict[tuple[str, ...], _FileIndex] = {}

    def find(self, names: Iterable[str]) -> list[Path]:
        """The file of each name; one that is not found is put into the first folder.

        A name may lead elsewhere, absolute or by `..`: such an image is used, and noted.
        """
        written = list(names)
        found = [self._find_exactly(name) for name in written]
        hits = tuple(folder for folder in self._folders if folder in self._hits)
        for position, path in enumerate(found):
            if path is None:
                found[position] = self._find_elsewhere(written[position], hits)
        home = next((folder for folder in self._folders if folder in self._hits), self._folders[0])
        files = [path or os.path.join(home, name) for path, name in zip(found, written, strict=True)]
        self._note_outside(files)
        return list(map(Path, files))

    def _note_outside(self, files: Iterable[str]) -> None:
        """Note files that are in none of the folders; what is spelled without `..` below one of them is in it."""
        inside = tuple(os.path.join(folder, "") for folder in self._folders)
        roots = tuple(os.path.join(os.path.abspath(folder), "") for folder in self._folders)
        for file in files:
            is_plain = file.startswith(inside) and ".." not in file
            if not is_plain and not os.path.abspath(file).startswith(roots):
                self._note(OUTSIDE, file)

    def _find_exactly(self, name: str) -> str | None:
        for folder in self._folders:
            path = os.path.join(folder, name)
            if self._is_file(path):
                self._hits.add(folder)
                return path
        return None

    def _is_file(self, path: str) -> bool:
        """Whether a folder has the file; one listing per folder is much faster than a look at each file."""
        folder, name = os.path.split(path)
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(os.listdir(folder or "."))
            except (OSError, ValueError):
                self._listed[folder] = frozenset()
        return name in self._listed[folder]

    def _find_elsewhere(self, name: str, hits: tuple[str, ...]) -> str | None:
        """The file that a name must mean; `hits` are the folders in which others are found as they are written."""
        slashed = name.replace("\\", "/")
        for kind, spelled in ((BACKSLASHES, slashed), (SPELLING, unquote(slashed))):
            if spelled != name and not _is_url(spelled) and (path := self._find_exactly(spelled)):
                self._note(kind, f"{name!r} is {path}")
                return path
        wanted = unquote(re.split(r"[?#]", _HOST.sub("", slashed))[0]) if _is_url(slashed) else slashed
        if slashed.startswith("file:") and self._is_file(wanted):
            self._note(SPELLING, f"{name!r} is {wanted}")
            return wanted
        parts = [part for part in wanted.split("/") if part not in ("", ".", "..")]
        places = [hits or tuple(self._folders)]
        if hits and len(parts) > 1:
            places.append(tuple(self._folders))
        for folders in places if parts else []:
            if folders not in self._index:
                self._index[folders] = _FileIndex(folders, self._role)
            for spelled_parts in (parts, [unquote(part) for part in parts]):
                if path := self._index[folders].find(spelled_parts):
                    same = any(_fold(os.path.join(f, *spelled_parts)) == _fold(path) for f in folders)
                    if not same and hits and name == parts[0] and os.path.splitext(name)[1]:
                        continue  # where others are, it is not: one deeper down may be a mask or a thumbnail of it
                    self._note(SPELLING if same and wanted == slashed else NAME_ALONE, f"{name!r} is {path}")
                    return path
        return None


class _FileIndex:
    """Files below some folders by what a reader sees of their name: letters composed, in small ones."""

    def __init__(self, folders: Iterable[str], role: str | None) -> None:
        self._by_name: dict[str, list[str]] = {}
        seen: set[str] = set()
        endings = image_endings() | {""}
        for folder in folders:
            for place, inside, files in os.walk(folder):
                depth = place.removeprefix(folder).count(os.sep)
                inside[:] = [each for each in inside if depth < _DEEPEST and self._is_own(each, role)]
                if os.path.realpath(place) in seen:
                    continue
                seen.add(os.path.realpath(place))
                for file in files:
                    stem, ending = os.path.splitext(file)
                    if ending.lower() in endings and not is_service_name(file):
                        for name in {_fold(file), _fold(stem)}:
                            self._by_name.setdefault(name, []).append(os.path.join(place, file))

    @staticmethod
    def _is_own(folder: str, role: str | None) -> bool:
        other = find_role(folder)
        return not is_service_name(folder) and (role is None or other is None or other == role)

    def find(self, parts: Sequence[str]) -> str | None:
        """The one file that ends in as many of these parts as any does; None where several do, or none."""
        candidates = self._by_name.get(_fold(parts[-1]), [])
        if exact := [path for path in candidates if nfc(os.path.basename(path)) == nfc(parts[-1])]:
            candidates = exact
        for count in range(2, len(parts) + 1):
            if len(candidates) < 2:
                break
            tail = os.sep + _fold(os.sep.join(parts[-count:]))
            closer = [path for path in candidates if _fold(path).endswith(tail)]
            if not closer:
                break
            candidates = closer
        return candidates[0] if len(candidates) == 1 else None


def _is_url(text: str) -> bool:
    return _HOST.match(text) is not None


def _fold(text: str) -> str:
    return nfc(text).casefold()
