"""Names of anybody's data are text wherever they go: terminals, images, drawings, pages, tables, commands, paths."""

import csv
import io
import json
import re
import time
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nascli.classify.confusion import Confusion
from nascli.detect.visualize import LabeledBox, draw_boxes
from nascli.genotype.drawing import FORMATS, draw_genotype
from nascli.genotype.drawing.graph import Cluster, Graph, Vertex, format_dot, format_mermaid
from nascli.genotype.drawing.shapes import PANEL_PAINT as PAINT
from nascli.genotype.drawing.shapes import Box, Group, Plate, Scene, Words
from nascli.genotype.drawing.svg import svg_text
from nascli.report.confusion_plot import plot_confusion
from nascli.text import as_cell, as_file_name, as_read, printable
from tests.cli.program import Nascli, exit_code
from tests.front_door.made import Lists, draw_noise, write_coco, write_perfect_results
from tests.published import published_cell
from tests.reliability.nasty import NASTY_NAMES

RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Letters that no output of a command may hold."""


def write_names(folder: Path, names: list[str]) -> Path:
    """A COCO data set with these categories, and results that take each for the next one."""
    write_coco(folder, names=[f"c{k}" for k in range(len(names))], boxes=9)
    for file in (folder / "annotations").iterdir():
        values = json.loads(file.read_text(encoding="utf-8"))
        for category, name in zip(values["categories"], names, strict=True):
            category["name"] = name
        file.write_text(json.dumps(values), encoding="utf-8")  # as escapes: some names cannot be encoded
    write_perfect_results(folder, lambda each: {**each, "category_id": each["category_id"] % len(names) + 1})
    return folder


def test_category_names_everywhere_in_detection(nascli: Nascli) -> None:
    names = list({as_read(name): name for name in NASTY_NAMES if name.strip() and len(name) < 100}.values())[::2]
    write_names(Path("data"), names)
    shown = {printable(name) for name in names}
    for line in (
        "detect check --dataset coco:data",
        "detect score data/results.json --dataset coco:data --out scored",
        "data check ./data --quick --out page",
    ):
        ran = nascli(line)
        assert ran.code in (0, 3), ran.err
        assert not RAW.search(ran.out + ran.err), line
    assert nascli("detect check --dataset coco:data --json").json["splits"]
    scores = json.loads(Path("scored/detection.json").read_text(encoding="utf-8"))
    assert {each["name"] for each in scores["per_class"]} == set(names)
    assert len(list(Path("scored/worst").glob("*.png"))) == 2
    page = read_page(Path("page/data.html"))
    assert page.elements <= PAGE_ELEMENTS
    assert shown <= set(page.texts), shown - set(page.texts)


PAGE_ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "strong", "div", "table", "thead"),
    *("tbody", "tr", "th", "td", "span", "figure", "img", "figcaption"),
}


class _Page(HTMLParser):
    """The elements of a page and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read_page(file: Path) -> _Page:
    page = _Page()
    page.feed(file.read_text(encoding="utf-8"))
    assert not {name for name in page.attributes if name.startswith("on")}
    return page


@pytest.mark.parametrize("name", ["a\nb", "n" * 20_000, "猫" * 20_000, "\u0378" * 20_000, "x\n" * 10_000, "\ud800"])
def test_long_and_broken_names_are_drawn_in_a_moment(name: str) -> None:
    image = Image.new("RGB", (400, 400))
    draw_boxes(image, [LabeledBox((5, 5, 50, 50), 1, 0.5)], [name])  # finds the font
    began = time.process_time()
    boxes = [LabeledBox((5, 5, 100, 100), 1, 0.5, remark=f"found as {name}") for _ in range(10)]
    drawn = draw_boxes(image, boxes, [name])
    assert time.process_time() - began < 1
    assert np.asarray(drawn).any()


def test_labels_of_thousands_of_boxes_take_no_minutes() -> None:
    rng, image = np.random.default_rng(0), Image.new("RGB", (400, 400))
    boxes = [LabeledBox((x, y, x + 9, y + 9), 1, score) for x, y, score in (rng.random((3000, 3)) * (390, 390, 1))]
    began = time.process_time()
    draw_boxes(image, boxes, ["cat"])
    assert time.process_time() - began < 5


