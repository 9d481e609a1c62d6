"""The program, and networks that were trained for a moment, once per test process."""

import shutil
from pathlib import Path

import pytest

from tests.cli.program import Nascli, exit_code
from tests.front_door.made import DETECT, TRAIN, quote, write_classes, write_coco


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    return Nascli(capsys)


@pytest.fixture(scope="session")
def _classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    data = write_classes(folder / "data")
    assert exit_code(*f"{TRAIN} --dataset folder:{data} --out {folder / 'run'}".split()) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def _detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    data = write_coco(folder / "data")
    assert exit_code(*f"{DETECT} --dataset coco:{data} --out {folder / 'run'}".split()) == 0
    return folder / "run"


@pytest.fixture
def classifier(_classifier: Path) -> str:
    """A train run `classifier/` of cats and dogs in the current folder, quoted; each test has its own copy."""
    return quote(shutil.copytree(_classifier, "classifier"))


@pytest.fixture
def detector(_detector: Path) -> str:
    """A detect run `detector/` of cats and dogs in the current folder, quoted; each test has its own copy."""
    return quote(shutil.copytree(_detector, "detector"))
