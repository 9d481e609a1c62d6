"""Detection data sets by name: their files, the limits of a recipe, and the refusal of what has to be repaired."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nascli.config import DETECTION_DATASETS, DetectDataConfig, suggestion
from nascli.data.detection.coco import SplitFiles, parse_coco
from nascli.data.detection.dataset import DetectionData, DetectionSplit, check_headers, check_pixels
from nascli.data.issues import Issue, raise_if_refused
from nascli.data.toy import write_scenes
from nascli.errors import InputError

FOLDERS: dict[str, Callable[[Path, str], Path]] = {
    "digit-scenes": lambda data_dir, _: write_scenes(data_dir / "digit-scenes"),
    "coco": lambda data_dir, _: data_dir if (data_dir / "annotations").is_dir() else data_dir / "coco",
    "coco:PATH": lambda _, path: Path(path),
}
"""The folder of each of `nascli.config.DETECTION_DATASETS`, from `data_dir` and what follows the colon of the name.

It has `annotations/instances_train*.json` and `instances_val*.json` (images in `train*/` and `val*/`), or `train/` and
`val/` (or `valid/`) that each hold `_annotations.coco.json` beside the images; or it is one JSON file beside its
images, which stands for both splits.
"""


def load_detection_data(config: DetectDataConfig) -> DetectionData:
    """Load the data set that `config.dataset` names; `digit-scenes` is written first where it is not there.

    Raises:
        InputError: Unknown, not on disk (the message says where to put it), or with an issue that has to be repaired.
        CorruptFileError: A file is damaged.
    """
    splits = load_detection_splits(config)
    train, val = splits[0], splits[-1]
    if val.source == train.source and config.evaluate_on == "val":
        raise InputError(
            f"{train.source} is one split, so there is nothing to validate on",
            "Measure on what is trained on by --set data.evaluate_on=train, or give a folder with both splits",
        )
    return DetectionData(config.dataset, train, val)


def load_detection_splits(config: DetectDataConfig) -> tuple[DetectionSplit, ...]:
    """Load the splits of the same data set, one or two, without decoding images; raises the same."""
    splits = _parse_splits(config, check_headers)
    for split in splits:
        raise_if_refused(split.source, split.issues, strict=config.strict)
    return splits


def audit_detection_data(config: DetectDataConfig) -> tuple[DetectionSplit, ...]:
    """Read the same splits with all their issues; every image is decoded.

    Raises:
        InputError: Unknown or not on disk, or a file that is no COCO file.
        CorruptFileError: An annotation file is not JSON.
    """
    return _parse_splits(config, check_pixels)


def load_ground_truth(config: DetectDataConfig) -> DetectionSplit:
    """Load the split that is scored, from its annotations alone: no image needs to be there.

    Raises:
        InputError: Unknown, not on disk, or with an issue that has to be repaired.
        CorruptFileError: The annotations are not JSON.
    """
    train, val = _locate_splits(config)
    if config.evaluate_on == "train":
        split = parse_coco(train, "train").first(config.max_train_images)
    else:
        split = parse_coco(val, "val").first(config.max_val_images)
    raise_if_refused(split.source, split.issues, strict=config.strict)
    return split


def _parse_splits(
    config: DetectDataConfig, check: Callable[[DetectionSplit], tuple[Issue, ...]]
) -> tuple[DetectionSplit, ...]:
    """The training split and, where it has a file of its own, the validation split."""
    train_files, val_files = _locate_splits(config)
    train = parse_coco(train_files, "train").first(config.max_train_images)
    splits = [_select_training(train, config.max_boxes)]
    if val_files != train_files:
        val = parse_coco(val_files, "val").first(config.max_val_images)
        if val.categories != train.categories:
            differ = Issue("categories of the splits differ", 1, f"its categories are not those of {train.source}")
            val = replace(val, issues=(*val.issues, differ))
        splits.append(val)
    return tuple(replace(split, issues=split.issues + check(split)) for split in splits)


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
    if selected.boxes == 0:
        where = f"there is no box to learn from in {len(selected.images)} training images"
        issues.append(Issue("no box to learn from", 1, where))
    return replace(selected, issues=tuple(issues))


def _locate_splits(config: DetectDataConfig) -> tuple[SplitFiles, SplitFiles]:
    """The files of the training and of the validation split."""
    name, colon, location = config.dataset.partition(":")
    known = next((known for known in FOLDERS if known.partition(":")[:2] == (name, colon)), None)
    if known is None or (colon and not location):
        raise InputError(
            f"data set {config.dataset!r}: not one for detection", suggestion(config.dataset, DETECTION_DATASETS)
        )
    path = FOLDERS[known](Path(config.data_dir), location)
    if path.is_file():
        beside = (path.parent, path.parent / "images", path.parent / path.stem, path.parent.parent / path.stem)
        return SplitFiles(path, beside), SplitFiles(path, beside)
    train, val = _locate_split(path, ("train",)), _locate_split(path, ("val", "valid"))
    if train is not None and val is not None:
        return train, val
    raise InputError(
        f"COCO-format data {path}: " + ("no such folder" if not path.is_dir() else "no annotations of both splits"),
        f"Put instances_train2017.json and instances_val2017.json in {path / 'annotations'}, and their images in "
        f"{path / 'train2017'} and {path / 'val2017'}; or give --data-dir DIR, or --dataset coco:PATH",
    )


def _locate_split(path: Path, words: tuple[str, ...]) -> SplitFiles | None:
    files = [file for word in words for file in sorted((path / "annotations").glob(f"instances_{word}*.json"))]
    if len(files) > 1:
        raise InputError(
            f"{path / 'annotations'} holds {' and '.join(file.name for file in files)}",
            "Keep one file per split there, or give one JSON file by --dataset coco:FILE",
        )
    if files:
        split = files[0].stem.removeprefix("instances_")
        return SplitFiles(files[0], (path / split, path / "images" / split, path / "images", path))
    beside = (path / word / "_annotations.coco.json" for word in words)
    return next((SplitFiles(file, (file.parent,)) for file in beside if file.is_file()), None)
