"""Data sets written anew: as COCO's files or class folders, in their own splits or in new ones.

Images are hard links to the ones that are there, or copies where a file system has no links. What was written is read
back and compared.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from nascli.data.audit.duplicates import Place
from nascli.data.audit.inventory import Inventory, LabeledImage, take_inventory
from nascli.data.detection.dataset import Category
from nascli.data.folders.index import WHOLE
from nascli.data.images.decoding import explain
from nascli.data.images.walk import is_service_name
from nascli.data.issues import raise_if_refused
from nascli.data.pack.format import PackedImage
from nascli.errors import InputError, NascliError
from nascli.files import make_whole_folder, write_json
from nascli.reading import open_file

Plan = Mapping[str, Sequence[Place]]
"""The images of each split that is written."""

_PART = 1 << 20
"""Bytes that are copied at a time."""
_NO_FILE_NAME = str.maketrans({"/": "_", "\\": "_", "\0": "_"})


def keep_splits(inventory: Inventory) -> Plan:
    """The splits as they are."""
    return {split.name: [(s, k) for k in range(len(split.images))] for s, split in enumerate(inventory.splits)}


def require_usable(inventory: Inventory, *, strict: bool = False) -> None:
    """Refuse a data set with an issue that has to be repaired first; raises what `raise_if_refused` does."""
    for split in inventory.splits:
        raise_if_refused(split.source, split.check_headers(), strict=strict, lister="nascli data check")


def write_dataset(inventory: Inventory, plan: Plan, out: Path, *, copy: bool = False) -> Inventory:
    """Write a data set into a folder and read it back; boxes as COCO's, classes as folders.

    Args:
        out: Empty or not there.
        copy: Copy images instead of linking them.

    Returns:
        What was written, as it is read.

    Raises:
        InputError: Two classes would be one folder.
        NascliError: It cannot be written, or is not what was meant.
    """
    with make_whole_folder(out) as place:
        for name, places in plan.items():
            images = [inventory.splits[s].images[k] for s, k in places]
            split = name.translate(_NO_FILE_NAME)
            if inventory.task == "detect":
                _write_coco(inventory, images, place, split, copy=copy)
            else:
                _write_folders(inventory, images, place if split == WHOLE else place / split, copy=copy)
    written = take_inventory(f"{'coco' if inventory.task == 'detect' else 'folder'}:{out}", str(out))
    if (expected := _count(inventory, plan)) != (found := _count(written, keep_splits(written))):
        name = next(name for name in {**expected, **found} if expected.get(name) != found.get(name))
        raise NascliError(f"{out}: the split {name!r} was written, and reads otherwise", "Compare it with the data")
    return written


def _count(inventory: Inventory, plan: Plan) -> dict[str, Counter[str]]:
    """Images, and boxes or images of each class, of each split that has images."""
    counts = {}
    for name, places in plan.items():
        images = [inventory.splits[s].images[k] for s, k in places]
        counts[name] = Counter(word.translate(_NO_FILE_NAME) for image in images for word in image.classes)
        counts[name]["/"] = len(images)
    return {name: count for name, count in counts.items() if count["/"]}


def _write_coco(inventory: Inventory, images: Sequence[LabeledImage], out: Path, split: str, *, copy: bool) -> None:
    """`annotations/instances_<split>.json` with the images in `<split>/`."""
    categories = _list_categories(inventory)
    ids = [image.annotated.id for image in images if image.annotated]
    numbers = ids if len({*ids}) == len(ids) else range(1, len(ids) + 1)
    (out / split).mkdir(parents=True, exist_ok=True)
    (out / "annotations").mkdir(exist_ok=True)
    names: set[str] = set()
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in zip(numbers, images, strict=True):
        known = image.annotated
        assert known is not None
        name = _place_file(image, out / split, names, copy=copy)
        entries.append({"id": number, "file_name": name, "width": known.width, "height": known.height})
        rows = zip(known.boxes.tolist(), known.labels.tolist(), known.areas.tolist(), known.crowd.tolist(), strict=True)
        for box, label, area, crowd in rows:
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": categories[label - 1].id}
            annotations.append({**entry, "bbox": box, "area": area, "iscrowd": int(crowd)})
    listed = [{"id": each.id, "name": each.name} for each in categories]
    content = {"images": entries, "annotations": annotations, "categories": listed}
    write_json(out / "annotations" / f"instances_{split}.json", content)


def _list_categories(inventory: Inventory) -> Sequence[Category]:
    """The classes with the ids of the first split that has them all in order."""
    names = list(inventory.class_names)
    found = (split.boxes.categories for split in inventory.splits if split.boxes and split.boxes.class_names == names)
    return next(found, [Category(number, name) for number, name in enumerate(names, 1)])


def _write_folders(inventory: Inventory, images: Sequence[LabeledImage], place: Path, *, copy: bool) -> None:
    """`<class>/` with the images of each class."""
    folders = {name: name.translate(_NO_FILE_NAME) for name in inventory.class_names}
    once = Counter(folders.values())
    if wrong := [name for name, folder in folders.items() if once[folder] > 1 or is_service_name(folder)]:
        raise InputError(
            f"{inventory.dataset}: the class {wrong[0]!r} cannot be a folder",
            "Rename it: a folder's name holds no / and does not begin with a dot",
        )
    names: dict[str, set[str]] = {}
    for image in images:
        folder = folders[image.classes[0]]
        (place / folder).mkdir(parents=True, exist_ok=True)
        _place_file(image, place / folder, names.setdefault(folder, set()), copy=copy)


def _place_file(image: LabeledImage, folder: Path, names: set[str], *, copy: bool) -> str:
    """Link or copy an image into a folder; its name, with a number where another there has it, in any case."""
    own = Path(image.source.path if isinstance(image.source, PackedImage) else str(image.source)).name
    own = own if own not in ("", "..") else "image"
    name, number = own, 2
    while name.casefold() in names:
        name, number = f"{Path(own).stem}-{number}{Path(own).suffix}", number + 1
    names.add(name.casefold())
    target = folder / name
    if not isinstance(image.source, Path):
        with image.source.open("rb") as source:
            target.write_bytes(source.read())
        return name
    try:
        file = open_file(image.source)
    except OSError as error:
        raise explain(image.source, error) from error
    with file:
        if not copy:
            try:
                os.link(image.source.resolve(), target)
                return name
            except OSError:  # another file system, or one without links
                pass
        with target.open("wb") as copied:
            for part in _read_parts(image.source, file):
                copied.write(part)
    return name


def _read_parts(source: Path, file: BinaryIO) -> Iterator[bytes]:
    try:
        while part := file.read(_PART):
            yield part
    except OSError as error:
        raise explain(source, error) from error
