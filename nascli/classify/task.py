"""Classification as a task of the engine: augmented batches, cross-entropy, top-1 after each epoch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial, reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.classify.class_balance import draw_balanced_order, find_class_weights, weigh_targets
from nascli.classify.image_sizes import find_side
from nascli.classify.metrics import BATCH_SIZE, Evaluation, evaluate
from nascli.classify.teacher import TeacherEngine, distillation_loss
from nascli.config import DataConfig, FineTuneConfig, OptimConfig, TrainConfig
from nascli.data.changes import BatchRng
from nascli.data.dataset import ByteBatch, ImageData, Split
from nascli.data.in_memory import ImageArray
from nascli.data.streaming import ImageFiles
from nascli.data.transforms import FloatBatch, Normalizer, resize, vary_batch
from nascli.engine.cast import NetworkAutocast
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.compile import compile_blocks
from nascli.engine.device import autocast, generator_for
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.fit import fit, leave_if_stopped
from nascli.engine.graphs import Forward, choose_forward, keeps_numbers_on
from nascli.engine.meters import EpochRecord, Metrics
from nascli.engine.schedules import linear
from nascli.engine.task import Run, Task, TrainPlan
from nascli.errors import InputError
from nascli.models.interface import ImageClassifier
from nascli.models.tuning import find_lr_factors
from nascli.seeding import derive_seed


def plan_batches(data: ImageData, config: OptimConfig, dist: DistContext = SINGLE_PROCESS) -> TrainPlan:
    """The plan of a training on `data.train`; InputError where it is one image. Batch normalization needs two."""
    if len(data.train) < 2:
        raise InputError(f"data set {data.name}: {len(data.train)} training image is too few", "At least 2 are needed")
    return TrainPlan(config, len(data.train), dist, min_images=2)


TrainBatch = tuple[Tensor, ...]
"""A `FloatBatch`, and with a teacher its logits float32 (N, classes)."""


class AugmentedBatches:
    """Training images in shuffled batches, augmented and mixed on the device.

    The order follows from (seed, epoch), augmentation and mixing from (seed, step). They are chosen for the whole
    batch, of which each of several processes takes its share.

    Args:
        augmentation: The recipe's `[data]`.
        device: The device that augments.
        teacher: Sees what the student sees, before it is resized; once per image where nothing about it is random.
    """

    def __init__(
        self,
        data: ImageData,
        augmentation: DataConfig,
        plan: TrainPlan,
        seed: int,
        device: torch.device,
        teacher: TeacherEngine | None = None,
    ) -> None:
        self.normalizer = Normalizer(data.mean, data.std)
        self._split: Split = data.train.to(device)
        self._labels = data.train.labels.cpu()
        self._classes = data.classes
        self._augmentation, self._plan, self._seed, self._device = augmentation, plan, seed, device
        self._teacher = teacher
        self._answers: Tensor | None = None

    @property
    def read_positions(self) -> Tensor:
        """Positions in a batch of the images that this process reads: its share, and where needed one before it.

        Mixup and CutMix mix each image with the one before it, the first of a batch with the last. Of a batch of 8 and
        2 processes with mixing, process 0 reads [7, 0, 1, 2, 3] and process 1 [3, 4, 5, 6, 7]; each then drops its
        first image, which only served as the partner of the second.
        """
        mixed = self._plan.dist.size > 1 and (self._augmentation.mixup or self._augmentation.cutmix)
        share = self._plan.share
        return torch.arange(share.start - bool(mixed), share.stop) % self._plan.batch_size

    def read(self, epoch: int, done: int) -> Iterator[TrainBatch]:
        """This process's share of the batches of an epoch, from the step after `done` on.

        Yields:
            Images float32 (n, 3, H, W), normalized, of the epoch's size; labels int64 (n,), or probabilities
            (n, classes); the teacher's logits (n, classes), if there is one.
        """
        size, positions = self._plan.batch_size, self.read_positions
        order = self._order(epoch)[done * size :]
        if not len(order):  # stopped between the last step and the evaluation
            return
        shares, side = order.view(-1, size)[:, positions], find_side(self._plan.config, epoch, self._split.image_size)
        split = replace(self._split, image_size=side) if isinstance(self._split, ImageFiles) else self._split
        batches = split.training_batches(shares.flatten(), len(positions), derive_seed(self._seed, "vary", epoch))
        first = epoch * self._plan.steps_per_epoch + done
        for step, (batch, share) in enumerate(zip(batches, shares, strict=True), first):
            images, *targets = self._augment(batch, positions, step)
            if self._teacher is not None:
                targets.append(self._ask(self._teacher, images, share))
            yield resize(images, side), *targets

    def _order(self, epoch: int) -> Tensor:
        """The positions of the images of an epoch; of streamed ones perhaps plus multiples of their number."""
        if self._augmentation.sampling == "shuffled":
            return self._plan.order(self._seed, epoch)
        count = self._plan.steps_per_epoch * self._plan.batch_size
        order = draw_balanced_order(self._labels, count, generator_for(self._seed, "order", epoch))
        return order if isinstance(self._split, ImageFiles) else order % len(self._split)

    def _ask(self, teacher: TeacherEngine, images: Tensor, places: Tensor) -> Tensor:
        """The teacher's logits for images of a batch; those at `places` of the split where they never change."""
        if not answers_once(self._split, self._augmentation):
            return teacher(images)
        if self._answers is None:
            self._answers = teacher.answer_all(self._split, self.normalizer, self._plan.dist)
        return self._answers[places.to(self._device)]

    def _augment(self, batch: ByteBatch, positions: Tensor, step: int) -> FloatBatch:
        images, labels = (each.to(self._device, non_blocking=True) for each in batch)
        rng = BatchRng(generator_for(self._seed, "augment", step), (self._plan.batch_size, positions))
        mix_seed = derive_seed(self._seed, "mix", step)
        varied = vary_batch((images, labels), self._classes, self._augmentation, self.normalizer, rng, mix_seed)
        share = self._plan.batch_size // self._plan.dist.size  # without the partner of its first image
        return varied[0][-share:], varied[1][-share:]


