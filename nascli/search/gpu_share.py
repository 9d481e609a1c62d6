"""The number of search workers that share a GPU, from what a child needs and the machine has."""

import os
import random
from dataclasses import dataclass

import torch

from nascli.classify.task import ClassifyTask
from nascli.config import SearchConfig, SearchRecipe
from nascli.data.in_memory import ImageArray
from nascli.engine.device import runs_mps
from nascli.engine.estimate import step_memory
from nascli.engine.task import Run
from nascli.engine.train_state import start_state
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import draw_genotypes, resolve_space
from nascli.models.families import build
from nascli.search.evaluators.proxy import ChildSetup
from nascli.seeding import derive_seed
from nascli.units import format_bytes

_META = torch.device("meta")

_CHILDREN = 3

_CONTEXT = 600 * 2**20
"""Bytes that CUDA takes for a process, its libraries included."""

_USABLE = 0.9
"""The part of a GPU's memory that workers may fill: blocks of an allocator are never quite full."""

_IN_TURNS, _AT_ONCE = 4, 8
"""The most workers per GPU by default, without and with MPS. Children of CIFAR-10's size are expected to fill a GPU
then; this was not measured on one."""


@dataclass(frozen=True)
class GpuShare:
    """The workers of each GPU.

    Args:
        workers: Of each GPU.
        child: Bytes that a worker needs, as counted; 0 where nothing was counted.
        memory: Bytes of the smallest GPU.
        at_once: Whether MPS lets their kernels run at the same time.
    """

    workers: int
    child: int = 0
    memory: int = 0
    at_once: bool = True

    def settle(self, search: SearchConfig) -> SearchConfig:
        """The configuration with this number of workers per GPU."""
        return search.model_copy(update={"workers_per_gpu": self.workers})

    def describe(self) -> list[str]:
        """A sentence on the number, where it was chosen, and one on what would make them faster."""
        sentences = []
        if self.child:
            need, memory = format_bytes(self.child), format_bytes(self.memory)
            sentences.append(f"{self.workers} workers per GPU: one needs {need} of {memory} (--workers-per-gpu)")
        if self.workers > 1 and not self.at_once:
            sentences.append(
                "workers on one GPU take turns: nvidia-cuda-mps-control -d, started before the search, lets them "
                "compute at one time"
            )
        return sentences


def share_gpus(recipe: SearchRecipe, setup: ChildSetup | None, device: torch.device) -> GpuShare:
    """The workers of each GPU: as the recipe says, else as many as memory and cores allow, up to 4, with MPS 8.

    Counted is the most that a training step of three random children keeps at once, in float32, with the images and
    CUDA's own share of a process.

    Args:
        setup: None where nothing is trained.
    """
    if device.type != "cuda":
        return GpuShare(1)
    chosen, at_once = recipe.search.workers_per_gpu, runs_mps()
    if chosen or setup is None:
        return GpuShare(chosen or 1, at_once=at_once)
    numbers = range(torch.cuda.device_count()) if device.index is None else [device.index]
    memory = min(torch.cuda.get_device_properties(number).total_memory for number in numbers)
    child = count_worker_memory(recipe, setup)
    cores = len(os.sched_getaffinity(0)) // len(numbers)
    most = _AT_ONCE if at_once else _IN_TURNS
    return GpuShare(max(1, min(int(memory * _USABLE) // child, cores, most)), child, memory, at_once)


def count_worker_memory(recipe: SearchRecipe, setup: ChildSetup) -> int:
    """Bytes of GPU memory that a worker needs: for the largest of three random children, the images, and CUDA."""
    draw = random.Random(derive_seed(recipe.seed, "memory"))
    children = draw_genotypes(resolve_space(recipe.space), draw, _CHILDREN)
    parts = (setup.data.train, setup.data.val)
    images = sum(part.images.nbytes for part in parts if isinstance(part, ImageArray))
    return _CONTEXT + images + max(_count_step(recipe, setup, child) for child in children)


def _count_step(recipe: SearchRecipe, setup: ChildSetup, child: Genotype) -> int:
    """Bytes of tensors that a training step keeps at once; on the device `meta`, which has shapes and no values."""
    run, config = Run(_META), recipe.train.model_copy(update={"precision": "float32", "compile": False})
    with _META:
        network = build(setup.spec(child))
    task = ClassifyTask(network, setup.data, config, setup.augmentation, recipe.seed, run)
    task.begin_step(task.plan.steps)
    state = start_state(task, run)
    for group in state.optimizer.param_groups:
        group |= {"fused": False, "foreach": True}  # torch has no fused kernel for this device
    side, count = setup.data.image_size, config.batch_size
    images = torch.zeros(count, 3, side, side, device=_META).to(memory_format=torch.channels_last)
    return step_memory(state, task, (images, torch.zeros(count, dtype=torch.int64, device=_META)), run)
