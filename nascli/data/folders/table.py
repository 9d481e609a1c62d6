"""Tables with a row per image, as CSV or as lines of JSON: columns known by their usual names."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nascli.data.images.formats import image_endings
from nascli.data.issues import IssueLog
from nascli.errors import CorruptFileError, InputError
from nascli.reading import open_file, read_file
from nascli.text_files import decode_text
from nascli.units import count_of, shorten

TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Endings of tables, in small letters."""

FILE_COLUMNS = (
    *("file_name", "filename", "file", "image", "path", "image_path", "file_path", "filepath", "filepaths", "img"),
    *("img_path", "image_name", "imagename", "image_file", "img_name", "photo", "picture", "name", "image_id", "id"),
)
LABEL_COLUMNS = (
    *("label", "labels", "class", "class_name", "classname", "category", "category_name", "label_name", "target"),
    *("species", "breed", "diagnosis", "dx", "y", "type", "class_id", "label_id", "category_id"),
)
SPLIT_COLUMNS = ("split", "subset", "data_set", "dataset", "set", "partition")
"""Usual names of columns, in small letters with _ between words; the first that is there is used."""

BOX_COLUMNS = (
    *({"xmin", "ymin", "xmax", "ymax"}, {"x_min", "y_min", "x_max", "y_max"}, {"x1", "y1", "x2", "y2"}),
    *({"x", "y", "width", "height"}, {"x", "y", "w", "h"}, {"bbox"}, {"bbox_x", "bbox_y"}, {"box"}),
)
"""Columns of tables of boxes."""

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_DELIMITERS = ",;\t|"
_NONE = ("nan", "null", "<na>", "#n/a")
"""Labels, in small letters, that programs write for none; `none` and `na` may be classes."""
_EXCEL_LINE = re.compile(r"\"?sep=([^\"\s]|\t)[^\r\n]*\r?\n")
"""A first line that tells Excel the delimiter."""
_PATH_AND_LABEL = re.compile(r"\S+(\.\w+) +\S+\s*")


@dataclass(frozen=True)
class Row:
    """An image of a table: the text that says which, its label (empty where it has none), its split."""

    file: str
    label: str
    split: str | None
    line: int


def read_header(file: Path) -> list[str]:
    """The names of a table's columns, in small letters with _ between words.

    Raises:
        OSError: It cannot be read.
        CorruptFileError: It is no text.
    """
    with open_file(file) as opened:
        line = opened.readline(1 << 20)
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        values = _parse_line(line.decode(errors="replace"), file, 1)
        return [normalize_column(key) for key in values]
    text = decode_text(line, file, "replace")
    return [normalize_column(cell) for cell in next(csv.reader([text], delimiter=find_delimiter(text)), [])]


def read_rows(file: Path, log: IssueLog) -> list[Row]:
    """The images of a table of labels.

    Raises:
        InputError: It cannot be read, or has no column of files or of labels; the message lists its columns.
        CorruptFileError: It is no text, or a row does not fit its header.
    """
    try:
        content = read_file(file)
    except OSError as error:
        raise InputError(f"table {file}: {error.strerror}") from error
    text = decode_text(content, file)
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        lines = [(k, _parse_line(each, file, k)) for k, each in enumerate(text.split("\n"), 1) if each.strip()]
        columns = list(dict.fromkeys(key for _, values in lines for key in values))
        cells = [(k, [_to_text(values.get(key)) for key in columns]) for k, values in lines]
    else:
        columns, cells = _read_csv(text, file, log)
    if not cells:
        raise InputError(f"table {file} has no rows", "It needs one per image, below a header such as file_name,label")
    found = _read_cells(file, columns, cells)
    if not any(row.label for row in found):
        raise InputError(
            f"table {file}: none of its {len(found):,} rows has a label",
            "Is the delimiter below the header another one?",
            file=file,
        )
    return _read_numbers(file, found, log)


