"""Accuracy and loss of a network on a split.

Top-1 is the fraction of images whose highest logit is the label's; top-5 counts a label among the five highest. Both
are counted in whole images, so they do not depend on the batch size.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.classify.tta import TtaTransform, average_logits
from nascli.data.dataset import Split, no_image_left
from nascli.data.transforms import Normalizer
from nascli.engine.graphs import Forward
from nascli.engine.inference import ChunkedInference
from nascli.engine.meters import divergence
from nascli.engine.task import Run
from nascli.models.deploy.optimized import AnyPrecision, OpenedEngine, open_engine
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import WEIGHTS_FILE

BATCH_SIZE = 256
"""Images per batch, where nothing else is asked for."""


@dataclass(frozen=True)
class Evaluation:
    """Results of a network on a split.

    Args:
        top1: Fraction of the images that are classified correctly, 0 to 1.
        top5: Fraction of the images whose class is among the five most probable (or all, where there are fewer).
        loss: Mean cross-entropy in nats.
        images: Images that were evaluated.
    """

    top1: float
    top5: float
    loss: float
    images: int


@dataclass(frozen=True)
class InferenceOptions:
    """The way images are given to a trained network.

    Args:
        run: Device, and `log` for the message when memory runs out.
        crops: Crops per image whose probabilities are averaged (see `nascli.classify.tta`).
        flip: Average over mirror images too.
        engine: One of `nascli.models.deploy.engines.ENGINES`, or `auto`.
        precision: As `nascli.load_network` takes it.
    """

    run: Run
    batch_size: int
    crops: int = 1
    flip: bool = False
    engine: str = "trained"
    precision: AnyPrecision = "float32"

    def open_engine(self, network: ImageClassifier, folder: Path) -> OpenedEngine:
        """Open the engine that answers for the trained network of a folder; InputError where it cannot here."""
        return open_engine(network, folder / WEIGHTS_FILE, self.run.device, self.engine, self.precision)


def make_scorer(
    network: Forward,
    normalizer: Normalizer,
    tta: TtaTransform | None,
    batch_size: int,
    log: Callable[[str], None] | None,
) -> Callable[[Tensor], Tensor]:
    """The function from images, uint8 (N, 3, H, W), to a network's logits, averaged over test-time augmentation."""

    def score(images: Tensor) -> Tensor:
        inputs = tta.apply(images) if tta else [images]
        return average_logits([network(normalizer(each)).float() for each in inputs])

    chunked = ChunkedInference(score, batch_size, log)
    return lambda images: torch.cat(list(chunked(images)))


@torch.no_grad()
def evaluate(
    network: Forward,
    split: Split,
    normalizer: Normalizer,
    run: Run,
    *,
    forward: Forward | None = None,
    batch_size: int = BATCH_SIZE,
    tta: TtaTransform | None = None,
    on_batch: Callable[[int], None] | None = None,
    on_predictions: Callable[[Tensor, Tensor, Tensor], None] | None = None,
) -> Evaluation:
    """Top-1, top-5 and loss on every image of a split, in float32, without augmentation but `tta`.

    Args:
        network: From normalized images (N, 3, H, W) to logits (N, classes). A module is evaluated in evaluation mode
            and keeps its mode.
        split: This process's share; the result is that of all.
        run: Device of the network, processes, and `log` for the message when memory runs out.
        forward: Computes the network's logits; by default the network itself.
        batch_size: Images per batch, halved while memory runs out; changes speed and memory, not the result.
        tta: With it the mean probabilities of an image's crops are evaluated.
        on_batch: Called after each batch with the number of images so far; on all processes equally often.
        on_predictions: Called after each batch with labels, predicted classes and their probabilities, (N,) each.

    Raises:
        DivergedError: The loss is not finite.
        CorruptFileError: None of the images can be decoded.
        DeviceMemoryError: The device has not enough memory for one image.
    """
    score = make_scorer(forward or network, normalizer, tta, batch_size, run.log)
    top1, top5, loss = (torch.zeros((), dtype=torch.float64, device=run.device) for _ in range(3))
    seen = 0
    with _evaluation_mode(network):
        for scored in run.dist.lockstep(_score_batches(split, batch_size, run.device, score)):
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
    run.dist.sum_([sums])
    correct, among_five, total, images_seen, images = sums.tolist()
    if not images_seen:
        raise no_image_left(int(images))
    if not math.isfinite(total):
        raise divergence(f"the loss on the {images_seen:.0f} evaluation images is {total}")
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
