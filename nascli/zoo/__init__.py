"""Trained networks that ship with nascli: `zoo:NAME`, a folder each, as `nascli push` writes it."""

from pathlib import Path

from nascli.config import suggestion
from nascli.errors import InputError

PREFIX = "zoo:"

_FOLDER = Path(__file__).parent


def list_trained() -> tuple[str, ...]:
    """The names of the networks, sorted."""
    return tuple(sorted(file.parent.name for file in _FOLDER.glob("*/network.json")))


def find_trained(reference: str) -> Path:
    """The folder of `zoo:NAME`; InputError with the nearest name where there is none."""
    name = reference.removeprefix(PREFIX)
    if name not in list_trained():
        raise InputError(
            f"{name!r}: no trained network of this name ships with nascli", suggestion(name, list_trained())
        )
    return _FOLDER / name
