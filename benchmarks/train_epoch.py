"""Images per second of a whole training: `nascli train` beside the loop of torchvision's reference scripts.

    python benchmarks/train_epoch.py --rounds 5 --json train_epoch.json

Both train the same network, nascli's own NASNet-A (N = 2, F = 16), on the same folder of small images: only the loop
and the way of the data differ. Each is a process of its own that starts, trains for some epochs with crops, mirroring,
cross-entropy and SGD with momentum, measures the test images and writes a checkpoint after each epoch. The peer reads
with ImageFolder, torchvision's transforms and a DataLoader with 0 or 2 workers, in the default layout, and with 2 and
channels last in memory; nascli decodes a folder of small images once. With --device cuda the peer's batches come from
page-locked memory.

Two rates: of the epochs after the first, their test included; and of the process from its start to its end. Without
--data the images are noise of another brightness in each class, as JPEG.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import Column, Figures, Task, arguments, compare, fresh, refuse_unequal, serve
from on_device import add_device_options, add_precision_option, autocast, measured_here, name_gpu

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import DataLoader

NASCLI, PLAIN, WORKERS, LAST = (
    "nascli",
    "torchvision",
    "torchvision, 2 workers",
    "torchvision, 2 workers, channels last",
)
CLASSES, PADDING = 10, 4
SGD: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}


def nascli_train(task: Task) -> Figures:
    """`nascli train`, from the command line."""
    folder = Path(task["scratch"]) / "run"
    flags: dict[str, object] = {
        "cell": task["cell"],
        "dataset": f"folder:{task['data']}",
        "preset": "cifar10",
        "out": folder,
        "device": task["device"],
    }
    flags |= {name: task[name] for name in ("filters", "cells_per_stage", "epochs", "batch_size")}
    settings: dict[str, object] = {f"train.{name}": value for name, value in SGD.items()}
    settings |= {"train.clip_grad_norm": 0, "train.threads": task["threads"], "train.precision": task["precision"]}
    settings |= {"data.crop_padding": PADDING, "data.flip": "true", "network.image_size": task["size"]}
    command = [sys.executable, "-m", "nascli", "train"]
    command += [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    since = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - since
    if done.returncode:
        raise SystemExit(f"nascli train failed ({done.returncode}):\n{done.stderr[-4000:]}")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {
        "process_seconds": seconds,
        "epoch_seconds": [record["seconds"] for record in records],
        "train_loss": [record["train_loss"] for record in records],
        "top1": records[-1]["top1"],
        "params": json.loads((folder / "run.json").read_text())["results"]["params"],
    }


def reference_train(task: Task) -> Figures:
    """A script with the loop of torchvision's reference scripts, from the command line."""
    since = time.perf_counter()
    return {**fresh(__file__, {**task, "measure": "loop"}), "process_seconds": time.perf_counter() - since}


def rate(measured: Callable[[Task], Figures]) -> Callable[[Task], Figures]:
    """Add the rate of the epochs after the first, and that of the process from its start to its end."""

    def call(task: Task) -> Figures:
        figures = measured(task)
        images = sum(1 for _ in Path(task["data"], "train").glob("*/*"))
        later = figures["epoch_seconds"][1:] or figures["epoch_seconds"]
        return {
            **figures,
            "last_loss": figures["train_loss"][-1],
            "epoch_images_per_second": images * len(later) / sum(later),
            "process_images_per_second": images * task["epochs"] / figures["process_seconds"],
        }

    return call


def reference(task: Task) -> Figures:
    """The loop of torchvision's reference scripts, as far as these settings use it."""
    import torch
    import torch.nn.functional as F

    from nascli.models.families import build_network

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    numbers = {"filters": task["filters"], "cells_per_stage": task["cells_per_stage"], "image_size": task["size"]}
    network = build_network(task["cell"], "cifar10", classes=CLASSES, **numbers)
    network.to(task["device"])
    if task["variant"] == LAST:
        network.to(memory_format=torch.channels_last)
    train, test = loaders(task)
    optimizer = torch.optim.SGD(network.parameters(), **SGD)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task["epochs"])
    figures: Figures = {"epoch_seconds": [], "train_loss": [], "params": sum(p.numel() for p in network.parameters())}
    for _ in range(task["epochs"]):
        since = time.perf_counter()
        network.train()
        total, right, seen = 0.0, 0, 0
        for images, labels in on_device(train, task):
            if task["variant"] == LAST:
                images = images.to(memory_format=torch.channels_last)
            with autocast(task):
                logits = network(images)
                loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            right += int((logits.argmax(1) == labels).sum())  # what the scripts print after each step
            total += loss.item() * len(labels)
            seen += len(labels)
        schedule.step()
        figures["top1"] = accuracy(network, on_device(test, task))
        figures["epoch_seconds"].append(time.perf_counter() - since)
        figures["train_loss"].append(total / seen)
        state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        torch.save(state, Path(task["scratch"]) / "checkpoint.pth")
    return figures


