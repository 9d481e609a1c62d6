"""The check of a data set as one page: counts, issues, and images to look at. It loads nothing and runs nothing."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nascli.data.audit.checking import DataCheck
from nascli.data.audit.inventory import LabeledImage
from nascli.files import make_folder, write_text
from nascli.report.contact_sheet import choose_by_class, draw_example
from nascli.report.template import render_page
from nascli.text import printable
from nascli.units import count_of

PAGE = "data.html"
_SIDE = 320
"""Pixels of an image with boxes; one with a class alone has half of them."""
_CLASSES = 40
_PER_CLASS = 6
_GROUPS = 24
_PER_GROUP = 6
_BOXES = 24
"""The most of each kind that are shown."""


class _Shown(NamedTuple):
    """An image on the page: JPEG as text, and what stands below it."""

    data: str
    caption: str


class _Group(NamedTuple):
    title: str
    images: list[_Shown]


def write_data_page(checked: DataCheck, folder: Path) -> Path:
    """Write the page of a check into a folder; returns its file.

    Raises:
        NascliError: The folder cannot be written.
    """
    counts = {name: [each.classes[name] for each in checked.splits] for name in checked.inventory.class_names}
    page = render_page(
        "data_page.html.j2",
        checked=checked,
        inventory=checked.inventory,
        counts=dict(sorted(counts.items(), key=lambda item: -sum(item[1]))),
        most=max((sum(each) for each in counts.values()), default=1) or 1,
        examples=_show_classes(checked),
        duplicates=_show_duplicates(checked),
        odd=_show_odd_boxes(checked),
        shown={"classes": _CLASSES, "groups": _GROUPS, "boxes": _BOXES},
        printable=printable,
        count_of=count_of,
    )
    make_folder(folder)
    write_text(folder / PAGE, page)
    return folder / PAGE


def _show_classes(checked: DataCheck) -> list[_Group]:
    """Some images of each class of the first split; those with boxes, which may be of several classes, once."""
    split = checked.inventory.splits[0]
    chosen = dict(list(choose_by_class(split, _PER_CLASS).items())[:_CLASSES])
    if split.boxes is not None:
        distinct = {
            id(images[k]): images[k] for k in range(_PER_CLASS) for images in chosen.values() if k < len(images)
        }
        chosen = {"": list(distinct.values())[:_BOXES]}
    return [_Group(name, [_show(checked, image) for image in images]) for name, images in chosen.items()]


def _show_duplicates(checked: DataCheck) -> list[_Group]:
    shown = []
    for group in checked.duplicates[:_GROUPS]:
        splits = {checked.inventory.splits[s].name for s, _ in group.places}
        title = f"{'equal' if len({*group.files}) == 1 else 'nearly equal'}, in {' and '.join(sorted(splits))}"
        shown.append(_Group(title, [_show(checked, checked.image(place)) for place in group.places[:_PER_GROUP]]))
    return shown


def _show_odd_boxes(checked: DataCheck) -> list[_Group]:
    groups: dict[str, list[_Shown]] = {}
    for kind, place, box in checked.odd[:_BOXES]:
        groups.setdefault(kind, []).append(_show(checked, checked.image(place), [box]))
    return [_Group(kind, images) for kind, images in groups.items()]


def _show(checked: DataCheck, image: LabeledImage, only: Sequence[int] = ()) -> _Shown:
    side = _SIDE if image.annotated else _SIDE // 2
    drawn, content = draw_example(image, checked.inventory.class_names, side, only), io.BytesIO()
    drawn.save(content, "JPEG", quality=80)
    return _Shown(base64.b64encode(content.getvalue()).decode(), printable(str(image.source)))
