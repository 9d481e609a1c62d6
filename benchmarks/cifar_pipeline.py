"""Small images into training: whole-batch augmentation, beside torchvision's image by image; and its share of a step.

    python benchmarks/cifar_pipeline.py --rounds 5 --json cifar_pipeline.json

The images are random bytes in the shape of CIFAR-10's training split, 50,000 of 32x32: no operation here depends on
what is on them. Every variant ends with batches of float32 (N, 3, 32, 32), cropped from 4 zeros on each side, mirrored
with probability one half, normalized, a square of 16x16 set to 0:

    nascli                  `training_batches` and `augment_batch` on bytes in memory, as a training step gets them
    torchvision             PIL images as its CIFAR10 gives them, RandomCrop, flip, ToTensor, Normalize, RandomErasing,
                            in DataLoader workers

torchvision erases inside the image, nascli clips at the border (DeVries and Taylor), so that 0.75 and 0.81 of the
pixels stay; apart from that means and deviations are compared before ratios are made.

The share of a step is measured in a process of its own: the seconds of augmentation, and those of the whole step of
NASNet-A, N = 2, F = 32, batch 64, in turn. Each measurement is a fresh process with one thread of computation, but for
the step, which has `--threads`.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from common import Column, Figures, Task, arguments, compare, refuse_other_pixels, serve, time_batches
from engine_step import training_step

NASCLI, PEER, STEP = "nascli", "torchvision", "step"
SIDE, CLASSES, PADDING, CUTOUT = 32, 10, 4, 16
MIDDLE, DEVIATION = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
KEPT = {NASCLI: 1 - ((CUTOUT * SIDE - CUTOUT**2 / 4) / SIDE**2) ** 2, PEER: 1 - (CUTOUT / SIDE) ** 2}
"""The share of the pixels outside the square, on average over its places."""
MAX_DISTANCE = 0.05
"""Largest distance of the variants' means and deviations of normalized pixels that were not cut out."""


def nascli(task: Task) -> Figures:
    """Batches as a training step gets them."""
    import torch

    torch.set_num_threads(1)
    return time_batches(batches(task), task["warm"], task["warm"], task["seconds"])


def batches(task: Task) -> Iterator[Any]:
    """Epoch after epoch of augmented batches."""
    import torch

    from nascli.config import DataConfig
    from nascli.data.changes import BatchRng
    from nascli.data.in_memory import ImageArray
    from nascli.data.transforms import Normalizer, augment_batch
    from nascli.engine.device import disable_malloc_trim

    disable_malloc_trim()  # as every training on a CPU
    augmentation, normalizer = DataConfig(crop_padding=PADDING, flip=True, cutout=CUTOUT), Normalizer(MIDDLE, DEVIATION)
    images = torch.from_numpy(pixels(task)).permute(0, 3, 1, 2)
    split = ImageArray(images, torch.arange(task["images"]) % CLASSES)
    generator = torch.Generator().manual_seed(0)
    while True:
        order = torch.randperm(task["images"], generator=generator)
        for bytes_, _ in split.training_batches(order, task["batch_size"], 0):
            yield augment_batch(bytes_, augmentation, normalizer, BatchRng(generator))


def torchvision(task: Task) -> Figures:
    """The pipeline of most scripts."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    vary = [transforms.RandomCrop(SIDE, PADDING), transforms.RandomHorizontalFlip()]
    last = [transforms.ToTensor(), transforms.Normalize(MIDDLE, DEVIATION)]
    part = (CUTOUT / SIDE) ** 2
    cut = transforms.RandomErasing(p=1, scale=(part, part), ratio=(1, 1), value=0)
    change = transforms.Compose([*vary, *last, cut])
    kept = pixels(task)

    class Cifar(Dataset[Any]):
        def __len__(self) -> int:
            return len(kept)

        def __getitem__(self, place: int) -> tuple[Any, int]:
            return change(Image.fromarray(kept[place])), place % CLASSES

    torch.manual_seed(0)
    loader: DataLoader[Any] = DataLoader(
        Cifar(), task["batch_size"], shuffle=True, num_workers=task["workers"], drop_last=True, persistent_workers=True
    )
    epochs = itertools.chain.from_iterable(itertools.repeat(loader))
    return time_batches((images for images, _ in epochs), task["warm"], task["warm"], task["seconds"])


def pixels(task: Task) -> Any:  # noqa: ANN401
    """As `torchvision.datasets.CIFAR10` holds them."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (task["images"], SIDE, SIDE, 3), dtype=np.uint8)


def step(task: Task) -> Figures:
    """Seconds of the augmentation of a batch, and of the whole training step with it."""
    import torch

    from nascli.config import TrainConfig
    from nascli.models.families import build_network

    torch.set_num_threads(task["threads"])
    config = TrainConfig(batch_size=task["batch_size"])
    network = build_network("nasnet-a", "cifar10", filters=task["filters"], cells_per_stage=task["cells"])
    coming = batches(task)
    labels = torch.arange(task["batch_size"]) % CLASSES
    parts: list[float] = []
    wholes: list[float] = []
    with training_step(network.train(), config) as make_step:
        for _ in range(task["steps"] + 1):
            began = time.perf_counter()
            images = next(coming)
            augmented = time.perf_counter()
            make_step(images, labels)
            wholes.append(time.perf_counter() - began)
            parts.append(augmented - began)
    part, whole = (statistics.median(each[1:]) for each in (parts, wholes))  # the first one warms up
    return {"augmentation_ms": 1000 * part, "step_ms": 1000 * whole, "share": part / whole}


MEASURES: dict[str, Callable[[Task], Figures]] = {NASCLI: nascli, PEER: torchvision, STEP: step}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=50_000, help="of the made-up data set")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="processes of torchvision's variant")
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement of a pipeline")
    parser.add_argument("--warm", type=int, default=40, help="batches before the clock starts; their pixels count")
    parser.add_argument("--steps", type=int, default=10, help="timed training steps")
    parser.add_argument("--threads", type=int, default=2, help="of the training step")
    parser.add_argument("--filters", type=int, default=32, help="F of the step's network")
    parser.add_argument("--cells", type=int, default=2, help="N of the step's network")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="this variant; repeat for more")
    asked = parser.parse_args()
    columns = [
        Column("images_per_second", "images per second", ".0f"),
        Column("nascli_times_as_fast", "nascli, times as fast", figure="images_per_second", over=NASCLI),
        Column("augmentation_ms", "augmentation of a batch, ms"),
        Column("step_ms", "training step, ms"),
        Column("share", "share of the step", ".2%"),
    ]
    variants: dict[str, Task] = {name: {} for name in asked.only or MEASURES}
    compare(
        __file__, asked, "Small images into training", variants, columns, check=refuse_other_pixels(MAX_DISTANCE, KEPT)
    )


if __name__ == "__main__" and not serve(MEASURES):
    main()
