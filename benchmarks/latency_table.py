"""Ranks of networks by a table of layers and by mult-adds, against latencies that are measured whole.

    nascli latency layers.json --space mnasnet --recipe cifar10-mnasnet --dataset folder:DIR
    python benchmarks/latency_table.py layers.json --image-size 32 --width 0.35 --json latency_table.json

Random networks of the space mnasnet are built at the size that the table was made for, and timed one after the other in
the engine that is deployed, `--rounds` times. Between any two rounds Spearman's correlation of the measurements is what
noise leaves to be had.
"""

import argparse
import random
import statistics
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from common import arguments, console, grid, progress, write

if TYPE_CHECKING:
    from nascli.models.deploy.layer_table import TimedLayers
    from nascli.models.deploy.openvino import Precision
    from nascli.models.spec import NetworkSpec

SPACE = "mnasnet"


def options() -> argparse.ArgumentParser:
    parser = arguments(__doc__)
    parser.add_argument("table", type=Path, help="from nascli latency, of the same width, image size and classes")
    parser.add_argument("--networks", type=int, default=50, help="random networks of the space")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--classes", type=int, default=10)
    return parser


def main() -> None:
    from scipy.stats import spearmanr

    from nascli.models.cost import measure_cost
    from nascli.models.deploy.layer_table import TimedLayers, read_latency_table, require_keys

    asked = options().parse_args()
    layers = TimedLayers(read_latency_table(asked.table), str(asked.table))
    specs = draw_specs(asked)
    sums = [layers.sum(require_keys(spec), asked.image_size).seconds for spec in specs]
    mult_adds = [measure_cost(spec).mult_adds for spec in specs]
    measured = measure(specs, asked.rounds, layers)

    def correlate(one: Sequence[float], other: Sequence[float]) -> float:
        return float(spearmanr(one, other).statistic)

    rounds = [list(each) for each in measured]
    found = {
        "sum of layers": [correlate(sums, each) for each in rounds],
        "mult-adds": [correlate(mult_adds, each) for each in rounds],
        "measured again": [correlate(one, other) for one, other in combinations(rounds, 2)],
    }
    median = [statistics.median(each) for each in zip(*rounds, strict=True)]
    ratios = sorted(total / own for total, own in zip(sums, median, strict=True))
    table = grid(
        f"Spearman's correlation with the measured latency of {asked.networks} networks", "by", "mean", "least"
    )
    for name, values in found.items():
        if values:
            table.add_row(name, f"{statistics.fmean(values):.3f}", f"{min(values):.3f}")
    console().print(table)
    spread = statistics.quantiles(ratios, n=4)
    console().print(f"sum over measured: quartiles {', '.join(f'{each:.2f}' for each in spread)}")
    rows = [
        {"sum": a, "mult_adds": b, "measured": list(c)}
        for a, b, c in zip(sums, mult_adds, zip(*rounds, strict=True), strict=True)
    ]
    write(asked, {"results": found, "ratios": ratios, "measurements": rows})


def draw_specs(asked: argparse.Namespace) -> list["NetworkSpec"]:
    """The networks, of seed 1: the nine that a table is scaled to are of another."""
    from nascli.config import MobileNetworkConfig
    from nascli.genotype.space import draw_genotypes, find_space
    from nascli.models.spec import resolve_network

    space, draw = find_space(SPACE), random.Random(1)
    config = MobileNetworkConfig(width=asked.width, image_size=asked.image_size)
    genotypes = draw_genotypes(space, draw, asked.networks)
    return [resolve_network(genotype, config, classes=asked.classes) for genotype in genotypes]


def measure(specs: Sequence["NetworkSpec"], rounds: int, layers: "TimedLayers") -> list[list[float]]:
    """Seconds of each network, in each round."""
    import torch

    from nascli.engine.device import cpu_threads
    from nascli.models.deploy.timing import measure_latency
    from nascli.models.families import build

    engine, written, device, threads = layers.table.conditions
    precision: Precision = "bfloat16" if written == "bfloat16" else "float32"
    networks = [build(spec).eval() for spec in specs]
    found: list[list[float]] = []
    with cpu_threads(threads):
        for number in range(rounds):
            found.append([measure_latency(each, engine, precision, torch.device(device)).seconds for each in networks])
            progress(f"round {number}: {1e3 * statistics.median(found[-1]):.3f} ms in the middle")
    return found


if __name__ == "__main__":
    main()
