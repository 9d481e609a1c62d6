"""YOLO: a text file of labels per image, `class x y width height` in fractions of the image, around the center.

The data set is described by `data.yaml` (classes, folders or lists of images per split), by darknet's `obj.data`, or by
its folders alone with `classes.txt`. The labels of `images/a.jpg` are `labels/a.txt`, or `a.txt` beside it.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from nascli.data.detection.formats.raw import (
    CocoLists,
    ListsBuilder,
    RawSplit,
    descend,
    find_below,
    list_files,
    list_images,
    measure_image,
    name_below,
    require_path,
)
from nascli.data.detection.formats.yolo_labels import LabelReader, check_corners
from nascli.data.images.walk import ImageWalk
from nascli.data.issues import IssueLog
from nascli.errors import InputError
from nascli.reading import MAX_TEXT, read_file
from nascli.text_files import read_text
from nascli.units import shorten

SPLIT_KEYS = ("train", "val", "valid", "validation", "test")
_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names", "labels/classes.txt")
_NAME_PATTERNS = ("*/classes.txt", "labels/*/classes.txt", "*/labels/classes.txt")
_DESCRIBED = re.compile(rb"^(?:names|nc|train|val|valid) *[:=]", re.MULTILINE)
_LABEL_FOLDERS = {"images": "labels", "Images": "Labels", "IMAGES": "LABELS", "JPEGImages": "labels"}
_LOOKED_AT = 1000
"""Images of a folder whose labels are looked for to tell whether it is YOLO's."""
_LARGEST = 1 << 20
"""Bytes of a description; tens of thousands of names have fewer."""
_MOST_CLASSES = 100_000
"""Classes that a data set may have; a number beyond is a slip, and a list of so many names would fill the memory."""
_HINT = "Give yolo:PATH of a data.yaml with names, train and val, or of a folder with images/ and labels/"


@dataclass(frozen=True)
class _Description:
    """The description of a data set: its file or folder, images per split, the number of classes where it is given.

    Args:
        read_names: Reads the names by class number; None where there are none. What is wrong with them is said when a
            split is read: it is YOLO all the same.
        keypoints: Numbers of keypoints in each label.
    """

    source: Path
    read_names: Callable[[], Mapping[int, str] | None]
    images: Mapping[str, tuple[str, ...]]
    roots: tuple[Path, ...]
    count: int | None = None
    keypoints: int = 0


class _Loader(yaml.BaseLoader):
    """Makes text of everything (no, 1.0, 2024), and refuses aliases of lists: a few lines of them have no bounds."""

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - PyYAML's own
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias and not isinstance(node, yaml.ScalarNode):
            raise yaml.composer.ComposerError(None, None, "an alias (*) of a list or mapping: write it out", mark)
        return node


def find_yolo_splits(path: Path) -> dict[str, RawSplit]:
    """The splits of a YOLO data set by the names they have in it; `path` is its folder or the file that describes it.

    Raises:
        InputError: There is no such file or folder, or it describes no YOLO data set.
    """
    require_path(path, "YOLO data", _HINT)
    described = _describe(path if os.path.isfile(path) else descend(path, looks_like_yolo))
    splits = {}
    for name, entries in described.images.items():
        sources = [found[0] for entry in entries if (found := _find_images(entry, described.roots))]
        if not sources and name == "test" and len(described.images) > 1:
            continue  # exports name a test split whether there is one or not
        folders = tuple(
            dict.fromkeys(each if os.path.isdir(each) else each.parent for each in (*sources, *described.roots))
        )
        source = sources[0] if len(sources) == 1 else described.source
        splits[name] = RawSplit(source, folders, partial(_read_split, described, name, folders))
    return splits


def looks_like_yolo(path: Path) -> bool:
    """Whether a file or folder is laid out as YOLO's."""
    if os.path.isfile(path):
        return path.suffix.lower() in (".yaml", ".yml") or path.name == "obj.data"
    return bool(_find_description(path)) or any(_folder_splits(path))


def _describe(path: Path) -> _Description:
    file = path if os.path.isfile(path) else _find_description(path)
    if file is None:
        images = {name: (str(folder.relative_to(path)),) for name, folder in _folder_splits(path)}
        if not images:
            raise InputError(f"YOLO data {path}: no data.yaml and no label files beside its images", _HINT)
        return _Description(path, partial(_read_names_below, path), images, (path,))
    if file.suffix.lower() in (".yaml", ".yml"):
        return _read_yaml(file)
    if file.suffix.lower() == ".data":
        return _read_darknet(file)
    raise InputError(f"YOLO data {file}: neither a folder nor a .yaml or .data file", _HINT)


def _find_description(folder: Path) -> Path | None:
    if not os.path.isdir(folder):
        return None
    usual = [folder / name for name in ("data.yaml", "data.yml", "dataset.yaml", "obj.data")]
    others = filter(_names_splits, list_files(folder, "*.yaml", "*.yml", "*.data"))
    return next((each for each in (*usual, *others) if os.path.isfile(each)), None)


