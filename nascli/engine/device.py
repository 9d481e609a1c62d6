"""Devices, CPU threads, and torch generators seeded for one purpose."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nascli.errors import InputError
from nascli.seeding import derive_seed


def resolve_device(name: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`; InputError where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: no such device", "Use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {name}: only cpu and cuda are supported")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices", "Use --device auto"
        )
    return device


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute with so many CPU threads while the context lasts; 0 leaves their number as it is.

    Two threads that share a core with anything else wait for each other in a spin: small networks then fall from
    hundreds of images a second to a handful. One thread never waits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def generator_for(seed: int, *path: int | str) -> torch.Generator:
    """A CPU generator seeded with `derive_seed(seed, *path)`."""
    return torch.Generator().manual_seed(derive_seed(seed, *path))
