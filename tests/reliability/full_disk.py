"""Commands on a disk that is full, and after it: the machinery of `test_writers`."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.killed import Scenario
from tests.reliability.results import read_results
from tests.reliability.zygote import Ended, Zygote


class FullDisk:
    """Runs one command of a data folder on disks that are full sooner or later.

    Args:
        data: A folder that each try gets a copy of.
        work: An empty folder.
    """

    def __init__(self, zygote: Zygote, scenario: Scenario, data: Path, work: Path) -> None:
        self._zygote, self._scenario, self._work = zygote, scenario, work
        self._begun = work / "begun"
        shutil.copytree(data, self._begun)
        for line in scenario.prepare:
            assert zygote.call(*line, folder=self._begun).code == 0, line
        folder = self._fresh()
        before = _list_sizes(folder)
        usual = zygote.call(*scenario.command, folder=folder)
        assert usual.code == 0, usual.err
        self.steps = usual.writes
        self.sizes = sorted({size for path, size in _list_sizes(folder).items() if before.get(path) != size})
        self._expected = read_results(folder / scenario.out)

    def attempt(self, full_at: int | None = None, file_size: int = 0) -> str:
        """Run into the limit, then go on without; the problem, or an empty text."""
        folder = self._fresh()
        command = (*self._scenario.command, "--json")
        ended = self._zygote.call(*command, folder=folder, full_at=full_at, file_size=file_size)
        if ended.code == 0:
            return self._compare(folder)
        if problem := _judge(ended):
            return f"{problem}: {ended.err[-1500:]}"
        if left := list(_find_partial(folder)):
            return f"temporary files are left: {left}"
        command = self._scenario.resume(folder) or self._scenario.command
        resumed = self._zygote.call(*command, folder=folder)
        if resumed.code != 0:
            return f"then {command}: {resumed.err[-1500:]}"
        return self._compare(folder)

    def _compare(self, folder: Path) -> str:
        found = read_results(folder / self._scenario.out)
        names = found.keys() | self._expected.keys()
        different = sorted(name for name in names if found.get(name) != self._expected.get(name))
        return f"not as with space: {different}" if different else ""

    def _fresh(self) -> Path:
        folder = self._work / "run"
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(self._begun, folder, symlinks=True))


def _judge(ended: Ended) -> str:
    """The problem of how a command ended that could not write; empty where it said so and no more."""
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    text = ended.err + ended.out
    if ended.code != 1 or len(lines) != 1 or "Traceback" in text or "ignored in" in text or ended.left:
        return f"exit code {ended.code}, {len(lines)} lines of error"
    try:
        code = json.loads(ended.out)["error"]["code"]
    except (ValueError, KeyError):
        return f"no error in {ended.out!r}"
    return "" if code == "cannot_write" else f"the error is {code}"


def _find_partial(folder: Path) -> Iterator[str]:
    return (str(path) for path in folder.rglob("*") if path.name.endswith(".partial") and path.is_file())


def _list_sizes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def spread(values: int, count: int) -> list[int]:
    """So many of the numbers 1 to `values`, from all over."""
    return sorted({1 + k * (values - 1) // max(1, count - 1) for k in range(count)})