def _names_splits(file: Path) -> bool:
    """Whether a file describes data; others beside them hold a training's arguments, for instance."""
    return os.path.isfile(file) and bool(_DESCRIBED.search(read_file(file, MAX_TEXT)))


def _folder_splits(folder: Path) -> Iterator[tuple[str, Path]]:
    """Folders of images with labels: `images/train`, `train/images`, `train`; else one for all, called train."""
    found = False
    for name in SPLIT_KEYS:
        for place in (folder / "images" / name, folder / name / "images", folder / name):
            if os.path.isdir(place) and _has_labels(place):
                found = True
                yield name, place
                break
    place = folder / "images"
    if not found and (_has_labels(place) if os.path.isdir(place) else _has_labels(folder, deep=False)):
        yield "train", place if os.path.isdir(place) else folder


def _has_labels(folder: Path, *, deep: bool = True) -> bool:
    images = list_images(folder) if deep else ImageWalk(folder).look_into(folder).images
    return any(map(_label_file, images[:_LOOKED_AT]))


def _read_yaml(file: Path) -> _Description:
    try:
        values = yaml.load(read_text(file, _LARGEST), _Loader)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{file} is not YAML: {' '.join(str(error).split())}", _HINT, file=file) from error
    if not isinstance(values, dict) or not {"names", "nc", *SPLIT_KEYS} & {*values}:
        raise InputError(f"{file}: YAML, but no YOLO data set (neither names nor train)", _HINT)
    images = {key: tuple(_texts(values[key])) for key in SPLIT_KEYS if values.get(key)}
    if not images:
        images = {name: (str(folder.relative_to(file.parent)),) for name, folder in _folder_splits(file.parent)}
    if not images:
        raise InputError(f"{file}: none of {', '.join(SPLIT_KEYS)} says where images are", _HINT)
    roots = [file.parent]
    if isinstance(values.get("path"), str) and (found := find_below(values["path"], roots)):
        roots.insert(0, found[0])
    count = values.get("nc", "")
    return _Description(
        file,
        partial(_read_names, values.get("names"), file),
        images,
        tuple(dict.fromkeys(roots)),
        _read_count(count),
        _count_keypoints(values.get("kpt_shape"), file),
    )


def _read_count(text: object) -> int | None:
    """The whole number that a text is, else None; of one far too large the first digits."""
    return int(text[:18]) if isinstance(text, str) and text.isdecimal() else None


def _count_keypoints(shape: Any, file: Path) -> int:  # noqa: ANN401 - any YAML
    """The numbers that keypoints add to each label; `kpt_shape` is their count, and that of the numbers of each."""
    if shape is None:
        return 0
    if isinstance(shape, list) and len(shape) == 2:
        counts = [_read_count(each) for each in shape]
        if counts[0] is not None and counts[1] is not None:
            return counts[0] * counts[1]
    raise InputError(
        f"{file}: kpt_shape is {shorten(repr(shape))}, not two numbers",
        "Write how many keypoints a label has, and how many numbers each of them, as in [17, 3]",
        file=file,
        field="kpt_shape",
    )


def _read_names(names: Any, file: Path) -> Mapping[int, str] | None:  # noqa: ANN401 - any YAML
    if names in (None, "", [], {}):
        return _read_names_below(file.parent)
    if isinstance(names, str) and (found := find_below(names, [file.parent])):
        return _read_lines(found[0])
    if isinstance(names, list) and all(isinstance(each, str) for each in names):
        return dict(enumerate(names))
    numbers = [_read_count(key) for key in names] if isinstance(names, dict) else [None]
    if None not in numbers and all(isinstance(name, str) for name in names.values()):
        return dict(sorted(zip(map(int, names), names.values(), strict=True)))
    raise InputError(
        f"{file}: names is {shorten(repr(names))}, neither a list of names nor names by number",
        "Write names: [first, second], or a line per class below names:, as in 0: first",
        file=file,
        field="names",
    )


def _read_darknet(file: Path) -> _Description:
    """darknet's `key = value` lines: classes, train, valid, names; its paths begin where darknet was started."""
    pairs = (line.partition("=")[::2] for line in read_text(file).splitlines() if "=" in line)
    values = {key.strip(): value.strip() for key, value in pairs}
    roots = (file.parent, file.parent.parent)
    images = {key: (values[key],) for key in SPLIT_KEYS if values.get(key)}
    if not images:
        raise InputError(f"{file}: no YOLO data set (neither train nor valid says where images are)", _HINT)
    names = find_below(values.get("names", ""), roots)
    read_names = partial(_read_lines, names[0]) if names else partial(_read_names_below, file.parent)
    return _Description(file, read_names, images, roots)


def _read_names_below(folder: Path) -> Mapping[int, str] | None:
    usual = [folder / name for name in _NAME_FILES if os.path.isfile(folder / name)]
    return next(map(_read_lines, usual or list_files(folder, *_NAME_PATTERNS)), None)


