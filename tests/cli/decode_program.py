"""`nascli decode` called in this process, and what its tests decode."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nascli.cli.app import main
from nascli.config import CellSpaceConfig, SearchRecipe
from nascli.genotype.cells.space import ENAS, CellSpace
from nascli.genotype.resolve import zoo_genotype
from nascli.runs.start import create_run
from nascli.search.journal import Failed, Finished, Journal, Proposed
from nascli.search.trial import FailureKind

DARTS_V2 = (
    "DARTS_V2 = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
ENAS_ARC = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1 1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"
ENAS_TOKENS = tuple(k % min(size, 2) for k, size in enumerate(ENAS.decision_sizes))


@dataclass(frozen=True)
class Ran:
    """The outcome of a command: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def next(self) -> list[str]:
        """The arguments of the command that is offered next."""
        (line,) = (line for line in self.err.splitlines() if line.startswith("next: "))
        return shlex.split(line.removeprefix("next: "))

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.out)


class Nascli:
    """The program, called in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ran:
        with pytest.raises(SystemExit) as left:
            main(["decode", *map(str, arguments)])
        captured = self._capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, captured.out, captured.err)


def search_run(space: CellSpace, config: CellSpaceConfig, *, best: bool = True) -> Path:
    """A search run under `runs`: trial 0 failed, trial 1 has a reward, trial 2 runs."""
    tokens = tuple(size - 1 for size in space.decision_sizes)
    genotype = space.decode(tokens, "tried")
    with create_run("search", "digits-random", SearchRecipe(space=config), runs=Path("runs").resolve()) as run:
        with Journal(run.file("trials.jsonl")) as journal:
            for trial in range(3):
                journal.append(
                    Proposed(
                        trial=trial,
                        tokens=tokens,
                        genotype=genotype,
                        hash=genotype.canonical_hash(),
                        seed=trial,
                        duplicate_of=None,
                    )
                )
            journal.append(Failed(trial=0, kind=FailureKind.DIVERGED, error="loss is nan", reward=0.0))
            journal.append(Finished(trial=1, reward=0.75, accuracy=0.75, params=10, mult_adds=20, seconds=1.5))
        if best:
            run.file("best.json").write_text(zoo_genotype("enas").to_json(), encoding="utf-8")
        return run.path
