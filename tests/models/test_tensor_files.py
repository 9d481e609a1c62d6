"""Weights carry a digest: whatever bit is changed, they are refused or are as they were."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nascli.errors import CorruptFileError
from nascli.models.tensor_files import DIGEST, digest_tensors, read_metadata, read_tensors, write_tensors

TENSORS = {
    "a.weight": torch.arange(6.0).reshape(2, 3) / 7,
    "b.count": torch.tensor(3),
    "c.half": torch.ones(5, dtype=torch.float16),
}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(
        found[name].dtype == each.dtype and torch.equal(found[name], each) for name, each in TENSORS.items()
    )


def read_or_refuse(path: Path) -> str:
    """The error of reading; without one the tensors are as they were."""
    try:
        found = read_tensors(path)
    except CorruptFileError as error:
        return error.message
    assert same(found)
    return ""


def test_every_flipped_bit_is_named_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensors(path, TENSORS, identity="mine")
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        for bit in (0, 6):
            content = bytearray(whole)
            content[place] ^= 1 << bit
            path.write_bytes(content)
            message = read_or_refuse(path)
            assert message == "" or str(path) in message
            refused += message != ""
    assert refused > 1.5 * len(whole)


def test_equal_tensors_give_equal_bytes_that_other_tools_read(tmp_path: Path) -> None:
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    write_tensors(one, TENSORS, identity="mine", more="x")
    write_tensors(other, dict(reversed(TENSORS.items())), identity="mine", more="x")
    assert one.read_bytes() == other.read_bytes()
    assert same(load_file(one))
    assert read_metadata(one)["identity"] == "mine"
    assert read_metadata(one)[DIGEST] == digest_tensors(one)


def test_a_file_of_another_tool_has_no_digest_and_is_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "theirs.safetensors", {"format": "pt"})
    write_tensors(tmp_path / "ours.safetensors", TENSORS)
    assert same(read_tensors(tmp_path / "theirs.safetensors"))
    assert digest_tensors(tmp_path / "theirs.safetensors") == digest_tensors(tmp_path / "ours.safetensors")


@pytest.mark.parametrize("metadata", [{DIGEST: "x"}, {DIGEST: ""}])
def test_a_wrong_digest_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(TENSORS, path, metadata)
    with pytest.raises(CorruptFileError, match=DIGEST):
        read_tensors(path)
