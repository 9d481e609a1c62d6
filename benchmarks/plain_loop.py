"""A child trained by the plain loop that one would write around torchvision and DARTS-like modules.

The peer of `children.py`. Nothing is shared, fused or laid out for speed: every op is a module with its own ReLU,
convolutions and batch norms, tensors are in PyTorch's default layout, images go one by one through PIL transforms.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import count_mult_adds
from on_device import autocast
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms

from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import CellSpec
from nascli.models.layers import init_weights

STEM_MULTIPLIER = 3


def conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel - 1) // 2
    return [
        nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(c_out),
    ]


def separable_bn(c_in: int, c_out: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in, bias=False),
        nn.Conv2d(c_in, c_out, 1, bias=False),
        nn.BatchNorm2d(c_out),
    ]


def factorized_conv(c_in: int, c_out: int, length: int, stride: int) -> nn.Module:
    half = length // 2
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(c_in, c_out, (1, length), (1, stride), (0, half), bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
        nn.Conv2d(c_out, c_out, (length, 1), (stride, 1), (half, 0), bias=False),
        nn.BatchNorm2d(c_out),
    )


def make_op(name: str, c_in: int, c_out: int, stride: int) -> nn.Module:
    """An op of the paper's space."""
    match name.split("_"):
        case ["identity"]:
            return nn.Identity() if stride == 1 and c_in == c_out else relu_conv_bn(c_in, c_out, 1, stride)
        case ["conv", "1x3", _]:
            return factorized_conv(c_in, c_out, 3, stride)
        case ["conv", "1x7", _]:
            return factorized_conv(c_in, c_out, 7, stride)
        case ["conv", size]:
            return relu_conv_bn(c_in, c_out, int(size[0]), stride)
        case ["dil", "conv", size]:
            return nn.Sequential(nn.ReLU(), *conv_bn(c_in, c_out, int(size[0]), stride, dilation=2))
        case ["sep", "conv", size]:
            kernel = int(size[0])
            first, second = separable_bn(c_in, c_out, kernel, stride), separable_bn(c_out, c_out, kernel, 1)
            return nn.Sequential(nn.ReLU(), *first, nn.ReLU(), *second)
        case [kind, "pool", size]:
            return pool(kind, int(size[0]), c_in, c_out, stride)
    raise ValueError(f"the plain loop has no op {name!r}")


def pool(kind: str, kernel: int, c_in: int, c_out: int, stride: int) -> nn.Module:
    layer: nn.Module = nn.MaxPool2d(kernel, stride, kernel // 2)
    if kind == "avg":
        layer = nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
    return layer if c_in == c_out else nn.Sequential(layer, *conv_bn(c_in, c_out, 1))


def relu_conv_bn(c_in: int, c_out: int, kernel: int = 1, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.ReLU(), *conv_bn(c_in, c_out, kernel, stride))


class Halving(nn.Module):
    """ReLU, two 1x1 convolutions with stride 2, one of them shifted by a pixel, joined, batch norm."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.second = nn.Conv2d(c_in, c_out - c_out // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        joined: Tensor = self.norm(torch.cat([self.first(x), self.second(F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:])], 1))
        return joined


class PlainCell(nn.Module):
    """A cell of the paper's space, both inputs of which are read."""

    def __init__(self, cell: CellSpec, older: nn.Module, newer: nn.Module, widths: Sequence[int], stride: int) -> None:
        super().__init__()
        self.cell, self.older, self.newer = cell, older, newer
        filters, every = widths[1], list(widths)
        self.ops = nn.ModuleList()
        for block in cell.blocks:
            for state, op in zip(block.inputs, block.ops, strict=True):
                self.ops.append(make_op(op, every[state], filters, stride if state < 2 else 1))
            every.append(filters * (2 if block.combine == "concat" else 1))
        self.joins = nn.ModuleList(
            nn.Identity() if every[state] == filters else nn.Sequential(*conv_bn(every[state], filters, 1))
            for state in cell.concat
        )
        self.channels = filters * len(cell.concat)

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        states = [self.older(older), self.newer(newer)]
        for k, block in enumerate(self.cell.blocks):
            first = self.ops[2 * k](states[block.inputs[0]])
            second = self.ops[2 * k + 1](states[block.inputs[1]])
            states.append(first + second if block.combine == "add" else torch.cat([first, second], 1))
        return torch.cat([join(states[s]) for join, s in zip(self.joins, self.cell.concat, strict=True)], 1)


class PlainNetwork(nn.Module):
    """Stem, three stages of normal cells with a reduction cell between them, pooling, classifier."""

    def __init__(self, genotype: CellGenotype, filters: int, cells_per_stage: int, classes: int) -> None:
        super().__init__()
        width = STEM_MULTIPLIER * filters
        self.stem = nn.Sequential(*conv_bn(3, width, 3))
        self.cells = nn.ModuleList()
        older = newer = width
        halved = False  # the cell before was a reduction
        normals = [False] * cells_per_stage
        for number, reduces in enumerate([*normals, True, *normals, True, *normals]):
            filters *= 2 if reduces else 1
            spec = genotype.reduction if reduces else genotype.normal
            preprocess: nn.Module = nn.Identity()
            if halved:
                preprocess = Halving(older, filters)
            elif number and older != filters:
                preprocess = relu_conv_bn(older, filters)
            first_width = filters if number else older
            made = PlainCell(spec, preprocess, relu_conv_bn(newer, filters), (first_width, filters), 1 + reduces)
            self.cells.append(made)
            older, newer, halved = newer, made.channels, reduces
        self.classifier = nn.Linear(newer, classes)

    def forward(self, x: Tensor) -> Tensor:
        older = newer = self.stem(x)
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(F.relu(newer), 1).flatten(1))
        return logits


