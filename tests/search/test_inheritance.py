"""Which network a child inherits its weights from, and that a search with inheritance can be repeated."""

from dataclasses import replace
from pathlib import Path

import pytest

from nascli.search.inheritance import find_parent
from nascli.search.journal import read_trials
from nascli.search.trial import Failure, FailureKind, Score, Trial
from tests.cli.program import exit_code
from tests.cli.test_search_methods import RECIPE
from tests.fakes import TINY

COUNT = len(TINY.decision_sizes)


def make_trial(number: int, *changed: int) -> Trial:
    """One whose decisions are all 0, but for those at these places."""
    tokens = tuple(int(place in changed) for place in range(COUNT))
    genotype = TINY.decode(tokens)
    return Trial(id=number, tokens=tokens, genotype=genotype, hash=genotype.canonical_hash(), seed=number)


def score(trial: Trial, reward: float) -> Trial:
    return trial.complete(Score(reward=reward, accuracy=reward, params=1, mult_adds=1, seconds=1.0))


def test_the_parent_is_the_one_most_like_it_of_equals_the_better() -> None:
    child = make_trial(9, 0, 1)
    far, near, better = score(make_trial(0), 0.9), score(make_trial(1, 0), 0.5), score(make_trial(2, 1), 0.6)
    assert find_parent(child, [far, near, better]) == better
    assert find_parent(child, [far, near]) == near
    assert find_parent(child, []) is None


def test_only_what_was_trained_to_the_end_has_weights_to_give() -> None:
    child = make_trial(9, 0)
    stopped = replace(score(make_trial(0, 0), 0.5), stopped=True)
    copy = replace(score(make_trial(1, 0), 0.5), duplicate_of=0)
    failed = make_trial(2, 0).fail(Failure(FailureKind.CRASHED, "no"), 0.0)
    far = score(make_trial(3, 1, 2), 0.1)
    assert find_parent(child, [stopped, copy, failed, make_trial(4, 0)]) is None
    assert find_parent(child, [stopped, copy, failed, far]) == far


@pytest.mark.usefixtures("_recipe")
def test_a_search_with_inheritance_is_the_same_with_more_workers() -> None:
    settings = ["search.trials=6", "evolution.population=2", "evolution.sample=2", "evolution.batch_size=2"]
    options = ["--strategy", "evolution", *(part for each in settings for part in ("--set", each))]
    inherit = ["--set", "search.inherit_weights=true"]
    for name, more in (("one", inherit), ("two", [*inherit, "--workers", "2"]), ("anew", [])):
        assert exit_code("search", "--recipe", "tiny.toml", "--out", name, *options, *more) == 0
    rewards = {
        name: [trial.reward for trial in read_trials(Path(name, "trials.jsonl"))] for name in ("one", "two", "anew")
    }
    assert rewards["one"] == rewards["two"]
    assert rewards["one"] != rewards["anew"], "weights were inherited"


@pytest.fixture
def _recipe() -> None:
    Path("tiny.toml").write_text(RECIPE)
