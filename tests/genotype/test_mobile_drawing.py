"""Drawings of mobile genotypes: nothing overlaps, nothing is missing, every format says all of it."""

import hashlib
import io
import re
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from PIL import Image

from nascli.genotype.drawing import FORMATS, draw_genotype, genotype_dot, genotype_mermaid, genotype_png, genotype_svg
from nascli.genotype.drawing import genotype_tree as tree_of
from nascli.genotype.drawing.mobile.layout import lay_out_chain
from nascli.genotype.drawing.mobile.palette import block_words, op_paint
from nascli.genotype.drawing.shapes import Box
from nascli.genotype.mobile.genotype import MobileGenotype, require_mobile
from nascli.genotype.resolve import zoo_genotype
from tests.mobile import SMALL, chain, mobile_genotypes
from tests.published import MOBILE_NAMES

SVG = "{http://www.w3.org/2000/svg}"
PATTERN = ["mbconv2 k7 se0.123456 c16 n12 s2", "depthwise c16000 n2 pool", "conv c4 se1 k5", "mbconv9 c24"]
LONG = chain("long", 16, *PATTERN * 8)


def published(name: str) -> MobileGenotype:
    return require_mobile(zoo_genotype(name), "the test")


def overlap(one: Box, other: Box) -> bool:
    return not (
        one.right <= other.left or other.right <= one.left or one.bottom <= other.top or other.bottom <= one.top
    )


def assert_clear(genotype: MobileGenotype) -> None:
    """No two boxes overlap, all lie on the sheet, and no way to a box runs through another."""
    layout = lay_out_chain(genotype)
    assert len(layout.boxes) == len(layout.parts) == len(layout.links) + 1 == len(genotype.blocks) + 3
    assert all(0 <= box.left < box.right <= layout.width for box in layout.boxes)
    assert all(0 <= box.top < box.bottom <= layout.height for box in layout.boxes)
    assert not any(overlap(one, other) for one, other in combinations(layout.boxes, 2))
    for place, way in enumerate(layout.links):
        assert way[0] == (layout.boxes[place].middle, layout.boxes[place].top)
        assert way[-1] == (layout.boxes[place + 1].middle, layout.boxes[place + 1].bottom)
        for (x, y), (to_x, to_y) in pairwise(way):
            assert x == to_x or y == to_y
            line = Box(min(x, to_x), min(y, to_y), abs(x - to_x), abs(y - to_y))
            assert not any(overlap(line, box) for box in layout.boxes)


@given(mobile_genotypes())
@settings(max_examples=40)
def test_nothing_overlaps(genotype: MobileGenotype) -> None:
    assert_clear(genotype)


@pytest.mark.parametrize("genotype", [LONG, SMALL, *map(published, MOBILE_NAMES)], ids=lambda each: each.name)
def test_long_and_published_chains_are_drawn_clearly(genotype: MobileGenotype) -> None:
    assert_clear(genotype)


@given(mobile_genotypes())
@settings(max_examples=20)
def test_every_format_shows_every_block(genotype: MobileGenotype) -> None:
    text = genotype_svg(genotype)
    root = ElementTree.fromstring(text.encode())
    expected = [block_words(block) for block in genotype.canonical().blocks]
    hints = [title.text for rect in root.iter(f"{SVG}rect") for title in rect.iter(f"{SVG}title")]
    assert hints == expected
    assert genotype_svg(genotype) == text
    dot, mermaid = genotype_dot(genotype), genotype_mermaid(genotype)
    assert all(f'label="{words}"' in dot and f'"{words}"' in mermaid for words in expected)
    nodes = len(expected) + 3
    for drawn, node, arrow in (
        (dot, r"^    (\w+) \[label=", r"^    (\w+) -> (\w+)"),
        (mermaid, r"^    (\w+)\(?\[", r"^    (\w+) --> (\w+)"),
    ):
        defined = re.findall(node, drawn, re.MULTILINE)
        assert len(set(defined)) == nodes
        assert re.findall(arrow, drawn, re.MULTILINE) == list(pairwise(defined))
    (branch,) = tree_of(genotype)
    assert len(branch.lines) == len(expected) + 1


def test_lines_of_the_tree_have_aligned_columns() -> None:
    (branch,) = tree_of(published("mnasnet-a1"))
    assert len({line.plain.index("stride") for line in branch.lines}) == 1
    assert len({line.plain.index("→") for line in branch.lines}) == 1
    assert [line.plain.split("→")[1].split()[0] for line in branch.lines][-3:] == ["112", "160", "320"]


def test_the_drawing_of_a_published_network_does_not_drift() -> None:
    texts = genotype_svg(published("mnasnet-a1")), genotype_dot(published("mnasnet-a1"))
    hashes = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
    assert hashes == [
        "8d47105b95b682a6",
        "02f6a9202c8b7f28",
    ]


def test_words_and_shapes_lie_on_the_sheet_and_say_the_maps() -> None:
    root = ElementTree.fromstring(genotype_svg(published("mnasnet-a1")))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for group in root.iter(f"{SVG}g"):
        shift_x, shift_y = map(float, re.findall(r"[\d.]+", group.attrib["transform"]))
        for element in group:
            if "x" in element.attrib:
                assert 0 < shift_x + float(element.attrib["x"]) < width
                assert 0 < shift_y + float(element.attrib["y"]) < height
    words = {element.text for element in root.iter(f"{SVG}text")}
    assert {"3×224×224", "32×112×112", "112×14×14", "320×7×7", "SE 0.25", "×4", "adds its input"} <= words
    assert not any("averaged" in str(word) for word in words)


def test_names_with_markup_are_shown_as_they_are(tmp_path: Path) -> None:
    genotype = SMALL.model_copy(update={"name": 'a<b>&"c"\\ $x^$ \x07 \ud800'})
    shown = 'a<b>&"c"\\ $x^$ \\x07 \\ud800'
    for suffix in FORMATS:
        draw_genotype(genotype, tmp_path / f"chain{suffix}")
    root = ElementTree.parse(tmp_path / "chain.svg").getroot()
    assert shown in [element.text for element in root.iter(f"{SVG}text")]
    assert 'label="a<b>&\\"c\\"\\\\ $x^$' in (tmp_path / "chain.dot").read_text(encoding="utf-8")
    assert 'title: "a<b>&\\"c\\"\\\\ $x^$' in (tmp_path / "chain.mmd").read_text(encoding="utf-8")


def test_the_png_has_the_size_of_the_svg_and_the_colors_of_the_ops() -> None:
    root = ElementTree.fromstring(genotype_svg(SMALL))
    image = Image.open(io.BytesIO(genotype_png(SMALL, scale=1))).convert("RGB")
    assert image.size == pytest.approx((float(root.attrib["width"]), float(root.attrib["height"])), abs=2)
    colors = {color: count for count, color in image.getcolors(1 << 24) or []}
    for op in ("conv", "depthwise", "mbconv2", "mbconv3", "mbconv6"):
        assert colors.get(tuple(bytes.fromhex(op_paint(op).fill[1:])), 0) > 500, op
