"""Where a GPU's time goes in nascli: short measurements in one process, each written down before the next begins.

    PYTHONPATH=.:benchmarks python -m gpu.probe out.jsonl --only facts,parity,steps --seconds 120

`--device cpu --tiny` rehearses it: every section but those of the GPU itself, at sizes that mean nothing. An error in a
section does not end the others; what finds no time left is left out and says so.
"""

import argparse
import copy
import json
import statistics
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from engine_step import training_step
from on_device import time_calls_on
from torch import Tensor, nn

from nascli.config import TrainConfig
from nascli.engine.device import describe_device
from nascli.models.families import build_network
from nascli.models.interface import ImageClassifier

LEAST_SECONDS = 5
"""Seconds that have to be left for another measurement."""


class NoTimeLeft(Exception):  # noqa: N818 - it ends a section and is no failure
    """The whole time is used up."""


class Probe:
    """Measures, and writes each line as soon as it is known.

    Args:
        out: Lines of JSON are appended to this file.
        seconds: For all sections together.
        tiny: Networks, batches and times of a rehearsal.
    """

    def __init__(self, out: Path, device: str, seconds: float, *, tiny: bool = False) -> None:
        self._out, self._seconds, self._began = out, seconds, time.monotonic()
        self.device, self.tiny = torch.device(device), tiny
        self.on_gpu = self.device.type == "cuda"

    def say(self, section: str, **values: object) -> None:
        """Write a line."""
        line = {"section": section, "at": round(time.monotonic() - self._began, 1), **values}
        text = json.dumps(line, default=str)
        with self._out.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(text[:300], flush=True)

    def check_time(self) -> None:
        """Raise `NoTimeLeft` where it is not worth to begin anything."""
        if time.monotonic() - self._began > self._seconds - LEAST_SECONDS:
            raise NoTimeLeft

    def measure(self, call: Callable[[], object], seconds: float, at_least: int = 6) -> dict[str, float]:
        """Milliseconds from the end of a call to the end of the next, and what the CPU takes to launch one."""
        self.check_time()
        taken = time_calls_on(self.device.type, call, 0.0 if self.tiny else seconds, at_least)
        since = time.perf_counter()
        for _ in range(3):
            call()
        launched = (time.perf_counter() - since) / 3
        if self.on_gpu:
            torch.cuda.synchronize()
        return {"ms": round(1e3 * statistics.median(taken), 4), "launch_ms": round(1e3 * launched, 4)}


def facts(probe: Probe) -> None:
    """The GPU, the bytes it copies in a second, and the time to launch a kernel."""
    values: dict[str, object] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    values |= describe_device(probe.device)
    size = 1 << (20 if probe.tiny else 30)
    source = torch.empty(size, dtype=torch.uint8, device=probe.device)
    target, one = torch.empty_like(source), torch.zeros(1, device=probe.device)
    copying = probe.measure(lambda: target.copy_(source), 0.3)
    launching = probe.measure(lambda: [one.add_(1) for _ in range(500)], 0.3)
    values["copy_tb_per_s"] = round(2 * size / copying["ms"] / 1e9, 3)
    probe.say("facts", **values, launch_us=round(launching["launch_ms"] * 2, 2))


def parity(probe: Probe) -> None:
    """Errors of a gradient, relative to the one in float64 on the CPU, in each number format."""
    network, images, labels = small_network().train(), torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
    expected = flat_gradient(copy.deepcopy(network).double(), images.double(), labels)
    formats: list[tuple[str, bool, torch.dtype | None]] = [
        ("float32", False, None),
        ("float32 with TF32", True, None),
        ("bfloat16", True, torch.bfloat16),
    ]
    for name, tf32, kind in formats:
        probe.check_time()
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            moved: nn.Module = copy.deepcopy(network).to(probe.device).to(memory_format=torch.channels_last)
            found = flat_gradient(moved, images.to(probe.device), labels.to(probe.device), kind)
        probe.say("parity", format=name, error=float((found - expected).norm() / expected.norm()))


def flat_gradient(network: nn.Module, images: Tensor, labels: Tensor, kind: torch.dtype | None = None) -> Tensor:
    """The gradient of the loss in one vector, float64 on the CPU."""
    with torch.autocast(images.device.type, dtype=kind, enabled=kind is not None):
        logits = network(images)
    torch.autograd.backward(F.cross_entropy(logits.to(torch.float32 if kind else logits.dtype), labels))
    return torch.cat([each.grad.flatten().cpu().double() for each in network.parameters() if each.grad is not None])


def small_network() -> ImageClassifier:
    """NASNet-A with a cell per stage."""
    torch.manual_seed(0)
    return build_network("nasnet-a", "cifar10", filters=8, cells_per_stage=1, batch_norm_momentum=0.1)


@contextmanager
def making_steps(probe: Probe, batch_size: int, **settings: Any) -> Iterator[Callable[[], object]]:  # noqa: ANN401
    """A function that makes a step of NASNet-A 6 @ 768 on CIFAR's images, without their augmentation."""
    sizes = {"filters": 4, "cells_per_stage": 1} if probe.tiny else {}
    torch.manual_seed(0)
    config = TrainConfig(batch_size=batch_size, epochs=100_000, nesterov=True, **settings)
    images = torch.randn(batch_size, 3, 32, 32, device=probe.device).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch_size,), device=probe.device)
    with training_step(build_network("nasnet-a", "cifar10", **sizes).train(), config, probe.device.type) as step:
        yield lambda: step(images, labels)


