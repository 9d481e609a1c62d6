"""Names that other people gave: whole on the terminal, in tables, pages and commands, whatever letters they have."""

import csv
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nascli.classify.confusion import Confusion
from nascli.cli.console import Terminal
from nascli.errors import InputError, NascliError
from nascli.text import printable, quote, quote_command
from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, draw_noise, write_classes, write_coco, write_json, write_perfect_results

NAMES = {
    "wheel [front]": "wheel [front]",
    "[red]hat[/red]": "[red]hat[/red]",
    "a\x1b[31mb": "a\\x1b[31mb",
    "tab\there\nbelow": "tab\\x09here\\x0abelow",
    "\u202eevil": "\\u202eevil",
    "שלום": "שלום",
    "中文类别": "中文类别",
    "👩\u200d👩\u200d👧 family": "👩\u200d👩\u200d👧 family",
    "e\u0301clair": None,
}
"""Names, and how each is shown; None where its Unicode form may change."""


def columns_of(lines: list[str], names: list[str]) -> set[int]:
    """Widths in cells of the rows that begin with these names."""
    from rich.cells import cell_len

    return {cell_len(line) for line in lines if any(line.startswith(name) for name in names)}


def test_class_names_in_the_tables_of_a_detector(nascli: Nascli) -> None:
    write_perfect_results(write_coco(Path("data [new]"), names=list(NAMES), boxes=len(NAMES)))
    out = nascli("detect score 'data [new]/results.json' --dataset 'coco:data [new]'").out
    shown = [each for each in NAMES.values() if each]
    rows = out[out.index("by class") :].splitlines()
    assert all(any(row.startswith(f"{name} ") for row in rows) for name in shown), out
    assert len(columns_of(rows, shown)) == 1, "the columns line up"
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_class_and_file_names_of_a_classifier(nascli: Nascli) -> None:
    names = ["[red]cat[]", "d\x1b[7mog", "中文", os.fsdecode(b"caf\xe9")]
    data = write_classes(Path("data\n[x]"), names, counts=(2, 1))
    assert nascli(f"{TRAIN} --dataset {shlex.quote(f'folder:{data}')} --out 'run [1]'").code == 0
    (Path("mine")).mkdir()
    file = Path("mine") / os.fsdecode(b"caf\xe9 [bold].png")
    draw_noise(1).save(file)
    ran = nascli("evaluate 'run [1]' --predict mine --device cpu")
    assert "mine/caf\\xe9 [bold].png" in ran.out
    assert ran.next == ["nascli evaluate 'run [1]'"]
    done = nascli("evaluate 'run [1]' --predict mine --device cpu --json").json
    assert Path(done["images"][0]["file"]) == file
    assert {each["name"] for each in done["images"][0]["classes"]} == {*names[:3], "caf\\xe9"}
    assert nascli("train --resume 'run [1]'").code == 0, "a place that is no UTF-8 is remembered"


def test_a_run_folder_in_brackets_with_bytes_that_are_no_text(nascli: Nascli, classifier: str) -> None:
    name = os.fsdecode(b"-run [red]\xe9\x1b")
    Path(classifier).rename(name)
    listed = nascli(f"runs {shlex.quote('.')}").out
    assert "-run [red]\\xe9\\x1b/weights.safetensors" in listed
    (command,) = nascli(f"build --network {shlex.quote(f'./{name}')} --json").next
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True).stdout
    assert os.fsdecode(words.split(b"\0")[2]).removeprefix("./") == name


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_no_output_fails_for_its_letters(encoding: str) -> None:
    results = {"top1": 0.5, "dataset": "folder:中文 caf\u00e9", "params": 1}
    write_json(Path("runs/中文/run.json"), {"command": "train", "status": "complete", "results": results})
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    for words in (["runs", "runs"], ["runs", "none 中文"]):
        ran = subprocess.run([sys.executable, "-m", "nascli", *words], capture_output=True, env=environment)
        text = (ran.stdout + ran.stderr).decode(encoding)
        assert "Traceback" not in text
        assert ("中文" if encoding == "utf-8" else "\\u4e2d\\u6587") in text
        if ran.returncode == 0:
            assert ("caf\\xe9" if encoding == "ascii" else "caf\u00e9") in text