def answers_once(split: Split, augmentation: DataConfig) -> bool:
    """Whether a training sees the images of a split the same in each epoch, so that a teacher need not look again."""
    return isinstance(split, ImageArray) and not augmentation.augments


class ClassifyTask(Task[TrainBatch]):
    """A network trained on `data.train`, measured on `data.val` after every epoch.

    Args:
        network: Trained in place.
        config: That of `nascli train` may have a learning rate per stage.
        augmentation: The recipe's `[data]`.
    """

    def __init__(
        self,
        network: ImageClassifier,
        data: ImageData,
        config: TrainConfig,
        augmentation: DataConfig,
        seed: int,
        run: Run,
        teacher: TeacherEngine | None = None,
    ) -> None:
        self.modules = self.network = network
        self.plan = plan_batches(data, config, run.dist)
        self._config, self._run, self._teacher = config, run, teacher
        self.keep = config if isinstance(config, FineTuneConfig) else self.keep
        weights = find_class_weights(data, config.class_weights) if isinstance(config, FineTuneConfig) else None
        self._class_weights = None if weights is None else weights.to(run.device)
        self._lr_factors = find_lr_factors(network, config) if isinstance(config, FineTuneConfig) else {}
        self._batches = AugmentedBatches(data, augmentation, self.plan, seed, run.device, teacher)
        self._val = run.dist.shard(data.val).to(run.device)
        self._forward: Forward | None = None
        self._drop_path = linear(0.0, config.drop_path_prob, self.plan.steps)
        keeps = config.drop_path_prob > 0 and keeps_numbers_on(run.device)
        self._prob_on_device = torch.zeros((), device=run.device) if keeps else None
        self.why_eager = _explain_eager(config)
        asked = config.precision, run.device
        # the compiler casts inside its own kernels
        self._autocast = partial(autocast, *asked) if config.compile else NetworkAutocast(network, *asked)

    def score(self, metrics: Metrics) -> tuple[float, ...] | None:
        """Top-1, then the loss."""
        top1, loss = metrics["top1"], metrics["loss"]
        return None if top1 is None or loss is None else (top1, -loss)

    def lr_factor(self, name: str) -> float:
        """That of its stage."""
        return self._lr_factors.get(name, 1.0)

    def batches(self, epoch: int, done: int) -> Iterator[TrainBatch]:
        """Augmented images and their labels, and a teacher's answers."""
        return self._batches.read(epoch, done)

    def begin_step(self, step: int) -> None:
        """Set the drop path probability of the last cell, which grows from 0 (ScheduledDropPath).

        References: Zoph et al. 2018, section 4; the network scales it by depth besides.
        """
        prob, place = self._drop_path(step), self._prob_on_device
        self.network.drop_path_prob = prob if place is None else place.fill_(prob)

    def loss(self, micro: TrainBatch) -> Mapping[str, Tensor]:
        """L(logits) + aux_weight L(auxiliary logits), where L is cross-entropy with label smoothing.

        With a teacher L is (1 - w) CE + w KL: its part of the weight w, `distillation_loss`, is named apart.
        """
        images, targets, *answers = micro
        with self._autocast():
            logits, auxiliary = self.network.forward_with_aux(images)
        with torch.no_grad():
            classes = targets if targets.dim() == 1 else targets.argmax(dim=1)  # of mixed images the class with most
            self.correct = (logits.argmax(dim=1) == classes).sum().float()
        losses = self._compare(logits.float(), targets, *answers)
        if auxiliary is not None:
            extra = reduce(torch.add, self._compare(auxiliary.float(), targets, *answers).values())
            losses["auxiliary"] = self._config.aux_weight * extra
        return losses

    def _compare(self, logits: Tensor, targets: Tensor, answers: Tensor | None = None) -> dict[str, Tensor]:
        smoothing = self._config.label_smoothing
        if self._class_weights is None:
            loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
        else:
            loss = F.cross_entropy(logits, weigh_targets(targets, self._class_weights, smoothing))
        if self._teacher is None or answers is None:
            return {"loss": loss}
        imitation = distillation_loss(logits, answers, self._teacher.temperature)
        return {"loss": (1 - self._teacher.weight) * loss, "teacher": self._teacher.weight * imitation}

    def evaluate(self, model: nn.Module, epoch: int, pause: Callable[[], None]) -> Metrics:
        """Top-1, top-5 and loss on the validation split; `model` is the same each time."""
        run, images = self._run, len(self._val) * (self._config.epochs - epoch + 1)
        if self._forward is None:
            self._forward = choose_forward(model, images / BATCH_SIZE, run, allowed=not self.why_eager)
        normalizer = self._batches.normalizer
        return vars(evaluate(model, self._val, normalizer, run, forward=self._forward, on_batch=lambda seen: pause()))

    @contextmanager
    def training(self) -> Iterator[None]:
        """Checkpoint activations and compile blocks where the recipe says so, while the context lasts.

        Drop-path masks are made at the first step, too, at which nothing drops yet, where the probability lies on the
        device, and where blocks are compiled, each of which would be compiled once more for that step.

        Raises:
            InputError: They cannot be compiled here.
        """
        config, network = self._config, self.network
        network.set_grad_checkpointing(config.grad_checkpointing)
        network.static_graph = self._prob_on_device is not None or (config.compile and config.drop_path_prob > 0)
        try:
            with compile_blocks(network, self._run.device) if config.compile else nullcontext():
                yield
        finally:
            network.set_grad_checkpointing(False)
            network.static_graph = False


