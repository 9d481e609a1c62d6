"""Images per second and peak memory of a training step: nascli's beside the same cells written plainly.

    python benchmarks/training_step.py --rounds 5 --json training_step.json

A step is forward, backward and SGD with momentum on the CIFAR network of NASNet-A (32x32, N = 2, batch 64), at F = 16
and F = 32, in float32 on the CPU. The peer is `plain_loop.py`: every op a module with its own ReLU, convolutions and
batch norms, in the default layout and with channels last in memory.

Each measurement is a fresh process. Before anything is timed the networks are compared: as many parameters, as many
mult-adds. Peak memory is that of the process during the steps less what it held before the first.
"""

from collections.abc import Callable
from typing import Any

from common import (
    Column,
    Figures,
    Task,
    arguments,
    compare,
    count_mult_adds,
    peak_mib,
    refuse_unequal,
    serve,
    time_calls,
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
    config = TrainConfig(batch_size=task["batch_size"], clip_grad_norm=0)
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
    images = torch.randn(task["batch_size"], 3, SIDE, SIDE)
    labels = torch.randint(CLASSES, (task["batch_size"],))
    return (images.to(memory_format=torch.channels_last) if last else images), labels


def measure(network: Any, step: Callable[[], object], task: Task) -> Figures:  # noqa: ANN401
    mult_adds = count_mult_adds(network.eval(), SIDE)
    network.train()
    before = peak_mib()
    timed = time_calls(step, task["seconds"], 6)
    return {
        "images_per_second": task["batch_size"] / timed[len(timed) // 2],
        "peak_mib": peak_mib() - before,
        "steps": len(timed),
        "params": sum(p.numel() for p in network.parameters()),
        "mult_adds": mult_adds,
    }


MEASURES: dict[str, Callable[[Task], Figures]] = {NASCLI: nascli_step, PLAIN: plain_step, LAST: plain_step}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="of steps in each measurement; a third warms up")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--filters", type=int, action="append", help="F; default: 16 and 32")
    parser.add_argument("--cell", default="nasnet-a")
    asked = parser.parse_args()
    columns = [
        Column("images_per_second", "images per second", ".1f"),
        Column("peak_mib", "peak, MiB", ".0f"),
        Column("nascli_times_as_fast", "nascli, times as fast", figure="images_per_second", over=NASCLI),
        Column("nascli_memory", "nascli's memory, times", figure="peak_mib", over=NASCLI),
    ]
    compare(
        __file__,
        asked,
        "A training step",
        {name: {} for name in MEASURES},
        columns,
        cases={f"F = {filters}": {"filters": filters} for filters in asked.filters or (16, 32)},
        check=refuse_unequal("params", "mult_adds"),
    )


if __name__ == "__main__" and not serve(MEASURES):
    main()
