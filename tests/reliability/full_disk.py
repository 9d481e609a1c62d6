"""Commands on a disk that is full, and after it: the machinery of `test_writers`."""

import json
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.rehearsal import Rehearsal, Scenario
from tests.reliability.zygote import Ended, Zygote


class FullDisk:
    """Runs one command of a data folder on disks that are full sooner or later.

    Args:
        data: A folder that each try gets a copy of.
        work: An empty folder.
    """

    def __init__(self, zygote: Zygote, scenario: Scenario, data: Path, work: Path) -> None:
        self._zygote, self._scenario = zygote, scenario
        self._rehearsal = Rehearsal(zygote, scenario, data, work)
        before = _list_sizes(self._rehearsal.begun)
        after = _list_sizes(self._rehearsal.folder)
        self.steps = self._rehearsal.usual.writes
        self.sizes = sorted({size for path, size in after.items() if before.get(path) != size})

    def attempt(self, full_at: int | None = None, file_size: int = 0) -> str:
        """Run into the limit, then go on without; the problem, or an empty text."""
        folder = self._rehearsal.copy()
        command = (*self._scenario.command, "--json")
        ended = self._zygote.call(*command, folder=folder, full_at=full_at, file_size=file_size)
        if ended.code == 0:
            return self._rehearsal.compare()
        if problem := _judge(ended):
            return f"{problem}: {ended.err[-1500:]}"
        if left := list(_find_partial(folder)):
            return f"temporary files are left: {left}"
        command = self._rehearsal.resume()
        resumed = self._zygote.call(*command, folder=folder)
        if resumed.code != 0:
            return f"then {command}: {resumed.err[-1500:]}"
        return self._rehearsal.compare()


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
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder): path.stat().st_size for path in files}


def spread(values: int, count: int) -> list[int]:
    """So many of the numbers 1 to `values`, from all over."""
    return sorted({1 + k * (values - 1) // max(1, count - 1) for k in range(count)})