class Decoded(Dataset[tuple[Any, int]]):
    """PIL images in memory."""

    def __init__(self, folder: Path, transform: transforms.Compose) -> None:
        source = datasets.ImageFolder(str(folder))
        self.images: list[tuple[Image.Image, int]] = [source[k] for k in range(len(source))]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = self.images[index]
        return self.transform(image), label


class PlainLoop:
    """Data and settings of a child's training; each `train` is one child."""

    def __init__(self, folder: Path, padding: int, task: Mapping[str, Any]) -> None:
        batch_size, workers, decoding = task["batch_size"], task["workers"], task["decoding"]
        self.device, self.autocast = task["device"], partial(autocast, task)
        mean, std = colors(folder / "train")
        last = [transforms.ToTensor(), transforms.Normalize(mean, std)]
        self.size = datasets.ImageFolder(str(folder / "train"))[0][0].width
        vary = [transforms.RandomCrop(self.size, padding=padding), transforms.RandomHorizontalFlip()]
        source = (lambda path, how: datasets.ImageFolder(str(path), how)) if decoding else Decoded
        trained = source(folder / "train", transforms.Compose([*vary, *last]))
        tested = source(folder / "test", transforms.Compose(last))
        self.train_loader: DataLoader[Any] = DataLoader(
            trained, min(batch_size, len(trained)), shuffle=True, drop_last=True, num_workers=workers
        )
        self.test_loader: DataLoader[Any] = DataLoader(tested, 256, num_workers=workers)

    def train(
        self, network: nn.Module, *, epochs: int, lr: float, momentum: float, weight_decay: float, clip_grad_norm: float
    ) -> dict[str, list[float]]:
        """Losses and accuracy after each epoch."""
        optimizer = torch.optim.SGD(
            [
                {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": weight_decay},
                {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=lr,
            momentum=momentum,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(self.train_loader))
        curves: dict[str, list[float]] = {"train_loss": [], "loss": [], "accuracy": []}
        for _ in range(epochs):
            network.train()
            total, seen = 0.0, 0
            for images, labels in self.on_device(self.train_loader):
                with self.autocast():
                    loss = F.cross_entropy(network(images), labels)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), clip_grad_norm)
                optimizer.step()
                schedule.step()
                total += loss.item() * len(labels)
                seen += len(labels)
            tested = self.test(network)
            for name, value in zip(curves, (total / seen, *tested), strict=True):
                curves[name].append(value)
        return curves

    def on_device(self, loader: "DataLoader[Any]") -> Iterator[tuple[Tensor, Tensor]]:
        """The loader's batches on the device."""
        for images, labels in loader:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    @torch.no_grad()
    def test(self, network: nn.Module) -> tuple[float, float]:
        """Loss and accuracy on the held-out images."""
        network.eval()
        total, right, seen = 0.0, 0, 0
        for images, labels in self.on_device(self.test_loader):
            with self.autocast():
                logits = network(images)
            total += F.cross_entropy(logits, labels, reduction="sum").item()
            right += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
        return total / seen, right / seen


def colors(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each color."""
    pixels = torch.stack([transforms.ToTensor()(image) for image, _ in datasets.ImageFolder(str(folder))])
    return pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3)).tolist()


def measure(
    genotype: CellGenotype, task: Mapping[str, Any], padding: int, optimizer: Mapping[str, float]
) -> dict[str, Any]:
    """One child, after a short one that is not timed."""
    torch.set_num_threads(1)
    folder = Path(task["images"])
    loop = PlainLoop(folder, padding, task)
    classes = len(datasets.ImageFolder(str(folder / "train")).classes)

    def child(epochs: int) -> tuple[PlainNetwork, dict[str, list[float]]]:
        network = PlainNetwork(genotype, task["filters"], task["cells_per_stage"], classes)
        init_weights(network)
        network.to(loop.device)
        return network, loop.train(network, epochs=epochs, **optimizer)

    child(1)
    torch.manual_seed(task["round"])
    since = time.perf_counter()
    network, curves = child(task["epochs"])
    seconds = time.perf_counter() - since
    params = sum(p.numel() for p in network.parameters())
    return {
        "seconds": seconds,
        **curves,
        "params": params,
        "mult_adds": count_mult_adds(network.cpu().eval(), loop.size),
    }
