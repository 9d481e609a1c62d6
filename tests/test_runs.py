"""Run folders: never half a file, never two writers, never an earlier run lost."""

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest

import nascli
from nascli.config import TrainRecipe, load_recipe
from nascli.errors import CorruptFileError, InputError, Interrupted, NascliError
from nascli.files import write_bytes, write_json, write_text
from nascli.reading import sha256_file
from nascli.runs.find import find_run, read_run
from nascli.runs.start import create_run, resume_run
from nascli.text_files import read_json


def test_a_run_folder_tells_what_was_asked(tmp_path: Path) -> None:
    given = tmp_path / "cell.json"
    given.write_text("{}")
    recipe = TrainRecipe(seed=7)
    with create_run("train", "digits", recipe, runs=tmp_path / "runs", inputs=[given], asked={"cell": "x"}) as run:
        assert read_run(run.path)["status"] == "running"
        run.update(results={"top1": 0.5})
    record = read_run(run.path, "train")
    assert record["status"] == "complete"
    assert record["results"] == {"top1": 0.5}
    assert record["asked"] == {"cell": "x"}
    assert record["inputs"] == {str(given): sha256_file(given)}
    assert {"nascli", "torch", "torchvision", "python"} <= set(record["versions"])
    assert record["started"] <= record["finished"]
    assert load_recipe(TrainRecipe, run.path / "recipe.toml") == recipe


def test_latest_points_to_the_newest_and_names_never_collide(tmp_path: Path) -> None:
    paths = []
    for _ in range(3):
        with create_run("train", "digits", TrainRecipe(), runs=tmp_path) as run:
            paths.append(run.path)
    assert len(set(paths)) == 3
    assert find_run("latest", "train", tmp_path) == paths[-1].resolve()


def test_an_earlier_run_is_never_lost(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    with create_run("train", "a", TrainRecipe(), runs=tmp_path, out=out) as run:
        run.file("sub/weights").write_text("precious")
    with pytest.raises(InputError, match="is not empty"):
        create_run("train", "a", TrainRecipe(), runs=tmp_path, out=out)
    assert (out / "sub" / "weights").read_text() == "precious"
    with create_run("train", "a", TrainRecipe(), runs=tmp_path, out=out, overwrite=True):
        assert not (out / "sub").exists()


def test_overwrite_never_empties_a_folder_that_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not a run folder"):
        create_run("train", "a", TrainRecipe(), runs=tmp_path, out=tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "complete"),
        (ValueError("x"), "failed"),
        (Interrupted("x"), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_status_says_how_a_run_ended(tmp_path: Path, error: BaseException | None, status: str) -> None:
    run = create_run("train", "a", TrainRecipe(), runs=tmp_path)
    with suppress(BaseException), run:
        if error:
            raise error
    assert read_run(run.path)["status"] == status


def hold(path: Path) -> None:
    with create_run("train", "a", TrainRecipe(), runs=path, out=path / "run"):
        (path / "held").touch()
        time.sleep(60)


def test_a_run_in_use_is_refused_and_a_killed_one_is_free_at_once(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path,))
    other.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.02)
    with pytest.raises(InputError, match="in use by another process"):
        resume_run(tmp_path / "run", "train")
    with pytest.raises(InputError, match="in use by another process"):
        create_run("train", "a", TrainRecipe(), runs=tmp_path, out=tmp_path / "run", overwrite=True)
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with resume_run(tmp_path / "run", "train") as run:
        assert read_run(run.path)["resumed"] == 1


def hold_with_a_child(path: Path) -> None:
    """As `hold`, with a forked process that lives on where this one is killed."""
    with create_run("train", "a", TrainRecipe(), runs=path, out=path / "run"):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        write_text(path / "child", str(child))
        time.sleep(60)