def _read_lines(file: Path) -> Mapping[int, str]:
    return dict(enumerate(line.strip() for line in read_text(file).rstrip().splitlines()))


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - any YAML
    """The texts in a value that may be a list."""
    for each in value if isinstance(value, list) else [value]:
        yield each if isinstance(each, str) else repr(each)


def _find_images(entry: str, roots: Sequence[Path]) -> tuple[Path, bool] | None:
    """The folder, list or image of an entry; a folder by more than its last name, of which there may be several."""
    return find_below(entry, roots, fewest=1 if Path(entry).suffix else 2)


def _read_split(described: _Description, name: str, folders: Sequence[Path], log: IssueLog) -> CocoLists:
    names = described.read_names()
    classes = described.count if names is None else max((*names, -1)) + 1
    images = list(_list_split(described, name, log))
    labels = {image: file for image in images if (file := _label_file(image))}
    if images and not labels:
        raise InputError(
            f"{described.source}: none of the {len(images):,} images of {name} has a label file",
            f"That of {images[0]} is looked for as {_label_candidates(images[0])[0]}, or beside the image",
        )
    made = LabelReader(classes, log, described.keypoints)
    lines = {image: made.read(file) for image, file in labels.items()}
    check_corners([line for found in lines.values() for line in found], log)
    count = made.highest + 1 if classes is None else classes
    if count > _MOST_CLASSES:
        raise InputError(
            f"{described.source}: {count:,} classes, and at most {_MOST_CLASSES:,} are read",
            "Number them 0, 1, 2 and so on: nc, the numbers of names, or the labels have a number far beyond",
            file=described.source,
        )
    builder = ListsBuilder(_complete_names(described, names or {}, count, log))
    for image in images:
        size = measure_image(image)
        number = builder.add_image(name_below(image, folders), size)
        for place, label, box in lines.get(image, []):
            if size:
                x, y, width, height = box
                sides = (width * size[0], height * size[1])
                corner = (x * size[0] - sides[0] / 2, y * size[1] - sides[1] / 2)
                builder.add_box(number, label + 1, (*corner, *sides), place)
    for file in sorted(_label_files_beside(images) - {*labels.values()}):
        log.add("label file without image", str(file))
    return builder.lists


def _list_split(described: _Description, name: str, log: IssueLog) -> Iterator[Path]:
    """The images of a split, in order."""
    for entry in described.images[name]:
        found = _find_images(entry, described.roots)
        if found is None:
            raise InputError(
                f"{described.source}: {name} is {entry!r}, and there is no such folder or file",
                f"Looked in {' and '.join(map(str, described.roots))}",
            )
        place, exact = found
        if not exact:
            log.add("split at another place", f"{described.source}: {name} is {entry!r}, found as {place}")
        if os.path.isdir(place):
            yield from list_images(place, log)
        elif place.suffix.lower() == ".txt":
            for line in filter(str.strip, read_text(place).splitlines()):
                image = find_below(line, (place.parent, *described.roots))
                if image and not image[1]:
                    log.add("image at another place", f"{place}: {line.strip()!r}, found as {image[0]}")
                yield image[0] if image else place.parent / line.strip()
        else:
            yield place


def _label_candidates(image: Path) -> list[Path]:
    """The places of an image's labels: `labels/` for its last `images/`, beside it, in `labels/` beside it."""
    parts = image.parent.parts
    named = [k for k, part in enumerate(parts) if part in _LABEL_FOLDERS]
    usual = [Path(*parts[: named[-1]], _LABEL_FOLDERS[parts[named[-1]]], *parts[named[-1] + 1 :])] if named else []
    return [folder / f"{image.stem}.txt" for folder in (*usual, image.parent, image.parent / "labels")]


def _label_file(image: Path) -> Path | None:
    return next((file for file in _label_candidates(image) if os.path.isfile(file)), None)


def _label_files_beside(images: Sequence[Path]) -> set[Path]:
    """Files that could be labels in the folders where those of the images are looked for."""
    parents = {image.parent for image in images if os.path.isdir(image.parent)}  # a list may name others
    known = {image.stem for parent in parents for image in ImageWalk(parent).look_into(parent).images}
    folders = {
        file.parent for image in {image.parent: image for image in images}.values() for file in _label_candidates(image)
    }
    files = {file for folder in folders if os.path.isdir(folder) for file in list_files(folder, "*.txt")}
    others = {file for file in files if file.name in _NAME_FILES or file.name.startswith("README")}
    return {file for file in files - others if file.stem not in known}


def _complete_names(described: _Description, names: Mapping[int, str], count: int, log: IssueLog) -> list[str]:
    """A name for each of so many classes."""
    if names and described.count not in (None, count):
        log.add("nc is not the number of names", f"{described.source}: nc is {described.count}, with {count} names")
    for number in range(count):
        if number not in names:
            log.add("class without a name", f"{described.source}: class {number} is called {number}")
    return [names.get(number, str(number)) for number in range(count)]
