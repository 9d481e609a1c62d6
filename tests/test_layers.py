"""The layer table of the design: a module imports only from layers below its own."""

import ast
from pathlib import Path

import nascli

PACKAGE = Path(nascli.__file__).parent

# Lowest first. A set holds neighbors that never import each other.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"device_errors", "errors", "memory"}),
    frozenset({"reading"}),
    frozenset({"seeding", "signals", "text", "units", "content", "partial"}),
    frozenset({"files", "fonts", "text_files"}),
    frozenset({"locks", "records"}),
    frozenset({"config", "hub", "progress"}),
    frozenset({"zoo"}),
    frozenset({"references"}),
    frozenset({"runs"}),
    frozenset({"genotype"}),
    frozenset({"data", "models"}),
    frozenset({"engine"}),
    frozenset({"classify"}),
    frozenset({"search", "detect", "doctor"}),
    frozenset({"report"}),
    frozenset({"cli"}),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
WITHOUT_TORCH = frozenset().union(*LAYERS[:10])


def modules() -> dict[Path, str]:
    """Every module with the name of its layer; the entry points of the package belong to none."""
    found = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    return {path: layer for path, layer in found.items() if layer not in ("__init__", "__main__")}


def imported(path: Path) -> set[str]:
    """Dotted names of everything a module imports, at its top or inside its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_module_belongs_to_a_layer() -> None:
    assert len(modules()) > 30
    assert set(modules().values()) == set(LEVEL)


def test_imports_go_down_only() -> None:
    wrong = []
    for path, layer in modules().items():
        for name in imported(path):
            if not name.startswith("nascli."):
                continue
            other = name.split(".")[1]
            same_floor_allowed = other == layer
            if other in LEVEL and not same_floor_allowed and LEVEL[other] >= LEVEL[layer]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_the_lower_layers_know_no_torch() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, layer in modules().items()
        if layer in WITHOUT_TORCH
        for name in imported(path)
        if name.split(".")[0] in {"torch", "torchvision"}
    ]
    assert wrong == []


def test_only_the_command_line_prints_or_exits() -> None:
    wrong = []
    for path, layer in modules().items():
        if layer == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in {"print", "exit", "quit"}:
                wrong.append(f"{path.relative_to(PACKAGE)}:{called.lineno}")
            if isinstance(called, ast.Attribute) and ast.unparse(called) in {"sys.exit", "sys.stdout.write"}:
                wrong.append(f"{path.relative_to(PACKAGE)}:{called.lineno}")
    assert wrong == []
