"""The program, the networks of the front door's tests, and calls in processes of their own."""

from collections.abc import Iterator

import pytest

from tests.front_door.conftest import _classifier, _detector, classifier, detector, nascli
from tests.reliability.zygote import Zygote

__all__ = ["_classifier", "_detector", "classifier", "detector", "nascli"]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Calls of the program in processes of their own; one for all tests of this process."""
    with Zygote() as made:
        yield made
