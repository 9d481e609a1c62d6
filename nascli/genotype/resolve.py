"""Where genotypes come from: the zoo of published cells, JSON files, search runs."""

import os
import shlex
from contextlib import suppress
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from nascli.config import suggestion
from nascli.errors import InputError, NascliError
from nascli.genotype.cells.formats import NOTATIONS, looks_like_arc, recognise
from nascli.genotype.genotype import Genotype, parse_genotype, read_genotype

_LONGEST_REPEATED = 2000
"""Letters of a text that the offered command repeats."""
_LONGEST_READ = 1 << 24
"""Letters of a file in which another tool's notation is looked for."""


def zoo_names() -> tuple[str, ...]:
    """The names of the published cells that ship with nascli, sorted."""
    return tuple(sorted(p.name.removesuffix(".json") for p in _zoo().iterdir() if p.name.endswith(".json")))


def zoo_genotype(name: str) -> Genotype:
    """A published cell by name; InputError with the nearest name where there is none."""
    if name not in zoo_names():
        raise InputError(f"cell {name!r}: neither a file nor a published cell", suggestion(name, zoo_names()))
    return parse_genotype((_zoo() / f"{name}.json").read_text(encoding="utf-8"), f"zoo:{name}")


def load_genotype(source: str | Path | Genotype) -> Genotype:
    """A genotype from wherever a person has it.

    Args:
        source: A zoo name (`"nasnet-a"`), a JSON file, a search run's folder (its best cell), or a genotype.

    Raises:
        InputError: There is nothing of that name, or it is not a possible genotype, or in another tool's notation.
        CorruptFileError: The file is damaged.

    Example:
        >>> load_genotype("nasnet-a").normal.concat
        (0, 2, 3, 4, 5, 6)
    """
    if not isinstance(source, str | Path):
        return source
    text = str(source)
    if os.path.isdir(text):  # Path.is_dir fails on a text that is too long for a name
        return read_genotype(Path(text) / "best.json")
    if os.path.isfile(text):
        return _read(Path(text))
    _refuse_notation(text, text, f"cell {_short(text)!r}")
    path = Path(text)
    if path.suffix == ".json" or path.parent != Path():
        return read_genotype(path)
    return zoo_genotype(text)


def _read(path: Path) -> Genotype:
    try:
        return read_genotype(path)
    except NascliError:
        with suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
            _refuse_notation(file.read(_LONGEST_READ), str(path), str(path))
        raise


def _refuse_notation(text: str, source: str, label: str) -> None:
    """InputError where a text is in another tool's notation; it names the command that reads that.

    Args:
        text: What may be a cell as another tool writes it.
        source: What `nascli decode` is to be given: a file, or the text itself.
        label: What to call it.
    """
    notation = recognise(text)
    if notation is None and not looks_like_arc(text):
        return
    said = "an arc, perhaps ENAS' or NAO's" if notation is None else f"{NOTATIONS[notation].title} notation"
    first, repeated = "", source.strip()
    if source == text and ("\n" in repeated or len(repeated) > _LONGEST_REPEATED):
        first, repeated = "save it as cell.txt, then ", "cell.txt"
    words = ["nascli", "decode", repeated, *(["--notation", "enas"] if notation is None else []), "--out", "cell.json"]
    either = " (or --notation naonet)" if notation is None else ""
    raise InputError(f"{label} is {said}, not a genotype", f"Decode it first: {first}{shlex.join(words)}{either}")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _zoo() -> Traversable:
    return resources.files("nascli.genotype") / "zoo"
