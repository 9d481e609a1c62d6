"""Values of options and keys of recipes that nobody means: one line that says what is wrong, and never a traceback."""

import json
import os
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from nascli.cli.app import SUMMARIES
from nascli.cli.help_json import describe_program
from nascli.config import SearchRecipe, TrainRecipe, load_recipe, read_toml, to_toml
from nascli.errors import CorruptFileError, InputError
from tests.cli.program import Ran, exit_code
from tests.front_door.made import write_classes
from tests.reliability.nasty import WORDS

BASES = {
    "search": "search --dataset folder:none --dry-run",
    "decode": "decode nasnet-a",
    "build": "build --cell none",
    "train": "train --cell nasnet-a --dataset folder:none --dry-run",
    "evaluate": "evaluate none",
    "detect train": "detect train --cell none --dataset coco:none --dry-run",
    "detect score": "detect score none.json --dataset coco:none",
    "detect check": "detect check --dataset coco:none",
    "detect show": "detect show --dataset coco:none",
    "detect predict": "detect predict none",
    "detect export": "detect export none.onnx --run none",
    "data check": "data check none",
    "data show": "data show none",
    "data convert": "data convert none new",
    "data split": "data split none new",
    "pack": "pack none new.h5",
    "push": "push none --to card",
    "latency": "latency new.json --space mnasnet --dataset folder:none --dry-run",
    "table": "table none new.h5",
    "report": "report none",
    "runs": "runs .",
    "status": "status none",
}
"""A quick call of each command, to which an option is added; data and runs are not there."""

NUMBERS = (
    "-1",
    "0",
    "1e5",
    "nan",
    "inf",
    "-inf",
    "9" * 5000,
    "٣",
    "1_0",
    " 1",
    "0x10",
    "",
    "1.5",
    "\x1b[31m",
)
PER_OPTION = 8


