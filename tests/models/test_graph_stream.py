"""What is asked of CUDA to capture a function, and what is put back where that breaks off; CUDA is a fake here."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from nascli.models.deploy.graphs import GraphStream

CUDA = torch.device("cuda:0")


class FakeCuda:
    """As much of `torch.cuda` as is asked, and what was done, in order; a broken capture leaves its stream behind."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.current, self.state = "main", "fresh"
        generator = SimpleNamespace(clone_state=lambda: self.state, graphsafe_set_state=self._set_state)
        stream = SimpleNamespace(wait_stream=lambda other: self.done.append("side waits"))
        main = SimpleNamespace(wait_stream=lambda other: self.done.append("main waits"))
        patch.setattr(torch.cuda, "Stream", lambda device: stream)
        patch.setattr(torch.cuda, "current_stream", lambda device: main)
        patch.setattr(torch.cuda, "set_stream", lambda to: setattr(self, "current", "main" if to is main else "side"))
        patch.setattr(torch.cuda, "stream", self._beside)
        patch.setattr(torch.cuda, "graph", self._graph)
        patch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: self.done.append("replayed")))
        patch.setattr(torch.cuda, "default_generators", [generator])

    def _set_state(self, state: str) -> None:
        self.state = state

    @contextmanager
    def _beside(self, stream: object) -> Iterator[None]:
        self.current = "side"
        yield
        self.current = "main"

    @contextmanager
    def _graph(self, graph: object, pool: object, stream: object, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        self.current, self.state = "side", "capturing"
        yield
        self.current, self.state = "main", "fresh"
        self.done.append("captured")


def test_a_function_is_warmed_up_beside_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    assert GraphStream(CUDA).warm_up(lambda: cuda.done.append(cuda.current)) is None
    assert cuda.done == ["side waits", "side", "main waits"]


def test_a_replay_launches_the_graph_and_gives_what_the_function_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, result = FakeCuda(monkeypatch), torch.zeros(1)
    replay = GraphStream(CUDA).capture(lambda: result)
    assert replay() is replay() is result
    assert cuda.done == ["captured", "replayed", "replayed"]


def test_a_capture_that_breaks_off_leaves_stream_and_generator_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)

    def refuse() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        GraphStream(CUDA).capture(refuse)
    assert (cuda.current, cuda.state) == ("main", "fresh")
