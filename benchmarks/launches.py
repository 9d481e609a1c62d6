"""What a training step asks of a GPU: operations launched, copies to it, results that the CPU waits for.

Of a batch of an evaluation the launches, alone and beside a CUDA graph, are counted, too.

    python benchmarks/launches.py --json launches.json

No GPU is needed. A classifier's step is made on the device `meta`, which has shapes and no values, in float32 and else
as its recipe says: augmentation, moving average, clipping. A detector's is made on the CPU in bfloat16: boxes need
values. The third step counts, as the first ones make what is kept. Batches, images and crops are small; no count of
copies depends on them.

Launches are torch's operations but views and empty tensors; a GPU makes one to five kernels of each. Where the step is
captured as a CUDA graph, what is launched besides is counted, too: the next batch, and numbers that change.

Copies to the GPU wait for it unless they come from page-locked memory; readings always do. On the CPU a detector's
images and boxes count as one copy, and so does every tensor made of Python's numbers; numbers that never leave the CPU
count as readings, too.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import torch
from common import Column, Figures, Measures, Task, arguments, compare
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nascli.classify.metrics import evaluate
from nascli.classify.task import ClassifyTask
from nascli.config import (
    DataConfig,
    DetectRecipe,
    NetworkConfig,
    SearchRecipe,
    TrainConfig,
    TrainRecipe,
    find_recipe,
    load_recipe,
)
from nascli.data.dataset import ImageData
from nascli.data.in_memory import ImageArray
from nascli.data.transforms import Normalizer
from nascli.engine import graphs
from nascli.engine.graphs import WARM_UP, Forward, GraphedStep, replay_forward
from nascli.engine.step import train_step
from nascli.engine.task import Run
from nascli.engine.task import Task as EngineTask
from nascli.engine.train_state import TrainState, start_state
from nascli.errors import Interrupted
from nascli.genotype.resolve import zoo_genotype
from nascli.models.deploy.graphs import GraphStream
from nascli.models.families import build
from nascli.models.spec import resolve_network

Result = TypeVar("Result")

META, CPU = torch.device("meta"), torch.device("cpu")
STEPS = 3
READS = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "equal", "item", "is_nonzero")
FREE = ("lift_fresh", "detach", "_unsafe_view", "record_stream")
BATCH_SIZE, CLASSES, IMAGES = 16, 10, 64


class StepCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts all operations, those that a device launches, copies to it, and readings of what is on it, by name."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._type = device.type
        self.operations: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        function: Any,  # noqa: ANN401 - an operation
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - its result
        given, name = _tensors((args, kwargs or {})), function.overloadpacket.__name__
        self.operations[name] += 1
        if self._is_here(given) and _is_read(name, given):
            self.reads[name] += 1
        result = function(*args, **(kwargs or {}))
        everywhere = [*_tensors(result), *given]
        if self._is_here(everywhere) and not _is_free(function, name):
            self.launches[name] += 1
        if _is_made_of_numbers(name, self._type) or (
            self._is_here(everywhere) and any(each.device.type != self._type and each.dim() for each in given)
        ):  # a scalar goes along with a launch
            self.copies[name] += 1
        return result

    def _is_here(self, tensors: Iterable[torch.Tensor]) -> bool:
        return any(each.device.type == self._type for each in tensors)


def _tensors(values: Any) -> list[torch.Tensor]:  # noqa: ANN401 - anything that holds some
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]


def _is_free(function: Any, name: str) -> bool:  # noqa: ANN401 - an operation
    """Whether nothing is computed: a view of what is there, or memory that nobody fills."""
    views = any(each.alias_info is not None and not each.alias_info.is_write for each in function._schema.returns)
    return views or name.startswith(("empty", "new_empty")) or name in FREE


def _is_read(name: str, given: Iterable[torch.Tensor]) -> bool:
    """Whether the CPU has to know the result; the images that a mask chooses have to be counted, too."""
    return name in READS or (name == "index" and any(each.dtype == torch.bool for each in given))


def _is_made_of_numbers(name: str, device_type: str) -> bool:
    """Whether it is a tensor of Python's numbers, where the device is the CPU and all tensors look alike."""
    return name == "lift_fresh" and device_type == "cpu"