def test_what_stands_behind_a_name_is_text_too() -> None:
    image = Image.new("RGB", (400, 400))
    for name in NASTY_NAMES:
        draw_boxes(image, [LabeledBox((5, 5, 100, 100), 1, 0.5, remark=f"is {name}")], [name])


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_a_file_that_is_named_for_a_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{as_file_name(name)}-000001.png"
    file.touch()
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16", "shift_jis", "utf-8"])
@pytest.mark.parametrize("columns", [None, "0", "1", "abc", "-5", "²", "9" * 30])
def test_every_output_takes_every_command(
    encoding: str, columns: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their letters and boxes are spelled out where it has not got them; its width may be nonsense."""
    results = {"top1": 0.5, "dataset": "folder:猫 café", "params": 1}
    run = tmp_path / "[x] 猫" / "run.json"
    run.parent.mkdir()
    run.write_text(json.dumps({"command": "train", "status": "complete", "results": results}), encoding="utf-8")
    monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS", raising=False)
    for line in (["decode", "nasnet-a"], ["decode", "--list"], ["runs", str(tmp_path)], ["status", str(run.parent)]):
        out = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BytesIO(), encoding))
        assert exit_code(*line) == 0
        out.flush()
        letters = re.sub(r"\s", "", out.buffer.getvalue().decode(encoding))
        assert {"decode": "concat" if len(line[1]) == 8 else "nasnet-a"}.get(line[0], "train") in letters


def test_every_name_is_a_class_of_the_plot_of_confusions() -> None:
    names = [name for name in NASTY_NAMES if len(name) < 24]
    figure = plot_confusion(np.eye(len(names), dtype=np.int64), names, "$x$ \n" + "n" * 20_000)
    assert ElementTree.fromstring(figure.svg) is not None
    with Image.open(io.BytesIO(figure.png)) as png:
        assert max(png.size) < 5_000


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_a_cell_of_any_name_is_drawn(name: str, tmp_path: Path) -> None:
    genotype = published_cell("enas").model_copy(update={"name": name})
    for suffix in {*FORMATS} - ({".png"} if len(name) < 1000 else set()):
        draw_genotype(genotype, tmp_path / f"cell{suffix}")
    root = ElementTree.parse(tmp_path / "cell.svg").getroot()
    assert {each.tag.rpartition("}")[2] for each in root.iter()} <= SVG_ELEMENTS
    for file in ("cell.dot", "cell.mmd"):
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert not RAW.search(text)


SVG_ELEMENTS = {"svg", "title", "rect", "g", "path", "polygon", "text"}
NASTY_LABELS = ['"] -> x; <b>', "\\N", 'a"b', "<script>", "a\nb", "&quot;", "`x`", "\x1b[31m", "\\", "#quot;"]


@pytest.mark.parametrize("label", NASTY_LABELS)
def test_words_of_any_family_are_quoted_in_drawings(label: str) -> None:
    """Those of cells are fixed; another family's may come from its file."""
    vertex = Vertex("v", label, "op", hint=label)
    graph = Graph(label, (Cluster("c", label, (vertex,), ()),), {"op": PAINT})
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', format_dot(graph))
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', "", format_dot(graph))
    assert '"' not in unquoted
    assert not {"<", "`", "&", "\x1b"} & set(unquoted)
    shown = printable(label)
    assert strings.count(re.sub(r"&(?=#?\w+;)", "&amp;", shown).replace("\\", "\\\\").replace('"', '\\"')) == 5
    lines = format_mermaid(graph).splitlines()
    (node,) = (line for line in lines if line.strip().startswith("v["))
    quoted = node.strip().removeprefix('v["').removesuffix('"]:::op')
    assert re.sub(r"#(\d+);", lambda found: chr(int(found[1])), quoted) == shown
    assert not {'"', "<", "`", "\\"} & set(quoted)
    scene = Scene(
        label, 10, 10, (Group(0, 0, (Words(label, (0, 0), 9, "#000"), Plate(Box(0, 0, 9, 9), PAINT, 1, hint=label))),)
    )
    texts = [each.text for each in ElementTree.fromstring(svg_text(scene)).iter() if each.text and each.text.strip()]
    assert texts == [shown] * 3


def test_a_table_of_confusions_reads_back() -> None:
    names = [name for name in NASTY_NAMES if len(name) < 100]
    confusion = Confusion(torch.arange(len(names) ** 2).reshape(len(names), len(names)))
    head, *rows = csv.reader(io.StringIO(confusion.to_csv(names)))
    assert [row[1:] for row in rows] == [list(map(str, row)) for row in confusion.counts.tolist()]
    for cells in (head[1:], [row[0] for row in rows]):
        assert [cell.removeprefix("'") if cell.startswith("'") else cell for cell in cells] == list(
            map(printable, names)
        )
        assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)


@pytest.mark.parametrize("name", ["=1", " =1", "\t=1", "\r+1", "＝1", "'=1", "'", "''", "-1", "@"])
def test_cells_are_no_formulas_and_still_the_name(name: str) -> None:
    assert as_cell(name) == f"'{printable(name)}"


@pytest.mark.parametrize(("inside", "count"), [("../train2017/", 0), ("../../outside/", 4), ("ABSOLUTE/", 4)])
def test_images_outside_the_data_set_are_reported(nascli: Nascli, inside: str, count: int) -> None:
    """They are read, as some data sets want, and nothing of them is shown without a word."""
    Path("outside").mkdir()
    for k in range(4):
        draw_noise(k, size=(64, 64)).save(f"outside/{k + 1:06d}.png")
    prefix = inside.replace("ABSOLUTE", str(Path("outside").absolute()))

    def lead_out(split: str, lists: Lists, _place: Path) -> None:
        for image in lists["images"] if split == "train" else ():
            image["file_name"] = prefix + image["file_name"]

    write_coco(Path("data"), lead_out)
    for line in ("data check ./data --quick", "detect check --dataset coco:data", "detect show --dataset coco:data"):
        ran = nascli(line)
        assert ran.code in (0, 3), ran.err
        assert ("outside the data set" in ran.out + ran.err) == (count > 0), line
    splits = nascli("detect check --dataset coco:data --json").json["splits"]
    issues = [each for split in splits for each in split["issues"]]
    assert [each["count"] for each in issues if each["kind"] == "image outside the data set"] == ([count] * (count > 0))
