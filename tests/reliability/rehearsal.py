"""Commands that are disturbed and go on, in copies of a data folder: what `killed` and `full_disk` share."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.results import read_results
from tests.reliability.zygote import Zygote


@dataclass(frozen=True)
class Scenario:
    """A command that is disturbed.

    Attributes:
        command: Its arguments; they write into the folder or file `out`.
        prepare: Commands that come before it.
        resume: The arguments that go on, by what was left; the same command where there are none.
    """

    name: str
    command: tuple[str, ...]
    out: str
    prepare: tuple[tuple[str, ...], ...] = ()
    resume: Callable[[Path], tuple[str, ...] | None] = lambda folder: None


class Rehearsal:
    """A command that ran undisturbed once, in `run` of a working folder, and its results.

    Args:
        data: A folder that each run gets a copy of.
        work: An empty folder.
    """

    def __init__(self, zygote: Zygote, scenario: Scenario, data: Path, work: Path) -> None:
        self.begun = work / "begun"
        self.folder = work / "run"  # one name for all, since some files hold where they came from
        self._scenario = scenario
        shutil.copytree(data, self.begun)
        for line in scenario.prepare:
            ended = zygote.call(*line, folder=self.begun)
            assert ended.code == 0, f"{' '.join(line)}: exit code {ended.code}: {ended.err[-2000:]}"
        self.usual = zygote.call(*scenario.command, folder=self.copy())
        assert self.usual.code == 0, f"{' '.join(scenario.command)}: {self.usual.err[-2000:]}"
        self._expected = read_results(self.folder / scenario.out)
        assert self._expected

    def copy(self) -> Path:
        """A folder as before the command, in place of the one before."""
        shutil.rmtree(self.folder, ignore_errors=True)
        return Path(shutil.copytree(self.begun, self.folder, symlinks=True))

    def resume(self) -> tuple[str, ...]:
        """The command that goes on from what the folder holds."""
        return self._scenario.resume(self.folder) or self._scenario.command

    def compare(self) -> str:
        """The files that are not as those of the undisturbed run, with the first; empty where there are none."""
        found = read_results(self.folder / self._scenario.out)
        names = found.keys() | self._expected.keys()
        different = sorted(name for name in names if found.get(name) != self._expected.get(name))
        if not different:
            return ""
        first = [str(values.get(different[0]))[:3000] for values in (self._expected, found)]
        return f"not as undisturbed: {', '.join(different)}\n    {first[0]}\n    {first[1]}"


def resume_run_of(command: tuple[str, ...], name: str, out: str) -> Callable[[Path], tuple[str, ...]]:
    """What goes on: `--resume`; or the command again where it was disturbed before there was a run."""

    def choose(folder: Path) -> tuple[str, ...]:
        return (name, "--resume", out) if (folder / out / "run.json").is_file() else (*command, "--overwrite")

    return choose
