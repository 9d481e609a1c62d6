"""What is measured: the loss over an epoch, and accuracy on a split.

Top-1 is the part of the images whose highest logit is the label's; top-5 counts a label among the five highest. Both
are counted in whole images, so they do not depend on the batch size.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.classify.tta import Views, mean_scores
from nascli.data.dataset import Split, no_image_left
from nascli.data.transforms import Normalizer
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.errors import DeviceMemoryError, DivergedError


@dataclass(frozen=True)
class Evaluation:
    """A network measured on a split.

    Args:
        top1: Part of the images classified right, 0 to 1.
        top5: Part of the images whose class is among the five likeliest (among all, where there are fewer).
        loss: Mean cross-entropy in nats.
        images: How many images were seen.
    """

    top1: float
    top5: float
    loss: float
    images: int


@dataclass(frozen=True)
class EpochRecord:
    """One line of `metrics.jsonl`.

    Args:
        epoch: Counted from 1.
        step: Optimizer steps made since the start.
        train_loss: Mean of what was minimised in this epoch, auxiliary part and label smoothing included.
        lr: Learning rate of the epoch's last step.
        top1: On the test split, 0 to 1.
        top5: On the test split, 0 to 1.
        loss: Mean cross-entropy on the test split in nats.
        images: Of the test split, that were measured: all but those left out.
        seconds: Of the epoch, its evaluation included.
        images_per_second: While training.
    """

    epoch: int
    step: int
    train_loss: float
    lr: float
    top1: float
    top5: float
    loss: float
    images: int
    seconds: float
    images_per_second: float


@dataclass
class LossMeter:
    """The losses of the epoch so far, read from the device a few steps at a time (each reading waits for it).

    Args:
        every: Steps between two readings.
    """

    every: int = 1
    total: float = 0.0
    images: int = 0
    seconds: float = 0.0
    _pending: list[tuple[int, int, Tensor]] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Mean loss an image."""
        return self.total / self.images if self.images else 0.0

    def add(self, step: int, images: int, loss: Tensor) -> None:
        """Count the mean loss over `images` images at `step` (counted from 1)."""
        self._pending.append((step, images, loss))
        if len(self._pending) >= self.every:
            self.read()

    def read(self) -> None:
        """Take in what was added.

        Raises:
            DivergedError: A loss is not finite; the message names the first such step.
        """
        pending, self._pending = self._pending, []
        values = torch.stack([loss for _, _, loss in pending]).tolist() if pending else []
        for (step, images, _), value in zip(pending, values, strict=True):
            if not math.isfinite(value):
                raise diverged(f"the loss is {value} at step {step}")
            self.total += value * images
            self.images += images


