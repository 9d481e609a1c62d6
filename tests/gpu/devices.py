"""The devices that tests run on, and how exactly a GPU computes in float32."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PRECISIONS = ("float32", "bfloat16", "float16")

NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
_ON_GPU = pytest.param(CUDA, marks=NEEDS_GPU, id="cuda")

on_gpu = pytest.mark.parametrize("device", [_ON_GPU])
on_both = pytest.mark.parametrize("device", [pytest.param(CPU, id="cpu"), _ON_GPU])


def without_tf32() -> AbstractContextManager[None]:
    """A context in which convolutions in float32 are as exact on a GPU as on a CPU."""
    backend = torch.backends.cudnn
    context: AbstractContextManager[None] = backend.flags(
        enabled=True, benchmark=backend.benchmark, deterministic=backend.deterministic, allow_tf32=False
    )
    return context


@contextmanager
def waits_refused() -> Iterator[None]:
    """Copies and readings that wait for the GPU are errors while the context lasts."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def waits_counted() -> Iterator[list[str]]:
    """What waits for the GPU while the context lasts, a text for each."""
    waits: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits += [str(each.message) for each in caught if "synchroniz" in str(each.message)]
