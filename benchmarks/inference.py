"""Images a second of trained networks: nascli's inference form beside timm's and pretrained-models' networks.

    python benchmarks/inference.py --rounds 5 --json inference.json

NASNet-A Large (timm, 331 pixels, batch 1) and Mobile (pretrained-models, 224 pixels, batches of 1 and 8), in float32
on the CPU. A peer is measured as it comes, with channels last in memory, and compiled with its weights frozen
(`torch.compile`, inductor's `freezing`); nascli in the form that `load_network(inference=True)` gives, which needs no
compiler, and folded and compiled the same way.

A peer with random weights and batch-norm statistics is made once; every measurement is a fresh process that loads
these, compares its logits with the peer's first, and computes for a while after it has warmed up.
(timm counts padded zeros in the averages of strided pools; where its logits are compared, ours are made to.)
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

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

if TYPE_CHECKING:
    from torch import Tensor, nn

PLAIN, LAST, COMPILED = "peer", "peer, channels last", "peer, compiled"
PACKED, OURS_COMPILED = "nascli", "nascli, compiled"
NETWORKS = {
    "large": {"tool": "timm", "peer": "nasnetalarge", "preset": "imagenet-large", "size": 331},
    "mobile": {"tool": "pretrainedmodels", "peer": "nasnetamobile", "preset": "imagenet-mobile", "size": 224},
}
BATCHES = {"large": (1,), "mobile": (1, 8)}
TOLERANCE = 1e-4
"""Largest difference of a logit relative to the largest logit."""


def prepare(task: Task) -> Figures:
    """The peer's weights, some images and its logits, as files."""
    import torch

    torch.manual_seed(0)
    peer = make_peer(task)
    for module in peer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    images = torch.randn(2, 3, task["size"], task["size"])
    with torch.no_grad():
        logits = peer.eval()(images)
    folder = Path(task["folder"])
    torch.save(peer.state_dict(), folder / "weights.pth")
    torch.save({"images": images, "logits": logits}, folder / "expected.pt")
    return {"params": sum(p.numel() for p in peer.parameters())}


def make_peer(task: Task) -> "nn.Module":
    network: nn.Module
    if task["tool"] == "timm":
        import timm

        network = timm.create_model(task["peer"])
    else:
        import pretrainedmodels

        network = getattr(pretrainedmodels, task["peer"])(num_classes=1000, pretrained=None)
    return network.eval()


def peer_speed(task: Task) -> Figures:
    """The peer in one of its forms."""
    import torch

    network = make_peer(task)
    network.load_state_dict(torch.load(Path(task["folder"], "weights.pth"), weights_only=True))
    if task["variant"] != PLAIN:
        network = network.to(memory_format=torch.channels_last)
    images, logits = expected(task)
    form = compiled(network) if task["variant"] == COMPILED else network
    return measure(form, task, difference(form(images), logits), last=task["variant"] != PLAIN)


def nascli_speed(task: Task) -> Figures:
    """The same weights in nascli's inference form."""
    import torch

    from nascli.models.cells import ops
    from nascli.models.cells.pretrained import import_weights
    from nascli.models.deploy.engines import inference_form
    from nascli.models.deploy.fuse import fold
    from nascli.models.families import build_network
    from nascli.models.layers import avg_pool

    network = build_network("nasnet-a", task["preset"]).eval()
    import_weights(Path(task["folder"], "weights.pth"), network)
    images, logits = expected(task)
    with mock.patch.object(ops, "avg_pool", zeros_counted if task["tool"] == "timm" else avg_pool):
        apart = difference(network(images), logits)
    form: Callable[[Tensor], Tensor]
    if task["variant"] == OURS_COMPILED:
        form = compiled(fold(network).to(memory_format=torch.channels_last))
    else:
        form = inference_form(network, torch.device("cpu"))
    return measure(form, task, max(apart, difference(form(images), network(images))), last=True)


def expected(task: Task) -> "tuple[Tensor, Tensor]":
    import torch

    held = torch.load(Path(task["folder"], "expected.pt"), weights_only=True)
    return held["images"], held["logits"]


def difference(ours: "Tensor", logits: "Tensor") -> float:
    return float((ours - logits).abs().max() / logits.abs().max())


def zeros_counted(x: "Tensor", kernel: int, stride: int) -> "Tensor":
    """An average pool that at stride 2 divides by the whole window at the border too."""
    import torch.nn.functional as F

    from nascli.models.layers import avg_pool, same_padding

    if stride == 1:
        return avg_pool(x, kernel, stride)
    rows, columns = (same_padding(x.shape[axis], kernel, stride) for axis in (2, 3))
    return F.avg_pool2d(F.pad(x, (*columns, *rows)), kernel, stride)


