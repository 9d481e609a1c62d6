"""Terminals that were closed, pipes whose readers have left, full disks behind stdout: no command ends by them."""

import json
import os
import shlex
import signal
from pathlib import Path

import pytest

from nascli.cli.progress import TrainProgress
from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, write_classes
from tests.reliability.zygote import Ended, Zygote

_FULL = "/dev/full"


def call(zygote: Zygote, folder: Path, line: str, *streams: str) -> Ended:
    return zygote.call(*shlex.split(line), folder=folder, streams=("", *streams))


@pytest.mark.parametrize("line", ["--version", "--help", "--help-json", "decode nasnet-a", "decode nasnet-a --json"])
@pytest.mark.parametrize("stdout", [_FULL, "closed"])
def test_a_result_that_cannot_be_printed_is_a_failure(zygote: Zygote, tmp_path: Path, line: str, stdout: str) -> None:
    ended = call(zygote, tmp_path, line, stdout)
    errors = [each for each in ended.err.splitlines() if each.startswith("error: ")]
    assert (ended.code, len(errors)) == (1, 1), ended.err
    assert "cannot be printed" in errors[0]


def test_an_error_object_that_cannot_be_printed_leaves_the_exit_code(zygote: Zygote, tmp_path: Path) -> None:
    ended = call(zygote, tmp_path, "decode nothing --json", _FULL)
    assert ended.code == 2
    assert "nothing" in ended.err


@pytest.mark.parametrize("line", ["--help", "decode nasnet-a", "decode nasnet-a --json"])
def test_a_reader_that_left_wanted_no_more(zygote: Zygote, tmp_path: Path, line: str) -> None:
    ended = call(zygote, tmp_path, line, "left")
    assert ended.code == 0, ended.err
    assert "error" not in ended.err


@pytest.mark.parametrize("stderr", [_FULL, "closed", "left"])
def test_stderr_changes_nothing(zygote: Zygote, tmp_path: Path, stderr: str) -> None:
    ended = call(zygote, tmp_path, "decode nasnet-a --json", "", stderr)
    assert (ended.code, json.loads(ended.out)["genotype"]["name"]) == (0, "nasnet-a")
    assert call(zygote, tmp_path, "decode nothing", "", stderr).code == 2
    assert call(zygote, tmp_path, "decode", "closed", stderr).code == 2


@pytest.mark.parametrize(
    ("stdout", "stderr", "code"), [("left", "left", 0), ("closed", "closed", 1), (_FULL, _FULL, 1)]
)
def test_a_training_without_streams_goes_on_to_its_end(
    zygote: Zygote, tmp_path: Path, stdout: str, stderr: str, code: int
) -> None:
    write_classes(tmp_path / "images")
    line = shlex.split(f"{TRAIN} --dataset folder:images --out run")
    ended = zygote.call(*line, folder=tmp_path, streams=("closed", stdout, stderr))
    assert ended.code == code
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], "top1" in record["results"]) == ("complete", True)
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_files_get_no_number_of_a_closed_stream(zygote: Zygote, tmp_path: Path) -> None:
    line = shlex.split("decode nasnet-a --out cell.json --draw cell.png")
    assert zygote.call(*line, folder=tmp_path, streams=("closed", "closed", "closed")).code == 1
    assert json.loads((tmp_path / "cell.json").read_text())["name"] == "nasnet-a"
    assert (tmp_path / "cell.png").read_bytes().startswith(b"\x89PNG")


def test_stdin_that_is_closed_is_an_empty_one(zygote: Zygote, tmp_path: Path) -> None:
    ended = zygote.call("decode", "-", folder=tmp_path, streams=("closed",))
    assert ended.code in (1, 2)
    assert "standard input" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("is_ignored", [False, True], ids=["alone", "nohup"])
def test_a_terminal_that_is_closed_stops_a_training_whose_state_is_saved(
    is_ignored: bool, nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_up(*_: object) -> None:
        for _signal in range(2):  # the kernel's and the shell's
            signal.raise_signal(signal.SIGHUP)

    write_classes(Path("images"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    monkeypatch.setattr(TrainProgress, "on_step", hang_up)
    try:
        ran = nascli(f"{TRAIN} --dataset folder:images --out run")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ran.code == (0 if is_ignored else 130), ran.err
    assert Path("run/checkpoint.pt").is_file()
    assert Path("run/weights.safetensors").is_file() == is_ignored


def test_a_backend_of_matplotlib_that_is_none_is_not_asked_for(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "none such")  # with which it cannot be imported
    assert nascli("decode nasnet-a --draw cell.png").code == 0
    assert "MPLBACKEND" not in os.environ