def test_an_error_is_one_line_without_commands_for_the_terminal(nascli: Nascli) -> None:
    name = shlex.quote("no[red]\x1b]0;title\x07\nhere.toml")
    for command in ("runs", "train --cell nasnet-a --recipe"):
        ran = nascli(f"{command} {name}")
        assert ran.code == 2
        assert "no[red]\\x1b]0;title\\x07\\x0ahere" in ran.err
        assert len(ran.err.splitlines()) == 1


def test_long_names_are_whole_at_every_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "/".join(f"folder{k}" for k in range(40))
    for width in ("40", "200", None):
        monkeypatch.delenv("COLUMNS", raising=False)
        if width:
            monkeypatch.setenv("COLUMNS", width)
        Terminal().show_table("t", [(long, "12")], ("image", "boxes"))
        lines = capsys.readouterr().out.splitlines()[2:]
        assert long in "".join(line[: line.index("  ")] for line in lines)
        if width is None:
            assert len(lines) == 1, "one row per line for programs"


def test_names_as_formulas_of_a_spreadsheet() -> None:
    confusion = Confusion(torch.zeros(3, 3, dtype=torch.int64))
    confusion.add(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
    names = ["=cmd|' /C calc'!A0", 'a,"b"', os.fsdecode(b"caf\xe9")]
    head, *rows = csv.reader(io.StringIO(confusion.to_csv(names)))
    assert head[1:] == [row[0] for row in rows] == [f"'{names[0]}", names[1], "caf\\xe9"]


@given(st.text())
def test_printable_is_one_line_of_the_same_name(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert printable(shown) == shown
    assert len(shown.splitlines()) <= 1
    printable(text, "ascii").encode("ascii")


@given(st.binary(max_size=20).filter(lambda name: b"\0" not in name))
def test_quoted_names_come_back_from_a_shell(name: bytes) -> None:
    for encoding in ("utf-8", "ascii"):
        line = quote(os.fsdecode(name), encoding)
        assert printable(line, encoding) == line


def test_a_shell_reads_what_is_quoted() -> None:
    names = [b"a b", b"'\"\\$x`", b"\xe9\x1b\n1", b"\xe2\x80\xaeabc", "né中".encode(), b"\xff\xfe'"]
    for encoding in ("utf-8", "ascii"):
        line = quote_command(map(os.fsdecode, names), encoding)
        read = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
        assert read.split(b"\0")[:-1] == names


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no image", "no image. Do."),
        ("is it there?", "is it there? Do."),
        ("it said 'stop.'", "it said 'stop.' Do."),
        ("(a bomb?)", "(a bomb?) Do."),
        ("an attack..", "an attack. Do."),
        ("and so on...", "and so on... Do."),
        ("and so on…", "and so on… Do."),
        ("a 'name'", "a 'name'. Do."),
    ],
)
def test_message_and_remedy_have_one_stop_between_them(message: str, shown: str) -> None:
    assert str(NascliError(message, "Do.")) == shown


def test_a_link_to_a_run_that_is_gone_names_the_newest_there_is(nascli: Nascli, classifier: str) -> None:
    folder = Path("runs/train")
    folder.mkdir(parents=True)
    Path(classifier).rename(folder / "mine")
    (folder / "latest").symlink_to("gone")
    ran = nascli("evaluate latest")
    assert ran.code == InputError.exit_code
    assert "gone" in ran.err
    assert f"{folder / 'mine'}" in ran.err


def test_top_5_stands_where_there_are_more_classes(nascli: Nascli, classifier: str) -> None:
    out = nascli(f"evaluate {classifier} --device cpu").out
    assert "top-1" in out
    assert "top-5" not in out
