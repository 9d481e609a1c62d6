"""Measurements on the CPU or on a GPU: the options for them, seconds of calls, peak memory.

On a GPU all figures of a benchmark are taken in one process: to start one takes many seconds there, of which most
measurements need fewer.
"""

import argparse
import gc
import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from common import Measures, Task, peak_mib, time_calls

if TYPE_CHECKING:
    import torch

_AHEAD = 2
"""Calls that the CPU may have launched before the GPU ends one."""


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add --device and --here."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--here", action="store_true", help="measure in this process, as always on a GPU")


def add_precision_option(parser: argparse.ArgumentParser) -> None:
    """Add --precision."""
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of all variants")


def measured_here(asked: argparse.Namespace, measures: Measures) -> Measures | None:
    """The measurements, where they are to be made in this process."""
    return measures if asked.here or asked.device == "cuda" else None


def autocast(task: Task) -> AbstractContextManager[object]:
    """A context in which a peer computes in the precision that is asked for."""
    import torch

    if task["precision"] == "float32":
        return nullcontext()
    return torch.autocast(task["device"], dtype=getattr(torch, task["precision"]))


def time_calls_on(device: str, work: Callable[[], object], seconds: float, at_least: int) -> list[float]:
    """Seconds per call, sorted, without the first third, which warms up.

    On a GPU it is the time from the end of one call to the end of the next; the CPU launches ahead, as programs do.
    """
    if device == "cpu":
        return time_calls(work, seconds, at_least)
    import torch

    ends, began = [_mark()], time.perf_counter()
    while time.perf_counter() - began < seconds or len(ends) <= at_least:
        work()
        ends.append(_mark())
        ends[-1 - min(_AHEAD, len(ends) - 1)].synchronize()
    torch.cuda.synchronize()
    taken = [first.elapsed_time(second) / 1000 for first, second in itertools.pairwise(ends)]
    return sorted(taken[len(taken) // 3 :])


def _mark() -> "torch.cuda.Event":
    """An event after all that was launched so far."""
    import torch

    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


class PeakMemory:
    """Memory at its peak from now on: on a GPU that of all tensors, on a CPU what the process takes in addition."""

    def __init__(self, task: Task) -> None:
        self._is_gpu, self._is_shared = task["device"] == "cuda", task["here"]
        self._before = 0.0 if self._is_gpu else peak_mib()
        if self._is_gpu:
            import torch

            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> float | None:
        """MiB so far; None for a CPU whose process has measured others, since its peak may be theirs."""
        if not self._is_gpu:
            return None if self._is_shared else peak_mib() - self._before
        import torch

        return torch.cuda.max_memory_allocated() / 2**20


def name_gpu(asked: argparse.Namespace) -> Mapping[str, object]:
    """The GPU and what its numbers depend on, for the JSON file; nothing for the CPU."""
    import torch

    from nascli.engine.device import describe_device

    return describe_device(torch.device(asked.device))
