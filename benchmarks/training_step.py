"""Images a second and peak memory of a training step: nascli's beside the same cells written plainly.

    python benchmarks/training_step.py --rounds 5 --json training_step.json

A step is forward, backward and SGD with momentum on the CIFAR network of NASNet-A (32x32, N = 2, batch 64), at F = 16
and F = 32, in float32 on the CPU. The peer is `plain_loop.py`: every op a module with its own ReLU, convolutions and
batch norms, in the default layout and with channels last in memory.

Each measurement is a fresh process. Before anything is timed the networks are compared: as many parameters, as many
mult-adds. Peak memory is that of the process during the steps less what it held before the first.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

from common import (
    Figures,
    Task,
    arguments,
    console,
    fresh,
    grid,
    in_turn,
    progress,
    ratios,
    serve,
    spread,
    three,
    write,
)
from engine_step import training_step

NASCLI, PLAIN, LAST = "nascli", "plain", "plain, channels last"
SIDE, CLASSES, CELLS = 32, 10, 2


def nascli_step(task: Task) -> Figures:
    """The step that `nascli train` makes, without augmentation."""
    import torch

    from nascli.config import TrainConfig
    from nascli.models.families import build_network

    torch.set_num_threads(task["threads"])
    config = TrainConfig(batch_size=task["batch"], clip_grad_norm=0)
    network = build_network(task["cell"], "cifar10", filters=task["filters"], cells_per_stage=CELLS)
    step = training_step(network.train(), config)
    images, labels = batch(task, last=True)
    return measure(network, lambda: step(images, labels), task)


def plain_step(task: Task) -> Figures:
    """A step as one would write it."""
    import plain_loop
    import torch
    import torch.nn.functional as F

    from nascli.genotype.cells.genotype import require_cells
    from nascli.genotype.resolve import load_genotype
    from nascli.models.layers import init_weights

    torch.set_num_threads(task["threads"])
    network = plain_loop.PlainNetwork(
        require_cells(load_genotype(task["cell"]), "the plain loop"), task["filters"], CELLS, CLASSES
    )
    init_weights(network)
    last = task["variant"] == LAST
    if last:
        network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    images, labels = batch(task, last=last)

    def step() -> None:
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return measure(network, step, task)


def batch(task: Task, *, last: bool) -> Any:  # noqa: ANN401
    import torch

    torch.manual_seed(0)
    images = torch.randn(task["batch"], 3, SIDE, SIDE)
    labels = torch.randint(CLASSES, (task["batch"],))
    return (images.to(memory_format=torch.channels_last) if last else images), labels


def measure(network: Any, step: Callable[[], object], task: Task) -> Figures:  # noqa: ANN401
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    network.eval()
    with counter, torch.no_grad():
        network(torch.zeros(1, 3, SIDE, SIDE))
    network.train()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    seconds: list[float] = []
    while time.perf_counter() - began < task["seconds"] or len(seconds) < 6:
        since = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - since)
    timed = sorted(seconds[len(seconds) // 3 :])  # the first third warms up
    return {
        "images_per_second": task["batch"] / timed[len(timed) // 2],
        "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "steps": len(timed),
        "params": sum(p.numel() for p in network.parameters()),
        "mult_adds": counter.get_total_flops() // 2,
    }


MEASURES: dict[str, Callable[[Task], Figures]] = {NASCLI: nascli_step, PLAIN: plain_step, LAST: plain_step}


def options() -> argparse.ArgumentParser:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="of steps in each measurement; a third warms up")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--filters", type=int, action="append", help="F; 16 and 32 when left out")
    parser.add_argument("--cell", default="nasnet-a")
    return parser


def main() -> None:
    asked = options().parse_args()
    measurements: list[Figures] = []
    for filters in asked.filters or (16, 32):
        shared = {"filters": filters, "batch": asked.batch_size, "cell": asked.cell}
        for round_, variant in in_turn(list(MEASURES), asked.rounds):
            task = {
                "measure": variant,
                "variant": variant,
                "threads": asked.threads,
                "seconds": asked.seconds,
                **shared,
            }
            figures = fresh(__file__, task)
            measurements.append({"variant": variant, **shared, **figures})
            progress(f"F = {filters}, round {round_}, {variant}: {figures['images_per_second']:.1f}/s")
    results = summarise(measurements)
    show(results)
    write(asked, {"results": results, "measurements": measurements})


def summarise(measurements: list[Figures]) -> list[Figures]:
    """For each F and variant: speed, memory, and nascli's ratio to it; stops where the networks differ in cost."""
    results: list[Figures] = []
    for filters in dict.fromkeys(each["filters"] for each in measurements):
        taken = [each for each in measurements if each["filters"] == filters]
        if len({(each["params"], each["mult_adds"]) for each in taken}) > 1:
            raise SystemExit(f"F = {filters}: params or mult-adds differ")
        rates, peaks = (
            {name: [each[key] for each in taken if each["variant"] == name] for name in MEASURES}
            for key in ("images_per_second", "peak_mib")
        )
        results.extend(
            {
                "filters": filters,
                "variant": name,
                "images_per_second": spread(rates[name]),
                "peak_mib": spread(peaks[name]),
                "nascli_times_as_fast": ratios(rates[NASCLI], rates[name]),
                "nascli_memory": ratios(peaks[NASCLI], peaks[name]),
            }
            for name in MEASURES
        )
    return results


def show(results: list[Figures]) -> None:
    headings = ("F, code", "images a second", "peak, MiB", "nascli, times as fast", "nascli's memory, times")
    table = grid("A training step: median, least to greatest", *headings)
    for each in results:
        table.add_row(
            f"{each['filters']}, {each['variant']}",
            three(each["images_per_second"], ".1f"),
            three(each["peak_mib"], ".0f"),
            three(each["nascli_times_as_fast"]),
            three(each["nascli_memory"]),
        )
    console().print(table)


if __name__ == "__main__" and not serve(MEASURES):
    main()