def _explain_eager(config: TrainConfig) -> str:
    """Why no CUDA graph is made of the steps that a recipe asks for; empty where one can be."""
    if not config.graphs:
        return "train.graphs is false"
    return "train.grad_checkpointing computes activations again" if config.grad_checkpointing else ""


@dataclass(frozen=True)
class FitResult:
    """A training that reached its end.

    Args:
        evaluation: Of the weights that the network is left with: on the split for the end where the data have one, else
            the same as `validation`.
        validation: Of the same weights, on the validation split.
        kept: The epoch that they are of, counted from 1.
    """

    evaluation: Evaluation
    validation: Evaluation
    records: Sequence[EpochRecord]
    kept: int

    @property
    def train_loss(self) -> float:
        """Mean of what was minimized in the last epoch."""
        return self.records[-1].train_loss

    @property
    def seconds(self) -> float:
        """Training and evaluation, over all the processes that took part where it was resumed."""
        return round(sum(record.seconds for record in self.records), 3)


def fit_classifier(
    network: ImageClassifier,
    data: ImageData,
    config: TrainConfig,
    augmentation: DataConfig,
    seed: int,
    run: Run,
    store: CheckpointStore | None = None,
    teacher: TeacherEngine | None = None,
) -> FitResult:
    """Train a network to its end; arguments as for `ClassifyTask`, errors and `store` as for `fit`."""
    state = fit(ClassifyTask(network, data, config, augmentation, seed, run, teacher), seed, run, store)
    network.drop_path_prob = 0.0
    values = {name: value for name, value in state.records[state.kept - 1].metrics.items() if value is not None}
    validation = Evaluation(values["top1"], values["top5"], values["loss"], int(values["images"]))
    final = validation
    if data.test is not None:
        test, normalizer = run.dist.shard(data.test).to(run.device), Normalizer(data.mean, data.std)
        forward = choose_forward(network, len(test) / BATCH_SIZE, run, allowed=not _explain_eager(config))
        leave = partial(leave_if_stopped, run, store)
        final = evaluate(network, test, normalizer, run, forward=forward, on_batch=lambda seen: leave())
    return FitResult(final, validation, state.records, state.kept)
