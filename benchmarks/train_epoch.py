"""Images a second of a whole training: `nascli train` beside the loop of torchvision's reference scripts.

    python benchmarks/train_epoch.py --rounds 5 --json train_epoch.json

Both train the same network, nascli's own NASNet-A (N = 2, F = 16), on the same folder of small images: only the loop
and the way of the data differ. Each is a process of its own that starts, trains for some epochs with crops, mirroring,
cross-entropy and SGD with momentum, measures the test images and writes a checkpoint after each epoch. The peer reads
with ImageFolder, torchvision's transforms and a DataLoader with 0 or 2 workers, in the default layout, and with 2 and
channels last in memory; nascli decodes a folder of small images once.

Two rates: of the epochs after the first, their test included; and of the process from its start to its end. Without
--data the images are noise of another brightness in each class, as JPEG.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import (
    Figures,
    Task,
    arguments,
    console,
    fresh,
    grid,
    in_turn,
    progress,
    ratios,
    serve,
    spread,
    three,
    write,
)

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader

NASCLI, PLAIN, WORKERS, LAST = (
    "nascli",
    "torchvision",
    "torchvision, 2 workers",
    "torchvision, 2 workers, channels last",
)
CLASSES, PADDING = 10, 4
SGD: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
RATES = ("epoch_images_per_second", "process_images_per_second")


def nascli_train(task: Task) -> Figures:
    """`nascli train`, from the command line."""
    folder = Path(task["scratch"]) / "run"
    flags: dict[str, object] = {
        "cell": task["cell"],
        "dataset": f"folder:{task['data']}",
        "preset": "cifar10",
        "out": folder,
        "device": "cpu",
    }
    flags |= {name: task[name] for name in ("filters", "cells_per_stage", "epochs", "batch_size")}
    settings: dict[str, object] = {f"train.{name}": value for name, value in SGD.items()}
    settings |= {"train.clip_grad_norm": 0, "train.threads": task["threads"]}
    settings |= {"data.crop_padding": PADDING, "data.flip": "true", "network.image_size": task["size"]}
    command = [sys.executable, "-m", "nascli", "train"]
    command += [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"nascli train failed ({done.returncode}):\n{done.stderr[-4000:]}")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {
        "epoch_seconds": [record["seconds"] for record in records],
        "train_loss": [record["train_loss"] for record in records],
        "top1": records[-1]["top1"],
        "params": json.loads((folder / "run.json").read_text())["results"]["params"],
    }


def reference(task: Task) -> Figures:
    """The loop of torchvision's reference scripts, as far as these settings use it."""
    import torch
    import torch.nn.functional as F

    from nascli.models.families import build_network

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    numbers = {"filters": task["filters"], "cells_per_stage": task["cells_per_stage"], "image_size": task["size"]}
    network = build_network(task["cell"], "cifar10", classes=CLASSES, **numbers)
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
        for images, labels in train:
            if task["variant"] == LAST:
                images = images.to(memory_format=torch.channels_last)
            logits = network(images)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            right += int((logits.argmax(1) == labels).sum())  # what the scripts print after each step
            total += loss.item() * len(labels)
            seen += len(labels)
        schedule.step()
        figures["top1"] = accuracy(network, test)
        figures["epoch_seconds"].append(time.perf_counter() - since)
        figures["train_loss"].append(total / seen)
        state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        torch.save(state, Path(task["scratch"]) / "checkpoint.pth")
    return figures


def accuracy(network: "nn.Module", test: "DataLoader[Any]") -> float:
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
        datasets.ImageFolder(str(Path(task["data"], split)), transforms.Compose(how))
        for split, how in (("train", [*vary, *last]), ("test", last))
    ]
    workers = 0 if task["variant"] == PLAIN else 2
    train: DataLoader[Any] = DataLoader(
        splits[0], task["batch_size"], shuffle=True, num_workers=workers, drop_last=True
    )  # fmt: skip
    test: DataLoader[Any] = DataLoader(splits[1], task["batch_size"], num_workers=workers)
    return train, test


MEASURES: dict[str, Callable[[Task], Figures]] = dict.fromkeys((PLAIN, WORKERS, LAST), reference)


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


def options() -> argparse.ArgumentParser:
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
    parser.add_argument("--only", action="append", choices=[NASCLI, *MEASURES], help="measure this; repeat for more")
    return parser


def main() -> None:
    asked = options().parse_args()
    names = ("size", "epochs", "batch_size", "cell", "filters", "cells_per_stage", "threads")
    with tempfile.TemporaryDirectory(prefix="nascli-epoch-") as folder:
        if asked.data is None:
            make_images(Path(folder), asked.images, asked.images // 5, asked.size)
        data = asked.data or Path(folder)
        images = sum(1 for _ in (data / "train").glob("*/*"))
        shared = {"data": str(data), **{name: vars(asked)[name] for name in names}}
        measurements: list[Figures] = []
        for round_, variant in in_turn(asked.only or [NASCLI, *MEASURES], asked.rounds):
            figures = timed({"measure": variant, "variant": variant, **shared}, images)
            measurements.append({"variant": variant, **figures})
            progress(f"round {round_}, {variant}: {figures['epoch_images_per_second']:.0f} images/s")
    results = summarise(measurements)
    show(results, f"{images} images of {asked.size} pixels, batches of {asked.batch_size}, {asked.epochs} epochs")
    write(asked, {"results": results, "measurements": measurements})


def timed(task: Task, images: int) -> Figures:
    """A process from its start to its end, and its epochs after the first."""
    since = time.perf_counter()
    if task["variant"] == NASCLI:
        with tempfile.TemporaryDirectory(prefix="nascli-epoch-") as scratch:
            figures = nascli_train({**task, "scratch": scratch})
    else:
        figures = fresh(__file__, task)
    seconds = time.perf_counter() - since
    later = figures["epoch_seconds"][1:] or figures["epoch_seconds"]
    return {
        **figures,
        "process_seconds": seconds,
        "epoch_images_per_second": images * len(later) / sum(later),
        "process_images_per_second": images * task["epochs"] / seconds,
    }


def summarise(measurements: list[Figures]) -> dict[str, Figures]:
    """For each loop: both rates and nascli's ratios to them; stops where the networks differ in size."""
    if len({each["params"] for each in measurements}) > 1:
        raise SystemExit("the networks differ in params")
    taken: dict[str, list[Figures]] = {}
    for each in measurements:
        taken.setdefault(each["variant"], []).append(each)
    rates = {name: {rate: [each[rate] for each in own] for rate in RATES} for name, own in taken.items()}
    return {
        name: {
            **{rate: spread(values) for rate, values in own.items()},
            "nascli_times_as_fast": {
                rate: ratios(rates[NASCLI][rate], values) for rate, values in own.items() if NASCLI in rates
            },
            "train_loss": spread([each["train_loss"][-1] for each in taken[name]]),
            "top1": spread([each["top1"] for each in taken[name]]),
        }
        for name, own in rates.items()
    }


def show(results: dict[str, Figures], title: str) -> None:
    headings = ("training", "epochs, images/s", "nascli faster", "process, images/s", "nascli faster", "last loss")
    table = grid(f"{title}: median, least to greatest", *headings)
    for name, each in results.items():
        cells = []
        for rate in RATES:
            ratio = each["nascli_times_as_fast"].get(rate)
            cells += [three(each[rate], ".0f"), three(ratio) if ratio else ""]
        table.add_row(name, *cells, three(each["train_loss"], ".3f"))
    console().print(table)


if __name__ == "__main__" and not serve(MEASURES):
    main()