@dataclass
class WithinMemory:
    """Logits of a batch, computed in smaller parts once memory has run out.

    Args:
        score: From images (n, 3, H, W) to logits (n, classes), of each image by itself.
        at_once: Images that may be given to it; becomes half as many whenever memory runs out.
        note: Told of that.
    """

    score: Callable[[Tensor], Tensor]
    at_once: int
    note: Callable[[str], None] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, classes); DeviceMemoryError where the device cannot hold one image."""
        while True:
            try:
                return torch.cat([self.score(part) for part in torch.split(images, self.at_once)])
            except torch.OutOfMemoryError as error:
                fewer = min(self.at_once, len(images)) // 2
                if not fewer:
                    height, width = images.shape[2:]
                    raise DeviceMemoryError(
                        f"the device has not enough memory to measure one image of {height} x {width} pixels",
                        "--device cpu has more, though it is slower",
                    ) from error
            # here, where the exception no longer holds on to the attempt's tensors
            torch.cuda.empty_cache()
            self.at_once = fewer
            if self.note is not None:
                self.note(f"out of memory: from here on {fewer} images are measured at once")


def scored_within_memory(
    network: nn.Module, normalizer: Normalizer, views: Views | None, at_once: int, note: Callable[[str], None] | None
) -> WithinMemory:
    """`WithinMemory` from images, uint8 (N, 3, H, W), to what a network makes of their views in the mean."""

    def score(images: Tensor) -> Tensor:
        return mean_scores([network(normalizer(view)).float() for view in (views.of(images) if views else [images])])

    return WithinMemory(score, at_once, note)


def check_finite(tensors: Iterable[Tensor], step: int) -> None:
    """DivergedError where one of these weights and statistics, as they are after a step, is no number any more."""
    finite = [each.isfinite().all() for each in tensors if each.is_floating_point()]
    if not torch.stack(finite).all():
        raise diverged(f"the weights are not finite after step {step}")


def diverged(what: str) -> DivergedError:
    """The error where a training has left the numbers; `what` says which, and at which step."""
    return DivergedError(
        f"training diverged: {what}",
        "Start again with a lower train.lr, a longer train.warmup_epochs, or train.clip_grad_norm",
    )


@torch.no_grad()
def evaluate(
    network: nn.Module,
    split: Split,
    *,
    normalizer: Normalizer,
    device: torch.device,
    batch_size: int = 256,
    views: Views | None = None,
    on_batch: Callable[[int], None] | None = None,
    on_answers: Callable[[Tensor, Tensor, Tensor], None] | None = None,
    note: Callable[[str], None] | None = None,
    dist: DistContext = SINGLE_PROCESS,
) -> Evaluation:
    """Top-1, top-5 and loss on every image of a split, in float32.

    With several views of an image, its probabilities are the mean of theirs, and everything is counted on that mean.

    Args:
        network: On `device`; left in the mode (training or evaluation) it came in.
        split: Never varied.
        normalizer: The one the network was trained with.
        device: Where to compute.
        batch_size: Images at once, or half as many for as long as memory runs out; changes speed and memory, not what
            is counted.
        views: Of each image, to be averaged; None is the image alone.
        on_batch: Called after each batch with the number of images seen; on all processes equally often.
        on_answers: Called after each batch with the labels, the likeliest classes and their probabilities, (N,) each.
        note: Told where memory ran out.
        dist: The processes that measure; the split is this one's share, the result that of all.

    Raises:
        DivergedError: The loss is not finite.
        CorruptFileError: None of the images can be decoded.
        DeviceMemoryError: The device has not enough memory for one image.
    """
    score = scored_within_memory(network, normalizer, views, batch_size, note)
    was_training = network.training
    network.eval()
    right, among_five, loss = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(3))
    seen = 0
    try:
        for scored in dist.lockstep(_scored(split, batch_size, device, score)):
            if scored is not None:  # else there are more on another process
                logits, labels = scored  # (N, classes), (N,)
                likeliest = logits.topk(min(5, logits.shape[1]), dim=1).indices
                hits = likeliest == labels[:, None]
                right += hits[:, 0].sum()
                among_five += hits.sum()
                loss += F.cross_entropy(logits, labels, reduction="sum").double()
                seen += len(labels)
                if on_answers:
                    sure = logits.softmax(dim=1).gather(1, likeliest[:, :1])
                    on_answers(labels, likeliest[:, 0], sure[:, 0])
            if on_batch:
                on_batch(seen)
    finally:
        network.train(was_training)
    sums = torch.stack((right, among_five, loss, torch.full_like(loss, seen), torch.full_like(loss, len(split))))
    dist.sum_([sums])
    top1, top5, total, images_seen, images = sums.tolist()
    if not images_seen:
        raise no_image_left(int(images))
    if not math.isfinite(total):
        raise diverged(f"the loss on the {images_seen:.0f} evaluation images is {total}")
    return Evaluation(top1 / images_seen, top5 / images_seen, total / images_seen, int(images_seen))


def _scored(
    split: Split, batch_size: int, device: torch.device, score: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (N, classes) and labels (N,) of each batch."""
    for batch in split.evaluation_batches(batch_size) if len(split) else ():
        images, labels = (each.to(device) for each in batch)
        yield score(images), labels
