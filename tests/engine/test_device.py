"""Seeding reaches the generators that a training draws from, and no others."""

import os
import pickle
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nascli.config import DetectRecipe, SearchRecipe, load_recipe
from nascli.engine.device import (
    autocast,
    describe_device,
    deterministic_kernels,
    find_emulated,
    fork_rng,
    read_driver_version,
    resolve_device,
    resolve_precision,
    seed_generators,
    settle_precision,
    temporary_seed,
)
from nascli.search.evaluators.proxy import load_child_setup

CPU = torch.device("cpu")


def test_seeding_is_that_of_torch_on_the_cpu_and_leaves_other_devices_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("every GPU was seeded"))
    seed_generators(5, CPU)
    assert torch.equal(torch.rand(3), expected)


def test_a_fork_leaves_the_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    with fork_rng(CPU):
        seed_generators(1, CPU)
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs)", "580.65.06"),
    ],
)
def test_the_driver_is_read_from_its_module_or_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, version: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("nascli.engine.device._DRIVER", tmp_path / "version")
    assert read_driver_version() is None
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 535.1\n")
    program.chmod(0o755)
    assert read_driver_version() == "535.1"
    (tmp_path / "version").write_text(f"{text}\nGCC version:  gcc version 12.2.0\n")
    assert read_driver_version() == version


def test_a_cpu_has_no_facts_and_a_gpu_names_what_its_numbers_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_device(CPU) == {}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr("nascli.engine.device.read_driver_version", lambda: "550.54.15")
    facts = describe_device(torch.device("cuda", 0))
    assert facts["gpu"] == "NVIDIA H100"
    assert facts["driver"] == "550.54.15"
    assert facts["tf32_convolutions"] is torch.backends.cudnn.allow_tf32
    assert facts["tf32_matmul"] is False
    assert facts.keys() == {"gpu", "cuda", "cudnn", "driver", "tf32_convolutions", "tf32_matmul"}


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((9, 0), "bfloat16"),
        ((8, 0), "bfloat16"),
        ((7, 5), "float16"),
        ((7, 0), "float16"),
        ((6, 1), "float32"),
        (None, "float32"),
    ],
)
def test_auto_is_the_fastest_precision_of_the_device(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    device = torch.device("cuda") if capability else CPU
    values = {"train.precision": "auto", "supernet.precision": "auto"}
    recipe = settle_precision(load_recipe(SearchRecipe, None, values), device)
    assert (recipe.train.precision, recipe.supernet.precision) == (expected, expected)
    assert find_emulated(recipe, device) == []
    named = load_recipe(SearchRecipe, None, {"train.precision": "float16"})
    assert settle_precision(named, device) == named


def test_an_unsettled_auto_computes_like_what_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python calls the engine with a recipe of its own."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with autocast("auto", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert resolve_precision("auto", torch.device("cuda")) == "bfloat16"


def test_bfloat16_on_an_older_gpu_is_said_to_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    recipe = load_recipe(DetectRecipe, None, {"train.precision": "bfloat16"})
    (sentence,) = find_emulated(recipe, torch.device("cuda"))
    assert "train.precision" in sentence
    assert "Tesla T4" in sentence
    assert find_emulated(recipe, CPU) == []


def test_a_gpu_that_is_named_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In worker processes, too, where the setup of a search arrives as a copy."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    second = resolve_device("cuda:1")
    resolve_device("cpu")
    assert chosen == [second]
    recipe = load_recipe(SearchRecipe, None, {"data.dataset": "digits"})
    setup = load_child_setup(recipe, CPU)
    pickle.loads(pickle.dumps(replace(setup, device=second)))
    assert chosen == [second, second]


def test_initial_weights_leave_every_generator_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("every GPU was seeded"))
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("every device was seeded"))
    before = torch.get_rng_state()
    with temporary_seed(3, "init"):
        first = torch.rand(3)
    with temporary_seed(3, "init"):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_kernels_of_a_gpu_are_deterministic_while_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    with deterministic_kernels(CPU):
        assert not torch.are_deterministic_algorithms_enabled()
    during = None
    with suppress(ZeroDivisionError), deterministic_kernels(torch.device("cuda")):
        during = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise ZeroDivisionError
    assert during == (True, True, False)
    assert before == (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark)