VARIANTS: list[dict[str, Any]] = [
    {"precision": "bfloat16"},
    {"precision": "bfloat16", "graphs": False},
    {"precision": "bfloat16", "ema_decay": 0.99},
    {"precision": "bfloat16", "drop_path_prob": 0.2},
    {"precision": "float16"},
    {"precision": "float32"},
]


def steps(probe: Probe) -> None:
    """Images per second of a step, with and without graphs, and what a moving average or drop path costs."""
    for settings in VARIANTS:
        if settings["precision"] == "float16" and not probe.on_gpu:
            continue
        for batch_size in (4,) if probe.tiny else (128, 512):
            if probe.on_gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            with making_steps(probe, batch_size, **settings) as step:
                values = probe.measure(step, 1.5)
            memory = round(torch.cuda.max_memory_allocated() / 2**30, 2) if probe.on_gpu else None
            rate = round(1e3 * batch_size / values["ms"])
            probe.say("steps", **settings, batch=batch_size, images_per_second=rate, gib=memory, **values)


def anatomy(probe: Probe) -> None:
    """Kernels of four steps, the time that the GPU computes in them, and the dearest of them."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if probe.on_gpu else [])]
    for graphs in (False, True):
        probe.check_time()
        with making_steps(probe, 4 if probe.tiny else 128, precision="bfloat16", ema_decay=0.99, graphs=graphs) as step:
            for _ in range(6):
                step()
            since = time.perf_counter()
            with profile(activities=kinds) as seen:
                for _ in range(4):
                    step()
                if probe.on_gpu:
                    torch.cuda.synchronize()
            seconds = time.perf_counter() - since
        times, counts = Counter[str](), Counter[str]()
        for event in seen.events() or ():
            if not probe.on_gpu or str(event.device_type).endswith("CUDA"):
                times[event.name[:90]] += event.time_range.elapsed_us()
                counts[event.name[:90]] += 1
        dearest = [[name, counts[name], round(us / 1e3, 2)] for name, us in times.most_common(25)]
        busy, wall = round(times.total() / 1e3, 1), round(1e3 * seconds, 1)
        probe.say("anatomy", graphs=graphs, kernels=counts.total(), busy_ms=busy, wall_ms=wall, dearest=dearest)


def kernels(probe: Probe) -> None:
    """Microseconds forward and backward of the layers of a cell, by number format and memory layout."""
    for channels, side in [(8, 8)] if probe.tiny else [(32, 32), (44, 32), (64, 16), (128, 8)]:
        for kind in (torch.float32, torch.bfloat16, torch.float16) if probe.on_gpu else (torch.float32,):
            for layout in (torch.channels_last, torch.contiguous_format):
                shape = (2 if probe.tiny else 256, channels, side, side)
                values = {name: time_layer(probe, layer, shape, kind, layout) for name, layer in layers(channels)}
                probe.say("kernels", shape=shape, format=str(kind), layout=str(layout), us=values)


def layers(channels: int) -> list[tuple[str, nn.Module]]:
    """The layers of a cell with so many channels, by name."""
    depthwise = {
        f"depthwise {size}x{size}": nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels, bias=False)
        for size in (3, 5, 7)
    }
    others = {"pointwise": nn.Conv2d(channels, channels, 1, bias=False), "batch norm": nn.BatchNorm2d(channels)}
    return list((depthwise | others).items())


def time_layer(
    probe: Probe, layer: nn.Module, shape: tuple[int, ...], kind: torch.dtype, layout: torch.memory_format
) -> list[int]:
    """Microseconds of the forward pass, and of the backward pass."""
    parameters = kind if isinstance(layer, nn.Conv2d) else torch.float32
    layer = layer.to(probe.device, parameters).to(memory_format=layout)
    images = torch.randn(shape, device=probe.device, dtype=kind).contiguous(memory_format=layout).requires_grad_()
    gradient, leaves = torch.randn_like(layer(images)), [images, *layer.parameters()]
    forward = probe.measure(lambda: layer(images), 0.04, 20)["ms"]
    both = probe.measure(lambda: torch.autograd.grad(layer(images), leaves, gradient), 0.06, 20)["ms"]
    return [round(1e3 * forward), round(1e3 * (both - forward))]


SECTIONS: dict[str, Callable[[Probe], None]] = {
    "facts": facts,
    "parity": parity,
    "steps": steps,
    "anatomy": anatomy,
    "kernels": kernels,
}


def run(probe: Probe, names: list[str]) -> int:
    """Make sections one after the other; how many ended with an error."""
    failed = 0
    for name in names:
        try:
            probe.check_time()
            SECTIONS[name](probe)
        except NoTimeLeft:
            probe.say(name, left_out="no time is left")
        except Exception as error:  # of any kind: the next section may work
            failed += 1
            probe.say(name, error=f"{type(error).__name__}: {error}"[:600], trace=traceback.format_exc()[-1500:])
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between them")
    parser.add_argument("--seconds", type=float, default=120, help="for all of them")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal")
    asked = parser.parse_args()
    raise SystemExit(run(Probe(asked.out, asked.device, asked.seconds, tiny=asked.tiny), asked.only.split(",")))


if __name__ == "__main__":
    main()
