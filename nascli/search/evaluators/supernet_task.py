"""Training of a supernet, as a task of the engine: each step trains the weights of one child, drawn at random.

Each step draws a cell uniformly from the decisions of the space and makes one optimizer step on one batch with this
child's weights. `nascli.models.cells.supernet` says which weights children share.

The training is `[supernet]`'s, with the augmentation of `[data]` and the label smoothing of `[train]`. There is no
auxiliary head and no drop path: the children of two steps have too little in common. For the same reason nothing is
compiled, and no activations are recomputed; those of one small child fit.

Deviation:
    ENAS trains weights and controller in turn; here, as in Guo et al. 2020 and Bender et al. 2018, the weights are
    trained first, by uniform draws, so that any strategy can search with them and a score keeps its meaning through a
    search.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from nascli.classify.task import AugmentedBatches, TrainBatch, plan_batches
from nascli.config import SearchRecipe
from nascli.engine.cast import cast_weights
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.device import autocast, generator_for, temporary_seed
from nascli.engine.fit import fit
from nascli.engine.task import Run, Task
from nascli.errors import DeviceMemoryError, DivergedError
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import first_genotype, resolve_space
from nascli.models.families import find_supernet
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import SUPERNET_FILE
from nascli.models.spec import NetworkSpec, format_network
from nascli.models.tensor_files import write_tensors
from nascli.records import sha256_json
from nascli.search.evaluators.proxy import ChildSetup

_NOT_IDENTITY = {
    "data": {"data_dir", "workers"},
    "supernet": {"bn_calibration_images", "checkpoint_minutes", "checkpoint_steps"},
}
"""Keys of a recipe that do not touch a weight."""
_IDENTITY = {"seed", "data", "space", "network", "supernet"}
"""Sections of a recipe that the weights follow from, besides `train.label_smoothing` and `search.holdout`."""


class SupernetTask(Task[TrainBatch]):
    """The weights of every child of a space, trained on the images that children are trained on.

    Args:
        recipe: The resolved recipe.
        setup: Data and macro numbers of the children.
        run: On the device of `setup`.

    Attributes:
        spec: The network of a child, whose genotype is one of the space.

    Raises:
        InputError: There is one training image.
    """

    def __init__(self, recipe: SearchRecipe, setup: ChildSetup, run: Run) -> None:
        self.config, self.space = recipe.supernet, resolve_space(recipe.space)
        self.plan = plan_batches(setup.data, self.config, run.dist)
        self.why_eager = "each step trains another child"
        self._setup, self._seed, self._label_smoothing = setup, recipe.seed, recipe.train.label_smoothing
        self._batches = AugmentedBatches(setup.data, setup.augmentation, self.plan, recipe.seed, run.device)
        self._child: ImageClassifier | None = None
        self.spec = child_spec(setup, first_genotype(self.space))
        self._supernet = find_supernet(self.spec.family)
        with temporary_seed(self._seed, "shared", "init"):
            self.modules = self.weights = self._supernet.build_shared_parameters(self.spec, self.space)

    def batches(self, epoch: int, done: int) -> Iterator[TrainBatch]:
        """Augmented images and their labels."""
        return self._batches.read(epoch, done)

    def begin_step(self, step: int) -> None:
        """Draw the child of a step uniformly from the decisions of the space; it has no weights of its own."""
        draw = generator_for(self._seed, "shared", step)
        tokens = [int(torch.randint(size, (), generator=draw)) for size in self.space.decision_sizes]
        self._child = self._supernet.bare_child(child_spec(self._setup, self.space.decode(tokens))).train()

    def loss(self, micro: TrainBatch) -> Mapping[str, Tensor]:
        """Cross-entropy of the child with its inherited weights."""
        assert self._child is not None
        images, targets = micro
        inherited = self._supernet.inherit_weights(self._child, dict(self.weights.named_parameters()))
        inherited = cast_weights(self._child, inherited, self.config.precision, images.device)
        with autocast(self.config.precision, images.device):
            logits: Tensor = functional_call(self._child, inherited, (images,))
        return {"loss": F.cross_entropy(logits.float(), targets, label_smoothing=self._label_smoothing)}


def supernet_identity(recipe: SearchRecipe) -> str:
    """SHA-256 over all that the weights follow from."""
    sections = recipe.model_dump(mode="json", include=_IDENTITY, exclude=_NOT_IDENTITY)
    return sha256_json([sections, recipe.train.label_smoothing, recipe.search.holdout])


def train_supernet(task: SupernetTask, identity: str, seed: int, folder: Path, run: Run) -> None:
    """Train to the end, from the last checkpoint in `folder` if there is one, and write the weights there.

    Raises:
        DivergedError: A loss is not finite.
        Interrupted: `run.stop` was requested; a checkpoint is written, and the hint names the command that resumes.
        NascliError: The device's memory does not suffice.
    """
    try:
        fit(task, seed, run, CheckpointStore(folder, identity, run.log, "search"))
    except DivergedError as error:
        raise DivergedError(
            f"supernet: {error.message}", "Lower supernet.lr, or set supernet.clip_grad_norm"
        ) from error
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"the device has not enough memory for the supernet and batches of {task.plan.batch_size} images",
            "Start again with more supernet.grad_accum_steps, or a smaller supernet.batch_size or network.filters",
        ) from error
    weights = dict(task.weights.named_parameters())
    write_tensors(folder / SUPERNET_FILE, weights, identity=identity, network=format_network(task.spec))


def child_spec(setup: ChildSetup, genotype: Genotype) -> NetworkSpec:
    """The network of a child; without auxiliary head, for which a supernet has no weights."""
    return setup.spec(genotype).without_aux_head()
