"""Detection data sets by name."""

from pathlib import Path

from nascli.config import DetectDataConfig, suggestion
from nascli.data.detection.coco import load_coco, load_splits, locate_splits, read_coco, survey_coco
from nascli.data.detection.dataset import DetectionData, DetectionSplit
from nascli.data.detection.image_check import check_pixels
from nascli.data.toy import write_scenes
from nascli.errors import InputError


def load_detection_data(config: DetectDataConfig) -> DetectionData:
    """The data set that `config.dataset` names; `digit-scenes` is written first where it is not there.

    Raises:
        InputError: Unknown, not on disk (the message says where to put it), or at fault.
        CorruptFileError: A file is damaged.
    """
    data = load_coco(_folder(config), config.dataset, **_limits(config))
    if data.val.source == data.train.source and config.evaluate_on == "val":
        raise InputError(
            f"{data.train.source} is one split, so there is nothing to validate on",
            "Measure on what is trained on by --set data.evaluate_on=train, or give a folder with both splits",
        )
    return data


def load_detection_splits(config: DetectDataConfig) -> tuple[DetectionSplit, ...]:
    """The splits of the same data set, one or two; what is raised is the same."""
    return load_splits(_folder(config), **_limits(config))


def survey_detection_data(config: DetectDataConfig) -> tuple[DetectionSplit, ...]:
    """The same splits with everything that is at fault in them; every picture is decoded.

    Raises:
        InputError: Unknown or not on disk, or a file that is no COCO file.
        CorruptFileError: An annotation file is not JSON.
    """
    return survey_coco(_folder(config), check_pixels, **_limits(config))


def load_truth(config: DetectDataConfig) -> DetectionSplit:
    """The split that is scored, from its annotations alone: no picture needs to be there.

    Raises:
        InputError: Unknown, not on disk, or at fault.
        CorruptFileError: The annotations are not JSON.
    """
    train, val = locate_splits(_folder(config))
    if config.evaluate_on == "train":
        return read_coco(*train, "train").first(config.max_train_images)
    return read_coco(*val, "val").first(config.max_val_images)


def _limits(config: DetectDataConfig) -> dict[str, int]:
    return config.model_dump(include={"max_train_images", "max_val_images", "max_boxes"})


def _folder(config: DetectDataConfig) -> Path:
    name, folder = config.dataset, Path(config.data_dir)
    if name == "digit-scenes":
        return write_scenes(folder / name)
    if name == "coco":  # --data-dir is the folder above coco/, or COCO's own folder
        return folder if (folder / "annotations").is_dir() else folder / "coco"
    if name.startswith("coco:") and name != "coco:":
        return Path(name.removeprefix("coco:"))
    raise InputError(
        f"data set {name!r}: not one for detection", suggestion(name, ("digit-scenes", "coco", "coco:PATH"))
    )
