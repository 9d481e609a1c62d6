"""Fixtures of most tests of commands; a module whose commands need something else has a fixture of its own."""

import pytest

from tests.cli.program import Nascli, prepare
from tests.cli.reference_evaluation import train_tiny


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    prepare()
    return Nascli(capsys)


@pytest.fixture
def trained(nascli: Nascli) -> dict[str, object]:
    """The results of a run in `run/`."""
    return train_tiny(nascli)
