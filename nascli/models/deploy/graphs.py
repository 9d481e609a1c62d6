"""CUDA graphs: what a function launches on a GPU, captured once and launched again as a whole.

A CPU takes some microseconds to launch a kernel, and a network has thousands. A graph is launched at once: it reads
and writes the memory that the captured kernels did, so what changes from call to call has to be copied there before.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from nascli.device_errors import is_device_lost, is_out_of_memory

Result = TypeVar("Result")

_MOST_SHAPES = 8
"""Shapes of images that an engine remembers. The graph of each keeps the memory of all its maps."""


class GraphStream:
    """A stream on which functions are warmed up and captured.

    Args:
        device: A GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, function: Callable[[], Result]) -> Result:
        """Call a function where it will be captured: libraries make there what they make once for each stream."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                return function()
        finally:
            current.wait_stream(self._stream)

    def capture(self, function: Callable[[], Result], pool: Any = None) -> Callable[[], Result]:  # noqa: ANN401 - torch has no name for it
        """Capture what a function launches; nothing is computed yet.

        Args:
            function: It was called by `warm_up` before, launches the same whatever the numbers are, reads nothing back
                from the device and copies nothing to it. Its random numbers are those of the device's own generator,
                as it stands before each replay.
            pool: From `make_pool`: the memory that it shares with graphs captured before, all of which are kept.

        Returns:
            The replay, which gives the same tensors each time, with new content.

        Raises:
            RuntimeError: The function cannot be captured, or memory does not suffice. The device can still be used.
        """
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        generator, current = torch.cuda.default_generators[index], torch.cuda.current_stream(self._device)
        state, graph = generator.clone_state(), torch.cuda.CUDAGraph()
        try:
            # the threads that read images may ask for memory meanwhile
            with torch.cuda.graph(graph, pool, self._stream, capture_error_mode="thread_local"):
                result = function()
        except Exception:
            # a capture that breaks off leaves its stream the current one, and the generator as if it went on
            torch.cuda.set_stream(current)
            generator.graphsafe_set_state(state)
            raise

        def replay() -> Result:
            graph.replay()
            return result

        return replay

    def make_pool(self) -> Any:  # noqa: ANN401
        """Memory for several graphs, one of which runs at a time: what they make for themselves lies in one place."""
        return torch.cuda.graph_pool_handle()


class GraphedEngine(Generic[Result]):
    """An engine whose work for a shape of images is captured the second time, and replayed from then on.

    For one thread. Where nothing can be captured any more (memory, mostly), it computes as the plain engine does. A
    graph reads the engine's tensors where they lie, so it sees weights that are changed in place.

    Args:
        engine: From images (N, 3, H, W) to tensors; nothing about it is random.
        on_failure: Called with the reason where nothing can be captured any more.

    Attributes:
        captures: Graphs that were captured so far.
    """

    def __init__(
        self,
        engine: Callable[[Tensor], Result],
        stream: GraphStream,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self._engine, self._stream, self._on_failure = engine, stream, on_failure
        self._replays: OrderedDict[Hashable, Callable[[Tensor], Result] | None] = OrderedDict()
        self._can_capture = True
        self.captures = 0

    def __call__(self, images: Tensor) -> Result:
        """The engine's result, which carries no gradient."""
        key = _describe(images)
        is_known = key in self._replays
        replay = self._replays.pop(key, None)
        if replay is None and is_known and self._can_capture:
            replay = self._capture(images)
        self._replays[key] = replay
        if len(self._replays) > _MOST_SHAPES:
            self._replays.popitem(last=False)
        if replay is not None:
            return replay(images)
        try:
            with torch.no_grad():
                return self._stream.warm_up(partial(self._engine, images))
        except torch.OutOfMemoryError:
            self._replays.clear()  # for the caller's next attempt
            raise

    def _capture(self, images: Tensor) -> Callable[[Tensor], Result] | None:
        """The replay for images of this shape; None where it cannot be captured."""
        with torch.inference_mode(False), torch.no_grad(), _disable_autocast_cache(images.device):
            place = torch.zeros_like(images, memory_format=torch.channels_last)
            try:
                replay = self._stream.capture(partial(self._engine, place))
            except RuntimeError as error:
                reason = explain_failure(error, "it")
                self._can_capture = False
                self._replays.clear()
                if self._on_failure is not None:
                    self._on_failure(reason)
                return None
        self.captures += 1

        def run(images: Tensor) -> Result:
            with torch.no_grad():
                place.copy_(images)
                copied: Result = tree_map(lambda each: each.clone() if isinstance(each, Tensor) else each, replay())
            return copied

        return run


def explain_failure(error: Exception, subject: str) -> str:
    """Why something could not be captured; the error itself is raised where the device is lost with it.

    Args:
        error: Of `GraphStream.capture`: the end of a capture fails, too, where something in it did.
    """
    first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
    if is_device_lost(first):
        raise error
    if is_out_of_memory(first):
        return "the device has not enough memory for a graph"
    return f"{subject} cannot be captured ({(str(first) or type(first).__name__).splitlines()[0]})"


def _describe(images: Tensor) -> Hashable:
    """All that decides which kernels an engine launches."""
    kind = images.device.type
    casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    arithmetic = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    return images.shape, images.dtype, torch.get_autocast_dtype(kind) if casts else None, arithmetic


def _disable_autocast_cache(device: torch.device) -> AbstractContextManager[object]:
    """Autocast as it is, but for its cache: a graph must not read copies of weights that are let go after it."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=False)
