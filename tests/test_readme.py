"""Every command of the README runs as it stands there, in that order; only the amounts are made small."""

import pickle
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nascli
from nascli.cli.app import main
from tests.detect.coco_folder import write_coco

ROOT = Path(nascli.__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

SMALL = {
    "search": "--trials 2 --epochs 1 --filters 4 --cells-per-stage 1 --workers 2",
    "train": "--epochs 1 --filters 4 --cells-per-stage 1 --batch-size 8",
    "detect": "--epochs 1 --batch-size 4 --set data.max_train_images=4 "
    "--set data.max_val_images=2 --set train.warmup_steps=0",
}
"""Options that make a command take a moment."""

SMALLER = {"imagenet": "--image-size 64", "--coco": "--set detector.min_size=64 --set detector.max_size=64"}
"""Further options where the command has this word."""


def blocks() -> list[list[str]]:
    """The `nascli` lines of each shell block."""
    found = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [
        [line.partition(" #")[0].strip() for line in block.splitlines() if line.startswith("nascli ")]
        for block in found
    ]
    return [each for each in lines if each]


def run_small(line: str) -> None:
    words = shlex.split(line)[1:]
    extra = [SMALL.get(words[0], "")] + [text for name, text in SMALLER.items() if name in words]
    with pytest.raises(SystemExit) as end:
        main([*words, *shlex.split(" ".join(extra))])
    assert end.value.code in (0, None), f"{line}: exit code {end.value.code}"


def write_cifar10(folder: Path) -> None:
    """Files in CIFAR-10's own format, ten images each."""
    folder.mkdir(parents=True)
    for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
        pixels = np.random.default_rng(0).integers(0, 256, (10, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {n}" for n in range(10)]}))


def write_imagenet(folder: Path) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (folder / split / name).mkdir(parents=True)
            for number in range(8):
                size = (80 + 7 * number, 90)
                pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.JPEG")


def test_the_pipeline_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASCLI_RUNS")
    lines = blocks()[0]
    assert [line.split()[1] for line in lines] == ["search", "decode", "build", "train", "evaluate", "detect"]
    for line in lines:
        run_small(line)
    assert Path("cell.svg").is_file()
    assert Path("runs/detect/latest/detection.json").is_file()


def test_the_block_on_the_usual_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASCLI_RUNS")
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: Path(path).is_file())
    write_cifar10(Path("data/cifar-10-batches-py"))
    write_imagenet(Path("data/imagenet"))
    write_coco(Path("data/coco"), train=4, val=2)
    lines = blocks()[1]
    assert lines == [
        "nascli search --dataset cifar10",
        "nascli train --cell best.json --dataset imagenet",
        "nascli detect --coco",
    ]
    for line in lines:
        run_small(line)
    assert Path("runs/detect/latest/results.json").is_file()


def test_the_python_block(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec("\n".join(line for line in code.splitlines() if "runs/train/latest" not in line), names)
    parameters = sum(p.numel() for p in names["network"].parameters())  # type: ignore[attr-defined]
    assert f"{parameters:,} parameters" in code


def test_the_file_tree_has_one_line_per_package_and_nothing_else() -> None:
    """Packages by their indentation, and the modules at the top of the package."""
    tree = README.split("## Where things are")[1].split("```")[1]
    lines = tree[tree.index("nascli/") : tree.index("recipes/")].splitlines()[1:]
    named: list[Path] = []
    for line in lines:
        depth = (len(line) - len(line.lstrip())) // 2
        modules = re.findall(r"\w+\.py", line)
        if modules:
            named += [Path(name) for name in modules]
        else:
            folder = line.split()[0].rstrip("/")
            parents = [each for each in named if each.suffix == "" and len(each.parts) == depth - 1]
            named.append((parents[-1] if depth > 1 else Path()) / folder)
    package = ROOT / "nascli"
    packages = {path.parent.relative_to(package) for path in package.rglob("__init__.py")} - {Path()}
    at_the_top = {Path(path.name) for path in package.glob("*.py") if not path.stem.startswith("__")}
    assert sorted(named) == sorted(packages | at_the_top)


def test_every_path_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)
