"""Files that two splits share."""

import filecmp
from collections.abc import Iterable
from pathlib import Path


def find_shared_files(train: Iterable[Path], val: Iterable[Path], parts: int = 1) -> list[tuple[Path, Path]]:
    """Images of both splits: one file, or equal files of one name; only files of one name and size are read.

    Args:
        parts: Names at the end of a path that have to agree: 2 where images are numbered anew in each folder.
    """
    named: dict[tuple[str, ...], list[Path]] = {}
    for path in train:
        named.setdefault(path.parts[-parts:], []).append(path)
    pairs = ((other, path) for path in val for other in named.get(path.parts[-parts:], ()))
    return [pair for pair in pairs if _is_equal(*pair)]


def _is_equal(one: Path, other: Path) -> bool:
    try:
        return one == other or filecmp.cmp(one, other, shallow=False)
    except (OSError, ValueError):  # what is not there, or could not be, is said elsewhere
        return False
