"""Images per second and peak memory of a training step: nascli's beside the same cells written plainly.

    python benchmarks/training_step.py --rounds 5 --json training_step.json

A step is forward, backward and SGD with momentum on the CIFAR network of NASNet-A (32x32, N = 2, batch 64), at F = 16
and F = 32, in float32 on the CPU unless --precision and --device say otherwise. The peer is `plain_loop.py`: every op a
module with its own ReLU, convolutions and batch norms, in the default layout and with channels last in memory. On a GPU
nascli's is measured without CUDA graphs, too.

Each measurement is a fresh process; on a GPU all are made in one. Before anything is timed the networks are compared:
as many parameters, as many mult-adds. Peak memory is that of the process during the steps less what it held before the
first; on a GPU that of all tensors.
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common import Column, Figures, Measures, Task, arguments, compare, count_mult_adds, refuse_unequal, serve
from engine_step import training_step
from on_device import (
    PeakMemory,
    add_device_options,
    add_precision_option,
    autocast,
    measured_here,
    name_gpu,
    time_calls_on,
)

if TYPE_CHECKING:
    from torch import nn

NASCLI, EAGER, PLAIN, LAST = "nascli", "nascli, without graphs", "plain", "plain, channels last"
SIDE, CLASSES, CELLS = 32, 10, 2


def nascli_step(task: Task) -> Figures:
    """The step that `nascli train` makes, without augmentation."""
    import torch

    from nascli.config import TrainConfig
    from nascli.models.families import build_network

    torch.set_num_threads(task["threads"])
    kind = {name: task[name] for name in ("precision", "compile", "graphs")}
    config = TrainConfig(batch_size=task["batch_size"], clip_grad_norm=0, epochs=100_000, **kind)
    network = build_network(task["cell"], "cifar10", filters=task["filters"], cells_per_stage=CELLS)
    counted, (images, labels) = count(network), batch(task, last=True)
    with training_step(network.train(), config, task["device"]) as step:
        return {**counted, **measure(lambda: step(images, labels), task)}


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
    counted = count(network)
    last = task["variant"] != PLAIN
    network.to(task["device"])
    if last:
        network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    forward = torch.compile(network) if task["compile"] else network
    images, labels = batch(task, last=last)

    def step() -> None:
        with autocast(task):
            loss = F.cross_entropy(forward(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return {**counted, **measure(step, task)}


def batch(task: Task, *, last: bool) -> Any:  # noqa: ANN401
    import torch

    torch.manual_seed(0)
    images = torch.randn(task["batch_size"], 3, SIDE, SIDE)
    labels = torch.randint(CLASSES, (task["batch_size"],)).to(task["device"])
    return (images.to(memory_format=torch.channels_last) if last else images).to(task["device"]), labels


def count(network: "nn.Module") -> Figures:
    """Parameters and mult-adds of a network on the CPU."""
    mult_adds = count_mult_adds(network.eval(), SIDE)
    network.train()
    return {"params": sum(p.numel() for p in network.parameters()), "mult_adds": mult_adds}


def measure(step: Callable[[], object], task: Task) -> Figures:
    memory = PeakMemory(task)
    timed = time_calls_on(task["device"], step, task["seconds"], 6)
    return {
        "images_per_second": task["batch_size"] / timed[len(timed) // 2],
        "peak_mib": memory.read(),
        "steps": len(timed),
    }


MEASURES: Measures = {NASCLI: nascli_step, PLAIN: plain_step}
VARIANTS: dict[str, Task] = {
    NASCLI: {"compile": False, "graphs": True},
    EAGER: {"measure": NASCLI, "compile": False, "graphs": False},
    PLAIN: {"compile": False},
    LAST: {"measure": PLAIN, "compile": False},
    f"{NASCLI}, compiled": {"measure": NASCLI, "compile": True, "graphs": True},
    f"{LAST}, compiled": {"measure": PLAIN, "compile": True},
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="of steps in each measurement; a third warms up")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--filters", type=int, action="append", help="F; default: 16 and 32")
    parser.add_argument("--cell", default="nasnet-a")
    parser.add_argument("--compiled", action="store_true", help="also both compiled, which takes minutes")
    add_device_options(parser)
    add_precision_option(parser)
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
        choose_variants(asked),
        columns,
        cases={f"F = {filters}": {"filters": filters} for filters in asked.filters or (16, 32)},
        check=refuse_unequal("params", "mult_adds"),
        about=lambda _: name_gpu(asked),
        here=measured_here(asked, MEASURES),
    )


def choose_variants(asked: argparse.Namespace) -> dict[str, Task]:
    """Without those that are not asked for; graphs make no difference on a CPU."""
    dropped = [EAGER] if asked.device == "cpu" else []
    return {
        name: task for name, task in VARIANTS.items() if name not in dropped and (asked.compiled or not task["compile"])
    }


if __name__ == "__main__" and not serve(MEASURES):
    main()
