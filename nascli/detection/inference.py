"""Finding boxes with a trained detector; reading pictures ahead of their use."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor, nn

from nascli.data.annotated import AnnotatedImage, DetectionSplit, read_annotated, to_sides
from nascli.detection.scoring import Detection

_MOST_READERS = 8
_BATCHES_AHEAD = 3


@torch.no_grad()
def find_all(
    detector: nn.Module,
    split: DetectionSplit,
    device: torch.device,
    batch_size: int,
    on_batch: Callable[[], None] = lambda: None,
) -> list[Detection]:
    """Every box a detector finds on a split, as COCO's results files have them.

    Args:
        detector: On `device`; left in evaluation mode.
        split: Its pictures are read, its boxes are not looked at.
        device: Where to compute.
        batch_size: Pictures at once.
        on_batch: Called after each batch; may raise to stop.
    """
    detector.eval()
    found: list[Detection] = []
    for entries, pictures in read_batches(split.images, batch_size):
        outputs = detector([to_numbers(picture, device) for picture in pictures])
        for entry, output in zip(entries, outputs, strict=True):
            found += [
                Detection(image_id=entry.id, category_id=split.categories[label - 1].id, bbox=box, score=score)
                for box, label, score in plain_boxes(output)
            ]
        on_batch()
    return found


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
    images: Sequence[AnnotatedImage], batch_size: int
) -> Iterator[tuple[Sequence[AnnotatedImage], list[Tensor]]]:
    """The pictures in order, batch by batch; threads decode some batches ahead of the one in use."""
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    waiting: deque[list[Future[Tensor]]] = deque()
    with ThreadPoolExecutor(min(_MOST_READERS, os.cpu_count() or 1)) as readers:
        try:
            for position, batch in enumerate(batches):
                for ahead in batches[position + len(waiting) : position + _BATCHES_AHEAD]:
                    waiting.append([readers.submit(read_annotated, image) for image in ahead])
                yield batch, [future.result() for future in waiting.popleft()]
        finally:
            readers.shutdown(cancel_futures=True)