def parse_csv(text: str, source: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that are not empty, each with the number of its last line; CorruptFileError, as it goes."""
    lines = (line[0] for line in _LINE.finditer(text))  # one at a time: a list of all takes many times the text
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " ")
    whole = 0
    try:
        for row in reader:
            whole = reader.line_num
            if any(map(str.strip, row)):
                yield whole, row
    except csv.Error as error:
        what = f"{source}, line {whole + 1}: {error}"
        raise CorruptFileError(what, 'Save it as CSV again; does a quote (") there never end?') from error


def _read_csv(text: str, file: Path, log: IssueLog) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and the cells of each row with its line."""
    excel = _EXCEL_LINE.match(text)
    if excel:
        log.add("table with a line for Excel", f"its first line is {excel[0].strip()!r}")
        text = text[excel.end() :]
    delimiter = excel[1] if excel else find_delimiter(text.partition("\n")[0])
    rows = [
        (line + bool(excel), [cell.strip() for cell in row])
        for line, row in parse_csv(text, f"table {file}", delimiter)
    ]
    if not rows:
        return [], []
    header = rows[0][1]
    files = [place for place, cell in enumerate(header) if Path(cell).suffix.lower() in image_endings()]
    if files and len(header) == 2:
        log.add("table without a header", f"its first line is {text.partition(chr(10))[0].strip()!r}")
        return ["file_name" if place == files[0] else "label" for place in (0, 1)], rows
    for line, row in rows[1:]:
        if len(row) > len(header) and any(row[len(header) :]):
            raise CorruptFileError(
                f"table {file}, line {line}: {count_of(len(row), 'cell')}, the header has {len(header)}",
                'Put text with the delimiter in it between quotes ("")',
            )
    return header, [(line, row + [""] * (len(header) - len(row))) for line, row in rows[1:]]


def _read_cells(file: Path, header: Sequence[str], cells: Sequence[tuple[int, list[str]]]) -> list[Row]:
    columns = [normalize_column(each) for each in header]
    if any(boxes <= set(columns) for boxes in BOX_COLUMNS):
        raise InputError(
            f"table {file} is one of boxes of objects (its columns are {shorten(', '.join(columns))})",
            f"nascli detect train --dataset csv:{file} takes it",
        )
    name = _find_column(columns, FILE_COLUMNS)
    label = _find_column(columns, LABEL_COLUMNS, besides=name)
    split = _find_column(columns, SPLIT_COLUMNS)
    others = [place for place in range(len(columns)) if place not in (name, split)]
    if name is not None and label is None and len(others) == 1:
        label = others[0]
    if name is None or (label is None and not others):
        raise InputError(
            f"table {file}: none of its columns ({shorten(', '.join(columns))}) is known as one of "
            + ("image files" if name is None else "labels"),
            "Name them file_name and label",
        )
    if label is None:
        return [_read_marked(file, header, name, others, split, *each) for each in cells]
    return [
        Row(row[name], _read_label(file, line, row[label]), None if split is None else row[split], line)
        for line, row in cells
    ]


def _read_label(file: Path, line: int, label: str) -> str:
    """A label as it stands; empty where a program wrote a word for none."""
    if label[:1] == "[" and label[-1:] == "]" and "," in label:
        raise InputError(
            f"table {file}, line {line}: {label} are several classes",
            "A network of nascli gives an image one class: write the one that counts",
        )
    return "" if label.lower() in _NONE else label


def _read_numbers(file: Path, rows: list[Row], log: IssueLog) -> list[Row]:
    """The rows with whole numbers as labels where all are, though a program wrote some of them as 1.0."""
    if not all(re.fullmatch(r"\d+(\.0*)?", row.label) for row in rows if row.label):
        return rows
    for row in rows:
        if "." in row.label:
            log.add("class number with decimals", f"{file.name}, line {row.line}: {row.label}")
    return [replace(row, label=row.label.partition(".")[0]) for row in rows]


def _read_marked(
    file: Path, columns: Sequence[str], name: int, marks: Sequence[int], split: int | None, line: int, row: list[str]
) -> Row:
    """A row whose class is the column that holds 1, where the others hold 0."""
    classes = [columns[place] for place in marks if row[place] in ("1", "1.0")]
    if len(classes) != 1 or any(row[place] not in ("0", "0.0", "", "1", "1.0") for place in marks):
        raise InputError(
            f"table {file}, line {line}: no column of labels is known among {shorten(', '.join(columns))}, and the row "
            "does not mark one class by 1 and the others by 0",
            "Name the columns file_name and label; a network of nascli gives an image one class",
        )
    return Row(row[name], classes[0], None if split is None else row[split], line)


def _find_column(columns: Sequence[str], names: Sequence[str], besides: int | None = None) -> int | None:
    return next((columns.index(each) for each in names if each in columns and columns.index(each) != besides), None)


def find_delimiter(header: str) -> str:
    """The delimiter of a CSV file, by its first line."""
    found = max(_DELIMITERS, key=header.count)
    listed = None if found in header else _PATH_AND_LABEL.fullmatch(header)
    return " " if listed and listed[1].lower() in image_endings() else found


def normalize_column(name: str) -> str:
    """The name of a column in small letters with _ between words."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _parse_line(line: str, file: Path, number: int) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(
            f"table {file}, line {number} is not JSON: {error}", "Each line is one object"
        ) from error
    if not isinstance(values, dict):
        raise CorruptFileError(f"table {file}, line {number} is not a JSON object", 'As in {"file_name": "a.jpg"}')
    return values


def _to_text(value: object) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
