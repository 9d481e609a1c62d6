"""The registries of the recipe and of the constructors name the same things."""

import subprocess
import sys

import pytest

from nascli.config import EVALUATORS, STRATEGIES, TABLE, SearchConfig, SearchRecipe, find_evaluator
from nascli.genotype.space import resolve_space
from nascli.search.builders import EVALUATOR_BUILDERS, STRATEGY_BUILDERS, build_strategy
from nascli.search.objective import describe_reward

PURE = ("strategy", "random", "evolution", "exhaustive", "bayesian", "nsga2", "warm_start")


def test_every_strategy_has_a_constructor() -> None:
    assert list(STRATEGY_BUILDERS) == list(STRATEGIES)


def test_a_strategy_gets_the_section_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those sections alone bind a snapshot, so one under another name would not be noticed."""
    recipe, shared = (
        SearchRecipe(seed=7),
        {
            "data",
            "space",
            "network",
            "train",
            "search",
            "supernet",
            "halving",
            "rerank",
            "latency",
            "objective",
            "table",
        },
    )
    sections = set(SearchRecipe.model_fields) - shared - {"seed"}
    assert sections < set(STRATEGIES)
    given: list[object] = []
    for name in STRATEGIES:
        monkeypatch.setitem(STRATEGY_BUILDERS, name, lambda space, section, seed: given.append((section, seed)))
        search = recipe.search.model_copy(update={"strategy": name})
        build_strategy(recipe.model_copy(update={"search": search}), resolve_space(recipe.space))
        assert given.pop() == (getattr(recipe, name) if name in sections else None, 7)


def test_rewards_are_described_by_the_table_of_evaluators() -> None:
    recipe = SearchRecipe()
    words = {
        name: describe_reward(recipe.model_copy(update={"search": SearchConfig(evaluator=name)}))
        for name in ("proxy", "table:x.h5", "naswot")
    }
    assert list(words.values()) == [
        "proxy accuracy",
        "accuracy from a table",
        "naswot, a score without training, Mellor et al. 2021",
    ]
    assert [name for name, info in EVALUATORS.items() if info.trains_children] == ["proxy"]
    assert not find_evaluator("one_shot").uses_seed


def test_every_evaluator_has_a_constructor() -> None:
    assert [name for name in EVALUATORS if not name.startswith(TABLE)] == list(EVALUATOR_BUILDERS)


@pytest.mark.parametrize("name", PURE)
def test_strategies_without_a_network_need_no_torch(name: str) -> None:
    code = f"import nascli.search.strategies.{name}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
