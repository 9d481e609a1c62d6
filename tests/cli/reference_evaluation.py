"""Expected results of evaluation, computed by hand; networks edited and images written for its tests."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import nascli as package
from tests.cli.program import SETTINGS, Nascli
from tests.records import edit_record


def train_tiny(nascli: Nascli) -> dict[str, object]:
    """The results of a run in `run/`, on `images/`."""
    ran = nascli(f"train --cell cell.json --dataset folder:images {SETTINGS} --out run --json")
    assert ran.code == 0, ran.err
    return dict(ran.json)


def edit_network(folder: str, **changes: object) -> None:
    """Set fields of network.json; None removes one."""
    edit_record(Path(folder, "network.json"), **changes)


def write_large_images(folder: Path, names: tuple[str, ...] = ("cat", "cow", "dog")) -> list[tuple[Path, int]]:
    """Files too large and too different to be held in memory: one per class to train on, two to test on."""
    noise, tested = np.random.default_rng(0), []
    for label, name in enumerate(names):
        for part, sizes in (("train", [(120, 100)]), ("val", [(130, 100), (100, 140)])):
            (folder / part / name).mkdir(parents=True)
            for k, (width, height) in enumerate(sizes):
                path = folder / part / name / f"{k}.png"
                pixels = noise.integers(0, 120, (height, width, 3)) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(path)
                if part == "val":
                    tested.append((path, label))
    return tested


def loss_by_hand(folder: str, files: list[tuple[Path, int]], length: float, method: Image.Resampling) -> float:
    """Resize the shorter side to `length`, cut 8 pixels out of the middle, normalize, classify."""
    images = []
    for path, _ in files:
        image = Image.open(path)
        factor = length / min(image.size)
        width, height = (int(side * factor) for side in image.size)
        left, top = round((width - 8) / 2), round((height - 8) / 2)
        cut = image.resize((width, height), method).crop((left, top, left + 8, top + 8))
        images.append(torch.from_numpy(np.array(cut)).permute(2, 0, 1) / 255)
    spec = json.loads(Path(folder, "network.json").read_text())
    mean, std = (torch.tensor(spec[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        logits = package.load_network(folder)((torch.stack(images) - mean) / std)
    return float(F.cross_entropy(logits, torch.tensor([label for _, label in files])))


def answers(folder: str, images: torch.Tensor) -> torch.Tensor:
    """The probabilities that a network gives bytes (N, 3, H, W)."""
    spec = json.loads(Path(folder, "network.json").read_text())
    mean, std = (torch.tensor(spec[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        logits: torch.Tensor = package.load_network(folder)((images / 255 - mean) / std)
    return logits.softmax(dim=1)


def known_images() -> tuple[torch.Tensor, torch.Tensor]:
    """The test images of `images/` and their labels."""
    files = [(path, label) for label, name in enumerate(("cat", "cow", "dog")) for path in folder_files(name)]
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path, _ in files])
    return images, torch.tensor([label for _, label in files])


def folder_files(name: str) -> list[Path]:
    return sorted(Path("images/val", name).iterdir())
