"""Drawings of genotypes: nothing overlaps, nothing is missing, every format says all of it."""

import hashlib
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nascli.errors import InputError
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.op_info import OP_INFO
from nascli.genotype.cells.schema import MAX_BLOCKS, Block, CellSpec
from nascli.genotype.drawing import (
    FORMATS,
    draw_genotype,
    drawing_format,
    genotype_dot,
    genotype_mermaid,
    genotype_png,
    genotype_svg,
)
from nascli.genotype.drawing.cells.layout import CellLayout, lay_out_cell
from nascli.genotype.drawing.cells.ordering import ROW_LIMIT, crossings, order_rows
from nascli.genotype.drawing.cells.palette import KIND_PAINTS
from nascli.genotype.drawing.shapes import Box, Curve
from tests.published import CELL_NAMES, published_cell

SVG = "{http://www.w3.org/2000/svg}"

GOLDEN = {
    "amoebanet-a": ("78da0912ea9f0d9f", "2f022d5387f8baee"),
    "amoebanet-b": ("9a0d8b5d9217075a", "7e860b397dbf6434"),
    "amoebanet-c": ("6d979c1636afc0ca", "e4bea3823acbdcf1"),
    "amoebanet-d": ("6bddc45ab10a1e03", "63348ece0a8fb119"),
    "darts-v1": ("6ddc1a4753e3039f", "c0c318b0593fcc48"),
    "darts-v2": ("329dcec3d737cb5c", "05991f1154c4d9f5"),
    "enas": ("6a31d4e0c310090d", "ec77b7e7e758eaf3"),
    "gdas": ("7f4e9545caa7d631", "dd5423f931a09c1e"),
    "naonet-a": ("f3b65f86ac2c5801", "2382d27928dbdd30"),
    "nasnet-a": ("031d8cd7bc821681", "b8aac30b3d315023"),
    "p-darts": ("a3aeda9636013f77", "44c2c2bf19335e32"),
    "pc-darts-cifar10": ("d10cfeb056a96524", "925cfa6774d32845"),
    "pc-darts-imagenet": ("0091fd74bb7f05ef", "b573db9e86c2bc6d"),
    "pnasnet-5": ("85d048b57265d140", "04dab9cee4e79c93"),
}
"""SHA-256, 16 digits, of the SVG and the DOT text of each published cell: what is drawn does not drift."""


@st.composite
def cells(draw: st.DrawFn) -> CellSpec:
    """Cells of 1 to 12 blocks over all ops, with any concat, so that dead blocks occur."""
    count = draw(st.integers(1, MAX_BLOCKS))
    ops = st.tuples(st.sampled_from(list(OP_INFO)), st.sampled_from(list(OP_INFO)))
    blocks = tuple(
        Block(
            inputs=draw(st.tuples(st.integers(0, k + 1), st.integers(0, k + 1))),
            ops=draw(ops),
            combine=draw(st.sampled_from(("add", "concat"))),
        )
        for k in range(count)
    )
    concat = draw(st.sets(st.integers(0, count + 1), min_size=1))
    return CellSpec(blocks=blocks, concat=tuple(sorted(concat)))


genotypes = st.builds(
    CellGenotype,
    name=st.text(min_size=1, max_size=60),
    space=st.just("any"),
    normal=cells(),
    reduction=cells(),
)


def wide_cell(blocks: int) -> CellSpec:
    """All blocks read the two inputs."""
    made = tuple(Block(inputs=(k % 2, 1), ops=("bottleneck_conv_1x7_7x1", "identity")) for k in range(blocks))
    return CellSpec(blocks=made, concat=tuple(range(2, blocks + 2)))


def chain_cell(blocks: int) -> CellSpec:
    """Every block reads the one before it and h[i-1]."""
    made = tuple(Block(inputs=(k + 1, 0), ops=("sep_conv_3x3", "identity")) for k in range(blocks))
    return CellSpec(blocks=made, concat=(blocks + 1,))


