"""Seeding reaches the generators that a training draws from, and no others."""

import pytest
import torch

from nascli.engine.device import describe_device, fork_rng, seed_generators

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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu_its_generator_is_seeded() -> None:
    cuda = torch.device("cuda")
    drawn = []
    for _ in range(2):
        seed_generators(5, cuda)
        drawn.append((torch.rand(3), torch.rand(3, device=cuda).cpu()))
    assert all(torch.equal(*pair) for pair in zip(*drawn, strict=True))


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
