"""The training of shared weights: each step trains the weights of one child, drawn at random.

Each step draws a cell uniformly from the decisions of the space and makes one optimizer step on one batch with this
child's weights. `nascli.models.cells.supernet` says which weights children share.

The training is `[supernet]`'s, with the augmentation of `[data]` and the label smoothing of `[train]`. There is no
auxiliary head, drop path or moving average of weights: the children between two steps have too little in common. For
the same reason nothing is compiled, and no activations are recomputed; those of one small child fit.

Deviation:
    ENAS trains weights and controller in turn; here, as in Guo et al. 2020 and Bender et al. 2018, the weights are
    trained first, by uniform draws, so that any strategy can search with them and a score keeps its meaning through a
    search.
"""

import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn
from torch.func import functional_call

from nascli.classify.loop import Plan, prepare_batch
from nascli.classify.metrics import LossMeter, check_finite
from nascli.config import SearchRecipe
from nascli.data.dataset import Split
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.device import generator_for
from nascli.engine.optim import make_optimizer
from nascli.engine.precision import computing_in, loss_scaler
from nascli.errors import DeviceMemoryError, DivergedError, Interrupted
from nascli.files import write_bytes
from nascli.genotype.cells.space import CellSpace, resolve_cell_space
from nascli.genotype.genotype import Genotype
from nascli.models.families import find_supernet
from nascli.models.interface import ImageClassifier
from nascli.models.spec import NetworkSpec
from nascli.search.evaluators.proxy import ProxyTraining
from nascli.seeding import derive_seed
from nascli.signals import StopRequest

SUPERNET_FILE = "supernet.safetensors"

_NOT_IDENTITY = {
    "data": {"data_dir", "workers"},
    "supernet": {"bn_calibration_images", "checkpoint_minutes", "checkpoint_steps"},
}
_IDENTITY = {"seed", "data", "space", "network", "train", "supernet"}
"""The sections of a recipe that the shared weights follow from, and what in them does not touch a weight."""

Progress = Callable[[int, int, float], None]
"""Told after each step: steps made, steps in all, mean loss in the epoch so far."""


@dataclass(frozen=True)
class SharedTraining:
    """What stays the same from the first step of the shared weights to the last.

    Args:
        setting: Data and macro numbers of the children.
        space: Where the children are drawn from.
        plan: Schedules and order of the images.
        identity: SHA-256 over all that the weights follow from.
    """

    setting: ProxyTraining
    space: CellSpace
    plan: Plan
    identity: str

    @classmethod
    def of(cls, recipe: SearchRecipe, setting: ProxyTraining) -> "SharedTraining":
        """The training of a recipe.

        Raises:
            InputError: There is one training image; a part of a batch would have one; or the precision needs another
                device.
        """
        own = recipe.supernet.model_dump(exclude={"bn_calibration_images"})
        config = recipe.train.model_copy(update=own)
        plan = Plan.of(setting.data, config, setting.augmentation, recipe.seed, setting.device)
        sections = recipe.model_dump(mode="json", include=_IDENTITY, exclude=_NOT_IDENTITY)
        text = json.dumps([sections, recipe.search.holdout], sort_keys=True)
        return cls(setting, resolve_cell_space(recipe.space), plan, hashlib.sha256(text.encode()).hexdigest())

    def fresh_weights(self) -> nn.ParameterDict:
        """The weights before the first step; they follow from the seed."""
        genotype = self.space.decode([0] * len(self.space.decision_sizes))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.plan.seed, "shared", "init"))
            spec = child_spec(self.setting, genotype)
            return find_supernet(spec).shared_parameters(spec, self.space)

    def child(self, step: int) -> ImageClassifier:
        """The child of a step, drawn uniformly from the decisions of the space; it has no weights of its own."""
        draw = generator_for(self.plan.seed, "shared", step)
        tokens = [int(torch.randint(size, (), generator=draw)) for size in self.space.decision_sizes]
        spec = child_spec(self.setting, self.space.decode(tokens))
        return find_supernet(spec).bare_child(spec).train()


@dataclass
class _State:
    """Everything that the training changes."""

    weights: nn.ParameterDict
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # does nothing but in float16
    tally: LossMeter
    step: int = 0
    named: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.named = dict(self.weights.named_parameters())

    def to_payload(self) -> dict[str, Any]:
        """As that of a training: DivergedError where nobody could go on from it."""
        self.tally.read()
        check_finite(self.named.values(), self.step)
        return {
            "step": self.step,
            "weights": self.weights.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "tally": [self.tally.total, self.tally.images],
        }

    def load_payload(self, payload: dict[str, Any]) -> None:
        self.weights.load_state_dict(payload["weights"])
        self.optimizer.load_state_dict(payload["optimizer"])
        self.scaler.load_state_dict(payload["scaler"])
        self.tally.total, self.tally.images = payload["tally"]
        self.step = payload["step"]


