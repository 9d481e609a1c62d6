"""Files given as weights: what they are is said, whatever their ending; nothing in them is run."""

import argparse
import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nascli.config import CellNetworkConfig
from nascli.errors import InputError, NascliError
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.pretrained import CellImporter
from nascli.models.weight_files import read_weights
from tests.cells import build_cells
from tests.cli.program import Nascli

BUILD = "build --cell nasnet-a --preset imagenet-mobile --image-size 32 --out network --import-weights"
STATE = {"conv.weight": torch.ones(2, 1), "conv.bias": torch.zeros(2)}


def make_zip(names: tuple[str, ...]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return file.getvalue()


def make_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return file.getvalue()


def make_torch(values: object) -> bytes:
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


def make_script() -> bytes:
    file = io.BytesIO()
    traced = torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, file)
    return file.getvalue()


NO_WEIGHTS = {
    "weights.pth": (b"<!DOCTYPE html><html><title>404</title></html>", "an HTML page"),
    "weights.safetensors": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        "a Git LFS pointer",
    ),
    "empty.bin": (b"", "an empty file"),
    "zeros.pth": (b"\0" * 4096, "zeros"),
    "text.pth": (b"Access denied\n", "a text that begins with 'Access denied'"),
    "error.h5": (b'{"error": "quota"}', "a JSON file"),
    "packed.pth": (make_zip(("weights/network.pth",)), "a ZIP archive"),
    "packed.pth.tar": (make_tar(), "a gzip archive"),
    "model.keras": (make_zip(("metadata.json", "config.json", "model.weights.h5")), "Keras 3"),
    "arrays.npz": (make_zip(("a.npy", "b.npy")), "NumPy"),
    "model.onnx": (b"\x08\x08\x12\x07pytorch\x1a\x05" + bytes(range(128, 256)), "an ONNX model"),
    "model.ckpt.index": (bytes(range(256)), "TensorFlow checkpoint"),
    "model.ckpt.data-00000-of-00001": (bytes(range(256)), "TensorFlow checkpoint"),
    "model.tflite": (b"\x1c\0\0\0TFL3" + bytes(range(128, 256)), "TensorFlow Lite"),
    "plain.pkl": (pickle.dumps({"a": 1}), "a Python pickle"),
    "picture.pth": (b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG image"),
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_what_is_no_file_of_weights_is_named(name: str) -> None:
    content, kind = NO_WEIGHTS[name]
    Path(name).write_bytes(content)
    with pytest.raises(NascliError, match=kind) as caught:
        read_weights(Path(name))
    assert name in caught.value.message
    assert "weights_only" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_programs_of_pytorch_are_named() -> None:
    Path("scripted.pt").write_bytes(make_script())
    with pytest.raises(NascliError, match="a TorchScript program"):
        read_weights(Path("scripted.pt"))


def test_a_page_is_refused_by_the_command_in_one_line(nascli: Nascli) -> None:
    Path("weights.pth").write_bytes(b"\n<html><body>Sign in to download</body></html>")
    ran = nascli(f"{BUILD} weights.pth")
    assert ran.code == 1
    assert "weights.pth holds no weights: it is an HTML page" in ran.err
    assert "get it again" in ran.err
    assert "weights_only" not in ran.err
    assert not Path("network").exists()


WRAPPED: dict[str, tuple[dict[str, Any], str]] = {
    "bare": (STATE, ""),
    "state_dict": ({"epoch": 3, "state_dict": STATE, "optimizer": {"state": {}}}, "state_dict"),
    "model": ({"model": STATE, "args": argparse.Namespace(lr=1)}, "model"),
    "model_state": ({"model_state": STATE}, "model_state"),
    "averaged first": ({"state_dict": {"x": torch.zeros(1)}, "state_dict_ema": STATE}, "state_dict_ema"),
    "model_ema": ({"model": {"x": torch.zeros(1)}, "model_ema": STATE}, "model_ema"),
    "net": ({"net": STATE, "acc": 93.2}, "net"),
    "twice": ({"checkpoint": 1, "model": {"state_dict": STATE}}, "model.state_dict"),
    "parallel": ({f"module.{name}": value for name, value in STATE.items()}, ""),
    "compiled": ({"state_dict": {f"_orig_mod.{name}": value for name, value in STATE.items()}}, "state_dict"),
    "parallel and compiled": ({f"module._orig_mod.{name}": value for name, value in STATE.items()}, ""),
    "around the network": ({"state_dict": {f"model.{name}": value for name, value in STATE.items()}}, "state_dict"),
    "swa": ({"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in STATE.items()}}, ""),
}


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_and_prefixes_are_known(name: str, ending: str) -> None:
    values, wrapper = WRAPPED[name]
    path = Path(f"weights{ending}")
    torch.save(values, path)
    read = read_weights(path)
    assert read.wrapper == wrapper
    assert read.entries.keys() == STATE.keys()
    assert torch.equal(read.entries["conv.weight"], STATE["conv.weight"])


def test_two_networks_in_one_dictionary_are_refused() -> None:
    torch.save({**STATE, **{f"module.{name}": value + 1 for name, value in STATE.items()}}, "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth: entry conv\.weight is there twice"):
        read_weights(Path("weights.pth"))


def test_files_are_known_by_content_whatever_their_ending() -> None:
    contiguous: dict[str, Tensor] = {name: value.contiguous() for name, value in STATE.items()}
    save_file(contiguous, "a.pth")
    torch.save(STATE, "b.safetensors")
    torch.save(STATE, "c.weights", _use_new_zipfile_serialization=False)
    with h5py.File("d.bin", "w") as file:
        layer = file.create_group("conv")
        layer.create_dataset("conv/kernel:0", data=[1.0])
        layer.attrs["weight_names"] = [b"conv/kernel:0"]
    for name in ("a.pth", "b.safetensors", "c.weights"):
        assert read_weights(Path(name)).entries.keys() == STATE.keys()
    assert list(read_weights(Path("d.bin")).entries) == ["conv.kernel"]


class Ruin:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("open('canary', 'w')",)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_code_in_a_file_is_not_run(new: bool) -> None:
    torch.save({"state_dict": STATE, "ruin": Ruin()}, "evil.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(NascliError, match="more than tensors") as caught:
        read_weights(Path("evil.pth"))
    assert not Path("canary").exists()
    assert "weights_only" not in str(caught.value)


def test_a_file_that_is_cut_off_is_damaged() -> None:
    whole = make_torch({"state_dict": {"w": torch.rand(500)}})
    Path("cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NascliError, match="damaged"):
        read_weights(Path("cut.pth"))


def test_other_classes_are_told_with_the_option(nascli: Nascli) -> None:
    config = CellNetworkConfig.model_validate({"preset": "imagenet-mobile", "image_size": 32})
    network = build_cells(zoo_genotype("nasnet-a"), config, classes=7)
    marks = {"conv0.conv.weight": torch.zeros(1), "last_linear.weight": torch.zeros(7, 1)}
    importer = CellImporter()
    recognized = importer.recognize(marks, network.spec)
    assert recognized is not None
    keys = importer.list_keys(network, recognized.layout)
    state = network.state_dict()
    torch.save({"state_dict": {key: state[name] for name, key in keys.items()}}, "seven.pth")
    ran = nascli(f"{BUILD} seven.pth")
    assert ran.code == 2
    assert "for 7 classes, the network has 1000" in ran.err
    ran = nascli(f"{BUILD} seven.pth --classes 7 --json")
    assert ran.code == 0
    assert "its entry state_dict" in ran.err
    Path("network/weights.safetensors").write_bytes(b"<html>")
    ran = nascli("build --network network")
    assert ran.code == 1
    assert "an HTML page" in ran.err
