"""Folders of several files, whole or not at all; links in a run, which lead to folders of others."""

import errno
import json
import os
import shlex
from pathlib import Path

import pytest

from nascli.cli.failures import explain_failure
from nascli.errors import CannotWriteError
from nascli.files import cannot_write
from nascli.runs.start import create_run
from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, write_classes, write_coco, write_perfect_results
from tests.reliability.zygote import Ended, Zygote
from tests.search.test_study import recipe, search


@pytest.fixture
def elsewhere() -> Path:
    """A folder of somebody else, in which a report and a best cell have lain, too."""
    folder = Path("elsewhere")
    folder.mkdir()
    for name in ("precious.txt", "01.json", "02.json", "progress.png", "rewards.png", "000101.png"):
        (folder / name).write_text(name)
    return folder


def is_untouched(folder: Path) -> bool:
    return len(list(folder.iterdir())) == 6 and all(path.read_text() == path.name for path in folder.iterdir())


def put_link(link: Path, target: Path) -> None:
    if link.is_dir():
        link.rename(f"{link}.moved")
    link.symlink_to(os.path.relpath(target, link.parent))


def test_a_search_follows_no_link_in_its_run(nascli: Nascli, elsewhere: Path) -> None:
    run = Path("run")
    search(run, recipe())
    put_link(run / "top", elsewhere)
    with pytest.raises(CannotWriteError, match="run/top cannot be written: it is a link"):
        search(run, recipe())
    put_link(run / "report", elsewhere)
    ran = nascli("report run")
    assert (ran.code, "run/report" in ran.err, "link" in ran.err) == (1, True, True), ran.err
    assert is_untouched(elsewhere)
    with create_run("search", "", recipe(), runs=Path("runs"), out=run, overwrite=True):
        pass
    assert {path.name for path in run.iterdir()} == {".lock", "run.json", "recipe.toml"}
    assert is_untouched(elsewhere)


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize("name", ["worst", "detections"])
def test_a_detector_follows_no_link_in_its_run(nascli: Nascli, elsewhere: Path, name: str) -> None:
    put_link(Path("detector", name), elsewhere)
    ran = nascli("detect --resume detector")
    assert (ran.code, f"detector/{name}" in ran.err, "link" in ran.err) == (1, True, True), ran.err
    assert is_untouched(elsewhere)


@pytest.mark.usefixtures("classifier")
def test_event_files_go_on_where_they_were_asked_for_and_follow_no_link(nascli: Nascli, elsewhere: Path) -> None:
    Path("classifier/tensorboard").mkdir()  # of somebody else
    assert nascli("train --resume classifier").code == 0
    assert not list(Path("classifier/tensorboard").iterdir())
    Path("classifier/tensorboard").rmdir()
    for path in Path("classifier").glob("checkpoint*"):  # so that there are steps to come
        path.unlink()
    assert nascli("train --resume classifier --tensorboard").code == 0
    put_link(Path("classifier/tensorboard"), elsewhere)
    ran = nascli("train --resume classifier")
    assert (ran.code, "classifier/tensorboard" in ran.err, "link" in ran.err) == (1, True, True), ran.err
    assert is_untouched(elsewhere)
    Path("classifier/tensorboard").unlink()
    for path in Path("classifier").glob("checkpoint*"):
        path.unlink()
    assert nascli("train --resume classifier").code == 0
    assert len(list(Path("classifier/tensorboard").iterdir())) == 1


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize("name", ["predict", "score"])
def test_a_folder_is_filled_whole_or_not_at_all(zygote: Zygote, name: str) -> None:
    write_perfect_results(write_coco(Path("scenes")))
    line = {
        "predict": "detect predict scenes/val2017 --run detector --threshold 0 --device cpu",
        "score": "detect score scenes/results.json --dataset coco:scenes --out found",
    }[name]
    out = Path("detector/predictions" if name == "predict" else "found")
    assert zygote.call(*shlex.split(line), folder=Path.cwd(), file_size=500).code == 1
    assert not out.exists() or not list(out.iterdir())
    assert zygote.call(*shlex.split(line), folder=Path.cwd()).code == 0
    assert len(list(out.iterdir())) > 1
    assert not list(Path().rglob("*.partial"))


