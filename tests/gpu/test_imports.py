"""Tests of GPUs run on a machine that has torch, torchvision, numpy, pytest and what nascli needs, and no more."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import nascli

ROOT = Path(nascli.__file__).parents[1]
TESTED_WITH = {"pytest", "hypothesis"}


def imported(path: Path) -> set[str]:
    """The modules that a file imports when it is loaded."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    froms = {each.module or "" for each in body if isinstance(each, ast.ImportFrom)}
    return froms | {name.name for each in body if isinstance(each, ast.Import) for name in each.names}


def reached() -> set[str]:
    """The modules that loading the tests of this folder imports, those of other folders of tests included."""
    waiting, modules = [*Path(__file__).parent.glob("*.py"), ROOT / "tests" / "conftest.py"], set[str]()
    while waiting:
        new = imported(waiting.pop()) - modules
        modules |= new
        paths = [ROOT / f"{name.replace('.', '/')}.py" for name in new if name.startswith("tests.")]
        waiting += [path for path in paths if path.is_file()]
    return modules


def test_they_import_nothing_that_a_gpu_machine_may_lack() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {re.split(r"[^\w.-]", line)[0].lower() for line in required}
    owners = packages_distributions()
    foreign = {name.partition(".")[0] for name in reached()} - set(sys.stdlib_module_names) - {"tests", "nascli"}
    lacking = {
        name for name in foreign if name not in TESTED_WITH and not {each.lower() for each in owners[name]} & names
    }
    assert foreign > {"torch", "numpy"}
    assert not lacking
