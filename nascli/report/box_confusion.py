"""A picture of the confusion between classes: how often boxes of one class were found as another, or not at all."""

from pathlib import Path

import numpy as np

from nascli.detect.confusion import CONFUSION_FILE, BoxConfusion
from nascli.files import read_json, write_bytes
from nascli.report.confusion_matrix import matrix_picture
from nascli.report.figures import Picture

MOST_CLASSES = 20
"""Classes that one picture shows; of more, those most often taken for another."""


def write_confusion_picture(folder: Path) -> Path:
    """Draw the `confusion.json` of a folder as `confusion.png` beside it.

    Raises:
        InputError: There is none.
        CorruptFileError: It is damaged.
    """
    picture = plot_confusion(BoxConfusion.from_dict(read_json(folder / CONFUSION_FILE)))
    path = folder / f"{picture.name}.png"
    write_bytes(path, picture.png)
    return path


def plot_confusion(confusion: BoxConfusion) -> Picture:
    """Rows are true classes, columns found ones, background last."""
    chosen = confusion.most_confused(MOST_CLASSES)
    places = [*chosen, len(confusion.names)]
    names = [*(confusion.names[k] for k in chosen), "background"]
    met = len(confusion.most_confused(len(confusion.names)))
    shown = "all classes" if len(chosen) == met else f"{len(chosen)} classes of {met}, those most often mistaken"
    return matrix_picture(
        confusion.counts[np.ix_(places, places)],
        confusion.counts[places].sum(axis=1),
        names,
        (f"boxes with a score of at least {confusion.score_thresh:g}", shown),
        ("found as", "boxes"),
        "Boxes of each true class (row) by the class they were found as (column).",
    )