def compiled(network: "nn.Module") -> "Callable[[Tensor], Tensor]":
    import torch
    from torch._inductor import config

    config.freezing = True
    return torch.compile(network)


def measure(form: "Callable[[Tensor], Tensor]", task: Task, apart: float, *, last: bool) -> Figures:
    """Images a second, after the logits were found to agree."""
    import torch

    if apart > TOLERANCE:
        raise SystemExit(f"{task['variant']}: logits differ by {apart:.1e} of the largest")
    images = torch.randn(task["batch"], 3, task["size"], task["size"])
    if last:
        images = images.to(memory_format=torch.channels_last)
    began = time.perf_counter()
    seconds: list[float] = []
    while time.perf_counter() - began < task["seconds"] or len(seconds) < 5:
        since = time.perf_counter()
        form(images)
        seconds.append(time.perf_counter() - since)
    timed = sorted(seconds[len(seconds) // 3 :])  # the first third warms up, and compiles for this batch
    return {"images_per_second": task["batch"] / timed[len(timed) // 2], "difference": apart, "forwards": len(timed)}


def alone(measured: Callable[[Task], Figures]) -> Callable[[Task], Figures]:
    """With all threads asked for, without gradients."""

    def call(task: Task) -> Figures:
        import torch

        torch.set_num_threads(task["threads"])
        with torch.inference_mode():
            return measured(task)

    return call


MEASURES: dict[str, Callable[[Task], Figures]] = {
    "prepare": prepare,
    **dict.fromkeys((PLAIN, LAST, COMPILED), alone(peer_speed)),
    **dict.fromkeys((PACKED, OURS_COMPILED), alone(nascli_speed)),
}


def options() -> argparse.ArgumentParser:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="of forwards in each measurement; a third warms up")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="large or mobile; both when left out")
    parser.add_argument("--eager", action="store_true", help="leave out what is compiled, which takes minutes")
    return parser


def main() -> None:
    asked = options().parse_args()
    variants = [PACKED, PLAIN, LAST, *([] if asked.eager else [COMPILED, OURS_COMPILED])]
    measurements: list[Figures] = []
    for name in asked.network or NETWORKS:
        with tempfile.TemporaryDirectory(prefix="nascli-inference-") as folder:
            shared = {**NETWORKS[name], "folder": folder, "threads": asked.threads, "seconds": asked.seconds}
            fresh(__file__, {"measure": "prepare", **shared})
            for batch in BATCHES[name]:
                for round_, variant in in_turn(variants, asked.rounds):
                    task = {"measure": variant, "variant": variant, "batch": batch, **shared}
                    figures = fresh(__file__, task)
                    measurements.append({"network": name, "batch": batch, "variant": variant, **figures})
                    progress(f"{name}, batch {batch}, round {round_}, {variant}: {figures['images_per_second']:.2f}/s")
    results = summarise(measurements)
    show(results)
    write(asked, {"results": results, "measurements": measurements})


def summarise(measurements: list[Figures]) -> list[Figures]:
    """For each network, batch and variant: images a second, and how many times as fast nascli's own form is."""
    taken: dict[tuple[str, int], dict[str, list[float]]] = {}
    for each in measurements:
        rates = taken.setdefault((each["network"], each["batch"]), {}).setdefault(each["variant"], [])
        rates.append(each["images_per_second"])
    return [
        {
            "network": network,
            "batch": batch,
            "variant": variant,
            "images_per_second": spread(rates),
            "nascli_times_as_fast": ratios(forms[PACKED], rates),
            "nascli_compiled_times_as_fast": ratios(forms[OURS_COMPILED], rates) if OURS_COMPILED in forms else None,
        }
        for (network, batch), forms in taken.items()
        for variant, rates in forms.items()
    ]


def show(results: list[Figures]) -> None:
    headings = ("network, batch", "form", "images a second", "nascli, times as fast", "nascli compiled")
    table = grid("NASNet-A, float32: median, least to greatest", *headings)
    for each in results:
        compiled_ratio = each["nascli_compiled_times_as_fast"]
        table.add_row(
            f"{each['network']}, {each['batch']}",
            each["variant"],
            three(each["images_per_second"]),
            three(each["nascli_times_as_fast"]),
            three(compiled_ratio) if compiled_ratio else "",
        )
    console().print(table)


if __name__ == "__main__" and not serve(MEASURES):
    main()
