"""Detection data sets by name: their files, the limits of a recipe, and the refusal of what has to be repaired."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nascli.config import DATASETS, DETECTION_DATASETS, DetectDataConfig, find_dataset, suggestion
from nascli.content import describe_content
from nascli.data.detection.across import match_categories, note_crowded, note_shared_images
from nascli.data.detection.dataset import DetectionData, DetectionSplit
from nascli.data.detection.formats.coco import parse_split
from nascli.data.detection.formats.raw import RawSplit
from nascli.data.detection.image_check import SKIPPED_INSTEAD, check_images
from nascli.data.detection.recognize import FORMATS, explain_unread_boxes, find_splits, recognize_format
from nascli.data.detection.splits import ChosenSplits, choose_splits, hold_out
from nascli.data.folders.recognize import has_class_folders
from nascli.data.issues import Issue, raise_if_refused, select_refused
from nascli.data.toy import write_scenes
from nascli.errors import InputError
from nascli.reading import expand_home
from nascli.units import count_of

NAMED: dict[str, Callable[[Path], Path]] = {
    "digit-scenes": lambda data_dir: write_scenes(data_dir / "digit-scenes"),
    "coco": lambda data_dir: data_dir if os.path.isdir(data_dir / "annotations") else data_dir / "coco",
}
"""The folder of the other data sets of `nascli.config.DETECTION_DATASETS`, from `data_dir`; all are COCO's format."""


def load_detection_data(config: DetectDataConfig) -> DetectionData:
    """Load the data set that `config.dataset` names; `digit-scenes` is written first where it is not there.

    Raises:
        InputError: Unknown, not on disk (the message says where to put it), or with an issue that has to be repaired.
        CorruptFileError: A file is damaged.
    """
    splits = load_detection_splits(config)
    train, val = splits[0], splits[-1]
    if len(splits) == 1 and config.evaluate_on == "val":
        raise InputError(
            f"{train.source} is one split, so there is nothing to validate on",
            "Hold a part of its images out by --val-fraction 0.2, or measure on what is trained on by --set "
            "data.evaluate_on=train, or give a folder with both splits",
        )
    return DetectionData(name_dataset(config), train, val)


def load_detection_splits(config: DetectDataConfig) -> tuple[DetectionSplit, ...]:
    """Load the splits of the same data set, one or two, without decoding images; raises the same."""
    splits = _parse_splits(config, decode=False)
    for split in splits:
        raise_if_refused(split.source, split.issues, strict=config.strict)
    return splits


def audit_detection_data(config: DetectDataConfig) -> tuple[DetectionSplit, ...]:
    """Read the same splits with all their issues; every image is decoded.

    Raises:
        InputError: Unknown or not on disk, or a file that is no COCO file.
        CorruptFileError: An annotation file is not JSON.
    """
    return _parse_splits(config, decode=True)


def load_ground_truth(config: DetectDataConfig, *, images: bool = False) -> DetectionSplit:
    """Load the split that is scored.

    Args:
        images: Hold its images against it, too; otherwise none needs to be there.

    Raises:
        InputError: Unknown, not on disk, or with an issue that has to be repaired.
        CorruptFileError: The annotations are not JSON.
    """
    found = _find_splits(config)
    on_train = config.evaluate_on == "train"
    split = found.parse_train() if on_train else found.parse_val()
    if split is None:
        split = found.parse_train()
        if config.val_fraction:
            split = hold_out(split, config.val_fraction)[1]
    elif on_train and config.val_fraction:
        split = hold_out(split, config.val_fraction)[0]
    split = replace(split, name=config.evaluate_on)
    split = note_crowded(split.first(config.max_train_images if on_train else config.max_val_images))
    if images:
        (split,) = _check_splits([split.limit_size(config.max_megapixels)], config, decode=False)
    raise_if_refused(split.source, split.issues, strict=config.strict)
    return split


def name_dataset(config: DetectDataConfig) -> str:
    """The name of the data set; a path without a format gets the one that its files are in, as in `coco:PATH`.

    Raises:
        InputError: It is no data set for detection, and no path to one.
    """
    name, colon, location = config.dataset.partition(":")
    if (colon and location and name in FORMATS) or (not colon and name in NAMED):
        return config.dataset
    path = expand_home(config.dataset)
    if os.path.exists(path):
        if found := recognize_format(path):
            return f"{found}:{path}"
        if has_class_folders(path):
            raise InputError(
                f"{path} holds images in class folders, and no boxes", f"nascli train --dataset folder:{path} takes it"
            )
        if error := explain_unread_boxes(path):
            raise error
        raise InputError(
            f"{path} holds no annotations that nascli knows"
            + (f": it is {describe_content(path)}" if os.path.isfile(path) else ""),
            f"Say what they are: {', '.join(DETECTION_DATASETS)}",
        )
    if find_dataset(config.dataset, DATASETS):
        raise InputError(
            f"data set {config.dataset} is one of classes, without boxes",
            f"nascli train --dataset {config.dataset} takes it",
        )
    raise InputError(
        f"data set {config.dataset!r}: not one for detection, and no such file or folder",
        suggestion(config.dataset, DETECTION_DATASETS),
    )


