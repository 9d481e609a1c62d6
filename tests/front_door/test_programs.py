"""What a program reads of a call: one object on stdout, the error with its code, file and field, the help as JSON."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nascli.cli import failures
from nascli.cli.failures import ERROR_CODES, EXIT_CODES
from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, Lists, draw_noise, write_classes, write_coco, write_json


def failed(nascli: Nascli, line: str) -> dict[str, Any]:
    """The error of a call with --json, which leaves one object and a line for people."""
    ran = nascli(line)
    error: dict[str, Any] = ran.json["error"]
    assert set(error) == {"code", "exit_code", "type", "message", "file", "field", "remedy"}
    assert error["exit_code"] == ran.code
    assert error["code"] in ERROR_CODES
    assert error["exit_code"] in EXIT_CODES
    assert error["message"]
    assert ran.err
    return error


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("train --bogus 1 --json", "--bogus"),
        ("train --json --epochs many", "--epochs"),
        ("build --json --cell", "--cell"),
        ("detect predict --json", "images"),
        ("detect score r.json --json --threshold 1", "--threshold"),
        ("detect predict x --json --threshold 2", "--threshold"),
        ("nothing --json", None),
        ("--json", "--json"),
    ],
)
def test_a_wrong_command_line(nascli: Nascli, line: str, field: str | None) -> None:
    error = failed(nascli, line)
    assert (error["code"], error["exit_code"], error["field"]) == ("usage", 2, field)
    assert "--help" in error["remedy"]


def test_recipes_and_options(nascli: Nascli) -> None:
    Path("unknown.toml").write_text("[train]\nlrr = 1\n", encoding="utf-8")
    Path("value.toml").write_text("[train]\nlr = -1\n", encoding="utf-8")
    Path("broken.toml").write_text("[train\n", encoding="utf-8")
    train = "train --cell nasnet-a --json"
    for line, place in {
        f"{train} --recipe unknown.toml": ("bad_input", "unknown.toml", "train.lrr"),
        f"{train} --recipe value.toml": ("bad_input", "value.toml", "train.lr"),
        f"{train} --recipe broken.toml": ("corrupt_file", "broken.toml", None),
        f"{train} --recipe none.toml": ("bad_input", "none.toml", None),
        f"{train} --recipe nothing-like-it": ("bad_input", None, "--recipe"),
        f"{train} --set train.lr=-1": ("bad_input", None, "train.lr"),
        f"{train} --set train.lr": ("bad_input", None, "--set"),
        "search --set search.trials=many --json": ("bad_input", None, "search.trials"),
        "detect --json --head nose": ("bad_input", None, "detector.head"),
    }.items():
        error = failed(nascli, line)
        assert (error["code"], error["file"], error["field"]) == place, line


def test_genotypes_runs_and_json(nascli: Nascli, classifier: str) -> None:
    Path("cut.json").write_text('{"schema": 1, "name"', encoding="utf-8")
    write_json(Path("field.json"), {"schema": 1, "name": 3, "space": "nasnet", "normal": {}, "reduction": {}})
    Path("spoiled").mkdir()
    Path("spoiled/run.json").write_text("{", encoding="utf-8")
    for line, place in {
        "build --cell cut.json --json": ("corrupt_file", "cut.json"),
        "build --cell field.json --json": ("bad_input", "field.json"),
        "build --cell gone.json --json": ("bad_input", "gone.json"),
        "train --resume spoiled --json": ("corrupt_file", "spoiled/run.json"),
        "evaluate gone --json": ("bad_input", "gone"),
        f"detect predict x.png --run {classifier} --json": ("bad_input", classifier),
    }.items():
        error = failed(nascli, line)
        assert (error["code"], error["file"]) == place, line
    assert failed(nascli, "build --cell field.json --json")["field"]


def test_data_sets(nascli: Nascli) -> None:
    def spoil(split: str, lists: Lists, folder: Path) -> None:
        lists["annotations"][0]["bbox"] = [1, 2]

    write_coco(Path("boxes"), spoil)
    write_classes(Path("classes"))
    (Path("classes/train/cat/000.png")).write_bytes(b"<html>no image</html>")
    checked = nascli("detect check --dataset coco:boxes --json")
    assert checked.code == 2
    assert not checked.json["usable"], "the result stands beside the error"
    assert checked.json["error"]["exit_code"] == 2
    error = failed(nascli, "detect train --cell nasnet-a --dataset coco:boxes --json")
    assert (error["file"], error["field"]) == ("boxes/annotations/instances_train2017.json", "annotations[id=1].bbox")
    assert failed(nascli, f"{TRAIN} --dataset folder:gone --json")["exit_code"] == 2
    Path("results.json").write_text('[{"image_id": 101, "category_id": 1, "score": 1, "bbox": [1]}]', encoding="utf-8")
    write_coco(Path("right"))
    error = failed(nascli, "detect score results.json --dataset coco:right --json")
    assert (error["file"], error["field"]) == ("results.json", "[0].bbox")
    Path("yolo/images/train").mkdir(parents=True)
    Path("yolo/labels/train").mkdir(parents=True)
    draw_noise(1).save("yolo/images/train/a.png")
    Path("yolo/labels/train/a.txt").write_text("0 0.5 0.5\n", encoding="utf-8")
    Path("yolo/data.yaml").write_text("train: images/train\nval: images/train\nnames: [cat]\n", encoding="utf-8")
    error = failed(nascli, "detect train --cell nasnet-a --dataset yolo:yolo --json")
    assert (error["file"], error["field"]) == ("yolo/labels/train/a.txt", "line 1")
    assert failed(nascli, "detect score gone.json --dataset coco:right --json")["file"] == "gone.json"
    assert failed(nascli, "build --cell nasnet-a --import-weights x --json")["field"] == "--import-weights"
    error = failed(nascli, f"{TRAIN} --dataset folder:classes --json --out run")
    assert error["file"] == "classes/train/cat/000.png"


def test_a_fault_of_the_program_itself(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr("tempfile.tempdir", str(Path.cwd()))
    monkeypatch.setattr("nascli.genotype.resolve.find_cell", fail)
    error = failed(nascli, "build --cell nasnet-a --json")
    assert (error["code"], error["type"], error["exit_code"]) == ("unexpected", "ZeroDivisionError", 1)
    kept = error["remedy"].split()[-1]
    assert "ZeroDivisionError" in Path(kept).read_text(encoding="utf-8")
    plain = nascli("build --cell nasnet-a")
    assert plain.code == 1
    assert len(plain.err.splitlines()) == 1
    assert "Traceback" in nascli("build --cell nasnet-a --debug --json").err


def test_an_interruption(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(Path("classes"))
    stop = "nascli.cli.progress.TrainProgress.on_epoch"
    monkeypatch.setattr(stop, lambda *_: signal.raise_signal(signal.SIGINT))
    error = failed(nascli, f"{TRAIN} --dataset folder:classes --epochs 3 --out run --json")
    assert (error["code"], error["exit_code"]) == ("interrupted", 130)
    assert "nascli train --resume run" in error["remedy"]


def test_of_several_processes_one_speaks(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    ran = nascli("train --bogus --json")
    assert (ran.code, ran.out, ran.err) == (2, "", "")
    monkeypatch.setenv("RANK", "0")
    assert failed(nascli, "train --bogus --json")["code"] == "usage"


def test_a_reader_that_leaves_early() -> None:
    words = [sys.executable, "-m", "nascli", "build", "--cell", "nasnet-z", "--json"]
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert "Traceback" not in ran.stderr
    assert ran.returncode == 2


def walk(commands: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in commands:
        yield each
        yield from walk(each["subcommands"])


def test_the_help_as_json_says_what_the_help_pages_say(nascli: Nascli) -> None:
    told = nascli("--help-json").json
    assert set(told["exit_codes"]) == {"0", "1", "2", "3", "130"}
    commands = {each["name"]: each for each in walk(told["commands"])}
    assert {"search", "train", "detect", "detect train", "detect score", "runs"} <= set(commands)
    for name, command in commands.items():
        page = nascli(f"{name} --help").out
        flags = set(re.findall(r"^  (--[\w-]+)", page[page.index("\nOptions:") :], re.MULTILINE)) - {"--help"}
        assert flags == {flag for each in command["options"] for flag in each["flags"]}, name
        assert command["subcommands"] or page.count("nascli") >= len(command["examples"]) > 0
        for each in command["options"]:
            assert each["type"] in {"flag", "integer", "number", "text", "path", "choice"}
            assert bool(each["choices"]) == (each["type"] == "choice")
            assert each["help"].split()[0] in page
    options = {each["name"]: each for each in commands["train"]["options"]}
    assert options["lr"]["recipe_key"] == "train.lr"
    assert options["set"]["repeatable"]
    assert not options["cell"]["repeatable"]
    assert {each["name"]: each["required"] for each in commands["pack"]["options"]}["file"]


def test_each_error_class_has_a_code() -> None:
    from nascli import errors

    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert {each.code for each in kinds if issubclass(each, errors.NascliError)} <= set(failures.ERROR_CODES)


def test_the_place_of_what_strict_reading_refuses(nascli: Nascli) -> None:
    write_coco(Path("data"))
    write_json(Path("r.json"), [{"image_id": 101, "category_id": "cat", "bbox": [1, 2, 3, 4], "score": 0.5}])
    error = failed(nascli, "detect score r.json --dataset coco:data --strict --json")
    assert (error["file"], error["field"]) == ("r.json", "[0].category_id")


def test_hints_are_commands_that_work(nascli: Nascli) -> None:
    write_coco(Path("data"))
    Path("data/annotations/instances_val2017.json").unlink()
    for line in ("data check data --quick", "detect check --dataset coco:data", "detect show --dataset coco:data"):
        assert "--val-fraction 0.2" in nascli(line).err
    assert "--val-fraction 0.5" in nascli("detect check --dataset coco:data --val-fraction 0.5").err
    Path("full").mkdir()
    Path("full/note.txt").touch()
    error = failed(nascli, "data convert coco:data full --json")
    assert error["file"] == "full"
    assert "--" not in error["remedy"]  # it has neither --out nor --overwrite