def list_settings() -> list[tuple[str, dict[str, Any]]]:
    """Each option and argument of each command that takes a value."""

    def walk(commands: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
        found = []
        for each in commands:
            found += walk(each.get("subcommands") or [])
            found += [(each["name"], setting) for setting in each["options"] if setting["type"] != "flag"]
        return found

    return walk(describe_program(SUMMARIES, {})["commands"])


def call(capfd: pytest.CaptureFixture[str], *words: str) -> Ran:
    return Ran(exit_code(*words), *capfd.readouterr())


@pytest.mark.parametrize("command", BASES)
def test_no_value_of_an_option_is_unexpected(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, numbers = cycle(WORDS), cycle(NUMBERS)
    for _, setting in (each for each in list_settings() if each[0] == command):
        values = islice(numbers if setting["type"] in ("integer", "number") else words, PER_OPTION)
        given = [] if setting["kind"] == "argument" else [setting["flags"][0]]
        for value in values:
            line = [*BASES[command].split(), "--json", *(given or ["--"]), value]
            ran = call(capsys, *line)
            shown = f"{setting['name']}={value[:40]!r}: {ran.err[-500:]}"
            assert ran.code in (0, 1, 2, 3), shown
            assert '"unexpected"' not in ran.out, shown
            assert len(ran.err) < 9000, shown
            assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(ran.out + ran.err), shown
            if ran.out and "--json" not in given:
                json.loads(ran.out)


def test_every_command_is_tried() -> None:
    assert {command for command, _ in list_settings()} == set(BASES)


@pytest.mark.parametrize(
    ("assignment", "word"),
    [
        ("train.lr=" + "[" * 50_000, "deep"),
        ("train.lr=" + "{a=" * 5_000, "deep"),
        ("train.lr=" + "9" * 5_000, "digits"),
        ("train.lr=[" + "1" * 5_000 + "]", "digits"),
        ("train.lr=0.1\nseed=3", "2 values"),
        ("train.lr=0.1\r\n[data]\nworkers=3", "2 values"),
        (".".join("a" * 10_000) + "=1", "unknown key"),
        ("train.lr." + ".".join("a" * 10_000) + "=1", "unknown key"),
        ("train." + "x" * 20_000 + "=1", "unknown key"),
        ("=", "key=value"),
        ("=1", "key=value"),
        ("train.lr", "key=value"),
        ("train=1", "train"),
        ("train.lr.a=1", "train.lr"),
        ("train.lr=nan", "finite"),
        ("train.lr=inf", "finite"),
        ("train.lr=1e999", "finite"),
        ("train.lr=2020-01-01", "number"),
        ("train.lr=", "number"),
        ("train.epochs=1e400", "whole number"),
        ("train.\x1b[31m=1", "unknown key"),
        ("__class__=1", "unknown key"),
        ("data=[]", "data"),
    ],
)
def test_assignments_that_are_refused(assignment: str, word: str) -> None:
    with pytest.raises(InputError) as raised:
        load_recipe(TrainRecipe, None, assignments=[assignment])
    assert word in str(raised.value)
    assert len(str(raised.value)) < 2_000


def test_a_value_of_several_lines_is_one_value() -> None:
    recipe = load_recipe(
        TrainRecipe, None, assignments=["train.lr_milestones=[0.25,\n0.5]", "data.dataset=folder:a\nb"]
    )
    assert recipe.train.lr_milestones == (0.25, 0.5)
    assert recipe.data.dataset == "folder:a\nb"


@pytest.mark.parametrize(
    "content",
    [
        b"lr = " + b"[" * 50_000,
        b"lr = " + b"9" * 5_000,
        b"a.b = 1\na.b = 2\n",
        b"\0\0\0\0",
        b"seed = 1\n\x00",
        b"seed = 1\rtrain = 2",
        b"\xef\xbb\xbfseed = \xff",
        b"{" * 100_000,
    ],
)
def test_recipes_that_are_no_toml(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(CorruptFileError) as raised:
        read_toml(file)
    assert raised.value.file == str(file)


def test_what_is_no_recipe_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe, giant, folder = (tmp_path / f"{name}.toml" for name in ("pipe", "giant", "folder"))
    os.mkfifo(pipe)
    with giant.open("wb") as file:
        file.truncate(1 << 30)
    folder.mkdir()
    for path in (pipe, giant, folder, Path("/dev/zero"), Path("/dev/null")):
        ran = call(capsys, "train", "--cell", "nasnet-a", "--recipe", str(path), "--dry-run")
        assert (ran.code, str(path) in ran.err) == (2, True), ran.err


def test_a_mark_of_byte_order_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes("\ufeffseed = 7\r\n[train]\r\nlr = 0.5\r\n".encode())
    recipe = load_recipe(TrainRecipe, file)
    assert (recipe.seed, recipe.train.lr) == (7, 0.5)


@pytest.mark.parametrize("name", [name for name in WORDS if name])
def test_a_name_in_a_recipe_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    recipe = SearchRecipe.model_validate({"data": {"dataset": f"folder:{name}", "data_dir": name}})
    (tmp_path / "run.json").touch()  # as in a run: bytes that are no UTF-8 stay what they are
    file = tmp_path / "recipe.toml"
    file.write_bytes(to_toml(recipe).encode("utf-8", "surrogateescape"))
    assert load_recipe(SearchRecipe, file) == recipe


@pytest.mark.parametrize("value", ["", "  "])
def test_a_blank_folder_of_runs_is_none(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from nascli.cli.options import runs_folder

    monkeypatch.setenv("NASCLI_RUNS", value)
    assert runs_folder() == Path("runs")
    monkeypatch.setenv("NASCLI_RUNS", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert runs_folder() == tmp_path / "mine"


def test_a_folder_of_runs_that_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_classes(Path("data"), counts=(1, 1))
    Path("file").touch()
    for value in ("file", "file/below", "n" * 300):
        monkeypatch.setenv("NASCLI_RUNS", value)
        for line in ("runs", "status", "evaluate latest", "train --cell nasnet-a --dataset folder:data --epochs 1"):
            ran = call(capsys, *line.split(), "--json")
            assert ran.code in (1, 2), ran.err
            assert ran.json["error"]["code"] != "unexpected", ran.err


@pytest.mark.parametrize("line", ["data check {}", "data check folder:{}", "detect check --dataset {}", "evaluate {}"])
@pytest.mark.parametrize("home", ["~nobody-of-this-name", "~nobody-of-this-name/data"])
def test_the_home_of_nobody_is_a_folder_that_is_not_there(
    line: str, home: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = call(capfd, *line.format(home).split())
    assert ran.code == 2
    assert "nobody-of-this-name" in ran.err


@pytest.mark.parametrize(
    "line", ["search --resume", "train --dry-run --out", "status", "data convert images", "pack ."]
)
def test_an_empty_argument_is_no_folder_and_no_run(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([*line.split(), ""], [*line.split(), "", "--json"]):
        ran = call(capsys, *words)
        assert (ran.code, f"after {words[-2 if words[-1] == '' else -3]} is empty" in ran.err) == (2, True), ran.err


def test_an_option_with_nothing_after_its_sign_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    ran = call(capsys, "detect", "predict", "images", "--out=", "--json")
    assert (ran.code, ran.json["error"]["field"]) == (2, "--out")


@pytest.mark.parametrize("place", [".", "/", "..", "./", "//", "new/.."])
def test_a_folder_without_a_name_is_no_file(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_classes(Path("images"), counts=(1, 1))
    for line in (
        "pack images {}",
        "pack images {} --overwrite",
        "decode nasnet-a --out {}",
        "decode nasnet-a --draw {}",
    ):
        ran = call(capsys, *line.format(place).split(), "--json")
        assert (ran.code, ran.json["error"]["code"]) == (2, "bad_input"), ran.err


@pytest.mark.parametrize("name", [".zip", "..zip", "...tar.gz"])
def test_an_archive_whose_name_is_its_ending(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).touch()
    ran = call(capsys, "data", "check", name)
    assert (ran.code, "unpacked" in ran.err) == (2, True), ran.err
