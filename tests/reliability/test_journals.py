"""A journal that lost lines, as after a power cut or a failed copy: never taken for a search that begins."""

import shutil
from pathlib import Path

import pytest

from tests.cli.program import Nascli, exit_code
from tests.front_door.made import write_classes

_SEARCH = "search --evaluator params --trials 4 --strategy random --workers 1 --device cpu --seed 3"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    data = write_classes(folder / "classes", counts=(3, 2))
    assert exit_code(*f"{_SEARCH} --dataset folder:{data} --out {folder / 'run'}".split()) == 0
    return folder / "run"


@pytest.fixture
def journal(finished: Path, tmp_path: Path) -> Path:
    """The journal of a finished search, in a copy of its own."""
    return Path(shutil.copytree(finished, tmp_path / "run")) / "trials.jsonl"


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


def test_lost_lines_are_said_and_searched_again_to_the_same(nascli: Nascli, journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]))
    ran = nascli(f"search --resume {journal.parent}")
    assert (ran.code, str(journal) in ran.err) == (0, True)
    again = journal.read_bytes().splitlines(keepends=True)
    assert [line for line in again if b'"proposed"' in line] == [line for line in lines if b'"proposed"' in line]
