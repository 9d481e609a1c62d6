"""The registries of the recipe and of the constructors name the same things."""

import subprocess
import sys

import pytest

from nascli.config import EVALUATORS, STRATEGIES, TABLE
from nascli.search.builders import EVALUATOR_BUILDERS, STRATEGY_BUILDERS

PURE = ("strategy", "random", "evolution", "exhaustive", "bayesian", "warm_start")


def test_every_strategy_has_a_constructor() -> None:
    assert list(STRATEGY_BUILDERS) == list(STRATEGIES)


def test_every_evaluator_has_a_constructor() -> None:
    assert [name for name in EVALUATORS if not name.startswith(TABLE)] == list(EVALUATOR_BUILDERS)


@pytest.mark.parametrize("name", PURE)
def test_strategies_without_a_network_need_no_torch(name: str) -> None:
    code = f"import nascli.search.strategies.{name}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
