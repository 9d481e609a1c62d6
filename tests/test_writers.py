"""One place writes files: what writes elsewhere stands in a block that turns its errors into the one of that place."""

import ast
from collections.abc import Iterator
from pathlib import Path

import nascli

PACKAGE = Path(nascli.__file__).parent

GUARDS = {"writing", "open_whole", "make_whole_folder", "fill_folder"}
"""Context managers of `nascli.files` that turn an OSError in their block into CannotWriteError."""

METHODS = {"mkdir", "touch", "unlink", "rmdir", "rename", "write_bytes", "write_text", "hardlink_to", "symlink_to"}
"""Methods that nothing but a path has; `replace` with one argument is that of a path, too."""

FUNCTIONS = {
    *(f"os.{name}" for name in ("rename", "replace", "remove", "unlink", "mkdir", "makedirs", "rmdir", "link")),
    *(f"os.{name}" for name in ("symlink", "truncate", "ftruncate", "chmod", "write", "pwrite", "removedirs")),
    *(f"shutil.{name}" for name in ("copy", "copy2", "copyfile", "copyfileobj", "copytree", "move", "rmtree")),
    *(f"np.{name}" for name in ("save", "savez", "savez_compressed", "savetxt")),
    *("torch.save", "torch.export.save", "torch.onnx.export", "save_file", "h5py.File", "SummaryWriter"),
    *("NamedTemporaryFile", "TemporaryDirectory", "mkstemp", "mkdtemp"),
}
"""Functions that write to a path."""

ELSEWHERE = {
    "files.py": "it is the place",
    "partial.py": "files.py and those that call it",
    "progress.py": "the progress of a run may be lost: no error of its writer is one of the run",
    "cli/streams.py": "it writes to the standard output",
    "cli/failures.py": "the traceback of a fault, which is shown where it cannot be kept",
    # the caller's block is the guard
    "data/audit/exporting.py:_write_coco": "write_dataset",
    "data/audit/exporting.py:_write_folders": "write_dataset",
    "data/audit/exporting.py:_place_file": "write_dataset",
    "data/pack/shards.py:ShardStore.__init__": "pack_folder",
    "data/toy.py:_write_split": "write_scenes",
    "locks.py:lock_folder": "it removes what it made",
    "runs/start.py:_make_folder": "create_run",
    "runs/start.py:_point_latest": "it notes an error",
    "runs/folder.py:remove_entries": "create_run, finish_start",
    # into memory
    "data/checked_h5.py:CheckedFormat.create": "a file object",
    "engine/checkpoint.py:CheckpointStore.save": "a buffer",
    "detect/export.py:_trace": "a buffer",
    "models/deploy/export.py:_serialize_onnx": "no path is given",
    "models/deploy/export.py:export_program": "a buffer",
    "search/snapshot.py:SnapshotFile.save": "a buffer",
    # reading
    "models/keras_files.py": "it opens HDF5 files to read",
    "data/checked_h5.py:CheckedFormat.open": "it opens them to read",
}
"""Modules and functions that may write without a guard of their own, each with the reason."""


def writes(call: ast.Call) -> bool:
    """Whether a call writes, as far as its name tells."""
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if name in FUNCTIONS or last in {"NamedTemporaryFile", "TemporaryDirectory", "SummaryWriter"}:
        return True
    if last == "open":
        modes = [
            each for each in (*call.args, *(word.value for word in call.keywords)) if isinstance(each, ast.Constant)
        ]
        opened = [str(each.value) for each in modes if isinstance(each.value, str) and len(each.value) <= 3]
        return any(set(mode) & set("wax+") for mode in opened) or "os.O_CREAT" in ast.unparse(call)
    if not isinstance(call.func, ast.Attribute):
        return False
    if last == "save":  # of Pillow; torch's are above
        return any(isinstance(each, ast.BinOp | ast.Subscript) for each in call.args[:1])
    return last in METHODS or (last == "replace" and len(call.args) == 1 and not call.keywords)


def unguarded(tree: ast.AST, place: str = "", guarded: bool = False) -> Iterator[tuple[str, ast.Call]]:
    """The calls that write outside a guard, each with the dotted name of its function."""
    for node in ast.iter_child_nodes(tree):
        inside, within = place, guarded
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inside, within = f"{place}.{node.name}".lstrip("."), False
        if isinstance(node, ast.With):
            within |= any(
                isinstance(item.context_expr, ast.Call)
                and (
                    ast.unparse(item.context_expr.func) in GUARDS
                    or ast.unparse(item.context_expr) == "suppress(OSError)"
                )
                for item in node.items
            )
        if isinstance(node, ast.Call) and writes(node) and not within:
            yield inside, node
        yield from unguarded(node, inside, within)


def test_every_writer_is_guarded() -> None:
    wrong, used = [], set()
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).as_posix()
        for place, call in unguarded(ast.parse(path.read_text(encoding="utf-8"))):
            known = {module, f"{module}:{place}"} & set(ELSEWHERE)
            used |= known
            if not known:
                wrong.append(f"{module}:{call.lineno} {place}: {ast.unparse(call)}")
    assert wrong == []
    assert used == set(ELSEWHERE)  # no exception that is none any more


def test_the_search_for_writers_finds_them() -> None:
    source = """
def write(path, image):
    path.mkdir()
    open(path, "w")
    path.open("ab")
    image.save(path / "a.png")
    torch.save(1, path)
    with writing(path):
        path.unlink()
        path.replace(path)
    name.replace("a", "b")
    path.open("rb")
"""
    assert [call.lineno for _, call in unguarded(ast.parse(source))] == [3, 4, 5, 6, 7]
