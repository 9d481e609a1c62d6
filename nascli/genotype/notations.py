"""Other tools' notations of genotypes, both ways: text in, genotype out, and back where the notation can express it.

Each family has notations of its own; their names are unique over all families.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nascli.config import suggestion
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype, JsonScalar

_LONGEST = 1 << 24  # a search log of days stays below


@dataclass(frozen=True)
class Notation:
    """A way of writing genotypes down.

    Args:
        title: Name for readers.
        read: A genotype from a text, what chooses where the text leaves something open (or None), a name for a
            genotype that the text does not name, and facts for its provenance.
        write: A genotype as text that `read` reads back.
        recognizes: Whether a text looks like this notation; one that others look like too is not beyond doubt.
        asks: What a text may leave open: the name of one genotype of several, or the space.
    """

    title: str
    read: Callable[[str, str | None, str, Mapping[str, JsonScalar]], Genotype]
    write: Callable[[Any], str]
    recognizes: Callable[[str], bool]
    asks: Literal["name", "space"] | None = None


def list_notations() -> dict[str, Notation]:
    """The notations of all families by name."""
    from nascli.genotype.families import genotype_families  # it imports the notations of cells, and so this module

    return {name: each for family in genotype_families().values() for name, each in family.notations.items()}


def find_notation(name: str) -> Notation:
    """A notation by name; InputError with the nearest name where there is none."""
    notations = list_notations()
    if name not in notations:
        raise InputError(f"notation {name!r} is unknown", suggestion(name, notations))
    return notations[name]


def recognize(text: str) -> list[str]:
    """The notations that a text may be in: a single one where that is beyond doubt."""
    return [name for name, each in list_notations().items() if each.recognizes(text)]


def read_notation(
    text: str,
    notation: str,
    *,
    which: str | None = None,
    name: str = "decoded",
    provenance: Mapping[str, JsonScalar] | None = None,
) -> Genotype:
    """A genotype out of a text in another tool's notation. The text is parsed, never run.

    Args:
        which: What the text leaves open (`Notation.asks`): one name of several, or the space.
        name: Of the genotype if the text does not name it.
        provenance: Added to what is known from the text.

    Raises:
        InputError: The notation is unknown, or the text is not in it, or describes what nascli cannot build.
    """
    chosen = find_notation(notation)
    if len(text) > _LONGEST:
        raise InputError(f"{len(text)} letters are too many for a genotype", "Cut out the part that holds it")
    return chosen.read(text, which, name, {"source": f"{chosen.title} notation", **(provenance or {})})


def write_notation(genotype: Genotype, notation: str) -> str:
    """A genotype in another tool's notation; reading it back gives the same canonical hash.

    Raises:
        InputError: The notation is unknown or another family's, or cannot express this genotype.
    """
    return find_notation(notation).write(genotype)
