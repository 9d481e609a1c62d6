"""The record of a run, `run.json`, as its readers take it: each field is of the type that they rely on, or is named."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nascli import __version__
from nascli.config import explain, load_recipe, parse
from nascli.config.section import Recipe
from nascli.errors import CorruptFileError, InputError, NascliError, join_sentences
from nascli.reading import sha256_file
from nascli.records import read_record
from nascli.text import quote

RUN_FILE = "run.json"
"""The record of a run, in its folder."""

RECIPE_FILE = "recipe.toml"
"""The recipe of a run, in its folder."""

DETECTOR_FILE = "detector.json"
"""The numbers and classes of a detector, beside its network.json."""

START_FILE = "start.safetensors"
"""The weights that a run begins with, in its folder until it has ended; none where they are fresh."""

START_WEIGHTS = "start_weights"
"""The key of what these are: where they came from, and their digest."""

START = "start"
"""The key of what is still to be written where a run was killed as it started."""

_PACKAGES = ("nascli", "torch", "torchvision", "numpy")
_REMEDY = "Copy it again from where it was written, or start a new run"


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Best(_Checked):
    reward: float | None = None


class _Results(_Checked):
    """The results that commands read, of any command."""

    best: _Best | None = None
    dataset: str | None = None
    trained: int | None = None
    seconds: float | None = None
    child_seconds: float | None = None
    top1: float | None = None
    params: int | None = None
    ap: float | None = None
    ap50: float | None = None


class _Data(_Checked):
    """The identity of the data."""

    name: str = ""
    sha256: str
    train_images: int = 0
    val_images: int = 0
    train_boxes: int = 0
    val_boxes: int = 0


class _Asked(_Checked):
    device: str | None = None
    tensorboard: bool | None = None
    track: str | None = None


class _StartWeights(_Checked):
    sha256: str


class _TrialsChange(_Checked):
    before: int = Field(alias="from")
    to: int


class _Search(_Checked):
    evaluator: str = "proxy"
    strategy: str = ""
    trials: int = 0


class _Recipe(_Checked):
    """The keys that are read without the whole recipe."""

    search: _Search = _Search()
    data: dict[str, Any] = Field(default_factory=dict)


class _Teacher(_Checked):
    """The teacher, as a resumed run has to find it."""

    name: str = ""
    sha256: str
    engine: str = "auto"


class _Start(_Checked):
    empty: bool = True
    kept: list[str] = Field(default_factory=list)
    files: dict[str, str] = Field(default_factory=dict)


class _RunRecord(_Checked):
    command: str
    status: str = ""
    recipe: _Recipe | None = None
    results: _Results | None = None
    asked: _Asked | None = None
    data: _Data | None = None
    inputs: dict[str, str] | None = None
    versions: dict[str, str] | None = None
    machine: dict[str, str | int | float | bool | None] | None = None
    argv: list[str] | None = None
    trials_changed: list[_TrialsChange] | None = None
    teacher: _Teacher | None = None
    start_weights: _StartWeights | None = None
    host: str | None = None
    started: str | None = None
    finished: str | None = None
    error: str | None = None
    resumed: int = Field(0, ge=0)
    start: _Start | None = None


def versions() -> dict[str, str]:
    """The versions of Python and the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: find_version(name) or "unknown" for name in _PACKAGES}


def find_version(package: str) -> str | None:
    """The version of a package; None where it is not installed. nascli itself may be used without being installed."""
    from importlib import metadata  # here, since it searches every installed package

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return __version__ if package == "nascli" else None


def read_run_record(folder: Path) -> dict[str, Any]:
    """The content of a folder's `run.json`; `recipe`, `asked`, `inputs`, `versions`, `machine` are there, though empty.

    Raises:
        InputError: There is no such file.
        CorruptFileError: It is damaged, or a field is of another type; the message names it.
    """
    file = folder / RUN_FILE
    values = read_record(file)
    try:
        _RunRecord.model_validate(values)
    except ValidationError as error:
        raise _as_damage(explain(error, str(file), _RunRecord), file) from error
    wanted = ("recipe", "asked", "inputs", "versions", "machine")
    return values | {key: {} for key in wanted if values.get(key) is None}


def parse_recipe(model: type[Recipe], record: Mapping[str, Any], folder: Path) -> Recipe:
    """The recipe in the `run.json` of a folder; CorruptFileError where a key of it is wrong."""
    file = folder / RUN_FILE
    try:
        return parse(model, record["recipe"], f"{file}: recipe")
    except InputError as error:
        raise _as_damage(error, file, "recipe.") from error


def check_inputs(record: Mapping[str, Any], folder: Path, files: Iterable[Path]) -> None:
    """Refuse to resume a run where one of these files is no longer what it began with (InputError)."""
    for file in files:
        if sha256_file(file) != record["inputs"].get(str(file)):
            raise InputError(
                f"{file} is not the file that {folder} began with",
                "Put that one back, or start a new run",
                file=file,
            )


def check_recipe_file(
    model: type[Recipe],
    record: Mapping[str, Any],
    folder: Path,
    may_change: Mapping[str, set[str]],
    note: Callable[[str], None] = lambda text: None,
) -> list[str]:
    """Hold the `recipe.toml` of a run against its `run.json`, unless it is still to be written.

    Args:
        may_change: Keys by section that may be others when a run is resumed.
        note: Called with a sentence per such key: it was changed on purpose, or the file is damaged.

    Returns:
        These sentences; errors of what the recipe names have them by `with_changes`.

    Raises:
        InputError: A key differs; the message has both values.
        CorruptFileError: One of the two is damaged.
    """
    path = folder / RECIPE_FILE
    changes: list[str] = []
    if START in record or not path.is_file():
        return changes
    begun = parse_recipe(model, record, folder).model_dump(mode="json")
    now = load_recipe(model, path).model_dump(mode="json")
    for key, before, after in _differences(begun, now):
        section, _, name = key.partition(".")
        changes.append(f"{path}: {key} is {after!r}, and the run was begun with {before!r}")
        if name not in may_change.get(section, ()):
            command = record["command"]
            raise InputError(
                f"{path}: {key} is {after!r}, but the run was begun with {before!r}, as its {RUN_FILE} says",
                f"Put that value back; for a run with another, give the file to a new one: nascli {command} --recipe "
                f"{quote(path)}",
                file=path,
                field=key,
            )
        note(changes[-1])
    return changes


@contextmanager
def with_changes(changes: Sequence[str]) -> Iterator[None]:
    """Add what `check_recipe_file` returned to an error in the block: a value that was changed may be its reason."""
    try:
        yield
    except NascliError as error:
        for change in changes:
            error.hint = join_sentences(error.hint, change) if error.hint else change
        raise


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], place: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """The keys, with dots, whose values differ, with both."""
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{place}{name}.")
        elif one != other:
            yield f"{place}{name}", one, other


def _as_damage(error: InputError, file: Path, place: str = "") -> CorruptFileError:
    field = f"{place}{error.field}" if error.field else place.removesuffix(".") or None
    return CorruptFileError(error.message, error.hint or _REMEDY, file=file, field=field)
