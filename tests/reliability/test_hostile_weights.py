"""Weights of other tools that are more, or less, than tensors: refused in one line; nothing is allocated or run."""

import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from nascli.config import CellNetworkConfig
from nascli.errors import NascliError
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.pretrained import CellImporter
from nascli.models.pretrained import import_network
from nascli.models.weight_files import read_weights
from tests.cells import build_cells
from tests.cli.program import Nascli
from tests.reliability.bounded import bounded, put_in_place

NAME = "conv0.conv.weight"
BUILD = "build --cell nasnet-a --filters 4 --cells-per-stage 1 --out built --import-weights"
ADVICE = ("weights_only", "trust", "add_safe_globals")

TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3, 3), 0.1, 0, torch.qint8),
    "complex": lambda: torch.ones(3, 3, dtype=torch.complex64).conj(),
    "meta": lambda: torch.empty(3, 3, device="meta"),
    "expanded": lambda: torch.ones(1).expand(10**12),
    "expanded twice": lambda: torch.ones(1).expand(10**6, 10**6),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
}


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def _save(tensor: torch.Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({NAME: tensor}, path)


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_that_is_no_plain_one_is_named(kind: str, nascli: Nascli) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _save(TENSORS[kind](), Path("w.pth"))
    with bounded():
        ran = nascli(f"{BUILD} w.pth --json")
    assert ran.code in (1, 2)
    assert ran.json["error"]["code"] in ("bad_input", "corrupt_file")
    assert kind == "nested" or NAME in ran.err
    assert not any(word in ran.err + ran.out for word in ADVICE)


def _write_pickle(protocol: int, path: Path) -> None:
    path.write_bytes(pickle.dumps({NAME: _Runs()}, protocol))


def _write_tar(path: Path) -> None:
    content = pickle.dumps(_Runs(), 2)
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _save_program(path: Path) -> None:
    program: Any = torch.jit.script(torch.nn.Linear(2, 2))
    program.save(path)


PROGRAMS: dict[str, Callable[[Path], object]] = {
    **{f"protocol {number}": partial(_write_pickle, number) for number in range(6)},
    "archive": lambda path: torch.save({NAME: torch.ones(1), "x": _Runs()}, path),
    "older": lambda path: torch.save({NAME: _Runs()}, path, _use_new_zipfile_serialization=False),
    "tar": _write_tar,
    "module": lambda path: torch.save(torch.nn.Linear(2, 2), path),
    "program": _save_program,
    "ONNX": lambda path: path.write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(50)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_nothing_in_a_file_is_run_and_nobody_is_advised_to(kind: str, nascli: Nascli) -> None:
    PROGRAMS[kind](Path("w.pth"))
    with bounded():
        ran = nascli(f"{BUILD} w.pth --json")
    assert ran.code in (1, 2)
    assert "did not expect" not in ran.err
    assert not any(word in ran.err + ran.out for word in ADVICE)
    assert not Path("ran").exists()


def _change_archive(path: Path, change: Callable[[str, bytes], bytes], method: int = zipfile.ZIP_STORED) -> None:
    whole = io.BytesIO()
    torch.save({NAME: torch.arange(1000.0)}, whole)
    with zipfile.ZipFile(whole) as read, zipfile.ZipFile(path, "w", method) as written:
        for name in read.namelist():
            written.writestr(name, change(name, read.read(name)))


def _claim(count: int, times: int = -1) -> Callable[[str, bytes], bytes]:
    """Another number of values, in the size of the storage alone or in the shape, too."""
    wanted = b"\x8a\x06" + count.to_bytes(6, "little")
    return lambda name, content: content.replace(b"M\xe8\x03", wanted, times) if name.endswith(".pkl") else content


def _nest(name: str, content: bytes) -> bytes:
    nested = b"\x80\x02" + b"}X\x05\0\0\0model" * 10_000 + b"}" + b"s" * 10_000 + b"."
    return nested if name.endswith(".pkl") else content


def _write_safetensors(path: Path, entries: object, values: int = 0, length: int | None = None) -> None:
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + bytes(values))


def _entry(shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


def _swell(name: str, content: bytes) -> bytes:
    return bytes(256 << 20) if name.endswith("data/0") else content


CLAIMS: dict[str, Callable[[Path], object]] = {
    "storage.pth": lambda path: _change_archive(path, _claim(10**12, 1)),
    "both.pth": lambda path: _change_archive(path, _claim(10**12)),
    "twice.pth": lambda path: _change_archive(path, lambda *each: _claim(2000)(*each)),
    "nested.pth": lambda path: _change_archive(path, _nest),
    "swollen.pth": lambda path: _change_archive(path, _swell, zipfile.ZIP_DEFLATED),
    "list.pth": lambda path: _change_archive(path, lambda *each: bytes(9 << 20)),
    "pickle.pth": lambda path: path.write_bytes(b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"abc"),
    "huge.safetensors": lambda path: _write_safetensors(path, {NAME: _entry([10**6, 10**6], 0, 4 * 10**12)}),
    "overlapping.safetensors": lambda path: _write_safetensors(
        path, {"a": _entry([2], 0, 8), "b": _entry([2], 4, 12)}, 12
    ),
    "header.safetensors": lambda path: _write_safetensors(path, b'{"a":1}', length=2**60),
    "overflow.safetensors": lambda path: _write_safetensors(path, {NAME: _entry([2**63, 2**63], 0, 8)}, 8),
    "deep.safetensors": lambda path: _write_safetensors(path, b'{"a":' + b"[" * 100_000),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_file_claims_is_not_allocated(name: str, tmp_path: Path) -> None:
    CLAIMS[name](tmp_path / name)
    with bounded(10, 400), pytest.raises(NascliError) as refused:
        read_weights(tmp_path / name)
    assert name in str(refused.value)
    assert "more than tensors" not in str(refused.value)


def test_a_file_of_torch_that_somebody_compressed_is_read(tmp_path: Path) -> None:
    _change_archive(tmp_path / "w.pth", lambda _, content: content, zipfile.ZIP_DEFLATED)
    assert read_weights(tmp_path / "w.pth").entries[NAME].tolist() == list(range(1000))


def _virtual(group: Any) -> None:  # noqa: ANN401 - h5py has no types
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "conv/conv/kernel:0", (3,))
    group.create_virtual_dataset("kernel:0", layout)


KERAS: dict[str, Callable[[Any], object]] = {
    "compressed": lambda group: group.create_dataset("kernel:0", (2**31,), "f4", compression="gzip"),
    "unwritten": lambda group: group.create_dataset("kernel:0", (2**31,), "f4"),
    "bomb": lambda group: group.create_dataset(
        "kernel:0", data=np.zeros(1 << 25, "f4"), compression="gzip", chunks=(1 << 20,)
    ),
    "external link": lambda group: group.__setitem__("kernel:0", h5py.ExternalLink("other.h5", "/conv/conv/kernel:0")),
    "external data": lambda group: group.create_dataset("kernel:0", (3,), "f4", external=[("/etc/passwd", 0, 12)]),
    "soft link": lambda group: group.__setitem__("kernel:0", h5py.SoftLink("/conv/conv/kernel:0")),
    "virtual": _virtual,
    "references": lambda group: group.create_dataset("kernel:0", (1,), h5py.ref_dtype),
    "texts": lambda group: group.create_dataset("kernel:0", data=["a"], dtype=h5py.string_dtype()),
    "lists": lambda group: group.create_dataset("kernel:0", (2,), h5py.vlen_dtype(np.dtype("f4"))),
    "complex": lambda group: group.create_dataset("kernel:0", data=np.ones(3, "c8")),
    "group": lambda group: group.create_group("kernel:0"),
}


@pytest.mark.parametrize("kind", ["plain", *KERAS])
def test_of_a_keras_file_only_what_is_in_it_is_read(kind: str, tmp_path: Path) -> None:
    for name in ("w.h5", "other.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            layer = file.create_group("conv")
            layer.attrs["weight_names"] = [b"conv/kernel:0"]
            inner = layer.create_group("conv")
            if kind == "plain" or name == "other.h5":
                inner.create_dataset("kernel:0", data=np.ones(3, "f4"))
            else:
                KERAS[kind](inner)
    with bounded(10, 100):
        if kind == "plain":
            assert read_weights(tmp_path / "w.h5").entries["conv.kernel"].tolist() == [1, 1, 1]
        else:
            with pytest.raises(NascliError, match=r"w\.h5"):
                read_weights(tmp_path / "w.h5")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.int8, torch.bool, torch.float8_e4m3fn])
def test_codes_of_numbers_are_no_weights(kind: torch.dtype, tmp_path: Path) -> None:
    network = build_cells(zoo_genotype("nasnet-a"), CellNetworkConfig(preset="imagenet-mobile", image_size=96))
    mark = {NAME: torch.ones(1), "last_linear.weight": torch.ones(1)}
    file = CellImporter().recognize(mark, network.spec)
    assert file is not None
    keys = CellImporter().list_keys(network, file.layout)
    state = network.state_dict()
    torch.save({key: state[name].to(kind) for name, key in keys.items()}, tmp_path / "w.pth")
    if kind.is_floating_point and kind.itemsize > 1:
        assert import_network(tmp_path / "w.pth", network.spec)[1].name == file.name
    else:
        with pytest.raises(NascliError, match="floats"):
            import_network(tmp_path / "w.pth", network.spec)


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/proc/self/mem", "nowhere", "loop", "folder"])
def test_what_is_no_file_under_the_name_of_weights(kind: str, tmp_path: Path, nascli: Nascli) -> None:
    odd = put_in_place(tmp_path / "w.pth", kind)
    with bounded():
        ran = nascli(f"{BUILD} {odd}")
    assert ran.code in (1, 2)
    assert str(odd) in ran.err
    assert "did not expect" not in ran.err


def test_a_terabyte_of_zeros_is_no_file_of_weights(tmp_path: Path) -> None:
    for name in ("w.pth", "w.safetensors", "w.h5"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 1 << 40)
        with bounded(10, 100), pytest.raises(NascliError, match="zeros"):
            read_weights(tmp_path / name)
