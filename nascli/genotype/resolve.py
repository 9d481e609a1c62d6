"""All that `--cell` can be: the name of a published cell, a JSON file, a run folder, a `network.json`."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from nascli.config import suggestion
from nascli.errors import InputError, NascliError
from nascli.genotype.genotype import Genotype, parse_genotype, read_genotype
from nascli.genotype.notations import find_notation, recognize
from nascli.reading import open_file
from nascli.records import read_record
from nascli.text import quote_command
from nascli.text_files import decode_text, read_json
from nascli.units import shorten

BEST_FILE = "best.json"
"""The best genotype of a search, in its run folder."""

NETWORK_FILE = "network.json"
"""A genotype with the numbers that make it a network, in the folder of a training or a network."""

_LONGEST_REPEATED = 2000
"""Letters of a text that the offered command repeats."""
_LONGEST_READ = 1 << 24
"""Bytes of a file in which another tool's notation is looked for."""


def zoo_names() -> tuple[str, ...]:
    """The names of the published cells that ship with nascli, sorted."""
    return tuple(sorted(p.name.removesuffix(".json") for p in _zoo().iterdir() if p.name.endswith(".json")))


def zoo_genotype(name: str) -> Genotype:
    """A published cell by name; InputError with the nearest name where there is none."""
    if name not in zoo_names():
        raise InputError(f"cell {name!r}: neither a file nor a published cell", suggestion(name, zoo_names()))
    return parse_genotype((_zoo() / f"{name}.json").read_text(encoding="utf-8"), f"zoo:{name}")


def find_cell(cell: str, runs: Path, note: Callable[[str], None]) -> str:
    """The `--cell` that the user wrote, but for a `best.json` that is not here the newest search run's.

    So `nascli train --cell best.json` works right after a search, wherever the search put its folder in `runs`. Then
    `note` is called with a sentence.
    """
    newest = runs / "search" / "latest" / BEST_FILE
    if cell == BEST_FILE and not os.path.exists(cell) and os.path.isfile(newest):
        note(f"{BEST_FILE}: taken from {newest.parent.resolve()}")
        return str(newest)
    return cell


def find_cell_file(cell: str | Path) -> Path | None:
    """The file that `--cell` means: itself, or of a run folder its best cell or its network; None for a name.

    Raises:
        InputError: A folder holds neither.
    """
    path = Path(cell)
    if os.path.isdir(path):  # Path.is_dir fails on a text that is too long for a name
        inside = [path / name for name in (BEST_FILE, NETWORK_FILE) if os.path.isfile(path / name)]
        if not inside:
            raise InputError(f"cell {cell}: the folder holds neither {BEST_FILE} nor {NETWORK_FILE}", file=cell)
        return inside[0]
    return path if os.path.isfile(path) else None


def is_network_file(path: Path) -> bool:
    """Whether a file is a `network.json`, whatever its name."""
    if path.name == NETWORK_FILE:
        return True
    try:
        return path.suffix == ".json" and "classes" in read_json(path)
    except NascliError:  # whatever is wrong with the file, reading it as a genotype says it better
        return False


def load_genotype(source: str | Path | Genotype) -> Genotype:
    """A genotype from wherever the user has it.

    Args:
        source: A zoo name (`"nasnet-a"`), a JSON file, a run folder (its best cell, or that of its network), a
            `network.json`, or a genotype.

    Raises:
        InputError: There is nothing of that name, or it is not a possible genotype, or in another tool's notation.
        CorruptFileError: The file is damaged.

    Example:
        >>> load_genotype("nasnet-a").normal.concat
        (0, 2, 3, 4, 5, 6)
    """
    if not isinstance(source, str | Path):
        return source
    file = find_cell_file(source)
    if file is not None:
        return _read_network_genotype(file) if is_network_file(file) else _read(file)
    text = str(source)
    _refuse_notation(text, text, f"cell {shorten(text, 40)!r}")
    path = Path(text)
    if path.suffix == ".json" or path.parent != Path():
        return read_genotype(path)
    return zoo_genotype(text)


def _read_network_genotype(path: Path) -> Genotype:
    values = read_record(path).get("genotype")
    if values is None:
        raise InputError(f"{path}: a network without a genotype", "Give the network of a cell", file=path)
    return parse_genotype(json.dumps(values), str(path))


def _read(path: Path) -> Genotype:
    try:
        return read_genotype(path)
    except NascliError:
        with suppress(OSError), open_file(path) as file:
            text = decode_text(file.read(_LONGEST_READ), path, errors="replace")
            _refuse_notation(text, str(path), str(path))
        raise


def _refuse_notation(text: str, source: str, label: str) -> None:
    """InputError where a text is in another tool's notation; it names the command that reads that.

    `source` is the argument for `nascli decode`: a file, or the text itself; the error calls the text `label`.
    """
    possible = recognize(text)
    if not possible:
        return
    titles = " or ".join(find_notation(name).title for name in possible)
    notation = f"{titles} notation" if len(possible) == 1 else f"perhaps {titles} notation"
    chosen = ["--from", possible[0]] if len(possible) > 1 else []
    either = "".join(f" (or --from {name})" for name in possible[1:])
    first, repeated = "", source.strip()
    if source == text and ("\n" in repeated or len(repeated) > _LONGEST_REPEATED):
        first, repeated = "save it as cell.txt, then ", "cell.txt"
    command = quote_command(["nascli", "decode", repeated, *chosen, "--out", "cell.json"])
    raise InputError(f"{label} is {notation}, not a genotype", f"Decode it first: {first}{command}{either}")


def _zoo() -> Traversable:
    return resources.files("nascli.genotype") / "zoo"
