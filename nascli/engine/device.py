"""Devices, precision, CPU threads, seeding of torch, and the memory that a process keeps."""

import ctypes
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import torch

from nascli.config import OptimConfig, Section, TrainingPrecision
from nascli.config.section import Recipe
from nascli.device_errors import is_out_of_memory
from nascli.errors import InputError
from nascli.seeding import derive_seed

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""glibc's numbers of these options, `M_TRIM_THRESHOLD` and `M_MMAP_MAX` in malloc.h."""

_NEVER_BACK = 2**31 - 1
"""Bytes that must be free at the heap's end before any are given back: the most that can be asked for."""

_DRIVER = Path("/proc/driver/nvidia/version")

_BFLOAT16, _FLOAT16 = (8, 0), (7, 0)
"""Compute capabilities from which on GPUs multiply in these formats."""

_AUTOCAST_TYPES: dict[TrainingPrecision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions of autocast; float32 needs none."""


def resolve_device(name: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`; InputError where it is not there.

    A GPU that is named by its number becomes the one that this process uses.
    """
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
    use_device(device)
    return device


def use_device(device: torch.device) -> None:
    """Make a GPU with a number the current one: else what asks for none would take memory of GPU 0, too."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def describe_device(device: torch.device) -> dict[str, str | bool]:
    """Everything that results of a GPU depend on beside the recipe, for `run.json`; nothing of a CPU.

    Returns:
        `gpu`, its name; `cuda`, `cudnn` and `driver`, versions; `tf32_convolutions` and `tf32_matmul`: whether float32
        is computed with the 10-bit fractions of TF32.
    """
    if device.type != "cuda":
        return {}
    return {
        "gpu": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda or "unknown",
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        "driver": read_driver_version() or "unknown",
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_matmul": torch.get_float32_matmul_precision() != "highest",
    }


def read_driver_version() -> str | None:
    """The version of NVIDIA's driver, as its kernel module or else nvidia-smi says it; None where there is none."""
    with suppress(OSError):
        if found := re.search(r"Kernel Module.*?(\d+\.[\d.]+)", _DRIVER.read_text(encoding="utf-8")):
            return found[1]
    with suppress(OSError, subprocess.SubprocessError, IndexError):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.split()[0]
    return None


def runs_mps() -> bool:
    """Whether the control daemon of CUDA's Multi-Process Service runs, by which processes share a GPU at one time."""
    file = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"), "nvidia-cuda-mps-control.pid")
    with suppress(OSError, ValueError):
        return Path("/proc", str(int(file.read_text(encoding="ascii")))).exists()
    return False


def resolve_precision(precision: TrainingPrecision, device: torch.device) -> TrainingPrecision:
    """The precision itself; for `auto` the one that a device is fastest in.

    That is bfloat16 from compute capability 8.0 (Ampere) on, float16 from 7.0 (Volta), float32 on other GPUs and CPUs.
    """
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "float32"
    capability = torch.cuda.get_device_capability(device)
    return "bfloat16" if capability >= _BFLOAT16 else "float16" if capability >= _FLOAT16 else "float32"


def settle_precision(recipe: Recipe, device: torch.device) -> Recipe:
    """The recipe with a precision in place of each `auto`, so that a resume on another device changes nothing."""
    unsettled = {key: each for key, each in _trainings(recipe).items() if each.precision == "auto"}
    if not unsettled:
        return recipe
    found = {"precision": resolve_precision("auto", device)}
    return recipe.model_copy(update={key: each.model_copy(update=found) for key, each in unsettled.items()})


def find_emulated(recipe: Section, device: torch.device) -> list[str]:
    """A sentence for each training of a recipe in bfloat16, where the GPU has no instructions for it."""
    asked = [key for key, each in _trainings(recipe).items() if each.precision == "bfloat16"]
    if not asked or device.type != "cuda" or torch.cuda.get_device_capability(device) >= _BFLOAT16:
        return []
    major, minor = torch.cuda.get_device_capability(device)
    gpu = f"{torch.cuda.get_device_name(device)} (compute capability {major}.{minor})"
    return [f"{key}.precision bfloat16 is emulated on {gpu}, and slow: {key}.precision=auto is not" for key in asked]


def _trainings(recipe: Section) -> dict[str, OptimConfig]:
    """The sections of a recipe that are of a training."""
    return {key: each for key, each in recipe if isinstance(each, OptimConfig)}


def check_precision(config: OptimConfig, device: torch.device) -> None:
    """InputError where a device does not train in this precision."""
    if config.precision == "float16" and device.type != "cuda":
        raise InputError(f"{config.section}.precision float16 needs a CUDA device", "Use bfloat16 or float32 here")


def autocast(precision: TrainingPrecision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which a forward pass computes in a precision."""
    kind = find_autocast_type(precision, device)
    return nullcontext() if kind is None else torch.autocast(device.type, dtype=kind)


def find_autocast_type(precision: TrainingPrecision, device: torch.device) -> torch.dtype | None:
    """The number format that autocast computes in for a precision; None where none is needed."""
    return _AUTOCAST_TYPES.get(resolve_precision(precision, device))


@contextmanager
def deterministic_kernels(device: torch.device) -> Iterator[None]:
    """While it lasts, a GPU computes with kernels whose results are the same each time, where torch has such.

    Of an operation that has none torch warns once. CPUs are left as they are: with one number of threads they compute
    the same each time. cuBLAS reads its setting when it is first used.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    kept = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = kept


@contextmanager
def name_out_of_memory() -> Iterator[None]:
    """Make one error of all that say that memory did not suffice; most libraries raise a RuntimeError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError) or not is_out_of_memory(error):
            raise
        raise torch.OutOfMemoryError(str(error)) from error


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute with so many CPU threads while the context lasts; 0 leaves their number as it is.

    Two threads that share a core with anything else wait for each other in a spin: small networks then fall from
    hundreds of images per second to a handful. One thread never waits.
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


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's default generator and that of the device; `torch.manual_seed` would seed every GPU's."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)


def fork_rng(device: torch.device) -> AbstractContextManager[None]:
    """A context after which torch's generators of the CPU and of the device are as they were before."""
    context: AbstractContextManager[None] = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    return context


@contextmanager
def temporary_seed(seed: int, *path: int | str) -> Iterator[None]:
    """Seed torch's CPU generator with `derive_seed(seed, *path)`, for initial weights; afterwards it is as it was."""
    with fork_rng(torch.device("cpu")):
        torch.default_generator.manual_seed(derive_seed(seed, *path))
        yield


@functools.cache
def disable_malloc_trim() -> bool:
    """Let this process keep the memory that it frees for the next tensors, instead of giving it back to the system.

    glibc maps a large block afresh for each tensor and unmaps it afterwards, and Linux clears every page when it is
    first written. Steps of a training make the same tensors again and again, and would have their pages cleared each
    time: a sixth of a step on a CPU. The process's memory stays at its highest point until it ends.

    Returns:
        Whether it does; another C library than glibc is left as it is.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _NEVER_BACK)) and bool(mallopt(_MMAP_MAX, 0))
