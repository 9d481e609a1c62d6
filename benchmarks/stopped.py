"""Does bayesian find more where it is told which trainings were stopped early? Simulated searches with halving.

    python benchmarks/stopped.py benchmarks/tables/cifar10-two-blocks.h5 --loss 0.06
    python benchmarks/stopped.py nas_bench_201.csv --space nas-bench-201 --loss 0.1 --noise 0.01

A table has full trainings alone, so what a ninth of the epochs gives is made up: another training's accuracy, less
`--loss`, with normal noise. The best third of those so far are trained in full; the others keep it as their reward. The
regret is that of the best network trained in full, in points, mean and standard error over the searches.
"""

import argparse
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import console, grid
from regret import read_table
from simulate import Floats, Rows

from nascli.config import BayesianConfig, HalvingConfig
from nascli.engine.device import cpu_threads
from nascli.search.evaluators.tabular import TabularBenchmark
from nascli.search.halving import add_to_rung
from nascli.search.strategies.bayesian import BayesianSearch
from nascli.search.strategies.strategy import Tokens
from nascli.seeding import derive_seed

SHARE = 1 / 9
"""Of the epochs of a full training, on the only rung."""


class SimulatedHalving:
    """One search with one rung; `accuracy` is the mean of the network that it would hand over."""

    def __init__(self, table: TabularBenchmark, rows: Rows, seed: int, loss: float, noise: float) -> None:
        self.accuracy = 0.0
        self._table, self._rows, self._seed, self._loss, self._noise = table, rows, seed, loss, noise
        self._best = -math.inf
        self._rung: list[float] = []
        self._known: dict[int, tuple[float, float]] = {}

    def train(self, trial: int, tokens: Tokens) -> tuple[float, float]:
        """Reward and share of the epochs; a network that comes again has those that it had."""
        row = self._rows[tokens]
        if row not in self._known:
            self._known[row] = self._train(trial, row)
        return self._known[row]

    def _train(self, trial: int, row: int) -> tuple[float, float]:
        luck = random.Random(derive_seed(self._seed, "luck", trial)).gauss(0, self._noise)
        early = self._draw(row, "early", trial) - self._loss + luck
        if not add_to_rung(self._rung, early, HalvingConfig().promote_fraction):
            return early, SHARE
        full = self._draw(row, "full", trial)
        if full > self._best:
            self._best, self.accuracy = full, float(self._table.means[row])
        return full, 1.0

    def _draw(self, row: int, which: str, trial: int) -> float:
        return float(np.nan_to_num(self._table.draw_accuracy(row, derive_seed(self._seed, which, trial))))


def search(halving: SimulatedHalving, strategy: BayesianSearch, trials: int, *, tells: bool) -> list[float]:
    """The accuracy of the network in hand after each trial."""
    found, batch = list[float](), list[tuple[Tokens, float, float]]()
    for trial in range(trials):
        tokens = strategy.ask()
        batch.append((tokens, *halving.train(trial, tokens)))
        found.append(halving.accuracy)
        if len(batch) == strategy.batch_size:
            for tokens, reward, share in batch:
                if share < 1 and tells:
                    strategy.tell_stopped(tokens, reward, share)
                else:
                    strategy.tell(tokens, reward)
            batch.clear()
    return found


def describe(regrets: Floats, counts: Sequence[int]) -> list[str]:
    """Mean and standard error after so many trials."""
    columns = [100 * regrets[:, count - 1] for count in counts]
    return [f"{each.mean():.3f} ± {each.std(ddof=1) / math.sqrt(len(each)):.3f}" for each in columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="a table of trained networks: .h5 of nascli, or .csv")
    parser.add_argument("--space", help="of the networks of a .csv file")
    parser.add_argument("--loss", type=float, required=True, help="accuracy that a training has less on the rung")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of the luck on the rung")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--trials", type=int, default=100)
    asked = parser.parse_args()
    table = read_table(asked.table, asked.space)
    rows, counts = Rows(table, table.space), [count for count in (25, 50) if count < asked.trials] + [asked.trials]
    shown = grid(f"{asked.table.name}, regret in points", "bayesian is told", *(f"{count} trials" for count in counts))
    with cpu_threads(1):
        for words, tells in (("the reward", False), ("that it was stopped, too", True)):
            found = [
                search(
                    SimulatedHalving(table, rows, seed, asked.loss, asked.noise),
                    BayesianSearch(table.space, BayesianConfig(), seed),
                    asked.trials,
                    tells=tells,
                )
                for seed in range(asked.seeds)
            ]
            shown.add_row(words, *describe(table.mean_accuracy(table.best) - np.array(found), counts))
    console().print(shown)


if __name__ == "__main__":
    main()
