"""Names in drawn images and in figures: every letter can be read, or is spelled out."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from nascli.detect.visualize import LabeledBox, draw_boxes
from nascli.fonts import fit_letters, usual_font
from nascli.report.confusion_plot import plot_confusion
from tests.cli.program import Nascli
from tests.front_door.made import write_coco

PAIRS = [
    ("Käfer", "Kéfer"),
    ("Ελλάδα", "Ελλάδο"),
    ("кот", "код"),
    ("שלום", "שלוש"),
    ("قطة", "قطط"),
    ("猫", "犬"),
    ("猫と犬", "猫と鳥"),
    ("🐱", "🐶"),
    ("a\nb", "a b"),
    ("\U0010fffd", "\U0010fffe"),
    ("$x^2$", "$x^3$"),
]


def draw(name: str, size: tuple[int, int] = (400, 400)) -> Image.Image:
    return draw_boxes(Image.new("RGB", size), [LabeledBox((50, 100, 250, 200), 1, 0.87)], [name])


def show(nascli: Nascli, folder: Path, names: Sequence[str]) -> list[bytes]:
    write_coco(folder, names=names)
    ran = nascli(f"detect show --dataset coco:{folder} --out {folder}-drawn")
    assert ran.code == 0, ran.err
    return [Image.open(path).tobytes() for path in sorted(Path(f"{folder}-drawn").glob("*.png"))]


@pytest.mark.parametrize("pair", [("Käfer", "Kéfer"), ("猫", "犬")])
def test_two_data_sets_that_differ_in_a_letter_are_drawn_differently(nascli: Nascli, pair: tuple[str, str]) -> None:
    one, two = (show(nascli, Path(f"set{k}"), (name, "dog")) for k, name in enumerate(pair))
    assert len(one) == len(two) > 0
    assert all(a != b for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("pair", PAIRS)
def test_names_that_differ_look_different(pair: tuple[str, str]) -> None:
    assert ImageChops.difference(*map(draw, pair)).getbbox() is not None


@pytest.mark.parametrize("name", ["Käfer", "猫", "name " * 50, "猫" * 90, "\u202egnp.exe", ""])
def test_a_score_can_be_read_whatever_the_name_is(name: str) -> None:
    drawn = [
        draw_boxes(Image.new("RGB", (400, 400)), [LabeledBox((50, 100, 250, 200), 1, score)], [name])
        for score in (0.87, 0.81)
    ]
    left, top, right, bottom = ImageChops.difference(*drawn).getbbox() or (0, 0, 0, 0)
    assert 0 < right - left < 20, "one digit differs, and lies within the image"
    assert 5 < bottom - top < 20


def test_letters_that_no_font_has_are_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nascli.fonts._system_fonts", lambda: ())
    assert fit_letters("état") == ("état", usual_font())
    assert fit_letters("a\u732b b\U00020000") == (r"a\u732b b\U00020000", usual_font())


def test_a_font_of_the_system_is_used_where_it_has_the_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib ships one with signs that its usual font has not."""
    other, broken = usual_font().with_name("STIXGeneral.ttf"), tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    monkeypatch.setattr("nascli.fonts._system_fonts", lambda: (broken, other))
    assert fit_letters("a \u1d8a") == ("a \u1d8a", other)
    drawn = [draw(name) for name in ("a \u1d8a", "a \u1d8d")]
    assert ImageChops.difference(*drawn).getbbox() is not None


def test_figures_spell_out_what_they_cannot_show_and_change_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [one for pair in PAIRS for one in pair if "\n" not in one] + ["100 %", "a_b^{c}", r"\alpha$"]
    figure = plot_confusion(np.eye(len(names), dtype=np.int64), names, "データ of $x_1$")
    said = re.findall(r">([^<>]+)</text>", figure.svg)
    for name in names:
        shown = fit_letters(name)[0].replace("&", "&amp;")
        assert shown in said, name
    assert any("$x_1$" in line for line in said)