def on_device(loader: "DataLoader[Any]", task: Task) -> "Iterator[tuple[Tensor, Tensor]]":
    """The loader's batches on the device."""
    for images, labels in loader:
        yield images.to(task["device"], non_blocking=True), labels.to(task["device"], non_blocking=True)


def accuracy(network: "nn.Module", test: "Iterable[tuple[Tensor, Tensor]]") -> float:
    """Part of the test images classified right."""
    import torch

    network.eval()
    right = seen = 0
    with torch.inference_mode():
        for images, labels in test:
            right += int((network(images).argmax(1) == labels).sum())
            seen += len(labels)
    return right / seen


def loaders(task: Task) -> "tuple[DataLoader[Any], DataLoader[Any]]":
    """Training batches, varied, and test batches."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    last = [
        transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ]
    vary = [transforms.RandomCrop(task["size"], padding=PADDING), transforms.RandomHorizontalFlip()]
    splits = [
        datasets.ImageFolder(str(Path(task["data"], split)), transforms.Compose(changes))
        for split, changes in (("train", [*vary, *last]), ("test", last))
    ]
    how: dict[str, Any] = {"num_workers": 0 if task["variant"] == PLAIN else 2, "pin_memory": task["device"] == "cuda"}
    train: DataLoader[Any] = DataLoader(splits[0], task["batch_size"], shuffle=True, drop_last=True, **how)
    test: DataLoader[Any] = DataLoader(splits[1], task["batch_size"], **how)
    return train, test


MEASURES: dict[str, Callable[[Task], Figures]] = {
    NASCLI: rate(nascli_train),
    "reference": rate(reference_train),
    "loop": reference,
}


VARIANTS: dict[str, Task] = {NASCLI: {}, **dict.fromkeys((PLAIN, WORKERS, LAST), {"measure": "reference"})}  # noqa: RUF024


def make_images(folder: Path, train: int, test: int, side: int) -> None:
    """Noise, brighter from class to class."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            label = number % CLASSES
            place = folder / split / str(label)
            place.mkdir(parents=True, exist_ok=True)
            pixels = draw.normal(40 + 18 * label, 40, (side, side, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.jpg", quality=90)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, help="folder with train/<class>/*.jpg and test/<class>/, 10 classes")
    parser.add_argument("--images", type=int, default=5000, help="that are made to train on, without --data")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images in pixels")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--cell", default="nasnet-a")
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--cells-per-stage", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", action="append", choices=list(VARIANTS), help="measure this; repeat for more")
    add_device_options(parser)
    add_precision_option(parser)
    asked = parser.parse_args()
    columns = [
        Column("epoch_images_per_second", "epochs, images/s", ".0f"),
        Column("nascli_epoch_times_as_fast", "nascli faster", figure="epoch_images_per_second", over=NASCLI),
        Column("process_images_per_second", "process, images/s", ".0f"),
        Column("nascli_process_times_as_fast", "nascli faster", figure="process_images_per_second", over=NASCLI),
        Column("last_loss", "last loss", ".3f"),
        Column("top1"),
    ]
    with tempfile.TemporaryDirectory(prefix="nascli-epoch-") as folder:
        if asked.data is None:
            make_images(Path(folder), asked.images, asked.images // 5, asked.size)
        data = {"data": str(asked.data or folder)}
        variants = {name: {**VARIANTS[name], **data} for name in asked.only or VARIANTS}
        title = f"Images of {asked.size} pixels, batches of {asked.batch_size}, {asked.epochs} epochs"
        compare(
            __file__,
            asked,
            title,
            variants,
            columns,
            check=refuse_unequal("params"),
            about=lambda _: name_gpu(asked),
            here=measured_here(asked, MEASURES),
        )


if __name__ == "__main__" and not serve(MEASURES):
    main()
