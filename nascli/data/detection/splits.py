"""The splits of a detection data set to train and to validate on, and a part that is held out of one."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from nascli.config import DetectDataConfig
from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit
from nascli.data.detection.formats.raw import RawSplit
from nascli.data.folders.split_names import choose_held_out, choose_training, choose_validation, find_role
from nascli.errors import InputError
from nascli.text import nfc


@dataclass(frozen=True)
class ChosenSplits:
    """The names, among those of a data set, of the split to train on and of the one to validate on.

    Args:
        val: None where a part of the training split is held out, or nothing is there to validate on.
    """

    train: str | None
    val: str | None


def choose_splits(splits: dict[str, RawSplit], source: Path, config: DetectDataConfig) -> ChosenSplits:
    """Choose by name; a validation split comes before a test split.

    Raises:
        InputError: Several splits are for the same, there is none of the name that was asked for, or a part is to be
            held out though there is a split to validate on.
    """

    def describe(name: str) -> str:
        return splits[name].source.name if len({each.source.name for each in splits.values()}) > 1 else name

    if os.path.isfile(source) and len(splits) == 1 and config.val_split is None:
        return ChosenSplits(next(iter(splits)), None)
    val = choose_validation(splits, source, config.val_split, describe)
    others = {name: raw for name, raw in splits.items() if name != val} or splits
    train = choose_training(others, source, describe)
    if config.val_fraction and val is not None and (config.val_split or find_role(val) == "val") and val != train:
        raise InputError(
            f"data.val_fraction = {config.val_fraction:g}, but {source} has the split {val!r} to validate on",
            "Leave --val-fraction out" + (", or --val-split" if config.val_split else ""),
        )
    return ChosenSplits(train, None if config.val_fraction or val == train else val)


def hold_out(split: DetectionSplit, fraction: float) -> tuple[DetectionSplit, DetectionSplit]:
    """A split without a part of its images, and that part, as a split to validate on.

    The part follows from the names of the files alone; entries of one file stay together.

    Raises:
        InputError: There are fewer than two files.
    """
    names = [_group_name(image, parts=1) for image in split.images]
    if 2 * len(set(names)) < len(names):  # one name per folder, such as image.png
        names = [_group_name(image, parts=2) for image in split.images]
    if len(set(names)) < 2:
        raise InputError(f"{split.source}: there are no two images, so none can be held out")
    held = choose_held_out(set(names), fraction, str)
    kept = tuple(image for image, name in zip(split.images, names, strict=True) if name not in held)
    out = tuple(image for image, name in zip(split.images, names, strict=True) if name in held)
    own_name = f"{split.own_name or split.name}, held out"
    return replace(split, images=kept), replace(split, name="val", own_name=own_name, images=out, issues=())


def _group_name(image: AnnotatedImage, parts: int) -> str:
    return nfc("/".join(image.path.parts[-parts:])).casefold()
