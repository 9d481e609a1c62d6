"""What does a second training of each network tell of which to recommend? Many draws of networks from a table.

    python benchmarks/repeats.py benchmarks/tables/cifar10-two-blocks.h5

Some networks of the table are drawn, and two of the three trainings of each. One network is recommended: that with the
highest mean; that of which a Gaussian process expects most that was told the means; or that was told every training.
What counts is its third training, which nothing has seen: it is as noisy, but right on average.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import console, grid
from regret import list_features

from nascli.engine.device import cpu_threads
from nascli.search.evaluators.tabular import TabularBenchmark
from nascli.search.gaussian_process import Features
from nascli.search.recommend import expect

TOLD = 2
"""Trainings of each network that are told."""
WAYS = ("highest mean", "process, told the means", "process, told every training")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--networks", type=int, action="append", help="so many in a draw; default: 30, 60, 120")
    asked = parser.parse_args()
    table = TabularBenchmark.read(asked.table)
    if table.trainings <= TOLD:
        raise SystemExit(f"{asked.table}: its networks have {table.trainings} trainings, and it takes {TOLD + 1}")
    features = list_features(table)
    shown = grid(f"accuracy in %, {asked.draws} draws", "networks", *WAYS, "the last, less the highest mean")
    with cpu_threads(1):
        for count in asked.networks or (30, 60, 120):
            found = np.array([draw(table, features, count, seed) for seed in range(asked.draws)])
            columns = [100 * column for column in (*found.T, found[:, -1] - found[:, 0])]
            shown.add_row(str(count), *map(describe, columns))
    console().print(shown)


def draw(table: TabularBenchmark, features: Sequence[Features], count: int, seed: int) -> list[float]:
    """For each way the third training of the network that it recommends."""
    random = np.random.default_rng(seed)
    rows = random.choice(np.flatnonzero(table.counts > TOLD), count, replace=False)
    trainings = random.permuted(table.accuracies[rows][:, : TOLD + 1], axis=1)
    told, unseen = trainings[:, :TOLD], trainings[:, TOLD]
    means, own = told.mean(axis=1), [features[row] for row in rows]
    worths = means, expect(own, means[:, None].tolist()), expect(own, told.tolist())
    return [float(unseen[np.argmax(worth)]) for worth in worths]


def describe(values: np.typing.NDArray[np.float64]) -> str:
    """The mean and its standard error."""
    return f"{values.mean():.2f} ± {statistics.stdev(values) / len(values) ** 0.5:.2f}"


if __name__ == "__main__":
    main()