def test_what_a_run_forked_does_not_hold_it_when_it_is_killed(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=hold_with_a_child, args=(tmp_path,))
    other.start()
    while not (tmp_path / "child").exists():
        time.sleep(0.02)
    child = int((tmp_path / "child").read_text())
    try:
        with pytest.raises(InputError, match="in use by another process"):
            resume_run(tmp_path / "run", "train")
        other.kill()
        other.join()
        os.kill(child, 0)  # it is there
        with resume_run(tmp_path / "run", "train") as run:
            assert read_run(run.path)["resumed"] == 1
    finally:
        other.kill()
        os.kill(child, signal.SIGKILL)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_run_that_was_dropped_holds_nothing(tmp_path: Path) -> None:
    create_run("train", "a", TrainRecipe(), runs=tmp_path, out=tmp_path / "run")
    gc.collect()
    with resume_run(tmp_path / "run", "train") as run:
        assert read_run(run.path)["resumed"] == 1


def test_what_may_change_on_resume_is_kept(tmp_path: Path) -> None:
    with create_run("train", "a", TrainRecipe(), runs=tmp_path, out=tmp_path / "run", data={"sha256": "x"}) as run:
        assert read_run(run.path)["data"] == {"sha256": "x"}
    with resume_run(run.path, "train"):
        assert read_run(run.path)["data"] == {"sha256": "x"}
    changed = load_recipe(TrainRecipe, None, {"data.dataset": "folder:elsewhere", "data.flip": True, "seed": 3})
    with resume_run(run.path, "train") as run:
        run.move_inputs(changed, {"data": ("dataset", "data_dir")}, {"sha256": "y"})
        record = read_run(run.path)
    assert (record["data"], record["recipe"]["data"]["dataset"]) == ({"sha256": "y"}, "folder:elsewhere")
    assert (record["recipe"]["seed"], record["recipe"]["data"]["flip"]) == (0, False)  # as it was begun
    assert load_recipe(TrainRecipe, run.path / "recipe.toml") == changed


def test_resume_refuses_what_is_no_run_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        resume_run(tmp_path, "train")
    with create_run("search", "a", TrainRecipe(), runs=tmp_path) as run:
        pass
    with pytest.raises(InputError, match="is a run of nascli search, not of nascli train"):
        resume_run(run.path, "train")
    (run.path / "run.json").write_text('{"command": "sea')
    with pytest.raises(CorruptFileError, match="is not JSON"):
        resume_run(run.path, "search")


def test_find_run_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nascli train makes one"):
        find_run("latest", "train", tmp_path)


def test_a_file_stands_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(NascliError, match="cannot be written"):
        create_run("train", "a", TrainRecipe(), runs=tmp_path / "runs")


def test_json_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert not path.exists()
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    write_text(path, "[1]")
    with pytest.raises(CorruptFileError, match="not an object"):
        read_json(path)


WRITER = """
import sys
from pathlib import Path
from nascli.files import write_bytes
path = Path(sys.argv[1])
for n in range(10**6):
    write_bytes(path, bytes([n % 256]) * 200_000)
"""


def test_a_kill_never_leaves_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "content"
    write_bytes(path, b"x" * 200_000)
    for delay in (0.3, 0.33, 0.37):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        time.sleep(delay)
        writer.kill()
        writer.wait()
        content = path.read_bytes()
        assert len(content) == 200_000
        assert len(set(content)) == 1


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": True})
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")  # type: ignore[arg-type]
    assert json.loads(path.read_text()) == {"old": True}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


UNINSTALLED = """
from importlib.metadata import Distribution, PackageNotFoundError
found = Distribution.from_name.__func__
def hide(cls, name):
    if name == "nascli":
        raise PackageNotFoundError(name)
    return found(cls, name)
Distribution.from_name = classmethod(hide)
from nascli.runs.record import versions
print(versions()["nascli"], versions()["torch"])
"""


def test_a_checkout_that_is_not_installed_has_a_version(tmp_path: Path) -> None:
    root = Path(nascli.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", UNINSTALLED], env={"PYTHONPATH": str(root)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.stdout.split() == [nascli.__version__, metadata.version("torch")], ran.stderr


def test_a_run_on_a_gpu_names_it(tmp_path: Path) -> None:
    with create_run("train", "digits", TrainRecipe(), runs=tmp_path) as run:
        assert read_run(run.path)["machine"].keys() == {"platform", "cores"}
    with create_run(
        "train", "digits", TrainRecipe(), runs=tmp_path, device={"gpu": "H100", "tf32_matmul": False}
    ) as run:
        assert read_run(run.path)["machine"].items() >= {("gpu", "H100"), ("tf32_matmul", False)}
