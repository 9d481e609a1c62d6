"""Indexes of images: files with their classes in two splits, whatever they were listed from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from nascli.data.folders.split_names import choose_held_out, choose_training, choose_validation, find_role
from nascli.data.images.decoding import ImageSource
from nascli.data.images.shared_files import find_shared_files
from nascli.data.issues import Issue, IssueLog
from nascli.errors import InputError
from nascli.text import as_read, nfc, printable

HELD_OUT = "held-out"
"""The name of a validation split that is a part of the training images."""

WHOLE = "all"
"""The name of the split that is measured where the data have no splits."""

_NAMED = 10
"""Names that a message lists."""

Source = TypeVar("Source", bound=ImageSource, covariant=True)
Named = tuple[Path, str]
"""An image file and the name of its class."""


@dataclass(frozen=True)
class ImageIndex(Generic[Source]):
    """The content of an image folder, a table or a pack: images with labels of both splits, class by class.

    Args:
        train: Empty where only one split is there, which a trained network is measured on.
        class_names: Sorted; a label is a position in it.
        val_name: The name that the data give to `val`, or `HELD_OUT`, or `WHOLE`.
        unused: Names of further splits.
    """

    train: tuple[tuple[Source, int], ...]
    val: tuple[tuple[Source, int], ...]
    class_names: tuple[str, ...]
    val_name: str = "val"
    unused: tuple[str, ...] = ()
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True)
class SplitRequest:
    """The splits that a user asks for.

    Args:
        val_split: Name of the one to validate on; None is the usual choice.
        val_fraction: Part of the training images to hold out.
        measured: A trained network is measured: no training images are needed, and not all classes.
        missing: Images of a table that need not be on disk.
        holds_out: The part is held out whatever other splits there are; of these one for tests is for the end.
        train_alone: The training split is the one to measure on, and no other is read.
    """

    val_split: str | None = None
    val_fraction: float = 0.0
    measured: bool = False
    missing: int = 0
    train_alone: bool = False
    holds_out: bool = False


@dataclass(frozen=True)
class SplitChoice:
    """Names of the splits that are used, "" for data without splits; `val` is None where it is held out of `train`."""

    train: str | None
    val: str | None
    unused: tuple[str, ...] = ()


def choose_splits(source: Path, names: Sequence[str], request: SplitRequest) -> SplitChoice:
    """Choose among the splits of these names; none at all are data without splits.

    Raises:
        InputError: Nothing is there to train on or to validate on, what is asked for is not, or several are for the
            same.
    """
    if request.val_split is not None and request.val_fraction:
        raise InputError("--val-split and --val-fraction exclude each other", "Leave one of them out")
    if not names:
        return _choose_without_splits(source, request)
    train = choose_training([name for name in names if find_role(name)], source) if any(map(find_role, names)) else None
    if request.train_alone and train is not None:
        return SplitChoice(None, train, tuple(name for name in names if name != train))
    test_first = request.holds_out and request.val_fraction > 0
    val = choose_validation(names, source, request.val_split, test_first=test_first)
    if train is None and not request.measured:
        raise InputError(
            f"data set {source} has nothing to train on, only {' and '.join(names)}",
            "Put images to train on into train/<class>/; nascli evaluate measures a trained network on such data",
        )
    if request.val_fraction and train is not None and (val is None or not request.holds_out):
        if val is not None and find_role(val) == "val":
            raise InputError(
                f"data set {source} has {val} to validate on, and --val-fraction is given",
                "Leave --val-fraction out; or take that split away to hold images out of the training split",
            )
        return SplitChoice(train, None, tuple(name for name in names if name != train))
    if val is None:
        raise InputError(
            f"data set {source} has images to train on and none to validate on (val, valid, validation, dev or test)",
            f"Measure on the training images all the same by --val-split {train}"
            if request.measured
            else "Hold a fifth of every class out by --val-fraction 0.2, or name a split by --val-split",
        )
    if val == train and not request.measured:
        raise InputError(f"--val-split {val}: the network is trained on it", "Leave it out, or take --val-fraction 0.2")
    return SplitChoice(train, val, tuple(name for name in names if name not in (train, val)))


def _choose_without_splits(source: Path, request: SplitRequest) -> SplitChoice:
    if request.val_split is not None:
        raise InputError(f"data set {source} has no splits, so none is {request.val_split!r}", "Leave --val-split out")
    if request.val_fraction:
        return SplitChoice("", None)
    if request.measured:
        return SplitChoice(None, "")
    raise InputError(
        f"data set {source} has no splits to train and to validate on",
        "Hold a fifth of every class out to validate on by --val-fraction 0.2",
    )


def build_index(
    source: object,
    train: Sequence[Named],
    val: Sequence[Named] | None,
    choice: SplitChoice,
    request: SplitRequest,
    issues: Sequence[Issue],
) -> ImageIndex[Path]:
    """An index of images whose classes are known by name.

    Args:
        train: Those to train on; may be empty where a network is measured.
        val: Those to validate on; None holds a part of `train` out.

    Raises:
        InputError: Fewer than two classes, a class without training images, or no image to validate on.
    """
    log = IssueLog()
    names = tuple(sorted({name for _, name in (train or val or ())}))
    if len(names) < (1 if request.measured else 2):
        holds = f"only one class, {names[0]!r}" if names else "no image in a class"
        raise InputError(f"data set {source} holds {holds}; at least two are needed", "A class is a folder or a label")
    _compare_names(names, log)
    labels = {name: label for label, name in enumerate(names)}
    listed = tuple((path, labels[name]) for path, name in train)
    if val is None:
        held_out = _hold_out(train, request.val_fraction)
        chosen = tuple((path, labels[name]) for path, name in train if path in held_out)
        listed = tuple((path, labels[name]) for path, name in train if path not in held_out)
        if not chosen:
            raise InputError(
                f"data set {source}: each of its {len(names)} classes has one image, so none can be held out",
                "Add images, or put some to validate on into val/<class>/",
            )
    else:
        if unknown := sorted({name for _, name in val} - {*names}):
            raise InputError(*_describe_unknown(source, unknown, names, choice))
        chosen = tuple((path, labels[name]) for path, name in val)
        for one, other in find_shared_files((path for path, _ in train), (path for path, _ in val), parts=2):
            if one != other:
                log.add("image of both splits", f"{one} and {other}")
    measured = {label for _, label in chosen}
    for name in names:
        if labels[name] not in measured:
            log.add("class without validation images", name)
    val_name = HELD_OUT if val is None else choice.val or WHOLE
    return ImageIndex(listed, chosen, names, val_name, choice.unused, (*issues, *log.issues))


def _hold_out(images: Sequence[Named], fraction: float) -> set[Path]:
    """A part of each class, at least one image of two."""
    classes: dict[str, list[Path]] = defaultdict(list)
    for path, name in images:
        classes[name].append(path)
    parts = (choose_held_out(paths, fraction, lambda path: nfc(path.name)) for paths in classes.values())
    return {path for part in parts for path in part}


def name_class(raw: str) -> str:
    """The name of a class as this program writes it, from a folder or label that may hold bytes which are no UTF-8."""
    name = nfc(raw)
    return printable(name) if any("\ud800" <= letter <= "\udfff" for letter in name) else name


def list_names(names: Sequence[str]) -> str:
    """The first of these names, joined, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more


def _compare_names(names: Sequence[str], log: IssueLog) -> None:
    """Remark on names that a reader may take for one."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(as_read(name).casefold(), name)
        if other != name:
            log.add("class names that differ in case or spaces alone", f"{other!r} and {name!r}")


def _describe_unknown(source: object, unknown: Sequence[str], names: Sequence[str], choice: SplitChoice) -> list[str]:
    alike = {as_read(name).casefold(): name for name in names}
    meant = [alike.get(as_read(name).casefold()) for name in unknown]
    word = "class" if len(unknown) == 1 else f"{len(unknown)} classes"
    hint = (
        f"Is {unknown[0]!r} the class {meant[0]!r}? Rename it"
        if meant[0]
        else f"Classes are those of {choice.train or 'train'}: {list_names(names)}"
    )
    place = f"{source}/{choice.val}" if choice.val else source
    return [f"data set {place}: {word} {list_names(unknown)} is not among those of {choice.train or 'train'}", hint]
