"""Processes of one training: started on this machine, given their devices, and named in the command that resumes."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

import torch

from nascli.engine.device import resolve_device
from nascli.engine.dist import DistContext
from nascli.errors import InputError, NascliError


def local_device(name: str, dist: DistContext) -> torch.device:
    """The device of this process: of several that compute on GPUs each has the one with its local number.

    Args:
        name: `auto`, `cpu` or `cuda`; for a single process `cuda:N`, too.

    Raises:
        InputError: It is not there, or the name is that of one GPU.
    """
    device = resolve_device(name)
    if dist.size == 1 or device.type == "cpu":
        return device
    if device.index is not None:
        raise InputError(f"--device {name} names one GPU for {dist.size} processes", "Use --device cuda")
    if dist.local_rank >= torch.cuda.device_count():
        raise InputError(
            f"there are {dist.local_size} processes on a machine with {torch.cuda.device_count()} CUDA devices",
            "Start one for each GPU, or use --device cpu",
        )
    device = torch.device("cuda", dist.local_rank)
    torch.cuda.set_device(device)
    return device


def resume_command(dist: DistContext, device: torch.device, arguments: str) -> str:
    """The command line that starts `nascli ARGUMENTS` on as many processes as now."""
    if dist.size == 1:
        return f"nascli {arguments}"
    if device.type == "cuda" and dist.size == dist.local_size:
        return f"nascli {arguments} --gpus {dist.size}"
    machines = dist.size // dist.local_size
    where = f"--nnodes {machines} ... " if machines > 1 else ""
    return f"torchrun {where}--nproc-per-node {dist.local_size} -m nascli {arguments}"


def check_gpus(gpus: int, device: str) -> None:
    """InputError where `--gpus` cannot be had: too few are there, or another option says something else."""
    if DistContext.here().size > 1:
        raise InputError("--gpus starts processes of its own, and this is one of torchrun's", "Leave --gpus out")
    if device not in ("auto", "cuda"):
        raise InputError(f"--gpus {gpus} and --device {device} exclude each other", "Leave one of them out")
    there = torch.cuda.device_count()
    if gpus > there:
        raise InputError(
            f"--gpus {gpus}: this machine has {there} CUDA devices",
            f"Use --gpus {there}"
            if there
            else "Leave it out; for several processes on CPUs: torchrun --nproc-per-node 2 -m nascli ...",
        )


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `nascli ARGUMENTS` in so many processes on this machine, by torch's launcher.

    SIGINT and SIGTERM are passed on to each process once, which then has 30 seconds to save. They share the cores.

    Returns:
        The exit code: that of the first process to fail, 130 where a signal asked to stop, else 0.

    Raises:
        NascliError: A process was killed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launcher = logging.getLogger("torch.distributed.elastic")  # it reports what the first process says better
    launcher.addHandler(logging.NullHandler())
    launcher.propagate = False
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "nascli", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        raise NascliError(
            f"process {rank} of {processes} was ended by {name}",
            "Memory may have run out (dmesg says so); --resume starts from the last checkpoint",
        ) from error
    except SignalException:
        return 130
    return 0
