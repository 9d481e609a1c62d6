"""One-shot evaluation: a supernet is trained for all children, then a child is scored with the weights it inherits.

1. Training, once in a search: `nascli.search.evaluators.supernet_task`.
2. Scoring: a child takes its weights over as they are; the batch-norm statistics of its own are measured on training
   images; the reward is its top-1 accuracy on the held-out images. No weight changes and nothing is left behind, so a
   score does not depend on the children that were scored before. All children are measured on the same images and
   nothing is drawn, so the score does not depend on the seed either.

Such a score is a *proxy* in a stronger sense than that of a short training: it ranks children by weights that none of
them was trained alone with, and is to be compared with other scores of the same supernet only.

References:
    Pham et al. 2018, "Efficient neural architecture search via parameter sharing" (ENAS). Guo et al. 2020, "Single path
    one-shot neural architecture search with uniform sampling", sections 3.2 and 3.4. Bender et al. 2018.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nascli.classify.metrics import evaluate
from nascli.classify.norms import measure_batch_norms
from nascli.config import SearchRecipe
from nascli.engine.checkpoint import METRICS, NEWEST, PREVIOUS
from nascli.engine.device import cpu_threads, generator_for
from nascli.engine.task import Run
from nascli.errors import InputError
from nascli.files import writing
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import SearchSpace
from nascli.models.cost import measure_cost
from nascli.models.families import find_supernet
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import SUPERNET_FILE, load_weights
from nascli.models.tensor_files import read_metadata
from nascli.search.evaluators.proxy import ChildSetup
from nascli.search.evaluators.supernet_task import (
    SupernetTask,
    child_spec,
    supernet_identity,
    train_supernet,
)
from nascli.search.trial import Score
from nascli.signals import StopRequest

Progress = Callable[[int, int, float], None]
"""Called after each step: steps made, steps in all, mean loss in the epoch so far."""


@dataclass(frozen=True, eq=False)
class OneShotEvaluator:
    """The evaluator: a child's top-1 accuracy on held-out images with inherited weights.

    All weights lie in one tensor, so that worker processes share one piece of memory.

    Args:
        weights: All weights of the supernet one after the other, float32 on the CPU; only read.
        layout: Name and shape of each, in this order.
        calibration: Positions of the training images that measure batch-norm statistics, in whole batches.
        batch_size: Images per batch of these.
    """

    setup: ChildSetup
    space: SearchSpace
    weights: Tensor
    layout: tuple[tuple[str, torch.Size], ...]
    calibration: Tensor
    batch_size: int

    def network(self, genotype: Genotype) -> ImageClassifier:
        """The stand-alone child with its inherited weights and recalibrated statistics, in evaluation mode.

        InputError where the genotype is not of the space.
        """
        self.space.encode(genotype)
        views = torch.split(self.weights, [shape.numel() for _, shape in self.layout])
        shared = {name: view.view(shape) for (name, shape), view in zip(self.layout, views, strict=True)}
        spec = child_spec(self.setup, genotype)
        child = find_supernet(spec.family).extract_child(spec, shared)
        child.to(self.setup.device).to(memory_format=torch.channels_last)
        images = self.setup.resident.train.take(self.calibration)
        measure_batch_norms(child, images, self.batch_size, self.setup.normalizer, self.setup.device)
        return child

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """The score of a child; nothing is trained or drawn, so `seed` and `epochs` change nothing.

        DivergedError where its loss is not finite.
        """
        started = time.monotonic()
        child = self.network(genotype)
        accuracy = evaluate(child, self.setup.resident.val, self.setup.normalizer, Run(self.setup.device)).top1
        cost = measure_cost(child)
        return Score.of(accuracy, cost.params, cost.mult_adds, started)


def build_one_shot(
    recipe: SearchRecipe,
    setup: ChildSetup,
    folder: Path,
    *,
    stop: StopRequest,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> OneShotEvaluator:
    """The evaluator of a recipe: trains a supernet, or resumes that, or loads what is finished in `folder`.

    Writes `supernet.safetensors`, and before that `checkpoint.pt` and `metrics.jsonl` as it goes. With one seed and one
    number of threads the weights are the same bit for bit on a CPU, stopped and resumed or not.

    Args:
        folder: The run folder of the search.
        stop: Looked at after each step.
        log: Takes messages for the user, as `Run.log`.

    Raises:
        InputError: The weights in the folder are of another recipe.
        CorruptFileError: They are damaged.
        DivergedError: A loss is not finite.
        Interrupted: `stop` was requested; a checkpoint is written, and the hint names the command that resumes.
        NascliError: The device's memory does not suffice, or the folder cannot be written.
    """

    def on_step(step: int, loss: float) -> None:
        if progress is not None:
            progress(step, supernet.plan.steps, loss)

    run = Run(setup.device, stop=stop, log=log, on_step=on_step)
    supernet, identity = SupernetTask(recipe, setup, run), supernet_identity(recipe)
    path = folder / SUPERNET_FILE
    if not path.is_file():
        with cpu_threads(recipe.supernet.threads):
            train_supernet(supernet, identity, recipe.seed, folder, run)
    with writing(path):
        for name in (NEWEST, PREVIOUS, METRICS):  # the finished weights replace them
            (folder / name).unlink(missing_ok=True)
    shared = supernet.weights.cpu()
    load_weights(path, shared)
    _check_identity(path, identity)
    named = dict(shared.named_parameters())
    images = min(recipe.supernet.bn_calibration_images, len(setup.data.train))
    batch_size = min(recipe.supernet.batch_size, images)
    order = torch.randperm(len(setup.data.train), generator=generator_for(recipe.seed, "shared", "refresh"))
    return OneShotEvaluator(
        setup=setup,
        space=supernet.space,
        weights=torch.cat([weight.detach().reshape(-1) for weight in named.values()]),
        layout=tuple((name, weight.shape) for name, weight in named.items()),
        calibration=order[: images // batch_size * batch_size],
        batch_size=batch_size,
    )


def _check_identity(path: Path, identity: str) -> None:
    if read_metadata(path).get("identity") != identity:
        raise InputError(
            f"weights {path} belong to another recipe than the run folder now holds",
            "Restore recipe.toml, or start again with --overwrite",
        )
