"""Detection data sets by name."""

from collections.abc import Callable
from pathlib import Path

from nascli.config import DETECTION_DATASETS, DetectDataConfig, suggestion
from nascli.data.detection.coco import load_splits, locate_splits, parse_coco, parse_splits
from nascli.data.detection.dataset import DetectionData, DetectionSplit
from nascli.data.detection.image_check import check_pixels
from nascli.data.detection.issues import raise_if_refused
from nascli.data.toy import write_scenes
from nascli.errors import InputError

FOLDERS: dict[str, Callable[[Path, str], Path]] = {
    "digit-scenes": lambda data_dir, _: write_scenes(data_dir / "digit-scenes"),
    "coco": lambda data_dir, _: data_dir if (data_dir / "annotations").is_dir() else data_dir / "coco",
    "coco:PATH": lambda _, path: Path(path),
}
"""The folder of each of `nascli.config.DETECTION_DATASETS`, from `data_dir` and what follows the colon of the name."""


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
    """Load the splits of the same data set, one or two; raises the same."""
    return load_splits(_find_folder(config), config)


def audit_detection_data(config: DetectDataConfig) -> tuple[DetectionSplit, ...]:
    """Read the same splits with all their issues; every image is decoded.

    Raises:
        InputError: Unknown or not on disk, or a file that is no COCO file.
        CorruptFileError: An annotation file is not JSON.
    """
    return parse_splits(_find_folder(config), config, check_pixels)


def load_ground_truth(config: DetectDataConfig) -> DetectionSplit:
    """Load the split that is scored, from its annotations alone: no image needs to be there.

    Raises:
        InputError: Unknown, not on disk, or with an issue that has to be repaired.
        CorruptFileError: The annotations are not JSON.
    """
    train, val = locate_splits(_find_folder(config))
    if config.evaluate_on == "train":
        split = parse_coco(train, "train").first(config.max_train_images)
    else:
        split = parse_coco(val, "val").first(config.max_val_images)
    raise_if_refused(split.source, split.issues)
    return split


def _find_folder(config: DetectDataConfig) -> Path:
    name, colon, path = config.dataset.partition(":")
    form = next((form for form in FOLDERS if form.partition(":")[:2] == (name, colon)), None)
    if form is None or (colon and not path):
        raise InputError(
            f"data set {config.dataset!r}: not one for detection", suggestion(config.dataset, DETECTION_DATASETS)
        )
    return FOLDERS[form](Path(config.data_dir), path)
