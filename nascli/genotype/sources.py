"""Where genotypes come from: the zoo of published cells, JSON files, search runs."""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from nascli.config import suggestion
from nascli.errors import InputError
from nascli.genotype.schema import Genotype, parse_genotype, read_genotype


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
        InputError: There is nothing of that name, or it is not a possible genotype.
        CorruptFileError: The file is damaged.

    Example:
        >>> load_genotype("nasnet-a").normal.concat
        (0, 2, 3, 4, 5, 6)
    """
    if isinstance(source, Genotype):
        return source
    path = Path(source)
    if path.is_dir():
        return read_genotype(path / "best.json")
    if path.is_file() or path.suffix == ".json" or path.parent != Path():
        return read_genotype(path)
    return zoo_genotype(str(source))


def _zoo() -> Traversable:
    return resources.files("nascli.genotype") / "zoo"
