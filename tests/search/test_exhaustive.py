"""Exhaustive search: every network once, in order, and then the search ends."""

import itertools
from pathlib import Path

import pytest

from nascli.genotype.cells.space import CellSpace
from nascli.search.journal import Journal
from nascli.search.loop import SearchLoop
from nascli.search.plan import SearchPlan
from nascli.search.strategies.exhaustive import ExhaustiveSearch
from nascli.signals import StopRequest
from tests.fakes import FakeEvaluator, Recorder, ShuffledExecutor

SMALL = CellSpace(name="small", ops=("identity", "conv_1x1"), blocks=2, inputs="distinct", cells="one")


@pytest.mark.parametrize(
    "space",
    [SMALL, SMALL.model_copy(update={"inputs": "any"}), SMALL.model_copy(update={"blocks": 1, "cells": "two"})],
)
def test_every_network_is_proposed_once_by_its_first_sequence(space: CellSpace) -> None:
    proposals = list(iter(ExhaustiveSearch(space).ask, None))
    first: dict[str, tuple[int, ...]] = {}
    for tokens in itertools.product(*(range(size) for size in space.decision_sizes)):
        first.setdefault(space.decode(tokens).canonical_hash(), tokens)
    assert proposals == sorted(first.values())
    assert len(proposals) < sum(1 for _ in itertools.product(*(range(size) for size in space.decision_sizes)))


def test_the_space_of_the_table_has_so_many_cells() -> None:
    """Counted by hand: 25 first blocks; second blocks on (0, 2) and (1, 2), and on (0, 1) in any order of the two."""
    ops = ("identity", "conv_1x1", "conv_3x3", "avg_pool_3x3", "max_pool_3x3")
    space = CellSpace(name="two-blocks", ops=ops, blocks=2, inputs="distinct", cells="one")
    assert sum(1 for _ in iter(ExhaustiveSearch(space).ask, None)) == 25 * 50 + 25 * 26 // 2


def test_the_search_ends_by_itself_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    plan = SearchPlan(space=SMALL, trials=1000, seed=0, failure_reward=0.0)
    for cut in (10, None):
        observer = Recorder()
        with Journal(path) as journal:
            executor = ShuffledExecutor(FakeEvaluator(), 3, 0)
            SearchLoop(ExhaustiveSearch(SMALL), executor, journal, plan, observer).run(StopRequest())
            trials = list(journal.trials)
        assert len(trials) == len({trial.hash for trial in trials}) == 42
        assert all(trial.scored for trial in trials)
        assert observer.notes == ["the space is exhausted: all its 42 networks were proposed"]
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:cut]))
