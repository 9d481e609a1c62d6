"""Work of each of two processes for `test_distributed`; torchrun starts it with the folder that its results go to."""

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from nascli.config import DetectTrainConfig
from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit
from nascli.data.detection.registry import load_detection_data
from nascli.detect.job import DetectJob, prepare_detect_job, run_detect_job
from nascli.detect.model import Detector
from nascli.detect.sampler import BatchSampler
from nascli.detect.task import DetectBatch, DetectTask
from nascli.engine.dist import DistContext, process_group
from nascli.engine.step import train_step
from nascli.engine.task import Run, TrainPlan
from nascli.engine.train_state import start_state
from nascli.signals import StopRequest
from tests.classify.small_training import CPU
from tests.detect.small_detector import small_network, small_recipe
from tests.processes import failure

Found = dict[str, Any]

EVERYTHING: dict[str, Any] = {
    "aspect_grouping": True,
    "clip_grad_norm": 5.0,
    "ema_decay": 0.5,
    "multi_scale": [48, 64],
    "eval_interval": 2,
}


def new_job(dist: DistContext, micro_batches: int, data: Path) -> DetectJob:
    """A job that computes each batch in `micro_batches` of all processes together."""
    recipe = small_recipe(str(data), **EVERYTHING, grad_accum_steps=micro_batches // dist.size)
    torch.manual_seed(3)
    network, loaded = small_network(), load_detection_data(recipe.data)
    return prepare_detect_job(recipe, loaded, network, trained=True, backbone="a test's", device=CPU, dist=dist)


def train(job: DetectJob, folder: Path, *, stopped: bool = False) -> Found:
    """The report of a whole training, and what it ends with; or one that this process is asked to stop."""
    stop = StopRequest()
    stop.requested = stopped
    is_main = job.dist.is_main
    if is_main:
        folder.mkdir(exist_ok=True)
    report = run_detect_job(job, folder if is_main else None, Run(CPU, job.dist, stop))
    return {"report": report, "weights": job.detector.state_dict()}


def short_of_memory(job: DetectJob, folder: Path) -> Found:
    """A training whose last process runs out of memory in its first step; with the images of each forward pass."""
    forward, sizes = Detector.forward, list[int]()

    def guarded(detector: Detector, images: list[Tensor], targets: Any = None) -> Any:  # noqa: ANN401
        sizes.append(len(images))
        if job.dist.rank == 1 and len(sizes) == 1:
            raise torch.OutOfMemoryError("no room")
        return forward(detector, images, targets)

    with mock.patch.object(Detector, "forward", guarded):
        return {**train(job, folder), "sizes": sizes}


class Steep(nn.Module):
    """In place of a detector: its loss is brightness times weight, and for a weight of 0 the root of that."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), weight))

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        product = self.weight.sum() * torch.stack([image.mean() for image in images]).mean()
        return {"loss": product.sqrt() if product == 0 else product}


def one_step(dist: DistContext, weight: float) -> float:
    """A step of a batch of four, whose ids are 10 to 13; the loss."""
    config, run = DetectTrainConfig(warmup_steps=0), Run(CPU, dist)
    split = DetectionSplit("none", Path(), (), ())
    task = DetectTask(Steep(weight), split, split, BatchSampler(TrainPlan(config, 8, dist), config, 0), run)
    state = start_state(task, run)
    none = np.empty(0)
    entries = [
        AnnotatedImage(10 + k, Path(), 8, 8, none.reshape(0, 4), none.astype(np.int64), none, none > 0)
        for k in range(4)
    ]
    images = [torch.full((3, 8, 8), 51 * k, dtype=torch.uint8) for k in range(4)]
    share = dist.share(4)
    batch = DetectBatch(entries[share], images[share], [{}] * (4 // dist.size))
    state.meter.add(1, 4, train_step(state, task, batch, 0, run))
    return state.meter.mean


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist = DistContext.here()
    with process_group(dist):
        found = {
            "all_gather": dist.all_gather({"rank": dist.rank}),
            "loss": one_step(dist, 1.0),
            "diverged": failure(lambda: one_step(dist, 1.0 if dist.is_main else float("nan"))),
            "steep": failure(lambda: one_step(dist, 0.0)),
            "trained": train(new_job(dist, 2, folder / "data"), folder / "two"),
            "in_four": train(new_job(dist, 4, folder / "data"), folder / "four"),
            "short_of_memory": short_of_memory(new_job(dist, 2, folder / "data"), folder / "short"),
            "stopped": failure(
                lambda: train(new_job(dist, 2, folder / "data"), folder / "stopped", stopped=not dist.is_main)
            ),
            "damaged": failure(lambda: train(new_job(dist, 2, folder / "damaged"), folder / "torn")),
        }
    torch.save(found, folder / f"{dist.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