def test_a_killed_fill_is_done_by_the_same_command(zygote: Zygote) -> None:
    write_classes(Path("images"), counts=(2, 1))
    Path("out").mkdir()
    line = shlex.split("data show images --out out")
    assert zygote.call(*line, folder=Path.cwd(), until="train.png").is_killed
    assert [path.suffix for path in Path("out").iterdir()] == [".partial"]
    ended = zygote.call(*line, folder=Path.cwd())
    assert (ended.code, sorted(path.name for path in Path("out").iterdir())) == (0, ["train.png", "val.png"])


def test_a_data_set_is_written_into_the_current_folder(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(Path("scenes"))
    Path("empty").mkdir()
    monkeypatch.chdir("empty")
    assert nascli("data convert coco:../scenes .").code == 0
    assert sorted(path.name for path in Path().iterdir()) == ["annotations", "train2017", "val2017"]


def test_where_an_error_is_in_a_folder_its_own_name_is_said(zygote: Zygote) -> None:
    write_coco(Path("scenes"))
    line = "data convert coco:scenes out --copy --json"
    ended = zygote.call(*shlex.split(line), folder=Path.cwd(), file_size=300)
    error = json.loads(ended.out)["error"]
    assert (ended.code, error["code"], error["file"].split("/")[0]) == (1, "cannot_write", "out")
    assert ".partial" not in error["message"]


def test_a_pack_that_was_killed_as_it_cleared_up_is_ended_by_the_same_command(zygote: Zygote) -> None:
    write_classes(Path("images"), counts=(2, 1))
    pack, left = Path("p.h5"), Path("p.h5.partial")

    def call(more: str = "", at: int | None = None) -> Ended:
        line = f"pack images p.h5 --size 16 --workers 1 {more}"
        return zygote.call(*shlex.split(line), folder=Path.cwd(), kill_at=at)

    last = call().writes
    content = pack.read_bytes()
    pack.unlink()
    assert call(at=last - 1).is_killed
    assert (pack.exists(), left.exists()) == (True, True)
    assert call("--quality 80").code == 2  # another pack than that which is there
    assert (call().code, pack.read_bytes() == content, left.exists()) == (0, True, False)
    pack.unlink()
    assert call(at=last - 2).is_killed
    next(Path("images/train/cat").iterdir()).touch()
    assert (call().code, left.exists()) == (2, True)


@pytest.mark.parametrize("left", [(".lock",), (".lock", "recipe.toml"), (".lock", "recipe.toml", "network.json")])
def test_a_run_that_nothing_is_recorded_of_is_begun_again(nascli: Nascli, left: tuple[str, ...]) -> None:
    write_classes(Path("images"), counts=(2, 1))
    Path("run").mkdir()
    for name in left:
        Path("run", name).touch()
    if len(left) > 1:
        for command in ("train", "detect", "search"):
            ran = nascli(f"{command} --resume run")
            assert (ran.code, "--overwrite" in ran.err) == (2, True), ran.err
        ran = nascli(f"{TRAIN} --dataset folder:images --out run")
        assert (ran.code, "--resume" in ran.err, "--overwrite" in ran.err) == (2, False, True), ran.err
    with create_run("search", "", recipe(), runs=Path("runs"), out=Path("run"), overwrite=True):
        assert Path("run/run.json").is_file()


@pytest.mark.parametrize("line", ["runs", "decode nasnet-a --out cell.json", "train --cell nasnet-a --json", "data"])
def test_a_current_folder_that_is_gone_is_said(nascli: Nascli, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    gone = Path("gone")
    gone.mkdir()
    monkeypatch.chdir(gone)
    Path("../gone").resolve().rmdir()
    ran = nascli(line)
    assert (ran.code, "current folder is gone" in ran.err) == (2, True), ran.err


def test_a_file_that_is_mounted_by_itself_is_said(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    ran = nascli("decode nasnet-a --out cell.json")
    assert (ran.code, "cell.json cannot be written" in ran.err, "mount its folder" in ran.err) == (1, True, True)
    assert not list(Path().iterdir())


def test_a_machine_without_a_place_for_temporary_files_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/nowhere"])
    for error in (OSError("a cache is needed"), cannot_write(Path("x"), OSError("a cache is needed"))):
        error.__cause__ = OSError("a cache is needed")
        assert "TMPDIR" in explain_failure(error)["remedy"]
    assert explain_failure(FileNotFoundError(errno.ENOENT, "none", "x"))["file"] == "x"
