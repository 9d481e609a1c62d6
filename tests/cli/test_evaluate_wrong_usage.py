"""Wrong uses of `nascli evaluate`: one line that says what to do, and nothing else."""

import shutil
from pathlib import Path

import pytest

from nascli.config import SearchRecipe
from nascli.runs.start import create_run
from tests.cli.program import Nascli, write_images
from tests.cli.reference_evaluation import edit_network, write_large_images
from tests.records import edit_record


def spoil() -> None:
    """The files that wrong usages name."""
    write_images(Path("others"), names=("cat", "cow", "pig"))
    for name in ("unfinished", "torn", "mixed", "gap"):
        shutil.copytree("run", name)
    Path("unfinished/weights.safetensors").unlink()
    weights = Path("torn/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    edit_record(Path("mixed/network.json"), filters=6)
    Path("gap/network.json").write_text("{")
    shutil.copytree("run", "odd")
    edit_network("odd", preprocessing={"crop": 2})
    Path("empty").mkdir()
    shutil.copy("run/network.json", "empty")
    Path("file").touch()
    shutil.copytree("run", "bare")
    for name in ("run.json", "recipe.toml"):
        Path("bare", name).unlink()
    write_large_images(Path("photos"))
    shutil.copytree("run", "uncropped")
    edit_network("uncropped", preprocessing={"crop": 1})
    torn = Path("photos/val/dog/0.png")
    torn.write_bytes(torn.read_bytes()[:300])
    with create_run("search", "x", SearchRecipe(), runs=Path("runs"), out=Path("searched")):
        pass


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("line", "code", "phrase"),
    [
        ("", 2, "RUN"),
        ("gone", 2, "gone: no such folder. nascli train makes one"),
        ("latest", 2, "nascli train makes one"),
        ("searched", 2, "a run of nascli search, not of nascli train"),
        ("unfinished", 2, "there are no weights yet, the training has not ended. nascli train --resume unfinished"),
        ("torn", 1, "torn/weights.safetensors are damaged"),
        ("mixed", 2, "mixed/weights.safetensors: entry"),
        ("gap", 1, "gap/network.json is not JSON"),
        ("odd", 2, "odd/network.json: preprocessing.crop = 2: input should be less than or equal to 1"),
        (
            "empty --dataset digits",
            2,
            "there is no weights.safetensors in it. It is a network that nascli build wrote, without weights. Give a",
        ),
        ("run --dataset digits", 2, "run was trained for 3 classes, and data set digits has others: '0', '1'"),
        ("run --dataset folder:others", 2, "data set folder:others has others: 'pig'"),
        ("run --dataset folder:gone", 2, "gone: no such folder"),
        ("run --dataset cifra10", 2, "Did you mean cifar10?"),
        ("run --device gpu", 2, "no such device"),
        ("run --batch-size 0", 2, "--batch-size"),
        ("run --out file/deeper", 1, "file/deeper/evaluation.json cannot be written"),
        ("run bare --out both", 2, "--out is for one RUN, here are 2"),
        ("run --crops 4", 2, "--crops 4: possible are 1, 5, 10"),
        ("bare --dataset folder:images --crops 5", 2, "the training put no zeros around them (data.crop_padding)"),
        ("uncropped --crops 10 --predict photos/val/cat", 2, "the network takes the whole image"),
        ("run --crops 5 --predict photos/val/cat", 2, "the network takes the whole image (network.json: preprocessing"),
        ("run --predict photos/val/cat --predict photos/val/dog", 1, "photos/val/dog/0.png"),
        ("run --predict gone.png", 2, "image gone.png: no such file or folder"),
        ("run --predict searched", 2, "searched: there is no image in this folder"),
        ("run --predict photos/val/cat cow.png", 2, "--predict is for one RUN, here are 2: run, cow.png"),
        ("run --predict photos/val/cat --dataset digits --out x", 2, "--predict excludes --dataset, --out"),
        ("run --max-unreadable -1", 2, "--max-unreadable"),
        ("run --dataset folder:photos", 1, "photos/val/dog/0.png cannot be decoded"),
        ("run --dataset folder:photos", 1, "Replace or remove the file, or allow for more: --max-unreadable N"),
    ],
)
def test_wrong_usage_is_one_line(nascli: Nascli, line: str, code: int, phrase: str) -> None:
    spoil()
    ran = nascli(f"evaluate {line}")
    assert ran.code == code, ran.err
    assert phrase in " ".join(ran.err.split())
    assert ran.out == ""
    assert "Traceback" not in ran.err
