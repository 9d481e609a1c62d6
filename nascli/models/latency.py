"""The latency of a network: the one figure of its cost that depends on the machine, and on what else it does."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_WARM_UP = 3
_REPEATS = 15
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass: the median, and the quartiles that half of the runs lie between.

    `batch`, `repeats` and `threads` (those that torch computes with on a CPU) say how it was measured.
    """

    seconds: float
    lower: float
    upper: float
    batch: int
    repeats: int
    threads: int


def measure_latency(
    engine: Callable[[Tensor], object],
    image_size: int,
    *,
    batch: int = 1,
    repeats: int = _REPEATS,
    device: torch.device = _CPU,
    dtype: torch.dtype = torch.float32,
) -> Latency:
    """Time a network, or what answers for it, as it is given: its mode and memory format are the caller's.

    After 3 runs to warm up, runs are timed one by one, without gradients; on a GPU each to its end. Threads are those
    of the context (`torch.set_num_threads`).

    Args:
        engine: Takes images (N, 3, H, W), channels last in memory.
        image_size: H and W.
        batch: N, images per run.
        repeats: Timed runs, two or more.
        device: Device of engine and images.
        dtype: Type of the images.
    """
    shape = (batch, 3, image_size, image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    images = images.to(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(_WARM_UP + repeats):
            since = time.perf_counter()
            engine(images)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - since)
    lower, median, upper = statistics.quantiles(times[_WARM_UP:], n=4, method="inclusive")
    return Latency(median, lower, upper, batch, repeats, torch.get_num_threads())
