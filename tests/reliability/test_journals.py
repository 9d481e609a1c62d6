"""A journal that lost lines, as after a power cut or a failed copy: never taken for a search that begins."""

from pathlib import Path

import pytest

from nascli.records import format_line, parse_line
from tests.cli.program import Nascli
from tests.fakes import Recorder
from tests.search.test_study import recipe, search


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The journal of a finished search."""
    search(tmp_path / "run", recipe())
    return tmp_path / "run" / "trials.jsonl"


@pytest.mark.parametrize("content", [None, b"", bytes(70_000), b'"proposed", "trial": 0'])
def test_a_journal_without_its_trials_is_no_new_search(nascli: Nascli, journal: Path, content: bytes | None) -> None:
    journal.unlink() if content is None else journal.write_bytes(content)
    ran = nascli(f"search --resume {journal.parent}")
    assert ran.code == 1
    assert str(journal) in ran.err
    assert content is None or journal.read_bytes() == content


def test_zeros_behind_the_last_line_are_no_unfinished_line(nascli: Nascli, journal: Path) -> None:
    lines = journal.read_bytes().count(b"\n")
    with journal.open("ab") as file:
        file.write(bytes(512))
    for command in (f"search --resume {journal.parent}", f"report {journal.parent}"):
        ran = nascli(command)
        assert (ran.code, f"line {lines + 1}" in ran.err) == (1, True)


def test_lost_lines_are_said_and_searched_again_to_the_same(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]))
    observer = Recorder()
    search(journal.parent, recipe(), observer=observer)
    assert any(str(journal) in text for text in observer.notes)
    again = journal.read_bytes().splitlines(keepends=True)
    assert len(again) == len(lines)
    assert [line for line in again if b'"proposed"' in line] == [line for line in lines if b'"proposed"' in line]


def test_a_line_that_contradicts_itself_is_refused_by_all_readers(nascli: Nascli, journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    first, second = [k for k, line in enumerate(lines) if b'"proposed"' in line][:2]
    for field in ("tokens", "genotype", "hash"):
        changed = parse_line(lines[second]) | {field: parse_line(lines[first])[field]}
        journal.write_bytes(b"".join([*lines[:second], format_line(changed), *lines[second + 1 :]]))
        for command in ("decode {0} --trial 1", "report {0} --table cells.h5", "search --resume {0}"):
            ran = nascli(command.format(journal.parent))
            assert (ran.code, f"{journal}, line {second + 1}" in ran.err) == (1, True)


def test_a_last_newline_that_is_another_byte_is_no_unfinished_line(nascli: Nascli, journal: Path) -> None:
    content = journal.read_bytes()
    journal.write_bytes(content[:-1] + b"\x0b")
    ran = nascli(f"search --resume {journal.parent}")
    assert (ran.code, f"{journal}, line {len(content.splitlines())}" in ran.err) == (1, True)
