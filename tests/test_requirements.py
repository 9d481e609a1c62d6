"""What nascli imports is what pyproject.toml declares, and a missing extra is named in one line."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import nascli
from nascli.engine.tensorboard import import_tensorboard
from nascli.errors import InputError
from nascli.models.deploy.export import export_onnx
from nascli.models.deploy.openvino import OpenvinoEngine
from nascli.search.executors.ray import RayExecutor
from tests.fakes import FakeEvaluator, hide_package

PACKAGE = Path(nascli.__file__).parent
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
"""Packages that are imported by another name than their own."""


def names(requirements: list[str]) -> set[str]:
    """The modules of requirements such as `torch>=2.10,!=2.13.0`."""
    packages = [re.split(r"[^A-Za-z0-9._-]", each)[0].lower() for each in requirements]
    return {IMPORTED_AS.get(package, package).replace("-", "_") for package in packages}


REQUIRED = names(PROJECT["dependencies"])
EXTRAS = {extra: names(needs) for extra, needs in PROJECT["optional-dependencies"].items() if extra != "dev"}
OPTIONAL = set[str]().union(*EXTRAS.values()) - REQUIRED


def imports(node: ast.AST) -> Iterator[str]:
    """The top names of the modules that a statement imports, `import_module("ray")` included."""
    if isinstance(node, ast.Import):
        yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module.split(".")[0]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        yield from re.findall(r"^'(\w+)", ast.unparse(node.args[0]))


def guarded(tree: ast.AST) -> set[ast.AST]:
    """All nodes in a `try` that catches ImportError."""
    tries = [node for node in ast.walk(tree) if isinstance(node, ast.Try)]
    caught = [node for node in tries if any("ImportError" in ast.unparse(each.type or node) for each in node.handlers)]
    return {inner for node in caught for each in node.body for inner in ast.walk(each)}


def test_every_import_is_declared_and_that_of_an_extra_is_guarded() -> None:
    used: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = guarded(tree)
        for node in ast.walk(tree):
            for name in set(imports(node)) - sys.stdlib_module_names - {"nascli", "_typeshed"}:
                used.add(name)
                assert name in REQUIRED | OPTIONAL, f"{path} imports {name}, which pyproject.toml does not declare"
                assert name in REQUIRED or node in inside, f"{path} imports {name} of an extra without a guard"
    assert used >= REQUIRED, f"declared but never imported: {REQUIRED - used}"


def held_versions(file: str) -> dict[str, str]:
    """The versions of a file of constraints, by package; it has to hold nothing else."""
    lines = (PACKAGE.parent / file).read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][A-Za-z0-9.]*", line) for line in kept)
    return dict(line.split("==") for line in kept)


def test_another_torch_is_held_with_its_torchvision() -> None:
    versions = held_versions("constraints-torch211.txt")
    assert (versions["torch"], versions["torchvision"]) == ("2.11.0", "0.26.0")


def test_the_lowest_versions_are_those_of_the_bounds() -> None:
    """constraints-lowest.txt belongs to the bounds as they are."""
    versions = held_versions("constraints-lowest.txt")
    for requirement in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
        package, bound = re.match(r"([A-Za-z0-9._-]+)>=([0-9.]+)", requirement).groups()  # type: ignore[union-attr]
        held, least = (tuple(map(int, re.findall(r"\d+", text))) for text in (versions[package], bound))
        assert held[: len(least)] == least, f"{package}: {versions[package]} for {requirement}"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = {
        "openvino": lambda: OpenvinoEngine(None, "float32"),
        "onnx": lambda: export_onnx(None, tmp_path / "x.onnx"),  # type: ignore[arg-type]
        "ray": lambda: RayExecutor(FakeEvaluator(), workers=1, retries=0),
        "tensorboard": import_tensorboard,
    }
    for extra, use in missing.items():
        with monkeypatch.context() as patch:
            for module in EXTRAS[extra]:
                hide_package(patch, module)
            with pytest.raises(InputError) as refused:
                use()
            assert f'pip install "nascli[{extra}]"' in str(refused.value.hint)
