"""Work of each of two processes for `test_distributed`; torchrun starts it with the folder that its results go to."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from nascli.classify import task as classify_task
from nascli.classify.metrics import evaluate
from nascli.classify.task import ClassifyTask
from nascli.config import TrainConfig
from nascli.data.dataset import UnreadableImages
from nascli.data.streaming import ImageFiles
from nascli.data.transforms import Normalizer
from nascli.engine import fit as fitting
from nascli.engine import graphs
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.dist import DistContext, process_group
from nascli.engine.graphs import GraphedStep, Step, choose_step
from nascli.engine.task import Run
from nascli.engine.train_state import TrainState
from nascli.errors import CorruptFileError, InputError
from nascli.models.cells.network import CellNetwork
from tests.classify.small_training import AUGMENTATION, CPU, EVERYTHING, FixedTraining, make_data, make_network, run_fit
from tests.graph_stream import OperationStream, changed_by
from tests.processes import failure

MIXED = AUGMENTATION.model_copy(update={"mixup": 0.2, "cutmix": 1.0})
PLAIN = EVERYTHING.model_copy(update={"ema_decay": 0.0, "drop_path_prob": 0.0})
Found = dict[str, Any]


def one_step(dist: DistContext) -> Found:
    """A step in float64 without batch statistics, so that any division of the batch gives the same."""
    training = FixedTraining(PLAIN, dist.size, dist)
    images = torch.randn(12, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    share = dist.share(12)
    loss = training.step(images[share].contiguous(memory_format=torch.channels_last), torch.arange(12)[share] % 3)
    return {"loss": loss, "network": training.state.modules.state_dict()}


def train(dist: DistContext, micro_batches: int, *, epochs: int = 3, streamed: Path | None = None) -> Found:
    """A whole training with everything switched on, each batch in `micro_batches` of all processes together."""
    network, data = make_network(), make_data()
    if streamed is not None:
        paths = tuple(sorted(streamed.iterdir()))
        data = replace(data, train=ImageFiles(paths, data.train.labels, image_size=8, workers=0))
    config = EVERYTHING.model_copy(update={"grad_accum_steps": micro_batches // dist.size, "epochs": epochs})
    log = (lambda text: None) if dist.is_main else None  # as of a program that prints on one process
    result = run_fit(network, config, augmentation=MIXED, data=data, dist=dist, log=log)
    return {"network": network.state_dict(), "evaluation": vars(result.evaluation), "train_loss": result.train_loss}


def train_short_of_memory(dist: DistContext) -> Found:
    """The same in two micro-batches; in its third step the last process runs out of memory."""
    forward, sizes = CellNetwork.forward_with_aux, list[int]()
    fatal = 3 if dist.size == 2 else 5

    def guarded(network: CellNetwork, images: Tensor) -> tuple[Tensor, Tensor | None]:
        sizes.append(len(images))
        if dist.rank == dist.size - 1 and len(sizes) == fatal:
            if dist.size > 1:
                forward(network, images)  # what that counts in the statistics does not stay
            raise torch.OutOfMemoryError("no room")
        return forward(network, images)

    CellNetwork.forward_with_aux = guarded  # type: ignore[method-assign, assignment]
    try:
        return {**train(dist, 2, epochs=1), "sizes": sizes}
    finally:
        CellNetwork.forward_with_aux = forward  # type: ignore[method-assign]


def train_in_graphs(dist: DistContext, last_one: bool) -> Found:
    """A training in four micro-batches, whose steps the last process, if asked, replays from graphs but for the first.

    Masks of drop path are made at each step, as on a GPU.
    """

    steps: list[GraphedStep[Any]] = []

    def choose(state: TrainState, task: ClassifyTask, run: Run) -> Step[Any]:
        steps.append(GraphedStep(state, task, run, OperationStream(lambda: changed_by(state))))
        return steps[0]

    replays = last_one and dist.rank == dist.size - 1
    with (
        mock.patch.object(classify_task, "keeps_numbers_on", return_value=True),
        mock.patch.object(fitting, "choose_step", choose if replays else choose_step),
        mock.patch.multiple(graphs, WARM_UP=1, WORTH=0),
    ):
        found = train(dist, 4, epochs=1)
    assert [step.captures for step in steps] == [1] * replays
    return found


def yield_items(dist: DistContext, *, torn: bool) -> Iterator[int]:
    """Three of the first process and one of the second; or three each, of which the second cannot read its second."""
    for number in range(3 if dist.is_main or torn else 1):
        if torn and not dist.is_main and number == 1:
            raise CorruptFileError("image 1 cannot be decoded", "Replace it")
        yield number


def refuse(dist: DistContext) -> str:
    if dist.is_main:
        return "fine"
    raise InputError("not here", "Look elsewhere")


def run_out_of_memory(dist: DistContext) -> None:
    with dist.any_rank_raises(torch.OutOfMemoryError):
        if not dist.is_main:
            raise torch.OutOfMemoryError("no room")


def resume_three_micro_batches(dist: DistContext, folder: Path) -> None:
    store = CheckpointStore(folder, "x") if dist.is_main else None
    train_three_micro_batches(dist, store)


def train_three_micro_batches(dist: DistContext, store: CheckpointStore | None) -> None:
    config: TrainConfig = EVERYTHING.model_copy(update={"batch_size": 12, "grad_accum_steps": 3, "epochs": 1})
    run_fit(make_network(), config, dist=dist, store=store)


def measure(dist: DistContext, folder: Path, room: int = 100) -> Found:
    """Three images, those of the second process unreadable; the last process has room for `room` images."""
    images = folder / "measured"
    paths = tuple(images / f"{k}.png" for k in range(3))
    split = ImageFiles(paths, torch.tensor([0, 1, 2]), 8, workers=0, unreadable=UnreadableImages(1))

    def forward(numbers: Tensor) -> Tensor:
        if dist.rank == dist.size - 1 and len(numbers) > room:
            raise torch.OutOfMemoryError("no room")
        return numbers.mean((2, 3))

    network = nn.Module()
    network.forward = forward
    normalizer = Normalizer((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    share = dist.shard(split)
    return vars(evaluate(network, share, normalizer, Run(CPU, dist), batch_size=2))


def add_tensors(dist: DistContext) -> list[Tensor]:
    tensors = [torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last), torch.tensor(1.0)]
    tensors = [tensor * (dist.rank + 1) for tensor in tensors]
    dist.sum_(tensors)
    return tensors


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist = DistContext.here()
    with process_group(dist):
        found = {
            "dist": vars(dist),
            "sums": add_tensors(dist),
            "any": [dist.any(False), dist.any(not dist.is_main), dist.any(True)],
            "items": list(dist.lockstep(yield_items(dist, torn=False))),
            "torn": failure(lambda: list(dist.lockstep(yield_items(dist, torn=True)))),
            "raise_together": dist.raise_together(lambda: dist.rank),
            "refused": failure(lambda: dist.raise_together(lambda: refuse(dist))),
            "broadcast_from_main": dist.broadcast_from_main(lambda: {"rank": dist.rank}),
            "out_of_memory": failure(lambda: run_out_of_memory(dist)),
            "resumed": failure(lambda: resume_three_micro_batches(dist, folder / "begun")),
            "step": one_step(dist),
            "trained": train(dist, 2),
            "in_four": train(dist, 4, epochs=1),
            "streamed": train(dist, 2, streamed=folder / "images"),
            "short_of_memory": train_short_of_memory(dist),
            "launched": train_in_graphs(dist, last_one=False),
            "replayed": train_in_graphs(dist, last_one=True),
            "measured": measure(dist, folder),
            "no_room": failure(lambda: measure(dist, folder / "whole", room=0)),
        }
    torch.save(found, folder / f"{dist.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
