"""HDF5 files of packs and tables that were changed by hand: refused in one line, at once, in bounded memory."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nascli.data.pack.format import open_pack
from nascli.errors import CorruptFileError, InputError
from nascli.search.evaluators.tabular import TabularBenchmark
from tests.cli.program import Nascli
from tests.front_door.made import write_classes
from tests.reliability.bounded import bounded


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nascli: Nascli) -> Path:
    monkeypatch.chdir(tmp_path)
    write_classes(Path("images"), counts=(2, 1))
    packed = nascli("pack images pack.h5 --size 16")
    assert packed.code == 0, packed.err
    return Path("pack.h5")


def write_foreign_table(path: Path, **columns: dict[str, Any]) -> Path:
    """A table of which only the format is right; columns are arguments of `create_dataset`."""
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = np.bytes_(b"nascli-table"), 1
        for name, options in columns.items():
            file.create_dataset(name, **options)
    return path


def test_no_text_of_a_pack_lies_in_a_heap(pack: Path) -> None:
    with h5py.File(pack) as file:
        assert file.attrs["source"].decode().endswith("images")
        assert not [name for name in file.attrs if file.attrs.get_id(name).dtype.kind == "O"]


@pytest.mark.parametrize("name", ["format", "version", "source", "size", "sha256"])
@pytest.mark.parametrize("value", ["text of variable length", [1, 2], h5py.Empty("S3"), 1.5, np.bytes_(b"\xff")])
def test_attributes_of_another_type_are_refused(pack: Path, name: str, value: object, nascli: Nascli) -> None:
    with h5py.File(pack, "r+") as file:
        file.attrs[name] = value
    checked = nascli(f"data check pack:{pack} --json")
    assert checked.code in (1, 2), checked.err
    assert str(pack) in checked.err
    assert checked.json["error"]["code"] != "unexpected"


@pytest.mark.parametrize("place", ["classes", "train", "val/paths", "val/images"])
def test_links_to_other_files_are_not_followed(pack: Path, place: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(pack, "r+") as file:
        del file[place]
        file[place] = h5py.ExternalLink("pipe", "/x")
    with bounded(), pytest.raises(CorruptFileError, match="link"):
        open_pack(pack)


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (1 << 36, 8), "dtype": "u1", "chunks": (1 << 16, 8), "compression": "gzip"},
        {"shape": (1 << 20, 8), "dtype": "u1", "chunks": (1 << 16, 8), "scaleoffset": 0},
        {"shape": (4, 8), "dtype": h5py.string_dtype()},
        {"shape": (4, 8), "dtype": "u1", "external": [("/dev/zero", 0, 32)]},
    ],
)
def test_columns_that_claim_more_than_the_file_has_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    path = write_foreign_table(tmp_path / "table.h5", hashes=options)
    with bounded(mebibytes=512), pytest.raises(CorruptFileError, match="type and shape"):
        TabularBenchmark.read(path)


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "table.h5")
    with bounded(), pytest.raises(InputError, match="a pipe"):
        TabularBenchmark.read(tmp_path / "table.h5")
