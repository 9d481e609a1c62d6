"""Runs that are killed at random moments and go on by the documented commands: the machinery of `test_kills`.

A moment is a step in the file system (before the 17th file is opened, renamed, removed ...) or a time; both are drawn
over the whole run. What is killed is the process itself, by SIGKILL, as a machine short of memory does it.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nascli.locks import is_locked
from tests.reliability.rehearsal import Rehearsal, Scenario
from tests.reliability.zygote import Ended, Zygote


@dataclass
class Count:
    """Kills so far, and how the runs that resumed after them ended; `worst` has what repeats the others."""

    kills: int = 0
    resumes: int = 0
    chains: int = 0
    equal: int = 0
    worst: list[str] = field(default_factory=list)


class Killer:
    """Kills one command of a data folder again and again.

    Args:
        data: A folder that each chain gets a copy of.
        work: An empty folder.
    """

    def __init__(self, zygote: Zygote, scenario: Scenario, data: Path, work: Path) -> None:
        self._zygote, self._scenario = zygote, scenario
        self._rehearsal = Rehearsal(zygote, scenario, data, work)

    def run_chain(self, seed: int, count: Count) -> None:
        """Kill the command, and perhaps what resumes it, when the seed says so; then let it end and compare."""
        draw = random.Random(f"{self._scenario.name} {seed}")
        folder = self._rehearsal.copy()
        moments: list[str] = []
        command, goal, killed = self._scenario.command, draw.choice((1, 1, 2, 3)), 0
        while True:
            moment = self._draw_moment(draw) if killed < goal else {}
            ended = self._zygote.call(*command, folder=folder, **moment)
            moments.append(f"{' '.join(command)} {moment or ''}")
            if problem := self._look(ended, folder, finished=not ended.is_killed):
                self._note(seed, moments, problem, count)
                return
            if not ended.is_killed:
                break
            killed += 1
            count.kills += 1
            command = self._rehearsal.resume()
        if killed == 0:  # the moment came after its end
            return
        count.chains += 1
        count.resumes += killed
        if problem := self._compare(folder):
            self._note(seed, moments, problem, count)
        else:
            count.equal += 1

    def _draw_moment(self, draw: random.Random) -> dict[str, Any]:
        if draw.random() < 0.6:
            return {"kill_at": draw.randint(1, self._rehearsal.usual.writes)}
        return {"kill_after": round(draw.uniform(0.0, self._rehearsal.usual.seconds), 3)}

    def _look(self, ended: Ended, folder: Path, *, finished: bool) -> str:
        """The problem of a call that ended; empty where there is none."""
        if ended.left:
            return f"{len(ended.left)} processes live on after it"
        if is_locked(folder / self._scenario.out):
            return "its folder is still locked"
        if finished and ended.code != 0:
            return f"exit code {ended.code}: {ended.err[-2000:]}"
        return ""

    def _compare(self, folder: Path) -> str:
        if odd := list(_find_partial(folder)):
            return f"temporary files are left: {odd}"
        return self._rehearsal.compare()

    def _note(self, seed: int, moments: list[str], problem: str, count: Count) -> None:
        steps = "\n    ".join(moments)
        count.worst.append(f"{self._scenario.name}, seed {seed}: {problem}\n    {steps}")


def _find_partial(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if ".partial" in path.name or path.name.startswith(".latest-"):
            yield str(path.relative_to(folder))
