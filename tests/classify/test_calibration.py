"""The calibration error: by hand, against plain arithmetic, and 0 where a network is as often right as it says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nascli.classify.calibration import BINS, Reliability
from tests.classify.small_training import CPU

IMAGES = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60)


def count_answers(images: list[tuple[bool, float]], batch_size: int = 1000) -> Reliability:
    """Images that are classified right or wrong with some confidence."""
    reliability = Reliability.empty(CPU)
    labels = torch.tensor([0 if right else 1 for right, _ in images])
    sure = torch.tensor([confidence for _, confidence in images], dtype=torch.float64)
    for some, confidences in zip(torch.split(labels, batch_size), torch.split(sure, batch_size), strict=True):
        reliability.add(some, torch.zeros_like(some), confidences)
    return reliability


@given(st.lists(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=5))
def test_it_is_0_where_every_confidence_is_the_part_that_is_right(groups: list[tuple[int, int]]) -> None:
    images = [(k < right, right / number) for right, number in groups for k in range(number)]
    assert count_answers(images).error == pytest.approx(0, abs=1e-12)


@given(IMAGES, st.integers(1, 7))
def test_it_is_the_paper_s_sum_whatever_the_batches(images: list[tuple[bool, float]], batch_size: int) -> None:
    right, sure = np.array([r for r, _ in images], float), np.array([c for _, c in images])
    member = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = [
        np.sum(member == m) / len(images) * abs(right[member == m].mean() - sure[member == m].mean())
        for m in set(member.tolist())
    ]
    found = count_answers(images, batch_size)
    assert found.error == pytest.approx(sum(gaps), abs=1e-9)
    assert 0 <= found.error <= 1
    assert sum(each.images for each in found.bins()) == len(images)


def test_a_bin_holds_its_upper_end_and_not_its_lower() -> None:
    rows = count_answers([(True, 0.0), (True, 1 / 3), (False, 1 / 3 + 1e-9), (True, 1.0)]).bins()
    assert len(rows) == BINS == 15
    assert [(m, row.images) for m, row in enumerate(rows) if row.images] == [(0, 1), (4, 1), (5, 1), (14, 1)]
    assert (rows[4].above, rows[4].to) == (4 / 15, 5 / 15)
    assert rows[4].accuracy == 1.0
    assert rows[4].confidence == pytest.approx(1 / 3)
    assert (rows[5].accuracy, rows[7].accuracy, rows[7].confidence) == (0.0, None, None)


def test_a_network_that_is_sure_and_wrong_is_off_by_1() -> None:
    assert count_answers([(False, 1.0)] * 3).error == 1.0
