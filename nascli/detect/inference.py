"""Detecting boxes with a trained detector; reading images ahead of their use."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from nascli.data.detection.dataset import Category, DetectionSplit, read_annotated_image, to_sides
from nascli.detect.coco_eval import Detection
from nascli.engine.inference import ChunkedInference
from nascli.engine.task import Run
from nascli.errors import InputError

Entry = TypeVar("Entry")
Content = TypeVar("Content")

_MAX_READERS = 8
_BATCHES_AHEAD = 3


@torch.no_grad()
def detect_boxes(
    detector: nn.Module,
    split: DetectionSplit,
    run: Run,
    batch_size: int,
    on_batch: Callable[[], None] = lambda: None,
) -> list[Detection]:
    """All detections on the images of a split, in the order of the split.

    Args:
        detector: On the device of `run`; left in evaluation mode.
        split: Its own boxes are not used.
        run: Its processes share the batches in turn, and each returns the detections of all; `log` for the message when
            memory runs out.
        batch_size: Images computed at once, halved while memory runs out.
        on_batch: Called after each batch, on all processes equally often; may raise to stop.

    Raises:
        CorruptFileError: An image cannot be decoded; raised on all processes.
        InputError: An image was removed or replaced meanwhile; raised on all processes.
    """
    detector.eval()
    dist, detections = run.dist, list[Detection]()
    detect = ChunkedInference[list[Tensor], list[dict[str, Tensor]]](detector, batch_size, run.log)
    starts = range(dist.rank * batch_size, len(split.images), dist.size * batch_size)
    shares = (split.images[start : start + batch_size] for start in starts)
    for batch in dist.lockstep(read_ahead(shares, read_annotated_image)):
        if batch is not None:  # else another process has more
            entries, images = batch
            outputs = itertools.chain.from_iterable(detect([to_float(image, run.device) for image in images]))
            for entry, output in zip(entries, outputs, strict=True):
                detections += [
                    Detection(image_id=entry.id, category_id=split.categories[label - 1].id, bbox=bbox, score=score)
                    for bbox, label, score in to_plain_boxes(output)
                ]
        on_batch()
    if dist.size == 1:
        return detections
    places = {image.id: place for place, image in enumerate(split.images)}
    everything = itertools.chain.from_iterable(dist.all_gather(detections))
    return sorted(everything, key=lambda each: places[each["image_id"]])


def detect_known(
    detector: nn.Module, categories: Sequence[Category], split: DetectionSplit, run: Run, batch_size: int
) -> list[Detection]:
    """Detections on a split of any data set with the detector's classes, which are known by their names.

    Boxes of classes that the split has not are left out.

    Args:
        categories: The detector's.
        split: Its own ids are those of the detections.

    Raises:
        InputError: The split has a class that the detector does not know; and as for `detect_boxes`.
    """
    if categories == split.categories:
        return detect_boxes(detector, split, run, batch_size)
    names = {each.name: each.id for each in split.categories}
    if unknown := [name for name in names if name not in {each.name for each in categories}]:
        raise InputError(
            f"{split.source}: class {unknown[0]!r} is none of the detector's: "
            f"{', '.join(each.name for each in categories[:10])}{', ...' if len(categories) > 10 else ''}",
            "Give data whose classes have the detector's names",
        )
    own = {each.id: each.name for each in categories}
    found = detect_boxes(detector, replace(split, categories=tuple(categories)), run, batch_size)
    named = ((each, own[each["category_id"]]) for each in found)
    return [Detection({**each, "category_id": names[name]}) for each, name in named if name in names]


def to_plain_boxes(output: dict[str, Tensor]) -> list[tuple[list[float], int, float]]:
    """A detector's output for one image as (bbox x, y, width, height; label; score), best first.

    Boxes are rounded to a thousandth of a pixel here, so that a score computed from a results file is the one reported.
    """
    sides = to_sides(output["boxes"].double().cpu().numpy()).round(3).tolist()
    return list(zip(sides, output["labels"].tolist(), output["scores"].tolist(), strict=True))


def to_float(image: Tensor, device: torch.device) -> Tensor:
    """uint8 (3, H, W) to float32 in [0, 1] on `device`."""
    return image.to(device).float().div_(255)


def read_ahead(
    batches: Iterable[Sequence[Entry]], read: Callable[[Entry], Content]
) -> Iterator[tuple[Sequence[Entry], list[Content]]]:
    """Batches in order, with the content of each entry; threads read some batches ahead of the one in use.

    Args:
        batches: Consumed one by one, by the calling thread.
        read: Called by several threads at once; its error is raised when the turn of its batch has come.
    """
    upcoming = iter(batches)
    waiting: deque[tuple[Sequence[Entry], list[Future[Content]]]] = deque()
    with ThreadPoolExecutor(min(_MAX_READERS, os.cpu_count() or 1)) as readers:
        try:
            while True:
                for batch in itertools.islice(upcoming, _BATCHES_AHEAD - len(waiting)):
                    waiting.append((batch, [readers.submit(read, entry) for entry in batch]))
                if not waiting:
                    return
                batch, futures = waiting.popleft()
                yield batch, [future.result() for future in futures]
        finally:
            readers.shutdown(cancel_futures=True)