def train_shared(training: SharedTraining, folder: Path, stop: StopRequest, progress: Progress | None) -> None:
    """Train to the end, from the last checkpoint in `folder` if there is one, and write the weights there.

    Raises:
        DivergedError: A loss is not finite.
        Interrupted: `stop` was requested; a checkpoint is written, and the hint names the command that goes on.
        NascliError: The device's memory does not suffice.
    """
    plan, device = training.plan, training.plan.device
    state = _start(training)
    store = CheckpointStore(folder, training.identity)
    payload = store.load()
    if payload is not None:
        state.load_payload(payload)

    def after_step() -> None:
        if progress is not None:
            progress(state.step, plan.steps, state.tally.mean)
        stopping = stop.requested
        minutes, steps = plan.config.checkpoint_minutes, plan.config.checkpoint_steps
        store.save_if_due(state.to_payload, state.step, minutes=minutes, steps=steps, now=stopping)
        if stopping:
            raise Interrupted(
                f"stopped after step {state.step} of {plan.steps} of the shared weights; the state is saved",
                f"Resume with: nascli search --resume {shlex.quote(str(folder))}",
            )

    train = training.setting.data.train.to(device)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            while state.step < plan.steps:
                _train_epoch(training, state, train, after_step)
                store.save(state.to_payload())
    except DivergedError as error:
        raise DivergedError(
            f"shared weights: {error.message}", "Lower supernet.lr, or set supernet.clip_grad_norm"
        ) from error
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"the device has not enough memory for the shared weights and batches of {plan.batch_size} images",
            "Start again with more supernet.grad_accum_steps, or a smaller supernet.batch_size or network.filters",
        ) from error
    finished = {name: weight.detach().cpu().contiguous() for name, weight in state.named.items()}
    write_bytes(folder / SUPERNET_FILE, save(finished, {"identity": training.identity}))


def _start(training: SharedTraining) -> _State:
    device, config = training.plan.device, training.plan.config
    weights = training.fresh_weights().to(device).to(memory_format=torch.channels_last)
    scaler = loss_scaler(config.precision, device)
    tally = LossMeter(every=1 if device.type == "cpu" else 20)
    return _State(weights, make_optimizer(weights, config), scaler, tally)


def _train_epoch(training: SharedTraining, state: _State, split: Split, after_step: Callable[[], None]) -> None:
    """The steps of the epoch that `state.step` is in, from there to its end; draws as in `nascli.classify.loop`."""
    plan = training.plan
    epoch, done = divmod(state.step, plan.steps_per_epoch)
    if done == 0:
        state.tally.total, state.tally.images = 0.0, 0
    order = plan.order(epoch)[done * plan.batch_size :]
    learning_rate = plan.learning_rate
    for read in split.training_batches(order, plan.batch_size, derive_seed(plan.seed, "vary", epoch)):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(state.step)
        images, targets = prepare_batch(read, plan, state.step)
        torch.manual_seed(derive_seed(plan.seed, "step", state.step))
        loss = _train_step(training, state, images, targets)
        state.step += 1
        state.tally.add(state.step, len(targets), loss)
        after_step()
    state.tally.read()


def _train_step(training: SharedTraining, state: _State, images: Tensor, targets: Tensor) -> Tensor:
    """One optimizer step on the weights of one child, in parts if so asked; the loss before it, on the device."""
    config = training.plan.config
    child = training.child(state.step)
    parts = (each.tensor_split(config.grad_accum_steps) for each in (images, targets))
    total = images.new_zeros(())
    state.optimizer.zero_grad()
    for part, wanted in zip(*parts, strict=True):
        with computing_in(config.precision, images.device):
            weights = find_supernet(child.spec).inherited_weights(child, state.named)
            logits: Tensor = functional_call(child, weights, (part,))
        loss = F.cross_entropy(logits.float(), wanted, label_smoothing=config.label_smoothing)
        loss = loss * (len(part) / len(images))
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    if config.clip_grad_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.weights.parameters(), config.clip_grad_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return total


def child_spec(setting: ProxyTraining, genotype: Genotype) -> NetworkSpec:
    """The network of a child; without auxiliary head, which no shared weights are for."""
    return setting.spec(genotype).without_aux_head()
