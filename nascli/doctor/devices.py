"""All that computes: torch, its GPUs, and the engines of trained networks."""

from typing import Any

import torch

from nascli.doctor.machine import find_compiler
from nascli.engine.device import read_driver_version, resolve_device, resolve_precision, runs_mps
from nascli.models.deploy.engines import TOLERANCES, list_engines
from nascli.models.deploy.openvino import supports


def describe_engines() -> dict[str, Any]:
    """The engines that answer on the device that `--device auto` stands for.

    Returns:
        `names`, the fastest last; `openvino`: the precisions that it has instructions for on this CPU; `compiler`: the
        C++ compiler of torch.compile, None without.
    """
    return {
        "names": list(list_engines(resolve_device("auto"))),
        "openvino": [precision for precision in TOLERANCES if supports(precision)],
        "compiler": find_compiler(),
    }


def describe_torch() -> dict[str, Any]:
    """The build of torch, and the devices that it uses.

    Returns:
        `device`: what `--device auto` stands for, and its `precision`; `threads` of the CPU; `cuda`, `cudnn`, `nccl`:
        versions that torch was built with; `driver` of NVIDIA; `mps`: whether CUDA's Multi-Process Service runs.
    """
    device = resolve_device("auto")
    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None  # type: ignore[no-untyped-call]
    return {
        "device": device.type,
        "precision": resolve_precision("auto", device),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn and str(cudnn),
        "nccl": _find_nccl(),
        "driver": read_driver_version(),
        "mps": runs_mps(),
    }


def describe_gpus() -> list[dict[str, Any]]:
    """Each GPU that torch sees: `name`, `memory` in bytes, compute `capability`, whether it computes in `bfloat16`."""
    return [_describe_gpu(number) for number in range(torch.cuda.device_count())]


def _describe_gpu(number: int) -> dict[str, Any]:
    gpu = torch.cuda.get_device_properties(number)
    computes_in = resolve_precision("auto", torch.device("cuda", number))
    return {
        "name": gpu.name,
        "memory": gpu.total_memory,
        "capability": f"{gpu.major}.{gpu.minor}",
        "bfloat16": computes_in == "bfloat16",
    }


def _find_nccl() -> str | None:
    if not torch.version.cuda or not torch.distributed.is_nccl_available():
        return None
    from torch.cuda import nccl

    return ".".join(map(str, nccl.version()))  # type: ignore[no-untyped-call]
