"""Notes about the issues of a data set."""

import pytest

from nascli.cli.console import Terminal
from nascli.cli.data_notes import note_issues
from nascli.data.issues import Issue


def test_a_line_per_kind_and_one_of_remarks(capsys: pytest.CaptureFixture[str]) -> None:
    issues = [
        Issue("crowd box", 2, "annotation id 1"),
        Issue("box empty or inverted", 1_000, "annotation id 2\nhas no width"),
        Issue("category id 0", 1, "[bold]cat[/] has it"),
        Issue("image not on disk", 1, "gone.png"),
    ]
    note_issues(Terminal(), "coco:data", issues)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["coco:data"] * 2
    assert "1,000 skipped: box empty or inverted" in lines[0]
    assert "first: annotation id 2\\x0ahas no width" in lines[0]
    assert "2 × crowd box" in lines[1]
    assert "[bold]cat[/]" in lines[1]


def test_nothing_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    note_issues(Terminal(), "coco:data", ())
    assert capsys.readouterr().err == ""