@dataclass(frozen=True)
class _FoundSplits:
    source: Path
    splits: dict[str, RawSplit]
    chosen: ChosenSplits

    def parse_train(self) -> DetectionSplit:
        """Read the split to train on; InputError where there is none."""
        if self.chosen.train is None:
            raise InputError(
                f"{self.source}: no annotations of both splits: there is {' and '.join(self.splits)}, none to train on",
                "Name one of them train, or give its file alone",
            )
        return parse_split(self.splits[self.chosen.train], "train", self.chosen.train)

    def parse_val(self) -> DetectionSplit | None:
        """Read the split to validate on, where there is one."""
        val = self.chosen.val
        return None if val is None else parse_split(self.splits[val], "val", val)


def list_splits(config: DetectDataConfig) -> tuple[Path, dict[str, RawSplit]]:
    """The path of the data set, and all its splits by the names that the data give them, which are not read yet.

    Raises:
        InputError: Unknown or not on disk.
    """
    name, colon, location = name_dataset(config).partition(":")
    path = expand_home(location) if colon else NAMED[name](expand_home(config.data_dir))
    return path, find_splits(name if colon else "coco", path)


def _find_splits(config: DetectDataConfig) -> _FoundSplits:
    path, splits = list_splits(config)
    return _FoundSplits(path, splits, choose_splits(splits, path, config))


def _parse_splits(config: DetectDataConfig, *, decode: bool) -> tuple[DetectionSplit, ...]:
    """The training split and, where there is one, the validation split."""
    found = _find_splits(config)
    train, val = found.parse_train(), found.parse_val()
    if val is None and config.val_fraction:
        train, val = hold_out(train, config.val_fraction)
    splits = [train.first(config.max_train_images)]
    if val is not None:
        val = match_categories(val, train).first(config.max_val_images)
        splits.append(note_shared_images(val, splits[0]))
    splits = _check_splits([split.limit_size(config.max_megapixels) for split in splits], config, decode=decode)
    splits[0] = _select_training(splits[0], config.max_boxes)
    scored = 0 if config.evaluate_on == "train" else -1
    splits[scored] = note_crowded(splits[scored])
    return tuple(splits)


def _check_splits(splits: Sequence[DetectionSplit], config: DetectDataConfig, *, decode: bool) -> list[DetectionSplit]:
    """The splits with the issues of their images; without those that cannot be used, where no more than allowed are.

    All are decoded where some may be skipped, so that none is met in training that the check has not seen.
    """
    allowed = config.max_unreadable_images
    found = [check_images(split, decode=decode or allowed > 0) for split in splits]
    lost = sum(len(unusable) for _, unusable in found)
    for split, (issues, unusable) in zip(splits, found, strict=True):
        if len(unusable) == len(split.images) > (0 if allowed else 1):
            first = next(each for each in issues if each.kind in SKIPPED_INSTEAD)
            remedy = "Put the images into a folder named for the split, or into images/ beside the annotations"
            raise InputError(
                f"{split.source}: {count_of(len(unusable), 'image')}, and none can be used; {first.first}",
                remedy if first.kind == "image not on disk" else first.remedy,
            )
    checked: list[DetectionSplit] = []
    for split, (issues, unusable) in zip(splits, found, strict=True):
        images = split.images
        if 0 < lost <= allowed:
            issues = tuple(replace(each, kind=SKIPPED_INSTEAD.get(each.kind, each.kind)) for each in issues)
            images = tuple(image for image in images if image.id not in unusable)
        checked.append(replace(split, images=images, issues=(*split.issues, *issues)))
    return checked


def _select_training(split: DetectionSplit, max_boxes: int) -> DetectionSplit:
    """The split without images that have more boxes than that: a step on one would need more memory than there is."""
    crowded = [image for image in split.images if 0 < max_boxes < image.learned_boxes]
    ids = {image.id for image in crowded}
    selected = replace(split, images=tuple(image for image in split.images if image.id not in ids))
    issues = list(split.issues)
    if crowded:
        first = crowded[0]
        where = f"image id {first.id} ({first.path.name}) has {first.learned_boxes:,} boxes"
        example = f"{where}, data.max_boxes is {max_boxes:,}"
        issues.append(Issue("image with too many boxes", len(crowded), example))
    if selected.boxes == 0 and not select_refused(issues):  # else that is why there is none
        where = f"there is no box to learn from in {len(selected.images)} training images"
        issues.append(Issue("no box to learn from", 1, where))
    return replace(selected, issues=tuple(issues))
