"""Data sets of classes and of boxes, told apart by what lies at a path."""

import os
from pathlib import Path

from nascli.content import describe_content
from nascli.data.detection.recognize import TITLES, explain_unread_boxes, recognize_format
from nascli.data.folders.split_names import find_role
from nascli.data.folders.table import TABLE_ENDINGS
from nascli.data.images.walk import ImageWalk, refuse_archive
from nascli.errors import InputError
from nascli.text import quote_command

_NO_CLASSES = {"images", "labels", "annotations", "jpegimages", "img", "ann", "image_2", "label_2", "labeltxt"}
"""Folders, in small letters, that hold images or boxes of all classes."""


def recognize_dataset(path: Path) -> str:
    """The name by which `--dataset` takes the data set of classes at a path that exists, as in `folder:photos`.

    Raises:
        InputError: It holds boxes, or is a file of another kind; the message says which and what to do.
    """
    if has_class_folders(path):
        return f"folder:{path}"
    if boxes := recognize_boxes(path):
        raise boxes
    if os.path.isdir(path):
        if error := explain_unread_boxes(path):
            raise error.reword(error.message, f"{error.hint}; its folders as classes are folder:{path}")
        return f"folder:{path}"
    refuse_archive(path)
    if error := explain_unread_boxes(path):
        raise error
    ending = path.suffix.lower()
    if ending in TABLE_ENDINGS:
        return f"csv:{path}"
    if ending in (".h5", ".hdf5"):
        return f"pack:{path}"
    kind = describe_content(path)
    raise InputError(f"data set {path}: it is {kind}", "Give a folder of images, a table of labels, or a pack")


def recognize_boxes(path: Path) -> InputError | None:
    """The error, to be raised, that says which command takes the boxes at a path; None where there are none."""
    found = recognize_format(path)
    if found is None:
        return None
    command = quote_command(["nascli", "detect", "train", "--dataset", f"{found}:{path}"])
    return InputError(f"data set {path} holds boxes of objects: it looks like {TITLES[found]}", f"{command} takes it")


def has_class_folders(path: Path) -> bool:
    """Whether a path plainly is a folder of classes: at least two of them in a split."""
    walk = ImageWalk(path)
    for split in walk.look_into(path).folders if os.path.isdir(path) else ():
        if find_role(split.name):
            names = {each.name.lower() for each in walk.look_into(split).folders}
            if len(names) > 1 and not names & _NO_CLASSES:
                return True
    return False
