"""The confusion matrix: what it holds, by class and as a table."""

import csv
import io

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nascli.classify.confusion import ClassAccuracy, Confusion
from tests.classify.small_training import CPU


def count_answers(labels: Tensor, answers: Tensor, classes: int, batch_size: int) -> Confusion:
    confusion = Confusion.empty(classes, CPU)
    for batch in zip(torch.split(labels, batch_size), torch.split(answers, batch_size), strict=True):
        confusion.add(*batch)
    return confusion


@given(st.data(), st.integers(1, 7), st.integers(1, 5))
def test_it_counts_every_image_in_its_row_whatever_the_batches(data: st.DataObject, classes: int, size: int) -> None:
    pair = st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1))
    labels, answers = torch.tensor(data.draw(st.lists(pair, min_size=1, max_size=40))).t()
    counts = count_answers(labels, answers, classes, size).counts
    assert counts.sum() == len(labels)
    assert counts.sum(dim=1).tolist() == torch.bincount(labels, minlength=classes).tolist()
    assert counts.sum(dim=0).tolist() == torch.bincount(answers, minlength=classes).tolist()
    assert counts.trace() == (labels == answers).sum()


def test_each_class_says_what_it_is_confused_with() -> None:
    counts = torch.tensor([[3, 1, 1, 0], [0, 2, 0, 0], [1, 4, 0, 0], [0, 0, 0, 0]])
    assert Confusion(counts).by_class(("cat", "cow", "dog", "pig")) == [
        ClassAccuracy(label=0, name="cat", images=5, correct=3, top1=0.6, confused_with="cow", confused=1),
        ClassAccuracy(label=1, name="cow", images=2, correct=2, top1=1.0, confused_with=None, confused=0),
        ClassAccuracy(label=2, name="dog", images=5, correct=0, top1=0.0, confused_with="cow", confused=4),
        ClassAccuracy(label=3, name="pig", images=0, correct=0, top1=None, confused_with=None, confused=0),
    ]


def test_the_table_keeps_awkward_names() -> None:
    names = ("cat, black", 'the "cow"')
    rows = list(csv.reader(io.StringIO(Confusion(torch.tensor([[5, 1], [0, 7]])).to_csv(names))))
    assert rows == [["true class", *names], [names[0], "5", "1"], [names[1], "0", "7"]]
