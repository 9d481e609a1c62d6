"""`nascli push`, and networks that are named `hf:ORG/NAME`: against a hub that answers in this process."""

import io
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
import yaml
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save

import nascli as package
from nascli.genotype.resolve import load_genotype
from nascli.models.families import build_network
from nascli.models.serialization import save_weights
from nascli.models.spec import write_network
from tests.cli.program import Nascli
from tests.hub_server import HubServer, serve_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with serve_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield server


@pytest.mark.usefixtures("trained")
def test_a_run_becomes_a_folder_with_a_card(nascli: Nascli) -> None:
    ran = nascli("push run --to card --license mit --json")
    assert ran.code == 0, ran.err
    assert sorted(ran.json["files"]) == sorted(each.name for each in Path("card").iterdir())
    text = Path("card/README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["library_name"], front["license"]) == ("nascli", "mit")
    results = json.loads(Path("run/run.json").read_text())["results"]
    (measured,) = front["model-index"][0]["results"]
    assert measured["metrics"][0]["value"] == pytest.approx(results["top1"], abs=1e-6)
    assert measured["dataset"]["name"] == "folder:images"
    assert f"{results['params']:,}" in text
    assert "`cat`, `cow`, `dog`" in text
    with Image.open("card/architecture.png") as drawing:
        assert min(drawing.size) > 100
    assert load_genotype("card/genotype.json").canonical_hash() == load_genotype("cell.json").canonical_hash()
    again = nascli("push run --to card")
    assert again.code == 2
    assert "--overwrite" in again.err
    assert nascli("push run --to card --overwrite").code == 0


def test_nothing_published_says_where_things_lie(nascli: Nascli, tmp_path: Path) -> None:
    data = Path("images").resolve()
    line = (
        f"train --cell cell.json --dataset folder:{data} --epochs 1 --filters 4 --cells-per-stage 1 --out {tmp_path}/r"
    )
    assert nascli(line).code == 0
    assert nascli(f"push {tmp_path}/r --to card").code == 0
    texts = [each.read_text() for each in Path("card").iterdir() if each.suffix in (".md", ".json", ".toml")]
    assert len(texts) == 4
    for text in texts:
        assert str(data.parent) not in text
        assert platform.node() not in text
        assert "data_dir" not in text


@pytest.mark.usefixtures("trained")
def test_a_card_names_what_a_network_learned_from(nascli: Nascli) -> None:
    run = Path("run").resolve()
    line = f"train --from {run} --teacher {run} --dataset folder:images --epochs 1 --batch-size 16 --out tuned"
    ran = nascli(line)
    assert ran.code == 0, ran.err
    assert nascli("push tuned --to card").code == 0
    text = Path("card/README.md").read_text()
    assert "| began with the weights of | `run` |" in text
    assert "| teacher | `run` |" in text
    assert str(run.parent) not in text + Path("card/recipe.toml").read_text()


@pytest.mark.usefixtures("trained")
def test_a_pushed_network_is_used_by_its_name(nascli: Nascli, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = nascli("push run me/tiny --private --json")
    assert ran.code == 0, ran.err
    assert set(ran.json["files"]) == set(hub.models["me/tiny"])
    images = torch.randn(2, 3, 8, 8)
    ours, theirs = package.load_network("run"), package.load_network("hf:me/tiny")
    assert torch.equal(ours(images), theirs(images))

    before = sorted(Path().rglob("*"))
    ran = nascli("evaluate hf:me/tiny --json")
    assert ran.code == 0, ran.err
    assert ran.json["top1"] == nascli("evaluate run --out mine --json").json["top1"]
    assert {each.parts[0] for each in {*Path().rglob("*")} - {*before}} == {"mine"}
    assert nascli("evaluate hf:me/tiny --dataset folder:images --out result").code == 0
    assert Path("result/evaluation.json").is_file()

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert nascli("evaluate hf:me/tiny --predict images/val/cat/00.png").code == 0
    assert not hub.asked
    missing = nascli("evaluate hf:me/other --predict images/val/cat/00.png")
    assert missing.code == 2
    assert "cannot be reached" in missing.err
    assert missing.err.count("\n") == 1


@pytest.mark.usefixtures("trained")
def test_a_file_that_was_changed_in_the_cache_is_refused(nascli: Nascli, hub: HubServer) -> None:
    assert nascli("push run me/tiny").code == 0
    package.load_network("hf:me/tiny")
    (blob,) = [each for each in Path(constants.HF_HUB_CACHE).rglob("blobs/*") if each.stat().st_size > 5_000]
    content = bytearray(blob.read_bytes())
    content[-3] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(content)
    ran = nascli("build --network hf:me/tiny --export net.onnx")
    assert ran.code == 1
    assert "weights.safetensors is damaged" in ran.err


def _pickle(values: object) -> bytes:
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


def test_weights_of_other_tools_are_imported_from_the_hub(nascli: Nascli, hub: HubServer) -> None:
    torch.manual_seed(0)
    weights = timm.create_model("mnasnet_small", num_classes=10).state_dict()
    hub.models["timm/small"] = {"pytorch_model.bin": b"never read", "model.safetensors": save(weights)}
    hub.models["a/pickle"] = {"net.pth": _pickle(weights), "README.md": b"# net"}
    hub.models["a/evil"] = {"model.bin": _pickle({"weight": platform.node})}
    hub.models["a/two"] = {"first.pth": b"", "second.pth": b""}
    hub.models["a/none"] = {"README.md": b""}
    cell = "--cell mnasnet-small-timm --preset mnasnet-small --classes 10"
    line = f"build {cell} --overwrite --json --out net --import-weights"
    for name in ("timm/small", "a/pickle", "a/pickle@main/net.pth"):
        ran = nascli(f"{line} hf:{name}")
        assert ran.code == 0, ran.err
    for name, code, word in (
        ("a/evil", 1, "hold more than tensors"),
        ("a/two", 2, "hf:a/two/first.pth"),
        ("a/two/third.pth", 2, "no such file"),
        ("a/none", 2, "no weights"),
        ("a/nobody", 2, "no such model"),
        ("a/pickle@v2", 2, "revision v2"),
        ("nobody", 2, "ORG/NAME"),
    ):
        ran = nascli(f"{line} hf:{name}")
        assert (ran.code, word in ran.err) == (code, True), ran.err
    hub.gated.add("a/pickle")
    assert "terms" in nascli(f"{line} hf:a/pickle").err
    assert "--import-weights" in nascli("build --network hf:timm/small --export net.onnx").err


@pytest.mark.usefixtures("trained")
def test_what_cannot_be_pushed_is_refused(nascli: Nascli, hub: HubServer) -> None:
    assert nascli("push run").code == 2
    hub.refuses = True
    ran = nascli("push run me/tiny")
    assert ran.code == 2
    assert "hf auth login" in ran.err
    assert nascli("push cell.json --to card").code == 2
    Path("run/weights.safetensors").unlink()
    ran = nascli("push run --to card")
    assert ran.code == 2
    assert "--resume" in ran.err
    assert not Path("card").exists()


def test_a_network_without_a_run_has_a_card_too(nascli: Nascli) -> None:
    net = build_network("mnasnet-a1", "mnasnet", width=0.35, classes=3, image_size=32)
    Path("net").mkdir()
    write_network(Path("net/network.json"), net.spec)
    save_weights(Path("net/weights.safetensors"), net)
    assert nascli("push net --to card").code == 0
    text = Path("card/README.md").read_text()
    assert "of another tool" in text
    assert "model-index" not in text
