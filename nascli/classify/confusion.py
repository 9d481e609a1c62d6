"""The confusion matrix of a classifier, by class and as a table.

Letters: N images of a batch, K classes.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nascli.text import as_cell


@dataclass(frozen=True)
class ClassAccuracy:
    """The accuracy on the images of one class.

    Args:
        label: Position among the outputs.
        name: Name of the class.
        images: Images of the class.
        correct: Correctly classified ones.
        top1: correct / images, 0 to 1; None without images.
        confused_with: The wrong class that was predicted most often (the first of several); None without errors.
        confused: Images for which it was.
    """

    label: int
    name: str
    images: int
    correct: int
    top1: float | None
    confused_with: str | None
    confused: int


@dataclass(frozen=True)
class Confusion:
    """Counts of true and predicted class over images.

    Args:
        counts: int64 (K, K): a row is a true class, a column a predicted one. Its sum is the number of images, the sum
            of its diagonal the number of those classified correctly.
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

    def add(self, labels: Tensor, predictions: Tensor) -> None:
        """Count a batch: true and predicted classes, int64 (N,) each."""
        entries = labels * self.classes + predictions
        self.counts.view(-1).index_add_(0, entries, torch.ones_like(entries))

    def by_class(self, names: Sequence[str]) -> list[ClassAccuracy]:
        """The accuracy of each class, in the order of the outputs."""
        classes: list[ClassAccuracy] = []
        for label, (name, row) in enumerate(zip(names, self.counts.tolist(), strict=True)):
            images, correct = sum(row), row[label]
            wrong = [0 if other == label else count for other, count in enumerate(row)]
            confused = max(wrong)
            top1 = correct / images if images else None
            confused_with = names[wrong.index(confused)] if confused else None
            classes.append(ClassAccuracy(label, name, images, correct, top1, confused_with, confused))
        return classes

    def to_csv(self, names: Sequence[str]) -> str:
        """The counts as a table with names: a row per true class, a column per predicted one."""
        shown = list(map(as_cell, names))
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["true class", *shown])
        lines.writerows([name, *row] for name, row in zip(shown, self.counts.tolist(), strict=True))
        return text.getvalue()
