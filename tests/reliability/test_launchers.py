"""The processes of a training end with the one that started them, whatever ended that, and its folder is free."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nascli.runs.start import resume_run
from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, write_classes
from tests.processes import ENVIRONMENT, LAUNCH, TORCHRUN

LONG = f"{TRAIN} --dataset folder:data --out run --epochs 100000"
PATIENCE = 60.0


@contextmanager
def start(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed at the end, with all that it started."""
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=ENVIRONMENT, start_new_session=True) as process:
        try:
            yield process
        finally:
            for each in [process.pid, *find_below(process.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)


def find_below(parent: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{parent}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *find_below(child)]
    return found


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def check_free(processes: list[int], seconds: float = 3.0) -> None:
    """All of them end in a moment, and the run can be resumed at once."""
    since = time.monotonic()
    wait_until(lambda: not any(map(is_alive, processes)))
    assert time.monotonic() - since < seconds
    with resume_run(Path("run"), "train"):
        pass


def write_large_images() -> None:
    """As many that they are streamed by worker processes."""
    for split, count in (("train", 8), ("val", 2)):
        for name in ("cat", "dog"):
            place = Path("data", split, name)
            place.mkdir(parents=True)
            for k in range(count):
                pixels = np.full((32 + k, 32, 3), 100 * (name == "cat") + k, np.uint8)
                Image.fromarray(pixels).save(place / f"{k}.png")


def test_a_launcher_that_is_killed_takes_its_processes_along() -> None:
    write_classes(Path("data"))
    with start([sys.executable, "-c", LAUNCH, *LONG.split()]) as launcher:
        wait_until(Path("run/metrics.jsonl").exists, launcher)
        ranks = find_below(launcher.pid)
        assert len(ranks) >= 2
        launcher.kill()
        launcher.wait()
        check_free(ranks)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["run/run.json", "run/checkpoint.pt"])
def test_torchrun_that_is_killed_takes_its_processes_along(when: str) -> None:
    write_classes(Path("data"))
    with start([*TORCHRUN, "nascli", *LONG.split()]) as launcher:
        wait_until(Path(when).exists, launcher)
        ranks = find_below(launcher.pid)
        launcher.kill()
        launcher.wait()
        check_free(ranks)


@pytest.mark.slow
def test_a_training_that_is_killed_takes_the_processes_along_that_read_its_images() -> None:
    write_large_images()
    line = LONG.replace("data.workers=0", "data.workers=2")
    with start([sys.executable, "-m", "nascli", *line.split()]) as process:
        wait_until(lambda: Path("run/checkpoint.pt").exists() and len(find_below(process.pid)) >= 2, process)
        readers = find_below(process.pid)
        process.kill()
        process.wait()
        check_free(readers)


@pytest.mark.slow
def test_a_process_that_reads_images_and_is_killed_ends_the_training_in_one_line() -> None:
    write_large_images()
    line = LONG.replace("data.workers=0", "data.workers=1").replace("--epochs 100000", "--epochs 400")
    with start([sys.executable, "-m", "nascli", *line.split()]) as process:
        wait_until(lambda: Path("run/checkpoint.pt").exists() and find_below(process.pid), process)
        for _ in range(1000):  # one lives for an epoch
            for each in find_below(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            if process.poll() is not None:
                break
            time.sleep(0.02)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "--resume run" in err.splitlines()[-1]
    with resume_run(Path("run"), "train"):
        pass


@pytest.mark.parametrize(
    "said",
    [
        {"LOCAL_RANK": "0"},
        {"LOCAL_RANK": "", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"},
        {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "0", "LOCAL_WORLD_SIZE": "1"},
        {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
    ],
)
def test_half_of_what_a_launcher_says_is_refused(
    said: dict[str, str], nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    write_classes(Path("data"))
    ran = nascli(f"{TRAIN} --dataset folder:data --out run")
    assert ran.code == 2
    assert "LOCAL_RANK" in ran.err
    assert "did not expect" not in ran.err
