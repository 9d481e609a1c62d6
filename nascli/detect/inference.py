"""Finding boxes with a trained detector; reading pictures ahead of their use."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit, read_annotated, to_sides
from nascli.detect.coco_eval import Detection
from nascli.engine.dist import SINGLE_PROCESS, DistContext

Entry = TypeVar("Entry")
Read = TypeVar("Read")

_MOST_READERS = 8
_BATCHES_AHEAD = 3


@torch.no_grad()
def find_all(
    detector: nn.Module,
    split: DetectionSplit,
    device: torch.device,
    batch_size: int,
    on_batch: Callable[[], None] = lambda: None,
    dist: DistContext = SINGLE_PROCESS,
) -> list[Detection]:
    """Every box a detector finds on a split, as COCO's results files have them.

    Args:
        detector: On `device`; left in evaluation mode.
        split: Its pictures are read, its boxes are not looked at.
        device: Where to compute.
        batch_size: Pictures at once.
        on_batch: Called after each batch, on all processes equally often; may raise to stop.
        dist: The processes that share the batches in turn; each gets what all have found, in the order of the split.

    Raises:
        CorruptFileError: A picture cannot be decoded; on all processes, where it is one's.
        InputError: A picture was removed or replaced meanwhile; likewise.
    """
    detector.eval()
    found: list[Detection] = []
    for batch in dist.lockstep(read_batches(split.images, batch_size, dist)):
        if batch is not None:  # else there are more on another process
            entries, pictures = batch
            outputs = detector([to_numbers(picture, device) for picture in pictures])
            for entry, output in zip(entries, outputs, strict=True):
                found += [
                    Detection(image_id=entry.id, category_id=split.categories[label - 1].id, bbox=box, score=score)
                    for box, label, score in plain_boxes(output)
                ]
        on_batch()
    return found if dist.size == 1 else _in_order(dist.all_gather(found), split)


def _in_order(shares: Sequence[Sequence[Detection]], split: DetectionSplit) -> list[Detection]:
    """What several processes found, image by image as one would have."""
    places = {image.id: place for place, image in enumerate(split.images)}
    return sorted(itertools.chain.from_iterable(shares), key=lambda each: places[each["image_id"]])


def plain_boxes(output: dict[str, Tensor]) -> list[tuple[list[float], int, float]]:
    """A detector's output for one picture as (bbox x, y, width, height; label; score), best first.

    Boxes are rounded to a thousandth of a pixel here, so that a score computed from a results file is the one reported.
    """
    sides = to_sides(output["boxes"].double().cpu().numpy()).round(3).tolist()
    return list(zip(sides, output["labels"].tolist(), output["scores"].tolist(), strict=True))


def to_numbers(picture: Tensor, device: torch.device) -> Tensor:
    """uint8 (3, H, W) to float32 in [0, 1] on `device`."""
    return picture.to(device).float().div_(255)


def read_batches(
    images: Sequence[AnnotatedImage], batch_size: int, dist: DistContext = SINGLE_PROCESS
) -> Iterator[tuple[Sequence[AnnotatedImage], list[Tensor]]]:
    """The pictures in order, batch by batch, read ahead; of several processes each gets every `size`-th batch."""
    starts = range(dist.rank * batch_size, len(images), dist.size * batch_size)
    return read_ahead((images[start : start + batch_size] for start in starts), read_annotated)


def read_ahead(
    batches: Iterable[Sequence[Entry]], read: Callable[[Entry], Read]
) -> Iterator[tuple[Sequence[Entry], list[Read]]]:
    """Batches in order with what is read of each entry; threads read some batches ahead of the one in use.

    Args:
        batches: Taken one by one, by the calling thread.
        read: Called by several threads at once; what it raises is raised when its batch's turn has come.
    """
    coming = iter(batches)
    waiting: deque[tuple[Sequence[Entry], list[Future[Read]]]] = deque()
    with ThreadPoolExecutor(min(_MOST_READERS, os.cpu_count() or 1)) as readers:
        try:
            while True:
                for batch in itertools.islice(coming, _BATCHES_AHEAD - len(waiting)):
                    waiting.append((batch, [readers.submit(read, entry) for entry in batch]))
                if not waiting:
                    return
                batch, futures = waiting.popleft()
                yield batch, [future.result() for future in futures]
        finally:
            readers.shutdown(cancel_futures=True)
