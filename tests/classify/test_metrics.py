"""evaluate: exact counts on answers made by hand, and the mean over test-time augmentation."""

import math
from pathlib import Path

import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn

from nascli.classify.calibration import Reliability
from nascli.classify.confusion import Confusion
from nascli.classify.metrics import evaluate
from nascli.classify.tta import TtaTransform, average_logits
from nascli.data.dataset import UnreadableImages
from nascli.data.in_memory import ImageArray
from nascli.data.streaming import ImageFiles
from nascli.data.transforms import Normalizer
from nascli.engine.task import Run
from nascli.errors import CorruptFileError, DivergedError, NascliError
from tests.classify.small_training import CPU

PROBABILITIES = torch.tensor(
    [
        [0.7, 0.2, 0.1],
        [0.7, 0.1, 0.2],
        [0.1, 0.6, 0.3],
        [0.3, 0.1, 0.6],
        [0.1, 0.5, 0.4],
        [0.9, 0.05, 0.05],
    ]
)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
BYTES = Normalizer((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))


class ByPixel(nn.Module):
    """The row of a table of logits that the upper left pixel says."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[images[:, 0, 0, 0].round().long()]


def make_numbered_images(left: list[int], right: list[int], labels: Tensor) -> ImageArray:
    """Images of 2x2 pixels with one number in the left column and one in the right."""
    columns = torch.tensor([left, right], dtype=torch.uint8).t()
    return ImageArray(columns[:, None, None, :].expand(-1, 3, 2, 2).contiguous(), labels)


@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_everything_is_counted_once(batch_size: int) -> None:
    split = make_numbered_images(list(range(6)), [0] * 6, LABELS)
    confusion, reliability, seen = Confusion.empty(3, CPU), Reliability.empty(CPU), list[int]()

    def count(labels: Tensor, answers: Tensor, confidences: Tensor) -> None:
        confusion.add(labels, answers)
        reliability.add(labels, answers, confidences)

    found = evaluate(
        ByPixel(PROBABILITIES.log() + 3),
        split,
        BYTES,
        Run(CPU),
        batch_size=batch_size,
        on_predictions=count,
        on_batch=seen.append,
    )
    assert (found.top1, found.top5, found.images, seen[-1]) == (3 / 6, 1.0, 6, 6)
    assert found.loss == pytest.approx(-sum(map(math.log, (0.7, 0.7, 0.6, 0.1, 0.4, 0.05))) / 6, rel=1e-6)
    assert confusion.counts.tolist() == [[2, 0, 0], [0, 1, 1], [1, 1, 0]]
    assert confusion.counts.tolist() == confusion_matrix(LABELS, PROBABILITIES.argmax(dim=1)).tolist()
    # confidences 0.7, 0.7 (both right); 0.6, 0.6 (one right); 0.5 (wrong); 0.9 (wrong): four bins
    assert reliability.error == pytest.approx((abs(2 - 1.4) + abs(1 - 1.2) + 0.5 + 0.9) / 6, abs=1e-6)


def test_views_are_averaged_as_probabilities() -> None:
    split = make_numbered_images([0, 2], [5, 4], torch.tensor([0, 1]))
    tta = TtaTransform(image_size=2, crops=1, flip=True, padding=0, cut_from=2)
    confidences = list[float]()
    found = evaluate(
        ByPixel(PROBABILITIES.log() - 1),
        split,
        BYTES,
        Run(CPU),
        tta=tta,
        on_predictions=lambda labels, answers, sure: confidences.extend(sure.tolist()),
    )
    assert confidences == pytest.approx([0.8, 0.55], rel=1e-5)
    assert found.top1 == 1.0
    assert found.loss == pytest.approx(-(math.log(0.8) + math.log(0.55)) / 2, rel=1e-5)


def test_one_view_is_left_as_it_is_and_equal_views_change_nothing() -> None:
    logits = PROBABILITIES.log() * 2
    assert average_logits([logits]) is logits
    assert torch.allclose(average_logits([logits] * 3), logits.log_softmax(dim=1), atol=1e-6)


class Short(nn.Module):
    """Stands in for a device whose memory holds so many images."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.asked = room, list[int]()
        self.inner = ByPixel(PROBABILITIES.log())

    def forward(self, images: Tensor) -> Tensor:
        self.asked.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("no room")
        scores: Tensor = self.inner(images)
        return scores


def test_memory_that_runs_out_makes_the_batches_smaller_once_and_is_said() -> None:
    split = make_numbered_images(list(range(6)), [0] * 6, LABELS)
    whole = evaluate(ByPixel(PROBABILITIES.log()), split, BYTES, Run(CPU), batch_size=4)
    short, notes, seen = Short(1), list[str](), list[int]()
    found = evaluate(short, split, BYTES, Run(CPU, log=notes.append), batch_size=4, on_batch=seen.append)
    assert found == whole
    assert short.asked == [4, 2, 1, 1, 1, 1, 1, 1]
    assert seen == [4, 6]
    assert [note.split("from here on ")[1] for note in notes] == [
        "2 images are evaluated at once",
        "1 images are evaluated at once",
    ]


def test_memory_that_does_not_hold_one_image_is_explained() -> None:
    split = make_numbered_images(list(range(6)), [0] * 6, LABELS)
    with pytest.raises(NascliError, match="not enough memory to evaluate one image of 2 x 2 pixels"):
        evaluate(Short(0), split, BYTES, Run(CPU))


def test_a_loss_that_is_no_number_is_an_error() -> None:
    split = make_numbered_images(list(range(6)), [0] * 6, LABELS)
    with pytest.raises(DivergedError, match="the loss on the 6 evaluation images is nan"):
        evaluate(ByPixel(PROBABILITIES.log() * float("nan")), split, BYTES, Run(CPU))


def test_a_split_of_which_nothing_can_be_decoded_is_an_error(tmp_path: Path) -> None:
    paths = (tmp_path / "0.png", tmp_path / "1.png")
    for path in paths:
        path.write_bytes(b"poison")
    split = ImageFiles(paths, torch.zeros(2, dtype=torch.int64), 2, workers=0, unreadable=UnreadableImages(5))
    with pytest.raises(CorruptFileError, match="none of the 2 images of a split can be decoded"):
        evaluate(ByPixel(PROBABILITIES.log()), split, BYTES, Run(CPU))
