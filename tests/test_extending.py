"""The page on extending nascli names every table that there is."""

from pathlib import Path

import pytest

import nascli
from nascli import config
from nascli.data import registry as data_registry
from nascli.data.detection import recognize
from nascli.detect import heads
from nascli.genotype import families
from nascli.genotype.cells import op_info
from nascli.models import families as model_families
from nascli.models.cells import ops
from nascli.models.deploy import engines
from nascli.search import builders
from nascli.search.evaluators import zero_cost

ROOT = Path(nascli.__file__).parent
PAGE = (ROOT.parent / "docs" / "extending.md").read_text(encoding="utf-8")
TABLES = [
    (config, "DATASETS DETECTION_DATASETS DETECTION_HEADS EVALUATORS NETWORK_SECTIONS SPACE_SECTIONS STRATEGIES"),
    (op_info, "OP_INFO"),
    (ops, "OPS"),
    (builders, "STRATEGY_BUILDERS EVALUATOR_BUILDERS"),
    (zero_cost, "ZERO_COST_SCORES"),
    (data_registry, "LOADERS"),
    (recognize, "FORMATS"),
    (heads, "HEADS"),
    (engines, "ENGINES"),
    (families, "FAMILIES"),
    (model_families, "FAMILIES"),
]


@pytest.mark.parametrize(("module", "names"), TABLES)
def test_the_page_names_every_table(module: object, names: str) -> None:
    for name in names.split():
        assert isinstance(getattr(module, name), dict)
        assert f"`{name}`" in PAGE


def test_every_file_that_the_page_names_exists() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| a")]
    files = {word for row in rows for word in row.split("`")[1::2] if word.endswith(".py") and "NAME" not in word}
    assert len(files) > 9
    assert [file for file in sorted(files) if not (ROOT / file).is_file()] == []
