"""Accuracy and loss of a network on a split.

Top-1 is the part of the images whose highest logit is the label's; top-5 counts a label among the five highest. Both
are counted in whole images, so they do not depend on the batch size.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.classify.tta import TtaTransform, average_logits
from nascli.data.dataset import Split, no_image_left
from nascli.data.transforms import Normalizer
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.meters import diverged
from nascli.errors import DeviceMemoryError


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


@dataclass
class OomChunks:
    """Logits of a batch, computed in smaller chunks once memory has run out.

    Args:
        score: From images (n, 3, H, W) to logits (n, classes), of each image by itself.
        chunk_size: Images per call; halved whenever memory runs out.
        log: Called with a message each time the chunk size is halved.
    """

    score: Callable[[Tensor], Tensor]
    chunk_size: int
    log: Callable[[str], None] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, classes); DeviceMemoryError where the device cannot hold one image."""
        while True:
            try:
                return torch.cat([self.score(chunk) for chunk in torch.split(images, self.chunk_size)])
            except torch.OutOfMemoryError as error:
                fewer = min(self.chunk_size, len(images)) // 2
                if not fewer:
                    height, width = images.shape[2:]
                    raise DeviceMemoryError(
                        f"the device has not enough memory to evaluate one image of {height} x {width} pixels",
                        "--device cpu has more, though it is slower",
                    ) from error
            # here, where the exception no longer holds on to the attempt's tensors
            torch.cuda.empty_cache()
            self.chunk_size = fewer
            if self.log is not None:
                self.log(f"out of memory: from here on {fewer} images are evaluated at once")


def score_images_with(
    network: Callable[[Tensor], Tensor],
    normalizer: Normalizer,
    tta: TtaTransform | None,
    batch_size: int,
    log: Callable[[str], None] | None,
) -> OomChunks:
    """The function from images, uint8 (N, 3, H, W), to a network's logits, averaged over test-time augmentation."""

    def score(images: Tensor) -> Tensor:
        inputs = tta.apply(images) if tta else [images]
        return average_logits([network(normalizer(each)).float() for each in inputs])

    return OomChunks(score, batch_size, log)


@torch.no_grad()
def evaluate(
    network: Callable[[Tensor], Tensor],
    split: Split,
    *,
    normalizer: Normalizer,
    device: torch.device,
    batch_size: int = 256,
    tta: TtaTransform | None = None,
    on_batch: Callable[[int], None] | None = None,
    on_predictions: Callable[[Tensor, Tensor, Tensor], None] | None = None,
    note: Callable[[str], None] | None = None,
    dist: DistContext = SINGLE_PROCESS,
) -> Evaluation:
    """Top-1, top-5 and loss on every image of a split, in float32, without augmentation but `tta`.

    Args:
        network: From normalized images (N, 3, H, W) to logits (N, classes). A module is on `device`; it is evaluated in
            evaluation mode and keeps its mode.
        split: On any device.
        normalizer: That of the network's training.
        device: Device of the network.
        batch_size: Images per batch, halved while memory runs out; changes speed and memory, not the result.
        tta: With it the mean probabilities of an image's crops are evaluated.
        on_batch: Called after each batch with the number of images so far; on all processes equally often.
        on_predictions: Called after each batch with labels, predicted classes and their probabilities, (N,) each.
        note: Called with a message when memory runs out.
        dist: The processes that evaluate; the split is this one's share, the result that of all.

    Raises:
        DivergedError: The loss is not finite.
        CorruptFileError: None of the images can be decoded.
        DeviceMemoryError: The device has not enough memory for one image.
    """
    score = score_images_with(network, normalizer, tta, batch_size, note)
    top1, top5, loss = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(3))
    seen = 0
    with _evaluation_mode(network):
        for scored in dist.lockstep(_score_batches(split, batch_size, device, score)):
            if scored is not None:  # else another process has more
                logits, labels = scored  # (N, classes), (N,)
                best = logits.topk(min(5, logits.shape[1]), dim=1).indices
                hits = best == labels[:, None]
                top1 += hits[:, 0].sum()
                top5 += hits.sum()
                loss += F.cross_entropy(logits, labels, reduction="sum").double()
                seen += len(labels)
                if on_predictions:
                    confidences = logits.softmax(dim=1).gather(1, best[:, :1])
                    on_predictions(labels, best[:, 0], confidences[:, 0])
            if on_batch:
                on_batch(seen)
    sums = torch.stack((top1, top5, loss, torch.full_like(loss, seen), torch.full_like(loss, len(split))))
    dist.sum_([sums])
    correct, among_five, total, images_seen, images = sums.tolist()
    if not images_seen:
        raise no_image_left(int(images))
    if not math.isfinite(total):
        raise diverged(f"the loss on the {images_seen:.0f} evaluation images is {total}")
    return Evaluation(correct / images_seen, among_five / images_seen, total / images_seen, int(images_seen))


@contextmanager
def _evaluation_mode(network: object) -> Iterator[None]:
    """Put a module into evaluation mode for the block; another engine has no modes."""
    if not isinstance(network, nn.Module):
        yield
        return
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def _score_batches(
    split: Split, batch_size: int, device: torch.device, score: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (N, classes) and labels (N,) of each batch."""
    for batch in split.evaluation_batches(batch_size) if len(split) else ():
        images, labels = (each.to(device) for each in batch)
        yield score(images), labels
