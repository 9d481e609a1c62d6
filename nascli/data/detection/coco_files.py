"""The annotation files and image folders of COCO-format data, in the layouts that tools export."""

from functools import partial
from pathlib import Path

from nascli.data.detection.coco_json import read_coco_lists
from nascli.data.detection.raw import RawSplit
from nascli.errors import InputError


def find_coco_splits(path: Path) -> dict[str, RawSplit]:
    """The splits of a folder, or the one of a JSON file, by the name that the data give them.

    Raises:
        InputError: No such path, or no annotations in it.
    """
    if path.is_file():
        beside = (path.parent, path.parent / "images", path.parent / path.stem, path.parent.parent / path.stem)
        return {path.stem: RawSplit(path, beside, partial(read_coco_lists, path))}
    splits = {}
    for file in sorted((path / "annotations").glob("instances_*.json")):
        split = file.stem.removeprefix("instances_")
        folders = (path / split, path / "images" / split, path / "images", path)
        splits[split] = RawSplit(file, folders, partial(read_coco_lists, file))
    for file in sorted(path.glob("*/_annotations.coco.json")):
        splits[file.parent.name] = RawSplit(file, (file.parent,), partial(read_coco_lists, file))
    if not splits:
        raise InputError(
            f"COCO-format data {path}: " + ("no such folder" if not path.is_dir() else "no annotations of both splits"),
            f"Put instances_train2017.json and instances_val2017.json in {path / 'annotations'}, and their images in "
            f"{path / 'train2017'} and {path / 'val2017'}; or give --data-dir DIR, or --dataset coco:PATH",
        )
    return splits
