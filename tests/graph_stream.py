"""CUDA graphs for machines without a GPU: operations are captured, and repeated on the same tensors."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nascli.engine.train_state import TrainState
from nascli.models.deploy.graphs import GraphStream

Result = TypeVar("Result")


class OperationStream(GraphStream):
    """As of a GPU, numbers of Python are fixed in what is captured, and only repeating it changes anything.

    Args:
        changed: The tensors from outside that what is captured may change.
    """

    def __init__(self, changed: Callable[[], Iterable[Tensor]] = lambda: ()) -> None:
        self._changed = changed
        self.warmed_up = self.captured = self.replayed = 0

    def warm_up(self, function: Callable[[], Result]) -> Result:
        self.warmed_up += 1
        return function()

    def make_pool(self) -> object:
        return None

    def capture(self, function: Callable[[], Result], pool: object = None) -> Callable[[], Result]:
        kept = [(tensor, tensor.detach().clone()) for tensor in self._changed()]
        operations = Operations()
        try:
            with operations:
                result = function()
        finally:  # as on a GPU nothing was computed
            with torch.no_grad():
                for tensor in operations.made:
                    if tensor.is_floating_point():
                        tensor.detach().fill_(float("nan"))
                for tensor, content in kept:
                    tensor.copy_(content)
        self.captured += 1

        def replay() -> Result:
            self.replayed += 1
            operations.repeat()
            return result

        return replay


def changed_by(state: TrainState) -> Iterator[Tensor]:
    """The tensors that a training step changes."""
    yield from state.modules.state_dict().values()
    for values in state.optimizer.state.values():
        yield from values.values()
    if state.ema is not None:
        yield from state.ema.module.state_dict().values()
    if state.scaler.is_enabled():
        yield from (each for each in (state.scaler._scale, state.scaler._growth_tracker) if each is not None)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operations while it is active, with their arguments and results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._all: list[tuple[Any, tuple[Any, ...], Mapping[str, Any], Any]] = []
        self.made: list[Tensor] = []

    def __torch_dispatch__(
        self,
        function: Any,  # noqa: ANN401 - an operation
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - its result
        assert function.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero"), "a step reads a number back"
        result = function(*args, **(kwargs or {}))
        self._all.append((function, args, kwargs or {}, result))
        given = {each.untyped_storage().data_ptr() for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        results = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        self.made += [each for each in results if each.untyped_storage().data_ptr() not in given]
        return result

    @torch.no_grad()
    def repeat(self) -> None:
        """Make them again, with results in the same places."""
        for function, args, kwargs, results in self._all:
            again = function(*args, **kwargs)
            for place, content in zip(tree_leaves(results), tree_leaves(again), strict=True):
                if isinstance(place, Tensor) and place.data_ptr() != content.data_ptr():
                    place.detach().copy_(content)


class Failing(OperationStream):
    """Breaks off after the function was called; as of CUDA, the end of the capture fails, too."""

    error: Exception = RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    def capture(self, function: Callable[[], Result], pool: object = None) -> Callable[[], Result]:
        super().capture(function)
        try:
            raise self.error
        except RuntimeError:
            raise torch.AcceleratorError("CUDA error: operation failed due to a previous error") from None


class Full(Failing):
    error = torch.OutOfMemoryError("CUDA out of memory")
