"""The machine without its GPUs: processor, memory, packages, compiler, and the places that are written to."""

import os
import platform
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from nascli.memory import measure_free_memory, read_memory_limit
from nascli.runs.record import find_version, versions

EXTRAS = {
    "ray": "ray",
    "openvino": "openvino",
    "nncf": "int8",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "trackio": "trackio",
    "wandb": "wandb",
    "huggingface-hub": "hub",
    "pillow-heif": "heif",
    "timm": "timm",
}
"""The optional packages, each with the extra that installs it."""

_CPUINFO = Path("/proc/cpuinfo")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")

_INSTRUCTIONS = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "AVX-512 bfloat16": {"avx512_bf16"},
    "AMX bfloat16": {"amx_bf16"},
    "NEON": {"asimd"},
    "SVE": {"sve"},
    "ARM bfloat16": {"bf16"},
}
"""Names of instructions, and Linux's words for them."""


def describe_packages() -> dict[str, str | None]:
    """Versions of Python and of all packages; None of what is not installed."""
    return {**versions(), **{name: find_version(name) for name in EXTRAS}}


def describe_cpu() -> dict[str, Any]:
    """The processor.

    Returns:
        `model`; `cores` of the machine, `usable` by this process, `quota`: the cores' worth of time that a container
        may use, None where it may use all; `instructions` that matter to networks.
    """
    lines = dict(_read_cpuinfo())
    words = {*lines.get("flags", lines.get("Features", "")).split()}
    return {
        "model": lines.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "usable": len(os.sched_getaffinity(0)),
        "quota": _read_quota(),
        "instructions": [name for name, wanted in _INSTRUCTIONS.items() if wanted <= words],
    }


def describe_memory() -> dict[str, int | None]:
    """Bytes: `total` of the machine, `limit` of a container, if any, and `free` for this process."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"total": total, "limit": read_memory_limit(), "free": measure_free_memory()}


def describe_place(path: Path) -> dict[str, Any]:
    """A folder, there already or not: `path`, bytes of its file system (`size`, `free`), and whether it is `writable`.

    Sizes are None where there is no such file system.
    """
    there = next((each for each in (path, *path.absolute().parents) if each.exists()), path)
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    values: dict[str, Any] = {"path": str(path), "size": None, "free": None, "writable": writable}
    with suppress(OSError):
        usage = shutil.disk_usage(there)
        values |= {"size": usage.total, "free": usage.free}
    return values


def find_compiler() -> str | None:
    """The C++ compiler that torch.compile would call: that of CXX, else g++; None where it is not there."""
    words = ["g++"]
    with suppress(ValueError):  # a quotation that is not closed
        words = shlex.split(os.environ.get("CXX", "")) or words
    return shutil.which(words[0])


def _read_cpuinfo() -> Iterator[tuple[str, str]]:
    """Keys and values of the first processor."""
    with suppress(OSError):
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            yield key.strip(), value.strip()


def _read_quota() -> float | None:
    with suppress(OSError):
        found = re.fullmatch(r"(\d+) (\d+)\s*", _QUOTA.read_text(encoding="ascii"))  # "max" where there is none
        return round(int(found[1]) / int(found[2]), 2) if found else None
    return None
