"""Searches: workers that share a GPU, one that loses it, and shared weights in half precision."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from nascli.config import TrainConfig
from nascli.genotype.genotype import Genotype
from nascli.search.evaluators.one_shot import build_one_shot
from nascli.search.evaluators.proxy import ProxyTraining
from nascli.search.executors.local import LocalExecutor
from nascli.search.trial import Score
from nascli.signals import StopRequest
from tests.gpu.devices import PRECISIONS, on_gpu
from tests.search.executor_helpers import drain, job, scores
from tests.search.test_one_shot import drawn, proxy, recipe


@dataclass(frozen=True)
class LosesItsGpu:
    """Trains children; the first job of the seed 1000 breaks the CUDA context of its process instead."""

    training: ProxyTraining
    folder: Path

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        broken = self.folder / "broken"
        if seed == 1000 and not broken.exists():
            broken.touch()
            torch.zeros(3, device="cuda")[torch.tensor([5], device="cuda")]
            torch.cuda.synchronize()
        return self.training.evaluate(genotype, seed, epochs)


@on_gpu
def test_two_workers_share_a_gpu_and_one_that_loses_it_is_replaced(tmp_path: Path, device: torch.device) -> None:
    setting = replace(proxy(recipe()), device=device)
    config = TrainConfig(epochs=1, batch_size=16, precision="bfloat16", aux_weight=0.4)
    evaluator = LosesItsGpu(ProxyTraining(setting, config), tmp_path)
    jobs = [replace(job(number), genotype=genotype) for number, genotype in enumerate(drawn(4))]
    with LocalExecutor(evaluator, workers=2, retries=1, gpus=1) as executor:
        found = scores(drain(executor, jobs))
    assert (tmp_path / "broken").exists()
    assert all(score.accuracy is not None and 0 <= score.accuracy <= 1 for score in found)


@on_gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_shared_weights_are_trained_in_each_precision(tmp_path: Path, device: torch.device, precision: str) -> None:
    config = recipe(supernet__precision=precision)
    setting = replace(proxy(config), device=device)
    evaluator = build_one_shot(config, setting, tmp_path, stop=StopRequest())
    assert bool(evaluator.weights.isfinite().all())
    assert 0 <= evaluator.evaluate(drawn(1)[0], 0).reward <= 1
