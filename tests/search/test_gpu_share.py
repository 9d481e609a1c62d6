"""Workers per GPU: counted memory, cores, and whether kernels of several processes run at the same time."""

import os
import random
from types import SimpleNamespace

import pytest
import torch

from nascli.classify.task import ClassifyTask
from nascli.config import SearchRecipe, load_recipe
from nascli.engine.estimate import step_memory
from nascli.engine.task import Run
from nascli.engine.train_state import start_state
from nascli.genotype.space import draw_genotypes, resolve_space
from nascli.models.families import build
from nascli.search import gpu_share
from nascli.search.evaluators.proxy import ChildSetup, load_child_setup
from nascli.search.executors import local
from nascli.search.gpu_share import GpuShare, count_worker_memory, share_gpus
from nascli.seeding import derive_seed

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = {
    "data.dataset": "digits",
    "network.preset": "cifar10",
    "network.filters": 4,
    "network.cells_per_stage": 1,
    "network.image_size": 8,
    "train.batch_size": 8,
}
GIB = 2**30


@pytest.fixture(scope="module")
def setup() -> ChildSetup:
    return load_child_setup(load_recipe(SearchRecipe, None, SMALL), CPU)


def test_the_memory_of_a_child_is_counted_as_on_a_cpu(monkeypatch: pytest.MonkeyPatch, setup: ChildSetup) -> None:
    monkeypatch.setattr(gpu_share, "_CHILDREN", 1)
    recipe = load_recipe(SearchRecipe, None, SMALL)
    draw, steps = random.Random(derive_seed(recipe.seed, "memory")), []
    for child in draw_genotypes(resolve_space(recipe.space), draw, 1):
        task = ClassifyTask(build(setup.spec(child)), setup.data, recipe.train, setup.augmentation, 0, Run(CPU))
        task.begin_step(task.plan.steps)
        state = start_state(task, Run(CPU))
        for group in state.optimizer.param_groups:
            group |= {"fused": False, "foreach": True}
        images = torch.zeros(8, 3, 8, 8).to(memory_format=torch.channels_last)
        steps.append(step_memory(state, task, (images, torch.zeros(8, dtype=torch.int64)), Run(CPU)))
    pixels = (len(setup.data.train) + len(setup.data.val)) * 3 * 8 * 8
    assert count_worker_memory(recipe, setup) == 600 * 2**20 + pixels + max(steps)


@pytest.mark.parametrize(
    ("memory", "need", "cores", "gpus", "mps", "workers"),
    [
        (80 * GIB, GIB, 16, 1, False, 4),
        (80 * GIB, GIB, 16, 1, True, 8),
        (80 * GIB, GIB, 16, 8, True, 2),
        (8 * GIB, 2 * GIB, 16, 1, True, 3),
        (8 * GIB, 30 * GIB, 16, 1, True, 1),
        (80 * GIB, GIB, 1, 2, True, 1),
    ],
)
def test_workers_are_as_many_as_memory_and_cores_allow(
    monkeypatch: pytest.MonkeyPatch,
    setup: ChildSetup,
    memory: int,
    need: int,
    cores: int,
    gpus: int,
    mps: bool,
    workers: int,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(total_memory=memory))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setattr(gpu_share, "runs_mps", lambda: mps)
    monkeypatch.setattr(gpu_share, "count_worker_memory", lambda recipe, setup: need)
    recipe = load_recipe(SearchRecipe, None, SMALL)
    share = share_gpus(recipe, setup, CUDA)
    assert share == GpuShare(workers, need, memory, mps)
    assert any("nvidia-cuda-mps-control" in each for each in share.describe()) == (workers > 1 and not mps)
    assert any("--workers-per-gpu" in each for each in share.describe())
    named = load_recipe(SearchRecipe, None, {**SMALL, "search.workers_per_gpu": 5})
    assert share_gpus(named, setup, CUDA).workers == 5
    assert share_gpus(recipe, None, CUDA).workers == 1
    assert share_gpus(recipe, setup, CPU) == GpuShare(1)
    assert not GpuShare(1).describe()


def test_a_worker_gives_memory_back_between_two_children(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(True))
    for initialized in (False, True):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda initialized=initialized: initialized)
        local._return_gpu_memory()
    assert given_back == [True]
