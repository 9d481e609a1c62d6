"""Compilation of a network's blocks by `torch.compile` while it trains."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nascli.errors import InputError
from nascli.models.interface import ImageClassifier

_DIFFERENT_BLOCKS = 4096
"""The most that a process may compile. torch's own limit is for one function that meets too many shapes; here each
different block is a shape of its own."""


@contextmanager
def compile_blocks(network: ImageClassifier, device: torch.device) -> Iterator[None]:
    """Compile the blocks' forward and backward passes while the context lasts.

    A block is compiled when it is first called, and one that is equal but for its weights uses the same code: so the
    time grows with the different blocks, not with the depth. The rest of the network stays as it is, and so do the
    names of the weights. Afterwards the blocks are plain again.

    Raises:
        InputError: There is no compiler here.
    """
    _check_compiler(device.type)
    blocks = [unit.module for unit in network.units() if unit.is_block]
    limits = {"recompile_limit": _DIFFERENT_BLOCKS, "accumulated_recompile_limit": _DIFFERENT_BLOCKS}
    for block in blocks:
        block.compile(fullgraph=True, dynamic=False)
    try:
        with torch._dynamo.config.patch(limits):
            yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None  # there is no public way back


@functools.cache
def _check_compiler(device_type: str) -> None:
    try:
        torch.compile(torch.sin)(torch.zeros(1, device=device_type))
    except Exception as error:  # torch raises its own at every stage, and what the compiler's absence raises
        raise InputError(
            f"train.compile: torch.compile does not work here ({(str(error) or type(error).__name__).splitlines()[0]})",
            "Install a C++ compiler (g++, or name one in the environment variable CXX), or set train.compile=false",
        ) from error
