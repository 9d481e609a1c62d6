"""Annotations in formats that nascli does not read, told by their content, so that they can be named."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from xml.parsers import expat

from nascli.data.detection.formats.raw import list_files
from nascli.data.detection.formats.voc import parse_xml
from nascli.data.folders.split_names import find_role
from nascli.data.images.walk import is_folder, is_service_name, leads_above
from nascli.errors import CorruptFileError
from nascli.reading import MAX_TEXT, read_file
from nascli.text_files import read_text

EXPORT_HINT = "Export it as COCO, YOLO or Pascal VOC"

_BY_KEYS = {
    frozenset({"image_id", "category_id", "score"}): "a COCO results file",
    frozenset({"image_id", "category_id", "bbox"}): "annotations alone, without their images and categories",
    frozenset({"shapes", "imagePath"}): "a LabelMe file",
    frozenset({"_via_img_metadata"}): "a VIA project",
    frozenset({"regions", "filename"}): "a VIA export",
    frozenset({"asset", "regions"}): "a VoTT file",
    frozenset({"image", "annotations"}): "a CreateML file",
    frozenset({"data", "annotations"}): "a Label Studio export",
    frozenset({"image", "annotator"}): "a short Label Studio export (JSON-MIN)",
    frozenset({"objects", "size", "tags"}): "a Supervisely file",
    frozenset({"classes", "tags"}): "the description of a Supervisely project",
    frozenset({"filename", "ann"}): "a list of MMDetection's",
    frozenset({"metainfo", "data_list"}): "a list of MMDetection's",
    frozenset({"file_name", "annotations"}): "a list of Detectron2's",
    frozenset({"file_name", "objects"}): "metadata of Hugging Face's datasets with boxes",
    frozenset({"items", "categories"}): "a Datumaro file",
    frozenset({"classes", "labels"}): "a FiftyOne export",
    frozenset({"name", "labels"}): "a Scalabel file, as BDD100K has them",
    frozenset({"ID", "gtboxes"}): "a CrowdHuman file",
    frozenset({"source-ref"}): "a SageMaker manifest",
    frozenset({"data_row", "projects"}): "a Labelbox export",
    frozenset({"External ID", "Label"}): "a Labelbox export",
    frozenset({"boxes", "labels"}): "boxes per image, as torchvision has them",
}
"""JSON files by the keys of their object, of the first of their list, or of the first object in theirs."""

_BY_ROOT = {"annotations": "a CVAT file", "dataset": "a dlib file"}
"""XML files by their root."""

_NUMBER = r"-?\d+(?:\.\d+)?"
_BY_LINE = {
    rf"[A-Za-z]\w*(?: {_NUMBER}){{14,15}}": "KITTI labels",
    rf"(?:{_NUMBER} ){{8}}\S+ \d": "DOTA labels",
    r"\d+(?:,-?\d+){7},?": "VisDrone labels",
    rf"\d+,-?\d+(?:,{_NUMBER}){{5,8}}": "MOT tracks",
    r"#?filename,file_size,file_attributes,.*": "a VIA table",
    r"(?:TRAIN|VALIDATION|TEST|UNASSIGNED),gs://.*": "a table of AutoML",
    r"\S+\.\w{3,4}(?: \d+,\d+,\d+,\d+,\d+)+": "a list of Keras' YOLO",
}
"""Texts by their first line."""

_FOLDERS = {"ann", "annotations", "labels", "label_2", "labeltxt", "json", "jsons"}
"""Folders of annotations, in small letters."""
_FILES = ("*.json", "*.jsonl", "*.manifest", "*.odgt", "*.xml", "*.txt", "*.csv")
_LOOKED_INTO = 20
"""Folders that are looked into."""
_LOOKED_AT = 3
"""Files of a folder that are looked at."""


def describe_json(values: object) -> str | None:
    """The format of annotations in JSON values in words; None where it is not known."""
    first = values[0] if isinstance(values, list) and values else values
    if not isinstance(first, Mapping):
        return None
    inner = next(iter(first.values()), None)
    objects = [each for each in (first, inner) if isinstance(each, Mapping)]
    return next((name for each in objects for keys, name in _BY_KEYS.items() if keys <= each.keys()), None)


def describe_annotations(file: Path) -> str | None:
    """The format of a file with annotations in words; None where it is not known, or is none of these."""
    try:
        if file.suffix.lower() == ".xml":
            return _BY_ROOT.get(parse_xml(read_file(file, MAX_TEXT)).tag)
        text = read_text(file).strip()
    except (OSError, ValueError, CorruptFileError, expat.ExpatError):
        return None
    line = text.partition("\n")[0].strip()
    for whole in (text, line):  # of JSON Lines the first one
        with suppress(ValueError, RecursionError):
            return describe_json(json.loads(whole))
    return next((name for pattern, name in _BY_LINE.items() if re.fullmatch(pattern, line)), None)


def find_foreign(folder: Path) -> tuple[Path, str] | None:
    """The first file of a folder, or of a folder for annotations in it, whose format is known, and its name."""
    for place in _places(folder):
        for file in islice(list_files(place, *_FILES), _LOOKED_AT):
            if known := describe_annotations(file):
                return file, known
    return None


def _places(folder: Path) -> Iterator[Path]:
    """The folder, and folders of annotations or of a split, up to two levels below."""
    yield folder
    inside = list_folders(folder)
    for each in (*inside, *(deeper for outer in inside[:_LOOKED_INTO] for deeper in list_folders(outer))):
        if each.name.lower() in _FOLDERS or find_role(each.name):
            yield each


def list_folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without those of an operating system."""
    with os.scandir(folder) as found:
        inside = [Path(each.path) for each in found if is_folder(each) and not is_service_name(each.name)]
    return sorted(each for each in inside if not (each.is_symlink() and leads_above(each, folder)))
