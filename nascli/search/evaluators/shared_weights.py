"""Shared weights: one network is trained for all children, then a child is scored with the weights it inherits.

1. Training, once in a search: each step draws a cell uniformly from the decisions of the space and makes one SGD step
   on one batch with this child's weights. `nascli.models.shared` says which weights children share.
2. Scoring: a child takes its weights over as they are; the batch-norm statistics of its own are measured on training
   images; the reward is its top-1 accuracy on the held-out images. No weight changes and nothing is left behind, so a
   score does not depend on the children that were scored before. All children are measured on the same images and
   nothing is drawn, so the score does not depend on the seed either.

Such a score is a *proxy* in a stronger sense than that of a short training: it ranks children by weights that none of
them was trained alone with, and is to be compared with other scores of the same shared weights only.

Beyond epochs, batch size, learning rate and weight decay, which are `[shared]`'s own, the training takes momentum,
warm-up, label smoothing, clipping, precision, threads and checkpoint interval from `[train]`. There is no auxiliary
head, drop path or moving average of weights: the children between two steps have too little in common.

References:
    Pham et al. 2018, "Efficient neural architecture search via parameter sharing" (ENAS). Guo et al. 2020, "Single path
    one-shot neural architecture search with uniform sampling", sections 3.2 and 3.4. Bender et al. 2018.

Deviation:
    ENAS trains weights and controller in turn; here, as in the other two, the weights are trained first, by uniform
    draws, so that any strategy can search with them and a score keeps its meaning through a search.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.func import functional_call

from nascli.artifacts import write_bytes
from nascli.config import SearchRecipe
from nascli.data.arrays import Normalizer, Split, augment_batch
from nascli.errors import DivergedError, InputError, Interrupted, NascliError
from nascli.genotype.encoding import decode_tokens, encode_genotype
from nascli.genotype.schema import Genotype
from nascli.genotype.space import SearchSpace, resolve_space
from nascli.models.cost import measure_cost
from nascli.models.folders import load_weights
from nascli.models.network import Network
from nascli.models.shared import bare_child, extract_child, inherited_weights, shared_parameters
from nascli.models.spec import NetworkSpec
from nascli.search.evaluators.proxy import ProxyTraining
from nascli.search.trial import Score
from nascli.training.checkpoint import NEWEST, PREVIOUS, CheckpointStore
from nascli.training.interrupts import StopRequest
from nascli.training.loop import Plan
from nascli.training.metrics import LossTally, evaluate
from nascli.training.optimizers import make_optimizer
from nascli.training.runtime import cpu_threads, derive_seed, generator_for

SHARED_FILE = "shared.safetensors"

_NOT_IDENTITY = {"data": {"data_dir", "workers"}, "train": {"checkpoint_minutes"}, "shared": {"refresh_images"}}
_IDENTITY = {"seed", "data", "space", "network", "train", "shared"}
"""The sections of a recipe that the shared weights follow from, and what in them does not touch a weight."""

Progress = Callable[[int, int, float], None]
"""Told after each step: steps made, steps in all, mean loss in the epoch so far."""


@dataclass(frozen=True, eq=False)
class SharedWeights:
    """The evaluator: a child's top-1 accuracy on held-out images with inherited weights.

    All weights lie in one tensor, so that worker processes share one piece of memory.

    Args:
        setting: Data and macro numbers of the children.
        space: Whose children the weights are for.
        weights: All shared weights one after the other, float32 on the CPU; only read.
        layout: Name and shape of each, in this order.
        refresh: Positions of the training images that batch-norm statistics are measured on, in whole batches.
        batch_size: Images a batch of these.
    """

    setting: ProxyTraining
    space: SearchSpace
    weights: Tensor
    layout: tuple[tuple[str, torch.Size], ...]
    refresh: Tensor
    batch_size: int

    def network(self, genotype: Genotype) -> Network:
        """The stand-alone child with its inherited weights and refreshed statistics, in evaluation mode.

        Raises:
            InputError: The genotype is not of the space.
        """
        encode_genotype(genotype, self.space)
        views = torch.split(self.weights, [shape.numel() for _, shape in self.layout])
        shared = {name: view.view(shape) for (name, shape), view in zip(self.layout, views, strict=True)}
        child = extract_child(_child_spec(self.setting, genotype), shared)
        child.to(self.setting.device).to(memory_format=torch.channels_last)
        data = self.setting.data
        _refresh_statistics(child, data.train.take(self.refresh), self.batch_size, self.setting)
        return child

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """The score of a child; nothing is trained or drawn, so `seed` and `epochs` change nothing.

        Raises:
            InputError: The genotype is not of the space.
            DivergedError: The child's loss is not finite.
        """
        started = time.monotonic()
        child = self.network(genotype)
        device = self.setting.device
        held_out = self.setting.data.test.to(device)
        accuracy = evaluate(child, held_out, normalizer=_normalizer(self.setting), device=device).top1
        cost = measure_cost(child)
        return Score(
            reward=accuracy,
            accuracy=accuracy,
            params=cost.params,
            mult_adds=cost.mult_adds,
            seconds=round(time.monotonic() - started, 3),
        )


def shared_weights(
    recipe: SearchRecipe, proxy: ProxyTraining, folder: Path, *, stop: StopRequest, progress: Progress | None = None
) -> SharedWeights:
    """The evaluator of a recipe: trains the shared weights, or goes on, or loads what is finished in `folder`.

    Writes `shared.safetensors`, and before that `checkpoint.pt` as it goes. With one seed and one number of threads the
    weights are the same bit for bit on a CPU, stopped and resumed or not.

    Args:
        recipe: The resolved recipe.
        proxy: Its data and macro numbers are used; its training is not.
        folder: The run folder of the search.
        stop: Looked at after each step.
        progress: Told of each step.

    Raises:
        InputError: The weights in the folder are of another recipe.
        CorruptFileError: They are damaged.
        DivergedError: A loss is not finite.
        Interrupted: `stop` was requested; a checkpoint is written, and the hint names the command that goes on.
        NascliError: The device's memory does not suffice, or the folder cannot be written.
    """
    training = _Training.of(recipe, proxy)
    path = folder / SHARED_FILE
    with cpu_threads(recipe.train.threads):
        if not path.is_file():
            _train(training, folder, stop, progress)
    for name in (NEWEST, PREVIOUS):  # the finished weights replace them
        (folder / name).unlink(missing_ok=True)
    shared = training.fresh_weights()
    load_weights(path, shared)
    _check_identity(path, training.identity)
    named = dict(shared.named_parameters())
    images = min(recipe.shared.refresh_images, len(proxy.data.train))
    batch_size = min(recipe.shared.batch_size, images)
    order = torch.randperm(len(proxy.data.train), generator=generator_for(recipe.seed, "shared", "refresh"))
    return SharedWeights(
        setting=proxy,
        space=training.space,
        weights=torch.cat([weight.detach().reshape(-1) for weight in named.values()]),
        layout=tuple((name, weight.shape) for name, weight in named.items()),
        refresh=order[: images // batch_size * batch_size],
        batch_size=batch_size,
    )


@dataclass(frozen=True)
class _Training:
    """What stays the same from the first step of the shared weights to the last.

    Args:
        setting: Data and macro numbers of the children.
        space: Where the children are drawn from.
        plan: Schedules and order of the images.
        identity: SHA-256 over all that the weights follow from.
    """

    setting: ProxyTraining
    space: SearchSpace
    plan: Plan
    identity: str

    @classmethod
    def of(cls, recipe: SearchRecipe, setting: ProxyTraining) -> "_Training":
        own = recipe.shared.model_dump(include={"epochs", "batch_size", "lr", "weight_decay"})
        config = recipe.train.model_copy(update=own)
        plan = Plan.of(setting.data, config, setting.augmentation, recipe.seed, setting.device)
        sections = recipe.model_dump(mode="json", include=_IDENTITY, exclude=_NOT_IDENTITY)
        text = json.dumps([sections, recipe.search.holdout], sort_keys=True)
        return cls(setting, resolve_space(recipe.space), plan, hashlib.sha256(text.encode()).hexdigest())

    def fresh_weights(self) -> nn.ParameterDict:
        """The weights before the first step; they follow from the seed."""
        genotype = decode_tokens([0] * len(self.space.decision_sizes), self.space)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.plan.seed, "shared", "init"))
            return shared_parameters(_child_spec(self.setting, genotype), self.space)

    def child(self, step: int) -> Network:
        """The child of a step, drawn uniformly from the decisions of the space; it has no weights of its own."""
        draw = generator_for(self.plan.seed, "shared", step)
        tokens = [int(torch.randint(size, (), generator=draw)) for size in self.space.decision_sizes]
        return bare_child(_child_spec(self.setting, decode_tokens(tokens, self.space))).train()


@dataclass
class _State:
    """Everything that the training changes."""

    weights: nn.ParameterDict
    optimizer: torch.optim.Optimizer
    tally: LossTally
    step: int = 0
    named: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.named = dict(self.weights.named_parameters())

    def to_payload(self) -> dict[str, Any]:
        self.tally.read()
        return {
            "step": self.step,
            "weights": self.weights.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "tally": [self.tally.total, self.tally.images],
        }

    def load_payload(self, payload: dict[str, Any]) -> None:
        self.weights.load_state_dict(payload["weights"])
        self.optimizer.load_state_dict(payload["optimizer"])
        self.tally.total, self.tally.images = payload["tally"]
        self.step = payload["step"]


def _train(training: _Training, folder: Path, stop: StopRequest, progress: Progress | None) -> None:
    """Train to the end, from the last checkpoint in `folder` if there is one, and write the weights there."""
    plan, device = training.plan, training.plan.device
    weights = training.fresh_weights().to(device).to(memory_format=torch.channels_last)
    state = _State(weights, make_optimizer(weights, plan.config), LossTally(every=1 if device.type == "cpu" else 20))
    store = CheckpointStore(folder, training.identity)
    payload = store.load()
    if payload is not None:
        state.load_payload(payload)

    def after_step() -> None:
        if progress is not None:
            progress(state.step, plan.steps, state.tally.mean)
        if stop.requested or store.age > plan.config.checkpoint_minutes * 60:
            store.save(state.to_payload())
        if stop.requested:
            raise Interrupted(
                f"stopped after step {state.step} of {plan.steps} of the shared weights; the state is saved",
                f"Resume with: nascli search --resume {folder}",
            )

    train = training.setting.data.train.to(device)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            while state.step < plan.steps:
                _train_epoch(training, state, train, after_step)
                store.save(state.to_payload())
    except DivergedError as error:
        raise DivergedError(f"shared weights: {error.message}", "Lower shared.lr, or set train.clip_norm") from error
    except torch.OutOfMemoryError as error:
        raise NascliError(
            f"the device has not enough memory for the shared weights and batches of {plan.batch_size} images",
            "Start again with a smaller shared.batch_size, or a smaller network.filters",
        ) from error
    finished = {name: weight.detach().cpu().contiguous() for name, weight in state.named.items()}
    write_bytes(folder / SHARED_FILE, save(finished, {"identity": training.identity}))


def _train_epoch(training: _Training, state: _State, split: Split, after_step: Callable[[], None]) -> None:
    """The steps of the epoch that `state.step` is in, from there to its end; draws as in `nascli.training.loop`."""
    plan = training.plan
    epoch, done = divmod(state.step, plan.steps_per_epoch)
    if done == 0:
        state.tally.total, state.tally.images = 0.0, 0
    order = plan.order(epoch)[done * plan.batch_size :]
    learning_rate = plan.learning_rate
    for images, labels in split.training_batches(order, plan.batch_size, derive_seed(plan.seed, "vary", epoch)):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(state.step)
        torch.manual_seed(derive_seed(plan.seed, "step", state.step))
        generator = generator_for(plan.seed, "augment", state.step)
        batch = augment_batch(images.to(plan.device, non_blocking=True), plan.augmentation, plan.normalizer, generator)
        loss = _train_step(training, state, batch, labels.to(plan.device))
        state.step += 1
        state.tally.add(state.step, len(labels), loss)
        after_step()
    state.tally.read()


def _train_step(training: _Training, state: _State, images: Tensor, labels: Tensor) -> Tensor:
    """One optimizer step on the weights of one child; the loss before it, a scalar on the device."""
    config = training.plan.config
    child = training.child(state.step)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
        logits: Tensor = functional_call(child, inherited_weights(child, state.named), (images,))
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if config.clip_norm:
        nn.utils.clip_grad_norm_(state.weights.parameters(), config.clip_norm)
    state.optimizer.step()
    return loss.detach()


@torch.no_grad()
def _refresh_statistics(child: Network, split: Split, batch_size: int, setting: ProxyTraining) -> None:
    """Measure the batch-norm statistics of a child on a split: the mean over its batches, all counting the same."""
    normalizer = _normalizer(setting)
    norms = [module for module in child.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.train().reset_running_stats()
    for images, _ in split.evaluation_batches(batch_size):
        child(normalizer(images.to(setting.device)))
    child.eval()


def _child_spec(setting: ProxyTraining, genotype: Genotype) -> NetworkSpec:
    return setting.spec(genotype).model_copy(update={"aux_head": False})


def _normalizer(setting: ProxyTraining) -> Normalizer:
    return Normalizer(setting.data.mean, setting.data.std)


def _check_identity(path: Path, identity: str) -> None:
    with safe_open(path, "pt") as file:
        written = (file.metadata() or {}).get("identity")
    if written != identity:
        raise InputError(
            f"weights {path} belong to another recipe than the run folder now holds",
            "Restore recipe.toml, or start again with --overwrite",
        )
