"""The plot of a confusion matrix shows every name and every count, from 2 classes to 100."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from nascli.report.confusion_plot import MAX_CLASSES, Counts, plot_confusion
from nascli.report.figures import RenderedFigure


def made(classes: int, images: int = 50) -> Counts:
    """Mostly right, with some confusions."""
    random = np.random.default_rng(0)
    others = random.integers(0, classes, (classes, images))
    answers = np.where(random.random((classes, images)) < 0.8, np.arange(classes)[:, None], others)
    return np.stack([np.bincount(row, minlength=classes) for row in answers])


def words(figure: RenderedFigure) -> list[str]:
    return re.findall(r">([^<>]+)</text>", figure.svg)


@pytest.mark.parametrize("classes", [2, 10, MAX_CLASSES])
def test_every_class_is_named_on_both_axes(classes: int) -> None:
    names = [f"class {k}" for k in range(classes)]
    figure = plot_confusion(made(classes), names, "nasnet-a on digits")
    said = words(figure)
    assert all(said.count(name) == 2 for name in names)
    assert {"predicted", "true class", "nasnet-a on digits"} <= set(said)
    width, height = Image.open(io.BytesIO(figure.png)).size
    assert 400 < min(width, height) <= max(width, height) < 3000
    assert min(width, height) > 18 * classes  # a row has room for its name


def test_counts_are_written_where_they_fit() -> None:
    counts = np.array([[11, 2], [0, 13]])
    said = words(plot_confusion(counts, ("cat", "cow"), "digits"))
    assert {"11", "2", "13", "24 of 26 images correct"} <= set(said)
    assert said.count("0") == 0
    assert not {str(count) for count in made(MAX_CLASSES).ravel() if count > 30} & set(
        words(plot_confusion(made(MAX_CLASSES), [f"n{k}" for k in range(MAX_CLASSES)], "digits"))
    )


def test_awkward_names_and_a_class_without_images() -> None:
    names = ("$x^", "猫", "a\nlong name that would never end by itself")
    figure = plot_confusion(np.array([[4, 0, 0], [0, 0, 0], [1, 1, 2]]), names, r"cells_$\frac$")
    said = words(figure)
    assert {"$x^", r"cells_$\frac$", "a long name that would …"} <= set(said)
    assert {"猫", r"\u732b"} & set(said), "a letter that no font here has is spelled out"
