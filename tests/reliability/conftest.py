"""The program and the networks of the front door's tests."""

from tests.front_door.conftest import _classifier, _detector, classifier, detector, nascli

__all__ = ["_classifier", "_detector", "classifier", "detector", "nascli"]
