"""A network on a few cores: different parts of a cell side by side, each on a core of its own.

Usually all cores compute one convolution, meet, and go on to the next. The convolutions of a cell are many and small,
and most of them wait for nothing but its two inputs. So here every core has a lane: steps of its own, in an order that
was fixed beforehand, and it waits only where it needs what another lane computes. Where the steps are too short for
that, one image is computed in the usual way. Of several images each lane takes its share through the whole network, and
nobody waits at all.

What a network computes is the same, and on every call the same; only who computes it is not.
"""

import heapq
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor, fx, nn

_HANDOVER = 5e-5
"""Seconds until a waiting lane goes on after another one has given it what it waits for."""

_WORTHWHILE = 1e-3
"""Seconds of work for each result that is handed over, below which lanes wait for each other more than they gain."""

_TIMED = 4
"""Forwards by which the steps are timed; the least time of each counts."""

Handover = SimpleQueue[Tensor | None]
"""What a result goes through from one lane to another; None says that it will never come."""

Assigned = list[tuple[fx.Node, int]]
"""Every step with its lane, in an order in which each comes after those that it reads."""


class Lanes(nn.Module):
    """A packed network whose steps are shared out among a few threads.

    With one thread (`torch.set_num_threads`) at the time of a call it computes as it would without lanes.

    Args:
        packed: What `nascli.models.inference.pack` gave.
        count: Lanes, 2 or more. No more than there are cores.
        image_size: H and W of the images by which the steps are timed; others may be given later.

    `worthwhile` says whether fewer images than lanes are computed in lanes.
    """

    def __init__(self, packed: fx.GraphModule, count: int, image_size: int) -> None:
        super().__init__()
        self.packed = packed
        self.count = count
        self._alone = threading.Lock()
        self._workers: ThreadPoolExecutor | None = None
        images = torch.zeros(1, 3, image_size, image_size)
        seconds = _results([self._start(_Timed(packed).seconds, images)])[0]
        self.programs, self._handovers = _programs(packed, _assigned(packed.graph, seconds, count), count)
        self.worthwhile = sum(seconds.values()) > _WORTHWHILE * len(self._handovers)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to logits (N, classes)."""
        logits: Tensor
        shared = len(images) >= self.count
        if torch.get_num_threads() == 1 or not (shared or self.worthwhile):
            logits = self.packed(images)
            return logits
        with self._alone:
            if shared:
                shares = images.tensor_split(self.count)
                return torch.cat(_results([self._start(self.packed, share) for share in shares]))
            try:
                results = _results([self._start(lane, images) for lane in self.programs])
            except BaseException:
                self._give_up()
                raise
            (logits,) = (result for result in results if result is not None)
            return logits

    def _start(self, compute: Callable[[Tensor], Any], images: Tensor) -> "Future[Any]":
        """Compute in a worker, without gradients."""
        if self._workers is None:
            self._workers = _workers(self.count)
        return self._workers.submit(_without_gradients, compute, images, inference=torch.is_inference_mode_enabled())

    def _give_up(self) -> None:
        """A lane has failed, or the caller was interrupted: let the lanes that wait fail too, and begin afresh."""
        for handover in self._handovers:
            handover.put(None)
        if self._workers is not None:
            self._workers.shutdown()
            self._workers = None
        for handover in self._handovers:
            while not handover.empty():
                handover.get()


class _Timed(fx.Interpreter):
    """Runs a network step by step."""

    def seconds(self, images: Tensor) -> dict[fx.Node, float]:
        """The least time of each step."""
        self._least: dict[fx.Node, float] = {}
        for _ in range(_TIMED):
            self.run(images)
        return self._least

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401
        since = time.perf_counter()
        result = super().run_node(n)
        taken = time.perf_counter() - since
        self._least[n] = min(taken, self._least.get(n, taken))
        return result


class _Put(nn.Module):
    """Hands a result to another lane."""

    def __init__(self, handover: Handover) -> None:
        super().__init__()
        self.handover = handover

    def forward(self, result: Tensor) -> None:
        self.handover.put(result)


class _Get(nn.Module):
    """Waits for the result of another lane."""

    def __init__(self, handover: Handover) -> None:
        super().__init__()
        self.handover = handover

    def forward(self) -> Tensor:
        result = self.handover.get()
        if result is None:
            raise RuntimeError("another lane has failed")
        return result


def _assigned(graph: fx.Graph, seconds: Mapping[fx.Node, float], count: int) -> Assigned:
    """List scheduling: of the steps that could begin, the one with the longest way to the end goes first, to the lane
    where it begins earliest."""
    way: dict[fx.Node, float] = {}  # seconds from the beginning of a step to the end of the network
    for node in reversed(graph.nodes):
        way[node] = seconds[node] + max((way[user] for user in node.users), default=0.0)
    place = {node: index for index, node in enumerate(graph.nodes)}
    missing = {node: len(node.all_input_nodes) for node in graph.nodes}
    ready = [(-way[node], place[node], node) for node in graph.nodes if not missing[node]]
    free = [0.0] * count
    ended: dict[fx.Node, float] = {}
    lanes: dict[fx.Node, int] = {}
    heapq.heapify(ready)
    while ready:
        _, _, node = heapq.heappop(ready)

        def begins(lane: int, node: fx.Node = node) -> float:
            given = (ended[read] + _HANDOVER * (lanes[read] != lane) for read in node.all_input_nodes)
            return max(free[lane], *given, 0.0)

        lane = min(range(count), key=begins)
        ended[node] = free[lane] = begins(lane) + seconds[node]
        lanes[node] = lane
        for user in node.users:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, (-way[user], place[user], user))
    return list(lanes.items())


def _programs(packed: fx.GraphModule, assigned: Assigned, count: int) -> tuple[list[fx.GraphModule], list[Handover]]:
    """What each lane computes, as a network of its own, and what results go through from one to another.

    All take the images; one gives the logits, the others nothing.
    """
    lane_of = dict(assigned)
    graphs = [fx.Graph() for _ in range(count)]
    here: list[dict[fx.Node, fx.Node]] = [{} for _ in range(count)]  # what a lane has, and which of its steps gave it
    modules: dict[str, nn.Module] = {}
    handovers: list[Handover] = []

    def hand_over(result: fx.Node, source: int, target: int) -> None:
        handover: Handover = SimpleQueue()
        put, get = f"put_{len(handovers)}", f"get_{len(handovers)}"
        modules[put], modules[get] = _Put(handover), _Get(handover)
        handovers.append(handover)
        with graphs[source].inserting_after(here[source][result]):
            graphs[source].call_module(put, (here[source][result],))
        here[target][result] = graphs[target].call_module(get)

    for node, lane in assigned:
        for result in node.all_input_nodes:
            if result not in here[lane]:
                hand_over(result, lane_of[result], lane)
        for each in range(count) if node.op == "placeholder" else [lane]:
            here[each][node] = graphs[each].node_copy(node, here[each].__getitem__)
        if node.op == "call_module":
            modules[str(node.target)] = packed.get_submodule(str(node.target))
    return [fx.GraphModule(modules, graph, "Lane") for graph in graphs], handovers


def _workers(count: int) -> ThreadPoolExecutor:
    """Threads that each compute on one core, started; the caller goes on with as many as before."""
    threads = torch.get_num_threads()
    together = threading.Barrier(count)
    workers = ThreadPoolExecutor(count, "lane", initializer=torch.set_num_threads, initargs=(1,))
    wait([workers.submit(together.wait) for _ in range(count)])
    torch.set_num_threads(threads)
    return workers


def _without_gradients(compute: Callable[[Tensor], Any], images: Tensor, *, inference: bool) -> Any:  # noqa: ANN401
    """Threads know nothing of the caller's context."""
    with torch.inference_mode() if inference else torch.no_grad():
        return compute(images)


def _results(running: "Sequence[Future[Any]]") -> list[Any]:
    """Of all, or the first failure."""
    wait(running, return_when=FIRST_EXCEPTION)
    failed = [each for each in running if each.done() and each.exception()]
    return [each.result() for each in failed or running]
