"""Names in the documentation: every command, option and recipe key exists."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup

import nascli
from nascli.cli.app import SUMMARIES
from nascli.config import (
    EVALUATORS,
    NETWORK_SECTIONS,
    SPACE_SECTIONS,
    STRATEGIES,
    DetectRecipe,
    SearchRecipe,
    Section,
    TrainRecipe,
)
from nascli.genotype.genotype import read_genotype
from nascli.search.evaluators.tabular import TabularBenchmark

ROOT = Path(nascli.__file__).parents[1]
RENAMES = ROOT / "docs" / "renames.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "recipes").rglob("*.*"))]
ELSEWHERE = {"csv", "html", "json", "jsonl", "log", "py", "safetensors", "toml", "yaml"}
"""Endings of file names, which look like recipe keys: `network.json`."""


def list_options(command: TyperCommand | TyperGroup, name: str) -> dict[str, set[str]]:
    """Options by command and subcommand; `detect` alone is a training."""
    found = {name: {flag for each in command.params for flag in each.opts} | {"--help", "--debug"}}
    for subcommand, inner in getattr(command, "commands", {}).items():
        found |= list_options(inner, f"{name} {subcommand}")
    return found


OPTIONS: dict[str, set[str]] = {}
for _name in SUMMARIES:
    OPTIONS |= list_options(import_module(f"nascli.cli.{_name}").run, _name)
OPTIONS["detect"] |= OPTIONS["detect train"]


def list_keys() -> set[str]:
    """Recipe keys of all commands and families, as `section.key`."""
    sections = [pair for recipe in (SearchRecipe, TrainRecipe, DetectRecipe) for pair in recipe()]
    models = {(name, type(section)) for name, section in sections if isinstance(section, Section)}
    models |= {("network", model) for model in NETWORK_SECTIONS.values()}
    models |= {("space", model) for model in SPACE_SECTIONS.values()}
    return {f"{name}.{key}" for name, model in models for key in model.model_fields}


KEYS = list_keys()


def rows(title: str) -> list[list[str]]:
    """The table under a heading of the page of renames, without its head."""
    section = RENAMES.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    assert len(lines) > 3
    return lines[2:]


def name_in(cell: str) -> str:
    """The first code in a cell of a table."""
    return cell.split("`")[1]


def split_command(text: str) -> tuple[str, list[str]]:
    """The longest command or subcommand that a line begins with, and the options in it."""
    name = max((each for each in OPTIONS if re.match(rf"{each}\b", text)), key=len)
    return name, re.findall(r"(?<![\w-])--[a-z][\w-]*", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_keys_in_the_docs_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page == RENAMES:  # only its last column is of today; the tests below read that
        return
    lines = re.sub(r"\n#?\s{2,}(?=--)|\\\n\s*", " ", text)  # commands over several lines
    for line in re.findall(rf"nascli ((?:{'|'.join(SUMMARIES)})\b[^`\n]*)", lines):
        name, options = split_command(line.partition(" #")[0])
        assert set(options) <= OPTIONS[name], line
    sections = "|".join(sorted({key.partition(".")[0] for key in KEYS}))
    for key in re.findall(rf"(?<![\w./\"-])(?:{sections})\.[a-z]\w*", text):
        assert key in KEYS or key.partition(".")[2] in ELSEWHERE, key


def test_new_commands_and_options_of_the_renames_exist() -> None:
    for _, new in rows("Commands and options"):
        name, options = split_command(name_in(new))
        assert set(options) <= OPTIONS[name], new


def test_no_old_option_of_the_renames_is_accepted() -> None:
    for old, _ in rows("Commands and options"):
        name, options = split_command(name_in(old))
        assert not options or not set(options) <= OPTIONS[name], old


def test_keys_of_the_renames_are_those_of_today() -> None:
    for _, old, new in rows("Recipe keys"):
        assert name_in(new) in KEYS, new
        assert name_in(old) not in KEYS, old


def test_strategies_and_evaluators_of_the_renames_exist() -> None:
    for kind, _, new in rows("Strategies, evaluators, engines"):
        if not kind.startswith("engine"):
            assert name_in(new) in (STRATEGIES if kind == "strategy" else EVALUATORS), new


def test_new_options_of_benchmarks_exist() -> None:
    for _, new in rows("Benchmarks"):
        script, _, option = name_in(new).partition(" ")
        text = (ROOT / "benchmarks" / Path(script).name).read_text(encoding="utf-8")
        assert not option or f'"{option}"' in text, new


def test_files_that_the_docs_name_are_read() -> None:
    table = TabularBenchmark.read(ROOT / "benchmarks/tables/cifar10-two-blocks.h5")
    assert (len(table), table.trainings) == (1575, 3)  # docs/search.md
    assert read_genotype(ROOT / "docs/found-cell.json").canonical_hash() == "87b6cef66ffffd55"
