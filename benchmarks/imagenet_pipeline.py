"""Images per second into training: nascli's pipeline on a folder and on a pack, beside torchvision's.

    python benchmarks/imagenet_pipeline.py --data imagenet_mini --workers 2 --rounds 5 --json pipeline.json

FOLDER holds train/<class>/*; its images are gone through again and again until there are enough. Every variant ends
with batches of float32 (N, 3, S, S), cropped at random (5 % to 100 % of the area, aspect ratio 3/4 to 4/3), mirrored
with probability one half, and normalized:

    nascli, folder             batches from `training_batches`, flipped and normalized as a training step does it
    nascli, pack               the same from a pack of `--size` pixels, made before anything is timed
    torchvision, PIL           ImageFolder with RandomResizedCrop, flip, ToTensor, normalize
    torchvision, decode_image  decode_image with the same transforms of v2, on tensors

All have as many DataLoader workers and the same batches. Each measurement is a fresh process with one thread of
computation; it counts from the batch on by which every worker has delivered. Before ratios are made the pixels' means
and deviations are compared: they differ by the random numbers alone, and by what the pack's smaller size takes away.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from common import (
    Column,
    Figures,
    Task,
    arguments,
    compare,
    progress,
    refuse_other_pixels,
    serve,
    time_batches,
)

FOLDER, PACK = "nascli, folder", "nascli, pack"
PIL_PEER, TENSOR_PEER = "torchvision, PIL", "torchvision, decode_image"
AREA = (0.05, 1.0)
MIDDLE = (0.5, 0.5, 0.5)
MAX_DISTANCE = 0.2
"""Largest distance of the variants' means and deviations of normalized pixels."""


def nascli(task: Task) -> Figures:
    """Batches as a training step gets them."""
    import torch

    from nascli.config import DataConfig
    from nascli.data.changes import BatchRng
    from nascli.data.dataset import UnreadableImages
    from nascli.data.folders.folder import scan_folder
    from nascli.data.folders.index import ImageIndex
    from nascli.data.folders.opening import stream_splits
    from nascli.data.images.decoding import ImageSource
    from nascli.data.pack.format import open_pack
    from nascli.data.transforms import Normalizer, augment_batch
    from nascli.engine.device import disable_malloc_trim

    disable_malloc_trim()  # as every training on a CPU
    index: ImageIndex[ImageSource] = scan_folder(Path(task["folder"]))
    if task["variant"] == PACK:
        index = open_pack(Path(task["pack"])).index()
    train, _ = stream_splits(index, task["crop"], task["workers"], UnreadableImages())
    images = torch.arange(task["images"]) % len(train)
    order = images[torch.randperm(task["images"], generator=torch.Generator().manual_seed(0))]
    normalizer, flip = Normalizer(MIDDLE, MIDDLE), DataConfig(flip=True)
    batch_rng = BatchRng(torch.Generator().manual_seed(0))
    return time_stream(
        (
            augment_batch(batch, flip, normalizer, batch_rng)
            for batch, _ in train.training_batches(order, task["batch_size"], 0)
        ),
        task,
    )


def torchvision_pil(task: Task) -> Figures:
    """The pipeline of most scripts."""
    from torchvision import datasets, transforms

    vary = [transforms.RandomResizedCrop(task["crop"], AREA), transforms.RandomHorizontalFlip()]
    last = [transforms.ToTensor(), transforms.Normalize(MIDDLE, MIDDLE)]
    source = datasets.ImageFolder(f"{task['folder']}/train", transforms.Compose([*vary, *last]))
    return time_stream(load_batches(source, task), task)


def torchvision_tensors(task: Task) -> Figures:
    """Its own decoder, and transforms of tensors."""
    import torch
    from torchvision import datasets
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    vary = [v2.RandomResizedCrop(task["crop"], AREA, antialias=True), v2.RandomHorizontalFlip()]
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MIDDLE, MIDDLE)]

    def load(path: str) -> Any:  # noqa: ANN401
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return decode_image(path, ImageReadMode.RGB)

    source = datasets.ImageFolder(f"{task['folder']}/train", v2.Compose([*vary, *last]), loader=load)
    return time_stream(load_batches(source, task), task)


def load_batches(source: Any, task: Task) -> Iterable[Any]:  # noqa: ANN401
    """Batches of the source, gone through as often as it takes."""
    import torch
    from torch.utils.data import DataLoader, Subset

    torch.manual_seed(0)
    repeated = Subset(source, (torch.arange(task["images"]) % len(source)).tolist())
    loader: DataLoader[Any] = DataLoader(repeated, task["batch_size"], shuffle=True, num_workers=task["workers"])
    return (images for images, _ in loader)


def time_stream(batches: Iterable[Any], task: Task) -> Figures:
    """Images per second from the batch on by which every worker has delivered."""
    import torch

    torch.set_num_threads(1)
    return time_batches(batches, max(1, task["workers"]), max(1, task["compared"] // task["batch_size"]))


MEASURES: dict[str, Callable[[Task], Figures]] = {
    FOLDER: nascli,
    PACK: nascli,
    PIL_PEER: torchvision_pil,
    TENSOR_PEER: torchvision_tensors,
}


def prepare(source: Path, scratch: Path, size: int) -> tuple[Path, Path]:
    """The training images as a folder that has them to test on too, and a pack of it."""
    from nascli.data.pack.build import PackSettings, pack_folder

    folder, pack = scratch / "folder", scratch / "images.h5"
    folder.mkdir()
    for split in ("train", "val"):
        (folder / split).symlink_to((source / "train").resolve(), target_is_directory=True)
    made = pack_folder(folder, pack, PackSettings(size=size))
    progress(f"packed {made.train_images} images in {made.bytes / 2 / 1e6:.1f} MB")
    return folder, pack


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="holds train/<class>/*")
    parser.add_argument("--images", type=int, default=4096, help="per measurement, repeated ones included")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    parser.add_argument("--crop", type=int, default=224, help="S: side in pixels of the images in a batch")
    parser.add_argument("--size", type=int, default=256, help="pixels of the shorter side in the pack")
    parser.add_argument("--compared", type=int, default=512, help="images whose pixels are compared")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="this variant; repeat for more")
    asked = parser.parse_args()
    columns = [
        Column("images_per_second", "images per second", ".1f"),
        Column("folder_times_as_fast", f"{FOLDER}, times as fast", figure="images_per_second", over=FOLDER),
        Column("pack_times_as_fast", f"{PACK}, times as fast", figure="images_per_second", over=PACK),
    ]
    with tempfile.TemporaryDirectory(prefix="nascli-benchmark-") as scratch:
        folder, pack = prepare(asked.data, Path(scratch), asked.size)
        paths = {"folder": str(folder), "pack": str(pack)}
        variants = {name: {**paths} for name in asked.only or MEASURES}
        compare(__file__, asked, "Images into training", variants, columns, check=refuse_other_pixels(MAX_DISTANCE))


if __name__ == "__main__" and not serve(MEASURES):
    main()