def overlap(a: Box, b: Box) -> bool:
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


def inside(outer: Box, inner: Box) -> bool:
    return (
        outer.left <= inner.left
        and inner.right <= outer.right
        and outer.top <= inner.top
        and inner.bottom <= outer.bottom
    )


def points(curve: Curve, count: int = 24) -> list[tuple[float, float]]:
    (a, b, c, d), found = curve, []
    for n in range(count + 1):
        t = n / count
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        x, y = (sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
        found.append((x, y))
    return found


def assert_clear(layout: CellLayout) -> None:
    """No two boxes overlap, all lie on the sheet, and no edge enters a box that is not its own."""
    sheet = Box(-0.01, -0.01, layout.width + 0.02, layout.height + 0.02)
    assert all(inside(sheet, node.box) for node in layout.nodes)
    for first, second in combinations(layout.nodes, 2):
        assert not overlap(first.box, second.box), (first, second)
    for one, other in combinations(layout.panels, 2):
        assert not overlap(one.box, other.box), (one, other)
    panels = {panel.state: panel.box for panel in layout.panels}
    for node in layout.nodes:
        if node.kind in ("op", "combine"):
            assert node.state is not None
            assert inside(panels[node.state], node.box)
    for edge in layout.edges:
        own = {edge.source, edge.target}
        foreign = [node.box for node in layout.nodes if node.key not in own]
        foreign += [box for state, box in panels.items() if str(state) not in {key.partition(".")[0] for key in own}]
        for x, y in (point for curve in edge.curves for point in points(curve)):
            for box in foreign:
                clear = not (box.left < x < box.right and box.top < y < box.bottom)
                assert clear, (edge.source, edge.target, box)


@given(cells())
@settings(max_examples=60)
def test_nothing_overlaps_and_no_edge_runs_through_a_box(cell: CellSpec) -> None:
    assert_clear(lay_out_cell(cell))


@pytest.mark.parametrize("name", CELL_NAMES)
def test_published_cells_are_drawn_clearly(name: str) -> None:
    genotype = published_cell(name)
    assert_clear(lay_out_cell(genotype.normal))
    assert_clear(lay_out_cell(genotype.reduction))


@pytest.mark.parametrize("name", CELL_NAMES)
def test_drawings_of_published_cells_do_not_drift(name: str) -> None:
    genotype = published_cell(name)
    texts = genotype_svg(genotype), genotype_dot(genotype)
    assert tuple(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts) == GOLDEN[name]


@pytest.mark.parametrize("cell", [wide_cell(12), chain_cell(12), wide_cell(1)])
def test_extreme_cells_are_drawn_clearly(cell: CellSpec) -> None:
    layout = lay_out_cell(cell)
    assert_clear(layout)
    assert max(Counter(panel.box.top for panel in layout.panels).values()) <= ROW_LIMIT


@given(cells())
@settings(max_examples=60)
def test_edges_are_those_of_the_cell_and_end_at_their_boxes(cell: CellSpec) -> None:
    layout = lay_out_cell(cell)
    nodes = {node.key: node for node in layout.nodes}
    assert len(nodes) == len(layout.nodes)
    expected = Counter({("concat", "output"): 1})
    for k, block in enumerate(cell.blocks):
        for half, state in enumerate(block.inputs):
            expected[str(state), f"{k + 2}.{half}"] += 1
            expected[f"{k + 2}.{half}", str(k + 2)] += 1
    expected.update((str(state), "concat") for state in cell.concat)
    assert Counter((edge.source, edge.target) for edge in layout.edges) == expected
    for edge in layout.edges:
        source, target = nodes[edge.source].box, nodes[edge.target].box
        (start_x, start_y), (end_x, end_y) = edge.curves[0][0], edge.curves[-1][3]
        assert start_y == pytest.approx(source.top)
        assert source.left <= start_x <= source.right
        assert end_y == pytest.approx(target.bottom)
        assert target.left <= end_x <= target.right
        for before, after in zip(edge.curves, edge.curves[1:], strict=False):
            assert before[3] == after[0], "an edge has no gaps"
        assert edge.dead == (nodes[edge.target].dead)


@given(cells())
@settings(max_examples=60)
def test_dead_blocks_are_those_the_output_does_not_need(cell: CellSpec) -> None:
    layout = lay_out_cell(cell)
    assert {panel.state for panel in layout.panels if panel.dead} == set(range(2, len(cell.blocks) + 2)) - cell.live
    assert all(node.dead == (node.state not in cell.live) for node in layout.nodes if node.kind in ("op", "combine"))
    ops = sorted(node.op for node in layout.nodes if node.op)
    assert ops == sorted(op for block in cell.blocks for op in block.ops)


def test_cells_that_can_be_drawn_without_crossings_are() -> None:
    for cell in (published_cell("amoebanet-d").reduction, chain_cell(12), wide_cell(2)):
        rows = order_rows(cell)
        assert crossings([list(row) for row in rows.slots], [list(between) for between in rows.links]) == 0


def test_ops_of_every_kind_have_words_that_fit_their_box() -> None:
    from matplotlib.textpath import TextPath

    assert {info.kind for info in OP_INFO.values()} == set(KIND_PAINTS)
    assert len({info.label for info in OP_INFO.values()}) == len(OP_INFO), "two ops must not look the same"
    for op in OP_INFO:
        layout = lay_out_cell(CellSpec(blocks=(Block(inputs=(0, 1), ops=(op, "identity")),), concat=(2,)))
        (node,) = (node for node in layout.nodes if node.key == "2.0")
        words = TextPath((0, 0), node.label, size=13).get_extents()  # DejaVu Sans, the widest of the fonts
        assert words.width + 10 <= node.box.width, op
        assert words.height + 8 <= node.box.height, op


@given(genotypes)
@settings(max_examples=25)
def test_svg_is_xml_that_shows_every_op_with_its_name(genotype: CellGenotype) -> None:
    text = genotype_svg(genotype)
    root = ElementTree.fromstring(text.encode("utf-8"))
    blocks = genotype.normal.blocks + genotype.reduction.blocks
    expected = Counter(op for block in blocks for op in block.ops)
    hints = Counter(title.text for rect in root.iter(f"{SVG}rect") for title in rect.iter(f"{SVG}title"))
    assert hints == expected
    words = Counter(element.text for element in root.iter(f"{SVG}text"))
    for op, count in expected.items():
        assert words[OP_INFO[op].label] >= count
    dead = any(
        k + 2 not in cell.live for cell in (genotype.normal, genotype.reduction) for k in range(len(cell.blocks))
    )
    assert ("reaches no output" in words) == dead
    assert genotype_svg(genotype) == text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "nothing is fetched from elsewhere"


def test_svg_text_and_shapes_lie_on_the_sheet() -> None:
    root = ElementTree.fromstring(genotype_svg(published_cell("nasnet-a")))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for group in root.iter(f"{SVG}g"):
        shift_x, shift_y = map(float, re.findall(r"[\d.]+", group.attrib["transform"]))
        for element in group:
            if "x" in element.attrib:
                assert 0 < shift_x + float(element.attrib["x"]) < width
                assert 0 < shift_y + float(element.attrib["y"]) < height


@given(genotypes)
@settings(max_examples=25)
def test_dot_and_mermaid_name_every_op_and_join_what_they_define(genotype: CellGenotype) -> None:
    dot, mermaid = genotype_dot(genotype), genotype_mermaid(genotype)
    for block in genotype.normal.blocks + genotype.reduction.blocks:
        for op in block.ops:
            assert f'label="{OP_INFO[op].label}"' in dot
            assert f'"{OP_INFO[op].label}"' in mermaid
    edges = sum(4 * len(cell.blocks) + len(cell.concat) + 1 for cell in (genotype.normal, genotype.reduction))
    for text, node, arrow in (
        (dot, r"^    (\w+) \[label=", r"^    (\w+) -> (\w+)"),
        (mermaid, r"^    (\w+)\(?\[", r"^    (\w+) -\.?-?-?> (\w+)"),
    ):
        defined = re.findall(node, text, re.MULTILINE)
        arrows = re.findall(arrow, text, re.MULTILINE)
        assert len(defined) == len(set(defined))
        assert len(arrows) == edges
        assert {end for pair in arrows for end in pair} <= set(defined)
    quotes = re.sub(r'\\\\|\\"', "", dot).count('"')
    assert quotes % 2 == 0, "a name cannot end its own quotes"


def test_names_with_markup_are_shown_as_they_are(tmp_path: Path) -> None:
    name = 'a<b>&"c"\\ $x^$ \x07 \ud800'
    genotype = published_cell("darts-v2").model_copy(update={"name": name})
    shown = 'a<b>&"c"\\ $x^$ \\x07 \\ud800'
    for suffix in FORMATS:
        draw_genotype(genotype, tmp_path / f"cell{suffix}")
    root = ElementTree.parse(tmp_path / "cell.svg").getroot()
    assert shown in [element.text for element in root.iter(f"{SVG}text")]
    assert 'label="a<b>&\\"c\\"\\\\ $x^$' in (tmp_path / "cell.dot").read_text(encoding="utf-8")
    assert 'title: "a<b>&\\"c\\"\\\\ $x^$' in (tmp_path / "cell.mmd").read_text(encoding="utf-8")


def test_a_long_name_is_shortened_to_the_sheet() -> None:
    short, long = (published_cell("darts-v2").model_copy(update={"name": "n" * count}) for count in (5, 200))
    sizes = [ElementTree.fromstring(genotype_svg(genotype)).attrib["width"] for genotype in (short, long)]
    assert sizes[0] == sizes[1]
    assert "n…</text>" in genotype_svg(long)


def test_provenance_of_a_trial_stands_under_the_title() -> None:
    genotype = published_cell("enas").model_copy(update={"provenance": {"trial": 17, "reward": 0.93}})
    assert "trial 17 · reward 0.93" in genotype_svg(genotype)


def test_png_has_the_size_of_the_svg_times_its_scale() -> None:
    genotype = published_cell("darts-v2")
    content = genotype_png(genotype, scale=1.5)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
    root = ElementTree.fromstring(genotype_svg(genotype))
    assert width == pytest.approx(1.5 * float(root.attrib["width"]), abs=2)
    assert height == pytest.approx(1.5 * float(root.attrib["height"]), abs=2)


def test_png_shows_the_cells_in_their_colors() -> None:
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(genotype_png(published_cell("nasnet-a"), scale=1))).convert("RGB")
    colors = {color: count for count, color in image.getcolors(1 << 24) or []}
    for kind, paint in KIND_PAINTS.items():
        assert (colors.get(tuple(bytes.fromhex(paint.fill[1:])), 0) > 500) == (kind != "convolution"), kind


@pytest.mark.parametrize("name", ["cell", "cell.pdf", "cell.jpg", ".svg"])
def test_another_suffix_is_refused_with_the_four_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.svg, \.png, \.dot or \.mmd"):
        draw_genotype(published_cell("enas"), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_suffix_chooses_the_format_in_either_case(tmp_path: Path) -> None:
    assert drawing_format(Path("CELL.SVG")) is genotype_svg
    draw_genotype(published_cell("enas"), tmp_path / "cell.SVG")
    assert (tmp_path / "cell.SVG").read_text(encoding="utf-8").startswith("<svg ")


def test_drawing_loads_neither_torch_nor_more_of_matplotlib_than_it_needs() -> None:
    code = """
import sys
from nascli.genotype.drawing import genotype_png, genotype_svg
from tests.published import CELL_NAMES, published_cell
genotype_svg(published_cell("enas"))
assert "matplotlib" not in sys.modules
genotype_png(published_cell("enas"), scale=0.2)
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=120)
