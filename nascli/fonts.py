"""Fonts for names in images and figures: one that has all their letters, else escapes in place of letters.

A letter that a font has not is drawn as an empty box, in which all names look alike.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nascli.text import printable

if TYPE_CHECKING:
    from matplotlib.text import Text

_ASCII = frozenset(range(32, 127))
_NO_LETTERS = ("lastresort", "blank", "emoji")
"""In names of fonts that have a box for every letter, nothing for every letter, or images in place of outlines."""
_STYLES = ("bold", "italic", "oblique", "light", "thin", "black", "condensed", "narrow", "mono", "serif")


def fit_letters(text: str) -> tuple[str, Path]:
    """The text as it can be drawn, on one line, and the file of a font that has each of its letters.

    DejaVu Sans, which matplotlib ships, is taken where it has them, else a font of the system. What none has stands
    there as an escape as `\\\\u732b`.
    """
    (fitted,), font = fit_texts([text])
    return fitted, font


def fit_texts(texts: Sequence[str]) -> tuple[list[str], Path]:
    """Texts as they can be drawn in one font, as `fit_letters` does; and the font."""
    shown, font = list(map(printable, texts)), usual_font()
    wanted = frozenset(map(ord, "".join(shown)))
    if wanted <= _letters(font):
        return shown, font
    font = _find_font(wanted | _ASCII)  # what is written beside it has these
    has = _letters(font)
    return ["".join(letter if ord(letter) in has else _escape(letter) for letter in text) for text in shown], font


def set_font(text: "Text", font: Path) -> None:
    """Draw a text of matplotlib in a font of `fit_letters`, at the size and weight that it has."""
    if font != usual_font():
        properties = text.get_fontproperties().copy()
        properties.set_file(str(font))
        text.set_fontproperties(properties)


@functools.cache
def usual_font() -> Path:
    """DejaVu Sans: the letters of Europe, Arabic, Hebrew, and many signs."""
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


@functools.cache
def _find_font(wanted: frozenset[int]) -> Path:
    """The first font with all of these letters, or with most of them; the usual one where others have no more."""
    best, most = usual_font(), len(wanted & _letters(usual_font()))
    for font in _system_fonts():
        count = _count_letters(font, wanted)
        if count > most:
            best, most = font, count
        if most == len(wanted):
            break
    return best


@functools.cache
def _system_fonts() -> tuple[Path, ...]:
    """The fonts of the system, plain ones first."""
    from matplotlib.font_manager import findSystemFonts

    fonts = map(Path, findSystemFonts())
    usable = [font for font in fonts if not any(word in font.stem.lower() for word in _NO_LETTERS)]
    return tuple(sorted(usable, key=lambda font: (sum(style in font.stem.lower() for style in _STYLES), font)))


@functools.cache
def _letters(font: Path) -> frozenset[int]:
    """All letters of a font."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font)).get_charmap())


def _count_letters(font: Path, wanted: frozenset[int]) -> int:
    """The number of these letters that a font has outlines of; 0 where it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(str(font))
    except (OSError, RuntimeError):
        return 0
    return sum(face.get_char_index(code) != 0 for code in wanted) if face.scalable else 0


def _escape(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode()
