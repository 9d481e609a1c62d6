"""Full disks, folders that go, permissions: one line, nothing half written, and the same command goes on."""

import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nascli.data.toy import SceneConfig, write_scenes
from tests.cli.program import Nascli
from tests.front_door.made import DETECT, TRAIN, write_classes, write_coco, write_perfect_results
from tests.reliability.full_disk import FullDisk, spread
from tests.reliability.rehearsal import Scenario, resume_run_of
from tests.reliability.zygote import Zygote

_SEARCH = (
    "search --recipe digits --dataset folder:images --device cpu --workers 1 --filters 2 --epochs 1 "
    "--set train.batch_size=4 --set search.holdout=0.3 --trials 3 --strategy random --out run"
)
_TRAIN = f"{TRAIN} --dataset folder:images --epochs 2 --set train.checkpoint_steps=2 --out run"
_DETECT = f"{DETECT} --dataset coco:scenes --out run"


def _run(line: str) -> Scenario:
    command = tuple(shlex.split(line))
    return Scenario(line, command, "run", resume=resume_run_of(command, command[0], "run"))


def _repeat(line: str, out: str, *before: str) -> Scenario:
    return Scenario(line, tuple(shlex.split(line)), out, tuple(tuple(shlex.split(each)) for each in before))


_SCENARIOS = {
    "search": _run(_SEARCH),
    "one_shot": _run(f"{_SEARCH} --evaluator one_shot"),
    "train": _run(_TRAIN),
    "train --tensorboard": _run(f"{_TRAIN} --tensorboard"),
    "detect": _run(_DETECT),
    "pack": _repeat("pack images pack.h5 --size 16", "pack.h5"),
    "decode": _repeat("decode nasnet-a --out cell.json --draw cell.svg --draw cell.png --overwrite", "cell.json"),
    "build": _repeat("build --cell run --out built", "built", _TRAIN),
    "evaluate": _repeat("evaluate run", "run", _TRAIN),
    "report": _repeat("report run --table run/cells.h5", "run", _SEARCH),
    "detect predict": _repeat("detect predict scenes/val2017 --run run --out out", "out", _DETECT),
    "detect score": _repeat("detect score scenes/results.json --dataset coco:scenes --out out", "out"),
    "detect show": _repeat("detect show --dataset coco:scenes --out out", "out"),
    "data show": _repeat("data show images --out out", "out"),
    "data convert": _repeat("data convert coco:scenes out", "out"),
    "data split": _repeat("data split images out --copy", "out"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images/` of two classes; `scenes/` with boxes and a results file."""
    folder = tmp_path_factory.mktemp("data")
    write_classes(folder / "images", counts=(8, 4))
    write_perfect_results(write_coco(folder / "scenes"))
    return folder


def _list_limits(disk: FullDisk, count: int) -> Iterator[dict[str, int]]:
    """Disks that are full at a step; files that may not grow to the size that one has in the end."""
    for step in spread(disk.steps, count):
        yield {"full_at": step}
    for place in spread(len(disk.sizes), count):
        yield {"file_size": max(1, disk.sizes[place - 1] - 1)}


def _check(disk: FullDisk, name: str, count: int, record: Callable[[str, object], None]) -> None:
    limits = list(_list_limits(disk, count))
    problems = [f"{limit}: {problem}" for limit in limits if (problem := disk.attempt(**limit))]
    record("tries", {"name": f"full disk: {name}", "tries": len(limits), "held": len(limits) - len(problems)})
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", ["pack", "detect score", "data convert"])
def test_a_full_disk_is_said_and_nothing_is_lost(
    zygote: Zygote, data: Path, tmp_path: Path, record_property: Callable[[str, object], None], name: str
) -> None:
    _check(FullDisk(zygote, _SCENARIOS[name], data, tmp_path), name, 2, record_property)


def test_a_training_on_a_full_disk_is_resumed(
    zygote: Zygote, data: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    _check(FullDisk(zygote, _SCENARIOS["train"], data, tmp_path), "train", 2, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("name", _SCENARIOS)
def test_a_disk_that_is_full_at_any_step(
    zygote: Zygote, data: Path, tmp_path: Path, record_property: Callable[[str, object], None], name: str
) -> None:
    _check(FullDisk(zygote, _SCENARIOS[name], data, tmp_path), name, 20, record_property)


def test_what_was_measured_is_shown_on_a_full_disk(zygote: Zygote, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    line = "data check images --out page --json"
    ended = zygote.call(*shlex.split(line), folder=tmp_path / "data", file_size=2000)
    values = json.loads(ended.out)
    assert (ended.code, values["error"]["code"], values["usable"]) == (1, "cannot_write", True)


def _remove_when(folder: Path, when: str, how: Callable[[Path], object]) -> Callable[..., None]:
    """A stand-in for the progress of a training, which takes its folder away once a file is there."""

    def look(*_: object, **__: object) -> None:
        if (folder / when).exists():
            how(folder)

    return look


def _empty(folder: Path) -> None:
    for each in list(folder.iterdir()):
        if each.name != ".lock":
            shutil.rmtree(each) if each.is_dir() else each.unlink()


def _replace(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("how", [shutil.rmtree, _empty, _replace, lambda folder: folder.rename("elsewhere")])
@pytest.mark.parametrize("line", [_SEARCH.replace("--trials 3", "--trials 4 --evaluator params"), _TRAIN])
def test_a_folder_that_is_gone_ends_its_run(
    nascli: Nascli, data: Path, monkeypatch: pytest.MonkeyPatch, line: str, how: Callable[[Path], object]
) -> None:
    shutil.copytree(data / "images", "images")
    when = "trials.jsonl" if line.startswith("search") else "checkpoint.pt"
    monkeypatch.setattr("nascli.progress.ProgressFile.write", _remove_when(Path("run"), when, how))
    monkeypatch.setattr("nascli.progress.ProgressFile.is_due", True)
    ran = nascli(f"{line} --json")
    assert (ran.code, ran.json["error"]["code"]) == (1, "cannot_write"), ran.err
    assert "removed" in ran.err
    assert "safe" not in ran.err
    assert "--resume" not in ran.err
    left = {path.name for path in Path("run").glob("*")} if Path("run").exists() else set()
    assert left <= {".lock"}


@pytest.mark.parametrize("mask", [0o077, 0o002, 0o027])
def test_the_umask_alone_says_who_may_read(nascli: Nascli, data: Path, mask: int) -> None:
    shutil.copytree(data / "scenes", "scenes")
    before = os.umask(mask)
    try:
        assert nascli("decode nasnet-a --out deep/cell.json --draw deep/cell.png").code == 0
        assert nascli("data convert coco:scenes as-coco --copy").code == 0
        line = "detect score scenes/results.json --dataset coco:scenes --out scored"
        assert nascli(line).code == 0
        assert nascli("build --cell nasnet-a --filters 4 --cells-per-stage 1 --out built").code == 0
    finally:
        os.umask(before)
    for folder in ("deep", "as-coco", "scored", "built"):
        for path in (Path(folder), *Path(folder).rglob("*")):
            expected = (0o777 if path.is_dir() else 0o666) & ~mask
            assert path.stat().st_mode & 0o777 == expected, path


def test_digit_scenes_follow_the_umask() -> None:
    before = os.umask(0o027)
    try:
        write_scenes(Path("scenes"), SceneConfig(train=2, val=1))
    finally:
        os.umask(before)
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in (Path("scenes"), *Path("scenes").rglob("*"))}
    assert modes == {(True, 0o750), (False, 0o640)}


def test_what_a_kill_left_is_removed_and_what_is_being_written_stays(nascli: Nascli, classifier: str) -> None:
    folder = Path(classifier)
    (folder / "top").mkdir()
    dead = [
        folder / ".weights.safetensors.nascli-0123abcd.partial",
        folder / "top" / ".01.json.nascli-0123abcd.partial",
    ]
    living = folder / ".report.html.nascli-89abcdef.partial"
    theirs = [folder / ".mine.partial", folder / ".photo.png.0123abcd.partial", folder / "top" / "notes.partial"]
    for path in (*dead, living, *theirs):
        path.write_text("x")
    with living.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert nascli(f"evaluate {classifier} --device cpu").code == 0
        assert [path.exists() for path in dead] == [False, True]  # evaluate writes at the top alone
        assert nascli(f"train --resume {classifier}").code == 0
        assert not any(path.exists() for path in dead)
        assert all(path.exists() for path in (living, *theirs))


@pytest.mark.parametrize(
    "command", ["decode nasnet-a --overwrite --out {}.json", "pack images {} --size 16 --overwrite"]
)
@pytest.mark.parametrize("kind", ["folder", "dangling", "link", "pipe", "/dev/null"])
def test_odd_places_for_a_file(zygote: Zygote, data: Path, tmp_path: Path, command: str, kind: str) -> None:
    (tmp_path / "images").symlink_to(data / "images")
    name = "out" if command.startswith("pack") else "out.json"
    path, target = tmp_path / name, tmp_path / "target"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    else:
        path.symlink_to(kind if kind == "/dev/null" else target)
        if kind == "link":
            target.write_text("precious")
    ended = zygote.call(*shlex.split(command.format("out")), folder=tmp_path)
    assert "Traceback" not in ended.err
    if kind == "folder" or (command.startswith("pack") and kind in ("pipe", "/dev/null")):
        assert ended.code == 2, ended.err
    else:
        assert ended.code == 0, ended.err
    if kind == "link":  # it is replaced, not followed
        assert (target.read_text(), path.is_symlink()) == ("precious", False)
    if kind == "pipe":
        os.close(reader)
    assert not list(tmp_path.rglob("*.partial"))
