"""How long a network takes: the one figure of its cost that depends on the machine, and on what else it does."""

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn

_WARM_UP = 3
_REPEATS = 15


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward: the median, and the quartiles that half of the runs lie between.

    `batch`, `repeats` and `threads` (those that torch computes with on a CPU) say how it was measured.
    """

    seconds: float
    lower: float
    upper: float
    batch: int
    repeats: int
    threads: int


def measure_latency(network: nn.Module, image_size: int, *, batch: int = 1, repeats: int = _REPEATS) -> Latency:
    """Time a network as it is given: its device, number format, memory format and mode are the caller's.

    After 3 runs to warm up, so many are timed one by one, without gradients; on a GPU each to its end. Threads are
    those of the context (`torch.set_num_threads`).

    Args:
        network: Takes (N, 3, H, W), float32 or of the type of its own weights.
        image_size: H and W.
        batch: N, images in one forward.
        repeats: Timed runs, two or more.
    """
    like = next(network.parameters())
    shape = (batch, 3, image_size, image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like.device, like.dtype)
    images = images.to(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(_WARM_UP + repeats):
            since = time.perf_counter()
            network(images)
            if like.is_cuda:
                torch.cuda.synchronize(like.device)
            times.append(time.perf_counter() - since)
    lower, median, upper = statistics.quantiles(times[_WARM_UP:], n=4, method="inclusive")
    return Latency(median, lower, upper, batch, repeats, torch.get_num_threads())
