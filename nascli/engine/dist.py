"""Several processes that train one network, each on its share of every batch; torchrun or `--gpus N` starts them.

After each step all have the same state, so the first alone writes and prints. Gradients of GPUs are summed by NCCL.
Everything else that the processes tell each other (whether one was asked to stop, cannot read its images, has no memory
left) goes by gloo from CPU to CPU: nobody waits for a GPU to learn it.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from nascli.data.dataset import AnySplit
from nascli.errors import InputError, NascliError
from nascli.units import count_of

T = TypeVar("T")

_FIRST_LEFT = "first left"
_PATIENCE = timedelta(seconds=30)
"""Time that a process which leaves waits for the first, which may have to save, to have left."""


@dataclass(frozen=True)
class DistContext:
    """This process among those that train one network together.

    Where several are, each has to call the methods that exchange something (all but the properties and the shares) in
    the same order. A single process exchanges nothing: each method then returns its own value, or calls its argument.

    Args:
        rank: Counted from 0.
        size: Number of processes.
        local_rank: Rank among those of this machine.
        local_size: Processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def here(cls) -> "DistContext":
        """As the environment says, which torchrun makes; `SINGLE_PROCESS` without it.

        Raises:
            InputError: It says so in part, or nonsense.
        """
        if "LOCAL_RANK" not in os.environ:
            return SINGLE_PROCESS
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        with contextlib.suppress(KeyError, ValueError):
            made = cls(*(int(os.environ[name]) for name in names))
            is_reached = made.size == 1 or {"MASTER_ADDR", "MASTER_PORT"} <= {*os.environ}
            if 0 <= made.rank < made.size and 0 <= made.local_rank < made.local_size <= made.size and is_reached:
                return made
        said = ", ".join(f"{name}={os.environ[name]!r}" for name in names if name in os.environ)
        raise InputError(
            f"the environment says in part that torchrun started this process: {said}",
            "Unset LOCAL_RANK, or start it with torchrun",
        )

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes, prints and decides."""
        return self.rank == 0

    def share(self, images: int) -> slice:
        """This process's images of a batch: as many as every other's, in the order of the ranks."""
        each = images // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def shard(self, split: AnySplit) -> AnySplit:
        """The images of a split that this process measures: the one at its number, and every `size`-th after it."""
        return split if self.size == 1 else split.take(torch.arange(self.rank, len(split), self.size))

    def check_shares(self, count: int, most: int) -> None:
        """InputError where the processes cannot share a run's micro-batches alike; `most` processes could at best."""
        fitting = [size for size in range(1, most + 1) if count % size == 0]
        if self.size not in fitting:
            raise InputError(
                f"a batch of this run has {count} micro-batches, which {self.size} processes cannot share alike",
                f"The number of processes has to be {' or '.join(map(str, fitting))}",
            )

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any process."""
        return self._any(flag)[0]

    @torch.no_grad()
    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes.

        Args:
            tensors: All on one device; of the same shapes on every process.
        """
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _peer_errors():
            distributed.all_reduce(flat)
        sums = torch.split(flat, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [part.view_as(tensor) for part, tensor in zip(sums, tensors, strict=True)])

    def lockstep(self, items: Iterable[T]) -> Iterator[T | None]:
        """Iterate in step with all ranks; None once this one is exhausted, but another is not.

        Raises:
            NascliError: On all processes, where one could not read its next item.
        """
        if self.size == 1:
            yield from items
            return
        source = iter(items)
        while True:
            item, error = None, None
            try:
                item = next(source, None)
            except NascliError as raised:
                error = raised
            more, failed = self._any(item is not None, error is not None)
            if failed:
                self._raise_first(error)
            if not more:
                return
            yield item

    def raise_together(self, make: Callable[[], T]) -> T:
        """Call `make` on every rank; a `NascliError` that one raises is raised on all, of several the lowest rank's."""
        if self.size == 1:
            return make()
        made, error = list[T](), None
        try:
            made.append(make())
        except NascliError as raised:
            error = raised
        self._raise_first(error)
        return made[0]

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """Call `make` on rank 0 alone and hand its result to all; a `NascliError` of it is raised on all."""
        made: list[Any] = self.raise_together(lambda: [make()] if self.is_main else [None])
        if self.size > 1:
            with _peer_errors():
                distributed.broadcast_object_list(made, src=0, device=torch.device("cpu"))
        result: T = made[0]
        return result

    def all_gather(self, item: T) -> list[T]:
        """The items of all ranks, in their order, on each."""
        if self.size == 1:
            return [item]
        given: list[Any] = [None] * self.size
        with _peer_errors():
            distributed.all_gather_object(given, item)
        return given

    @contextmanager
    def any_rank_raises(self, kind: type[Exception]) -> Iterator[None]:
        """Raise an error of this kind on all ranks where the block raises one on any."""
        message: str | None = None
        try:
            yield
        except kind as error:
            if self.size == 1:
                raise
            message = str(error) or kind.__name__
        if self.any(message is not None):
            raise kind(message or "on another process")

    def _any(self, *flags: bool) -> list[bool]:
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32)
        with _peer_errors():
            distributed.all_reduce(raised)
        return [bool(count) for count in raised.tolist()]

    def _raise_first(self, error: NascliError | None) -> None:
        """Raise the error of the lowest rank that has one, on all ranks; each has to call this."""
        values = None if error is None else (type(error), error.message, error.hint, error.file, error.field)
        for first in self.all_gather(values):
            if first is not None:
                kind, message, hint, file, place = first
                raise kind(message, hint, file=file, field=place) from error


SINGLE_PROCESS = DistContext()


def device_name(device: torch.device, dist: DistContext = SINGLE_PROCESS) -> str:
    """The device in words: the GPU's name, or the number of CPU threads; times the processes."""
    name = f"cpu, {count_of(torch.get_num_threads(), 'thread')}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return name if dist.size == 1 else f"{dist.size} x {name}"


@contextmanager
def process_group(dist: DistContext) -> Iterator[None]:
    """Connect the processes while the context lasts; at its end rank 0 leaves before the others.

    torchrun ends all processes as soon as one has left with an error: by then rank 0 must have written everything.

    Raises:
        NascliError: They do not find each other.
    """
    if dist.size == 1:
        yield
        return
    with _peer_errors():
        store = next(rendezvous("env://"))[0]
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with _stdout_on_stderr():
            distributed.init_process_group(backend, store=store, rank=dist.rank, world_size=dist.size)
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # the others may be gone
            if dist.is_main:
                store.set(_FIRST_LEFT, "")
            else:
                store.wait([_FIRST_LEFT], _PATIENCE)
            distributed.destroy_process_group()


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Keep stdout for results: gloo of torch 2.10 prints there that it is connected."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _peer_errors() -> Iterator[None]:
    """NascliError where the other processes do not answer; gloo, NCCL and their store raise various errors."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise NascliError(
            f"another process of this run has ended or cannot be reached ({reason})",
            "With --debug each process says what it met; --resume starts from the last checkpoint",
        ) from error