def count_step(task: EngineTask[Any], run: Run) -> StepCounter:
    """Those of the third step of a training."""
    state, counter = start_by_lists(task, run), StepCounter(run.device)
    batches = iter(task.batches(0, 0))
    with task.training():
        for step in range(STEPS):
            counter = StepCounter(run.device)
            with as_on_a_gpu(), counter:
                task.begin_step(step)
                train_step(state, task, next(batches), 7, run)
    return counter


def start_by_lists(task: EngineTask[Any], run: Run) -> TrainState:
    """The state before the first step; fused kernels, which torch has for real devices alone, give way to lists."""
    state = start_state(task, run)
    if run.device.type != "cpu":
        for group in state.optimizer.param_groups:
            group |= {"fused": False, "foreach": True}
    return state


class NoStream(GraphStream):
    """Stands in for the stream on which CUDA graphs are captured: a replay launches nothing."""

    def __init__(self) -> None: ...

    def warm_up(self, function: Callable[[], Result]) -> Result:
        return function()

    def capture(self, function: Callable[[], Result], pool: object = None) -> Callable[[], Result]:
        result = function()
        return lambda: result


def count_beside_graph(task: EngineTask[Any], run: Run) -> StepCounter:
    """Those of a step that is replayed: the batch, numbers that change from step to step, copies of the losses."""
    state, counter = start_by_lists(task, run), StepCounter(run.device)
    step = GraphedStep(state, task, run, NoStream())
    batches = itertools.chain.from_iterable(task.batches(epoch, 0) for epoch in itertools.count())
    # learning rates on the device are for fused kernels, and what is captured does not count
    by_numbers = mock.patch.object(GraphedStep, "_rates_on_device", return_value=nullcontext())
    with mock.patch.object(graphs, "WORTH", 0), by_numbers, as_on_a_gpu(), task.training():
        for number in range(WARM_UP + 3):
            counter = StepCounter(run.device)
            with counter:
                task.begin_step(number)
                step(next(batches), 7)
    assert step.captures == 1
    return counter


