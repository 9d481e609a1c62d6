"""Which classes a network takes for which.

Letters: N images of a batch, K classes.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassScore:
    """How one class fared.

    Args:
        label: Its position among the outputs.
        name: What it is called.
        images: How many images of it were seen.
        right: How many of them were classified right.
        top1: right / images, 0 to 1; None without images.
        taken_for: The wrong class that its images were given most often (the first of several); None without errors.
        taken: How many of its images that was.
    """

    label: int
    name: str
    images: int
    right: int
    top1: float | None
    taken_for: str | None
    taken: int


@dataclass(frozen=True)
class Confusion:
    """How often the network answered each class to images of each class.

    Args:
        counts: int64 (K, K): a row is a true class, a column an answered one. Its sum is the number of images, the sum
            of its diagonal the number of those classified right.
    """

    counts: Tensor

    @classmethod
    def empty(cls, classes: int, device: torch.device) -> "Confusion":
        """No images yet."""
        return cls(torch.zeros((classes, classes), dtype=torch.int64, device=device))

    @property
    def classes(self) -> int:
        """K."""
        return len(self.counts)

    def add(self, labels: Tensor, answers: Tensor) -> None:
        """Count a batch: true and answered classes, int64 (N,) each."""
        entries = labels * self.classes + answers
        self.counts.view(-1).index_add_(0, entries, torch.ones_like(entries))

    def by_class(self, names: Sequence[str]) -> list[ClassScore]:
        """Each class's score, in the order of the outputs."""
        return [_class_score(label, row, names) for label, row in enumerate(self.counts.tolist())]

    def to_csv(self, names: Sequence[str]) -> str:
        """The counts as a table: a row for each true class, a column for each answered one, both with their names."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["true class", *names])
        lines.writerows([name, *row] for name, row in zip(names, self.counts.tolist(), strict=True))
        return text.getvalue()


def _class_score(label: int, row: list[int], names: Sequence[str]) -> ClassScore:
    images, right = sum(row), row[label]
    wrong = [0 if other == label else count for other, count in enumerate(row)]
    taken = max(wrong)
    return ClassScore(
        label=label,
        name=names[label],
        images=images,
        right=right,
        top1=right / images if images else None,
        taken_for=names[wrong.index(taken)] if taken else None,
        taken=taken,
    )
