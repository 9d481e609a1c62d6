"""Detection data sets by name."""

from pathlib import Path

from nascli.config import DetectDataConfig, suggestion
from nascli.data.annotated import DetectionData
from nascli.data.coco import load_coco
from nascli.data.scenes import write_scenes
from nascli.errors import InputError


def load_detection_data(config: DetectDataConfig) -> DetectionData:
    """The data set that `config.dataset` names; `digit-scenes` is written first where it is not there.

    Raises:
        InputError: Unknown, not on disk (the message says where to put it), or at fault.
        CorruptFileError: A file is damaged.
    """
    data = load_coco(_folder(config), config.dataset, train_images=config.train_images, val_images=config.val_images)
    if data.val.source == data.train.source and config.evaluate_on == "val":
        raise InputError(
            f"{data.train.source} is one split, so there is nothing to validate on",
            "Measure on what is trained on by --set data.evaluate_on=train, or give a folder with both splits",
        )
    return data


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