def count_evaluation(network: Forward, data: ImageData, run: Run, forward: Forward | None = None) -> int:
    """Launches of the third batch of an evaluation."""
    counter, launches = StepCounter(run.device), list[int]()

    def note(seen: int) -> None:
        launches.append(counter.launches.total())
        if len(launches) == STEPS:
            raise Interrupted("enough batches were counted")

    split, normalizer = data.val.to(run.device), Normalizer(data.mean, data.std)
    with as_on_a_gpu(), suppress(Interrupted), counter:
        evaluate(network, split, normalizer, run, forward=forward, batch_size=BATCH_SIZE, on_batch=note)
    return launches[-1] - launches[-2]


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Clip gradients together, as torch does on a GPU, and take no ways that are for CPUs alone."""
    clipping, convolutions = "torch.nn.utils.clip_grad", "nascli.models.convolutions"
    with (
        mock.patch(f"{clipping}._has_foreach_support", return_value=True),
        mock.patch(f"{convolutions}._FEW_PIXELS", 0),
        mock.patch(f"{convolutions}._ONEDNN", new=False),
    ):
        yield


def make_data(side: int) -> ImageData:
    """Black images."""
    split = ImageArray(torch.zeros(IMAGES, 3, side, side, dtype=torch.uint8), torch.arange(IMAGES) % CLASSES)
    return ImageData("made", split, split, tuple(map(str, range(CLASSES))), (0.5,) * 3, (0.25,) * 3)


def count_classifier(config: TrainConfig, augmentation: DataConfig, network: NetworkConfig, cell: str) -> Figures:
    """Counts of a step as a recipe has it, in float32 and in one part, and of one that is replayed."""
    smaller = {"batch_size": BATCH_SIZE, "grad_accum_steps": 1, "precision": "float32", "compile": False}
    config = config.model_copy(update=smaller)
    spec = resolve_network(zoo_genotype(cell), network, classes=CLASSES, aux_head=config.aux_weight > 0)
    with META:
        built = build(spec)
    run, data = Run(META), make_data(spec.image_size)
    task = ClassifyTask(built, data, config, augmentation, 1, run)
    beside = count_beside_graph(task, run)
    assert not beside.reads
    return {
        **figures(count_step(task, run)),
        "launches_beside_graph": beside.launches.total(),
        "evaluation": count_evaluation(built, data, run),
        "evaluation_beside_graph": count_evaluation(built, data, run, replay_forward(built, NoStream(), run)),
    }


def train_recipe(task: Task) -> Figures:
    recipe = load_recipe(TrainRecipe, find_recipe("train", task["recipe"]), {})
    return count_classifier(recipe.train, recipe.data, recipe.network, task["cell"])


def search_child(task: Task) -> Figures:
    recipe = load_recipe(SearchRecipe, find_recipe("search", task["recipe"]), {})
    return count_classifier(recipe.train, recipe.data, recipe.network, task["cell"])


def detector(task: Task) -> Figures:
    """A step on two images of noise with three boxes each; few proposals and small images, of the recipe else."""
    import numpy as np

    from nascli.config import CellNetworkConfig
    from nascli.data.detection.dataset import AnnotatedImage, DetectionSplit, training_target
    from nascli.detect.model import build_detector
    from nascli.detect.sampler import BatchSampler
    from nascli.detect.task import DetectBatch, DetectTask
    from nascli.engine.task import TrainPlan

    recipe = load_recipe(DetectRecipe, find_recipe("detect", task["recipe"]), {})
    small = {"min_size": 128, "max_size": 128, "rpn_post_nms_top_n": 50, "box_batch_size_per_image": 16}
    config = recipe.train.model_copy(update={"batch_size": 2, "grad_accum_steps": 1, "precision": "bfloat16"})
    network = build(resolve_network(zoo_genotype(task["cell"]), CellNetworkConfig(preset="imagenet-mobile")))
    torch.manual_seed(0)
    detector = build_detector(network, recipe.detector.model_copy(update=small), CLASSES)
    boxes, three = np.array([[8.0, 8, 40, 48], [60, 20, 30, 30], [30, 60, 50, 60]]), np.ones(3)
    entries = [
        AnnotatedImage(k, Path("noise"), 128, 128, boxes, three.astype(np.int64), boxes[:, 2:].prod(1), three < 0)
        for k in range(2)
    ]
    images = list(torch.randint(256, (2, 3, 128, 128), dtype=torch.uint8))
    split, run = DetectionSplit("none", Path(), (), ()), Run(CPU)
    engine_task = DetectTask(detector.train(), split, split, BatchSampler(TrainPlan(config, IMAGES), config, 0), run)
    batch = DetectBatch(entries, images, [training_target(entry) for entry in entries])
    with mock.patch.object(DetectTask, "batches", return_value=[batch] * STEPS):
        counter = count_step(engine_task, run)
    counter.copies["images and boxes"] += 1  # from page-locked memory
    return figures(counter)


def figures(counter: StepCounter) -> Figures:
    counts = {"launches": counter.launches, "copies": counter.copies, "reads": counter.reads}
    totals = {name: counted.total() for name, counted in counts.items()}
    return {**totals, "by_name": {name: dict(counted.most_common()) for name, counted in counts.items()}}


MEASURES: Measures = {
    "train": train_recipe,
    "search": search_child,
    "detect": detector,
}
VARIANTS: dict[str, Task] = {
    "cifar10-fast": {"measure": "train", "recipe": "cifar10-fast"},
    "imagenet-mobile": {"measure": "train", "recipe": "imagenet-mobile"},
    "a child of cifar10-gpu": {"measure": "search", "recipe": "cifar10-gpu"},
    "a detector of coco": {"measure": "detect", "recipe": "coco"},
}


COLUMNS = {
    "launches": "launches",
    "copies": "copies to the device",
    "reads": "readings",
    "launches_beside_graph": "launches beside a CUDA graph",
    "evaluation": "of an evaluation's batch",
    "evaluation_beside_graph": "beside a CUDA graph",
}


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("--cell", default="nasnet-a")
    parser.add_argument("--only", action="append", choices=VARIANTS, help="count this; repeat for more")
    asked = parser.parse_args()
    columns = [Column(name, heading, ",.0f") for name, heading in COLUMNS.items()]
    variants = {name: VARIANTS[name] for name in asked.only or VARIANTS}
    compare(__file__, asked, "A training step", variants, columns, here=MEASURES)


if __name__ == "__main__":
    main()
