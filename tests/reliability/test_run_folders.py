"""Run folders that a kill left half made, half emptied or half resumed: the documented commands take them."""

import hashlib
import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from nascli.engine.checkpoint import NEWEST
from nascli.reading import sha256_file
from tests.front_door.made import DETECT, TRAIN, write_classes, write_coco
from tests.reliability.zygote import Ended, Zygote

OUT = "run"


@dataclass(frozen=True)
class Start:
    """The start of a command, which ends when a file is there.

    Args:
        line: The command and its options, without those of the run folder.
        until: The first file that is written after the start.
        equal: Files that are the same however the start was disturbed.
    """

    line: str
    until: str
    equal: tuple[str, ...]

    @property
    def resume(self) -> str:
        return f"{self.line.split()[0]} --resume {OUT}"


STARTS = {
    "train": Start(f"{TRAIN} --dataset folder:DATA", "checkpoint.pt", ("recipe.toml", "network.json", "checkpoint.pt")),
    "detect": Start(
        f"{DETECT} --dataset coco:COCO",
        "checkpoint.pt",
        ("recipe.toml", "network.json", "detector.json", "checkpoint.pt"),
    ),
    "search": Start(
        "search --dataset folder:DATA --evaluator params --trials 3 --strategy random --workers 1 --device cpu",
        "trials.jsonl",
        ("recipe.toml", "trials.jsonl"),
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_classes(folder / "classes", counts=(2, 1))
    write_coco(folder / "coco")
    return folder


@dataclass
class Folder:
    """A folder in which a start is disturbed.

    Args:
        path: Its run is `OUT` in it.
    """

    zygote: Zygote
    start: Start
    path: Path
    data: Path

    def __call__(self, options: str, *, at: int = 0) -> Ended:
        line = f"{self.start.line} {options}" if options.startswith("--out") else options
        line = line.replace("DATA", str(self.data / "classes")).replace("COCO", str(self.data / "coco"))
        return self.zygote.call(
            *line.split(), folder=self.path, kill_at=at or None, until="" if at else self.start.until
        )

    def read(self) -> dict[str, str]:
        """Digests of the files that have to be equal; of a checkpoint, which has seconds in it, of its tensors."""
        folder = self.path / OUT
        return {name: (sum_tensors if name == NEWEST else sha256_file)(folder / name) for name in self.start.equal}

    def copy(self) -> "Folder":
        path = self.path.with_name(f"{self.path.name}-copy")
        shutil.copytree(self.path, path)
        return Folder(self.zygote, self.start, path, self.data)


@pytest.fixture
def folders(zygote: Zygote, data: Path, tmp_path: Path) -> "Folders":
    return Folders(zygote, data, tmp_path)


def sum_tensors(path: Path) -> str:
    digest = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.numpy().tobytes())
        elif isinstance(value, dict | list | tuple):
            for each in value.values() if isinstance(value, dict) else value:
                add(each)

    state = torch.load(path, weights_only=True)["state"]
    add(state)
    return f"{state['step']} {digest.hexdigest()}"


class Folders:
    def __init__(self, zygote: Zygote, data: Path, path: Path) -> None:
        self._zygote, self._data, self._path, self._numbers = zygote, data, path, itertools.count()

    def make(self, command: str) -> Folder:
        path = self._path / str(next(self._numbers))
        path.mkdir()
        return Folder(self._zygote, STARTS[command], path, self._data)


def begin_undisturbed(folder: Folder, options: str = f"--out {OUT}") -> tuple[dict[str, str], int]:
    """The files of a start that nothing disturbs, and the changes of the folder that it makes."""
    ended = folder(options)
    assert ended.is_killed, ended.err
    return folder.read(), ended.writes


def check_taken(folder: Folder, place: int, *results: dict[str, str]) -> None:
    """What a kill left is taken up by `--resume` and replaced by `--overwrite`, with the result that it would have had.

    Args:
        results: That of the new run, and what a resumed run may have.
    """
    other = folder.copy()
    ended = other(f"--out {OUT} --overwrite")
    assert (ended.is_killed, other.read()) == (True, results[0]), (place, ended.err)
    ended = folder(folder.start.resume)
    if ended.code == 2:  # nothing was recorded: the same command is the way, and it needs no --overwrite
        assert "not a run folder" in ended.err or "no such folder" in ended.err, (place, ended.err)
        ended = folder(f"--out {OUT}")
        assert (ended.is_killed, folder.read()) == (True, results[0]), (place, ended.err)
    assert ended.code == 0 or ended.is_killed, (place, ended.err)  # 0: it had made its last checkpoint
    assert folder.read() in results, place
    assert not list((folder.path / OUT).glob(".*.partial")), place


def disturb(command: str, folders: Folders, step: int) -> None:
    """Kill a new run, one that overwrites an earlier one, and one that is resumed, before every `step`-th change."""
    folder = folders.make(command)
    new, changes = begin_undisturbed(folder)
    later, _ = begin_undisturbed(folder, folder.start.resume)
    for place in range(1, changes + 1, step):
        folder = folders.make(command)
        ended = folder(f"--out {OUT}", at=place)
        assert (ended.is_killed, ended.writes) == (True, place), ended.err
        check_taken(folder, place, new, later)

    earlier = folders.make(command)
    begin_undisturbed(earlier, f"--out {OUT} --seed 5")
    (earlier.path / OUT / "top").mkdir()
    (earlier.path / OUT / "top" / "01.json").write_text("{}", encoding="utf-8")
    again, changes = begin_undisturbed(earlier.copy(), f"--out {OUT} --overwrite")
    assert again == new
    shutil.rmtree(f"{earlier.path}-copy")
    old, resuming = begin_undisturbed(earlier.copy(), earlier.start.resume)
    for place in range(1 + step // 2, changes + 1, step):
        shutil.rmtree(f"{earlier.path}-copy")
        folder = earlier.copy()
        assert folder(f"--out {OUT} --overwrite", at=place).is_killed
        check_taken(folder, place, new, old, later)
        shutil.rmtree(f"{folder.path}-copy")

    for place in range(1, resuming + 1, step):
        shutil.rmtree(f"{earlier.path}-copy")
        folder = earlier.copy()
        assert folder(folder.start.resume, at=place).is_killed
        check_taken(folder, place, new, old)
        shutil.rmtree(f"{folder.path}-copy")


@pytest.mark.slow
def test_a_start_that_is_killed_is_taken_up_or_replaced(folders: Folders) -> None:
    disturb("search", folders, 4)


@pytest.mark.parametrize("command", ["train", "detect"])
def test_a_training_that_is_killed_before_its_first_checkpoint_is_resumed(command: str, folders: Folders) -> None:
    new, changes = begin_undisturbed(folders.make(command))
    folder = folders.make(command)
    assert folder(f"--out {OUT}", at=changes // 2).is_killed
    assert not (folder.path / OUT / NEWEST).exists()
    assert (folder.path / OUT / "run.json").exists()
    ended = folder(folder.start.resume)
    assert (ended.is_killed, folder.read()) == (True, new), ended.err


@pytest.mark.slow
@pytest.mark.parametrize("command", STARTS)
def test_a_start_that_is_killed_at_any_change_is_taken_up_or_replaced(command: str, folders: Folders) -> None:
    disturb(command, folders, 1)


def disturb_pack(zygote: Zygote, data: Path, path: Path, step: int) -> None:
    line = f"pack {data / 'classes'} p.h5 --size 16 --workers 1"
    for name in ("whole", "again"):
        (path / name).mkdir()
    whole = zygote.call(*line.split(), folder=path / "whole")
    again = zygote.call(*line.split(), "--overwrite", folder=path / "again")
    assert (whole.code, again.code) == (0, 0), whole.err + again.err
    for place in range(1, whole.writes + 1, step):
        for options in ("", " --overwrite"):
            folder, command = path / f"{place}{options}", (line + options).split()
            folder.mkdir()
            assert zygote.call(*command, folder=folder, kill_at=place).is_killed
            was_whole = (folder / "p.h5").exists() and not (folder / "p.h5.partial").exists()
            ended = zygote.call(*command, folder=folder)
            assert ended.code == 0 or (was_whole and "p.h5 exists" in ended.err), (place, ended.err)
            assert not (folder / "p.h5.partial").exists()
            assert sha256_file(folder / "p.h5") == sha256_file(path / "whole" / "p.h5")


@pytest.mark.slow
def test_a_pack_that_is_killed_is_made_by_the_same_command(zygote: Zygote, data: Path, tmp_path: Path) -> None:
    disturb_pack(zygote, data, tmp_path, 4)


@pytest.mark.slow
def test_a_pack_that_is_killed_at_any_change_is_made_by_the_same_command(
    zygote: Zygote, data: Path, tmp_path: Path
) -> None:
    disturb_pack(zygote, data, tmp_path, 1)
