"""Detection as a task of the engine: images augmented with their boxes, four losses, COCO's average precision.

Order and augmentation are drawn by `BatchSampler`; sizes, anchors and proposals are sampled inside the
detector, by torch's global generator, which the engine seeds before each micro-batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nascli.data.changes import copy_together
from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit
from nascli.data.detection.transforms import BoxTransform, Target, read_transformed
from nascli.detect.coco_eval import Detection, DetectionScore, score_detections
from nascli.detect.inference import detect_boxes, read_ahead, to_float
from nascli.detect.sampler import BatchSampler
from nascli.engine.cast import NetworkAutocast
from nascli.engine.meters import Metrics
from nascli.engine.task import Run, Task

_EXACT = ("backbone", "rpn.head", "roi_heads.box_predictor")
"""Modules of a detector whose outputs are float32 whatever they were computed in: anchors, boxes and losses are made
from them, and in bfloat16 a box at pixel 1,000 would move in steps of four pixels."""


@dataclass(frozen=True)
class DetectBatch:
    """Annotated images, their pixels uint8 (3, H, W) of any sizes, and the boxes to learn from."""

    entries: Sequence[AnnotatedImage]
    images: Sequence[Tensor]
    targets: Sequence[Target]

    def take(self, places: Sequence[int]) -> "DetectBatch":
        """The images at these places."""
        return DetectBatch(*([values[k] for k in places] for values in (self.entries, self.images, self.targets)))  # type: ignore[arg-type]


class DetectTask(Task[DetectBatch]):
    """A detector trained on a split.

    Args:
        detector: Trained in place. In training mode it maps images and targets to losses.
        scored: The images whose average precision is measured.

    Attributes:
        result: The last score with the detections behind it, the same on all processes; None before the first.
    """

    def __init__(
        self, detector: nn.Module, train: DetectionSplit, scored: DetectionSplit, sampler: BatchSampler, run: Run
    ) -> None:
        self.modules = detector
        self._autocast = NetworkAutocast(detector, sampler.config.precision, run.device)
        self.plan, self.micro_batches = sampler.plan, sampler.plan.micro_batches
        self.keep = sampler.config
        self.why_eager = "the images of a detector and their boxes differ in size and number"
        self.result: tuple[DetectionScore, list[Detection]] | None = None
        self._train, self._scored, self._sampler, self._run = train, scored, sampler, run

    @property
    def micro_batch_size(self) -> int:
        """Images that are computed at once. In evaluation, too: images of a batch are padded to one size, which the
        detections depend on."""
        return -(-self.plan.batch_size // self.micro_batches)

    def batches(self, epoch: int, done: int) -> Iterator[DetectBatch]:
        """Batches that threads read and augment ahead of their use."""

        def read(entry: tuple[int, BoxTransform]) -> tuple[Tensor, Target]:
            position, transform = entry
            return read_transformed(self._train.images[position], transform)

        for batch, contents in read_ahead(self._sampler.batches(epoch, done), read):
            images, targets = zip(*contents, strict=True)
            yield DetectBatch([self._train.images[position] for position, _ in batch], images, targets)

    def split(self, batch: DetectBatch, count: int) -> Sequence[tuple[DetectBatch, float]]:
        """Micro-batches of consecutive images."""
        places = torch.arange(len(batch.entries)).tensor_split(count)
        return [(batch.take(own.tolist()), len(own) / len(batch.entries)) for own in places]

    def loss(self, micro: DetectBatch) -> Mapping[str, Tensor]:
        """The four losses of Faster R-CNN, with equal weight: each a mean over its own samples of the micro-batch."""
        device, names = self._run.device, [list(target) for target in micro.targets]
        values = [value for target in micro.targets for value in target.values()]
        sent = iter(copy_together([*micro.images, *values], device))  # one wait instead of one for each
        images = [to_float(next(sent), device) for _ in micro.images]
        targets = [{name: next(sent) for name in own} for own in names]
        with self._autocast():
            losses: dict[str, Tensor] = self.modules(images, targets)
        return losses

    def image_ids(self, micro: DetectBatch) -> Sequence[int]:
        """COCO's image ids."""
        return [entry.id for entry in micro.entries]

    def score(self, metrics: Metrics) -> tuple[float, ...] | None:
        """AP, then AP50."""
        ap, ap50 = metrics["ap"], metrics["ap50"]
        return None if ap is None or ap50 is None else (ap, ap50)

    def evaluate(self, model: nn.Module, epoch: int, pause: Callable[[], None]) -> Metrics:
        """AP and AP50 after the last epoch and every `eval_interval`-th; None after the others."""
        config = self._sampler.config
        if epoch != config.epochs and (not config.eval_interval or epoch % config.eval_interval):
            return {"ap": None, "ap50": None}
        score, _ = self.measure(model, pause)
        return {name: score.summary[name] for name in ("ap", "ap50")}

    def measure(self, model: nn.Module, pause: Callable[[], None]) -> tuple[DetectionScore, list[Detection]]:
        """Score a detector's boxes on the measured split; each process detects on its share of the images."""
        dist = self._run.dist
        detections = detect_boxes(model, self._scored, self._run, self.micro_batch_size, pause)
        self.result = dist.broadcast_from_main(lambda: score_detections(self._scored, detections)), detections
        return self.result

    @contextmanager
    def training(self) -> Iterator[None]:
        """While it lasts, images get the sizes of training, and boxes are exact where the arithmetic is not."""
        detector, jitter = self.modules, self._sampler.jitter
        transform: Any = detector.transform
        sizes = transform.min_size, transform.max_size
        hooks = [detector.get_submodule(name).register_forward_hook(_to_float32) for name in _EXACT]
        transform.min_size = self._sampler.config.multi_scale or transform.min_size
        if jitter is not None:
            transform.min_size, transform.max_size = (jitter.side,), jitter.side
        try:
            yield
        finally:
            transform.min_size, transform.max_size = sizes
            for hook in hooks:
                hook.remove()


def _to_float32(module: nn.Module, inputs: object, output: Any) -> Any:  # noqa: ANN401 - a hook's arguments
    """Every tensor of an output as float32."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: _to_float32(module, inputs, value) for name, value in output.items()}
    return type(output)(_to_float32(module, inputs, value) for value in output)
