"""The lines of YOLO's label files."""

from collections.abc import Sequence
from pathlib import Path

from nascli.data.issues import IssueLog
from nascli.errors import CorruptFileError
from nascli.text_files import read_text
from nascli.units import count_of, shorten

_MOST_LINES = 100_000
"""Boxes that no image has."""
_OVER = 0.01
"""Fraction of the image by which a label may reach over its edge: annotators round."""
_FAR_OVER = 0.05
"""Fraction that no rounding explains."""


class LabelReader:
    """Reads the lines of label files; `highest` is the highest class number met.

    Args:
        keypoints: Numbers behind the box in each line, which are not used; else pairs of numbers are an outline.
    """

    def __init__(self, classes: int | None, log: IssueLog, keypoints: int = 0) -> None:
        self._classes, self._log, self._keypoints = classes, log, keypoints
        self.highest = -1

    def read(self, file: Path) -> list[tuple[str, int, tuple[float, ...]]]:
        """Place, class and box (fractions, around the center) of each line that can be used."""
        found: list[tuple[str, int, tuple[float, ...]]] = []
        try:
            text = read_text(file)
        except (OSError, CorruptFileError) as error:
            self._log.add("label file cannot be read", str(getattr(error, "message", f"{file}: {error}")))
            return found
        lines = text.splitlines()
        if len(lines) > _MOST_LINES:
            what = f"{file}: {len(lines):,} lines; of one image at most {_MOST_LINES:,} are read"
            self._log.add("label file cannot be read", what)
            return found
        for number, line in enumerate(lines, 1):
            if line.strip():
                place = f"{file} line {number}"
                try:
                    found.append((place, *self._parse(line.split(), place)))
                except _LabelError as error:
                    self._log.add(error.kind, f"{place}: {error}")
        return found

    def _parse(self, words: Sequence[str], place: str) -> tuple[int, tuple[float, ...]]:
        try:
            values = [float(word) for word in words]
        except ValueError:
            raise _LabelError("label line not five numbers", f"{shorten(' '.join(words))!r} is not numbers") from None
        if self._keypoints and len(values) == 5 + self._keypoints:
            self._log.add("label with keypoints", f"{place}: {self._keypoints} numbers behind the box")
            values = values[:5]
        if len(values) < 5 or (len(values) > 6 and len(values) % 2 == 0):
            message = f"{count_of(len(values), 'number')}, not class x y width height"
            raise _LabelError("label line not five numbers", message)
        label, values = self._parse_class(words[0], place), values[1:]
        beyond = [value for value in values[: 4 if len(values) == 5 else None] if not -_OVER <= value <= 1 + _OVER]
        if beyond and all(abs(value) < float("inf") for value in beyond):
            text = "; pixels? divide them by the image's width and height" if max(beyond) > 2 else ""
            raise _LabelError("label not between 0 and 1", f"{beyond[0]:g} is no fraction of the image{text}")
        if len(values) == 5:
            self._log.add("label with a confidence", f"{place}: {words[5]}")
        elif len(values) > 5:
            self._log.add("outline in place of a box", f"{place}: {len(values) // 2} points")
            left, right, top, bottom = (pick(each) for each in (values[::2], values[1::2]) for pick in (min, max))
            return label, ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        return label, tuple(values[:4])

    def _parse_class(self, word: str, place: str) -> int:
        value = float(word)
        label = int(value) if abs(value) < 2**31 else -1
        if label != value or label < 0 or (self._classes is not None and label >= self._classes):
            known = "" if self._classes is None else f"; there are {self._classes} names, counted from 0"
            raise _LabelError("label of an unknown class", f"class {word}{known}")
        if not word.isdecimal():
            self._log.add("class number with decimals", f"{place}: class {word}")
        self.highest = max(self.highest, label)
        return label


def check_corners(labels: Sequence[tuple[str, int, tuple[float, ...]]], log: IssueLog) -> None:
    """Add an issue where boxes, as `LabelReader.read` has them, would fit their images as corners alone."""
    beyond = [
        place
        for place, _, (x, y, width, height) in labels
        if min(x - width / 2, y - height / 2) < -_FAR_OVER or max(x + width / 2, y + height / 2) > 1 + _FAR_OVER
    ]
    if 2 * len(beyond) >= len(labels) > 0 and all(box[2] > box[0] and box[3] > box[1] for _, _, box in labels):
        log.add("labels are corners", f"{beyond[0]}: its box would leave the image", len(labels))


class _LabelError(ValueError):
    """A line that cannot be used, with the kind of its issue."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
