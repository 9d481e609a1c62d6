"""Pascal VOC: an XML file per image, in `Annotations/` with `JPEGImages/` and `ImageSets/Main/`, or beside the image.

VOC counts pixels from 1 and both corners are inside the box: pixels 1 to 10 are a box of 10 pixels at 0. A file whose
boxes begin at 0 does not count so; its corners are taken as edges.
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from nascli.data.detection.formats.raw import (
    CocoLists,
    ListsBuilder,
    RawSplit,
    descend,
    list_files,
    list_images,
    name_below,
    require_path,
    to_size,
)
from nascli.data.folders.split_names import find_role
from nascli.data.issues import Issue, IssueLog
from nascli.errors import InputError
from nascli.reading import MAX_TEXT, open_file, read_file
from nascli.text_files import read_text
from nascli.units import shorten

_XML_FOLDERS = ("Annotations", "annotations", "Annotation", "annotation", "xmls", "xml", "labels")
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "image", "imgs")
_ROOT = re.compile(rb"<(?:\w+:)?annotation[\s>/]", re.IGNORECASE)
"""The element of a file; that of CVAT is called annotations."""
_ENCODING = re.compile(rb"""\s*<\?xml[^>]*\bencoding=["']([\w.-]+)["']""")
_EXPATS_OWN = ("utf-8", "utf-16", "iso-8859-1", "us-ascii")
_DEEPEST = 200
"""Elements inside each other; annotations have some five."""
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_HINT = (
    "Give voc:PATH of a folder with Annotations/ and JPEGImages/, or of one with train/ and valid/, XML beside images"
)


class _Object(NamedTuple):
    """A box as its XML says: corners x1, y1, x2, y2."""

    place: str
    name: str
    corners: tuple[float, ...]
    difficult: bool


class _Annotated(NamedTuple):
    """The content of an image's XML file."""

    file_name: str
    size: tuple[int, int] | None
    objects: tuple[_Object, ...]
    issues: tuple[Issue, ...]


def find_voc_splits(path: Path) -> dict[str, RawSplit]:
    """The splits of a Pascal VOC data set by the names they have in it: its image sets or folders, else one, train.

    Raises:
        InputError: There is no such folder, or no XML of VOC in it.
    """
    require_path(path, "Pascal VOC data", _HINT)
    if not os.path.isdir(path):
        raise InputError(f"Pascal VOC data {path}: a file, not the folder of the data set", _HINT)
    path = descend(descend(path, lambda each: each.name == "VOCdevkit" or _looks_like_voc(each)), _looks_like_voc)
    if xml := _find_xml_folder(path):
        splits = _list_image_sets(path, xml)
        folders = [*(path / name for name in _IMAGE_FOLDERS), xml, path]
    else:
        inside = [each for each in list_files(path, "*") if os.path.isdir(each) and find_role(each.name)]
        splits = {folder.name: (folder, list_files(folder, "**/*.xml")) for folder in inside}
        if not any(files for _, files in splits.values()):
            splits = {"train": (path, [file for file in list_files(path, "*.xml") if _is_annotation(file)])}
        folders = []
    splits = {name: (source, files) for name, (source, files) in splits.items() if files}
    if not splits:
        raise InputError(f"Pascal VOC data {path}: no XML files of images", _HINT)
    reader = _Reader([file for _, files in splits.values() for file in files])
    made = {}
    for name, (source, files) in splits.items():
        places = tuple(each for each in folders if os.path.isdir(each)) or (source,)
        made[name] = RawSplit(source, places, partial(reader.read_split, files, places))
    return made


def _find_xml_folder(path: Path) -> Path | None:
    return next(
        (path / name for name in _XML_FOLDERS if any(map(_is_annotation, list_files(path / name, "*.xml")))), None
    )


def _list_image_sets(path: Path, xml: Path) -> dict[str, tuple[Path, list[Path]]]:
    """The XML files of each split by `ImageSets/Main/train.txt` and so on; lists of a class (`cat_train`) are none."""
    lists = sorted((path / "ImageSets" / "Main").glob("*.txt"))
    sets = {file.stem: file for file in lists if "_" not in file.stem and find_role(file.stem)}
    if "train" in sets:
        sets.pop("trainval", None)
    if not sets:
        return {"train": (xml, list_files(xml, "**/*.xml"))}
    lines = {name: filter(str.strip, read_text(file).splitlines()) for name, file in sets.items()}
    return {name: (sets[name], [xml / f"{line.split()[0]}.xml" for line in inside]) for name, inside in lines.items()}


def _looks_like_voc(path: Path) -> bool:
    return any(map(_is_annotation, list_files(path, "*.xml", "*/*.xml")[:1]))


def _is_annotation(file: Path) -> bool:
    """Whether an XML file is VOC's, as far as its beginning tells."""
    with open_file(file) as opened:
        return bool(_ROOT.search(opened.read(1000).replace(b"\0", b"")))


class _Reader:
    """Reads XML files once for all splits, since the classes are those of all."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._parsed: dict[Path, _Annotated | None] = {}

    def read_split(self, files: Sequence[Path], folders: Sequence[Path], log: IssueLog) -> CocoLists:
        """The three lists of the images of these files."""
        for file in self._files:
            if file not in self._parsed:
                self._parsed[file] = _read_annotation(file)
        names = sorted({thing.name for each in self._parsed.values() if each for thing in each.objects})
        categories = {name: number for number, name in enumerate(names, 1)}
        builder = ListsBuilder(names)
        images = _ImageNames(folders, log)
        annotated = {file: each for file in files if (each := self._parsed[file])}
        for file in files:
            if file not in annotated:
                log.add("image without an XML file", f"{file.stem}: there is no {file}")
        for each in annotated.values():
            for issue in each.issues:
                log.join(issue)
        boxes = [thing.corners for each in annotated.values() for thing in each.objects]
        first = 0 if any(0 <= value < 1 for corners in boxes for value in corners[:2]) else 1
        for file, each in annotated.items():
            number = builder.add_image(images.find(file, each.file_name), each.size)
            for place, name, (x1, y1, x2, y2), difficult in each.objects:
                if min(x1, y1) < 1 and not first:
                    log.add("box counted from 0", f"{place}: {x1:g}, {y1:g} to {x2:g}, {y2:g}")
                if difficult:
                    log.add("object marked difficult", place)
                bbox = (x1 - first, y1 - first, x2 - x1 + first, y2 - y1 + first)
                builder.add_box(number, categories[name], bbox, place, crowd=difficult)
        stems = {file.stem for file in self._files}
        for image in sorted(image for image in images.list_unused() if image.stem not in stems):
            log.add("image without an XML file", str(image))
        return builder.lists


class _ImageNames:
    """The images in some folders by name and by stem."""

    def __init__(self, folders: Sequence[Path], log: IssueLog) -> None:
        self._folder, self._log = folders[0], log
        self._used: set[Path] = set()
        self._known: dict[str, list[Path]] = {}
        for folder in folders:
            if found := list_images(folder, log):
                self._folder = folder
                break
        for image in found:
            for name in {image.name, image.stem}:
                self._known.setdefault(name, []).append(image)

    def find(self, file: Path, file_name: str) -> str:
        """The image of an XML file, below the first folder: that of its own name comes before the one it names."""
        given = file_name.replace("\\", "/").rpartition("/")[2]
        image = self._choose(file.stem, file.parent)
        if image and given and Path(given).stem != file.stem and given != file.stem:
            self._log.add("XML file of another image's name", f"{file} names {given}")
        image = image or self._choose(given, file.parent) or self._choose(Path(given).stem, file.parent)
        if image is None:
            return given or f"{file.stem}.jpg"
        self._used.add(image)
        return name_below(image, [self._folder])

    def list_unused(self) -> set[Path]:
        """The images that were not asked for."""
        return {image for found in self._known.values() for image in found} - self._used

    def _choose(self, name: str, folder: Path) -> Path | None:
        found = self._known.get(name, [])
        return next((image for image in found if image.parent == folder), found[0] if found else None)


def _read_annotation(file: Path) -> _Annotated | None:
    """The content of an XML file; None where there is no such file."""
    log = IssueLog()
    try:
        root = parse_xml(read_file(file, MAX_TEXT))
        if root.tag != "annotation":
            raise ValueError(f"it is <{root.tag}>, not <annotation>")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, expat.ExpatError) as error:
        log.add("XML file cannot be read", f"{file}: {error}")
        return _Annotated("", None, (), log.issues)
    size = to_size(_number(root.findtext("size/width")), _number(root.findtext("size/height")))
    objects = tuple(_read_objects(root, file, log))
    return _Annotated((root.findtext("filename") or "").strip(), size, objects, log.issues)


def _read_objects(root: Element, file: Path, log: IssueLog) -> Iterator[_Object]:
    for number, element in enumerate(root.iter("object"), 1):
        place = f"{file} object {number}"
        name = " ".join((element.findtext("name") or "").split())
        corners = [_number(element.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
        points = [(each.tag[0], _number(each.text)) for each in element.iterfind("polygon//*") if each.tag[0] in "xy"]
        if any(map(math.isnan, corners)) and points:
            xs, ys = ([value for axis, value in points if axis == wanted] for wanted in "xy")
            corners = [pick(each, default=math.nan) for pick in (min, max) for each in (xs, ys)]
            log.add("outline in place of a box", f"{place}: {len(points) // 2} points")
        if not name or any(map(math.isnan, corners)):
            log.add("object without name or box", f"{place}: {name or 'no name'}, {shorten(repr(corners))}")
        else:
            difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true", "yes")
            yield _Object(place, name, tuple(corners), difficult)


def _number(text: str | None) -> float:
    """The number in a text; NaN where it is none."""
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def parse_xml(content: bytes) -> Element:
    """The root of an XML document, its tags without namespaces, in small letters.

    Raises:
        ExpatError: It is not well formed.
        ValueError: It declares entities or attributes, which could grow without bounds, or is nested without an end.
    """
    builder = TreeBuilder()
    named = _ENCODING.match(content)
    encoding = named[1].decode().lower() if named else "utf-8"
    if encoding not in _EXPATS_OWN:
        try:
            content, encoding = content.decode(encoding).encode(), "utf-8"
        except LookupError as error:
            raise ValueError(str(error)) from error
    parser = expat.ParserCreate(encoding if named else None, namespace_separator=" ")

    depth = 0

    def refuse(*_: object) -> None:
        raise ValueError("it declares entities or attributes, which annotations have no need of")

    def start(tag: str, _: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} elements inside each other")
        builder.start(tag.rpartition(" ")[2].lower(), {})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag.rpartition(" ")[2].lower())

    parser.EntityDeclHandler = parser.AttlistDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.Parse(content, True)
    return builder.close()
