"""The kind of a file by its content."""

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save as save_safetensors

from nascli.content import describe_content
from nascli.files import keep_copy


def saved(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, kind)
    return file.getvalue()


def checkpoint(*, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as unpacked:
        unpacked.writestr("photos/a.txt", "a")
    return file.getvalue()


CONTENTS = {
    "an empty file": b"",
    "a file of zeros": bytes(5000),
    "an HTML page": b"\xef\xbb\xbf\n<!-- moved -->\n<!DOCTYPE html><html><body>404</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    "a git-annex pointer": b"../../.git/annex/objects/Xq/3K/SHA256E-s9--00.png\n",
    "an XML file": "<?xml version='1.0'?><annotation/>".encode("utf-16"),
    "an SVG drawing": b"<?xml version='1.0'?><svg/>",
    "a JSON file": b' {"images": []}',
    "a text that begins with 'Access denied'": b"Access denied\n",
    "a text that begins with '\u00e9": "é".encode() * 2047,
    "an empty text": b"\r\n",
    "a ZIP archive": archive(),
    "a gzip archive": gzip.compress(b"a"),
    "a PyTorch file": checkpoint(zipped=True),
    "a Python pickle": pickle.dumps({"a": 1}),
    "a safetensors file": save_safetensors({"a": torch.zeros(2)}),
    "a JPEG image": saved("JPEG"),
    "a PNG image": saved("PNG"),
    "a PNG image that was copied as text": saved("PNG").replace(b"\r\n", b"\n"),
    "a GIF image": saved("GIF"),
    "a TIFF image": saved("TIFF"),
    "a WebP image": saved("WEBP"),
    "of an unknown kind": b"\x00\x01\x02\xff" * 9,
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_content_is_named_whatever_the_file_is_called(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(CONTENTS[kind])
    assert describe_content(path).startswith(kind)


def test_a_checkpoint_of_old_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(checkpoint(zipped=False))
    assert describe_content(path) == "a PyTorch file"


def test_a_copy_that_is_the_file_itself_already_leaves_no_other_name(tmp_path: Path) -> None:
    path, copy = tmp_path / "state", tmp_path / "state.previous"
    path.write_bytes(b"1")
    for _ in range(2):  # as after a kill between the copy and the next state
        keep_copy(path, copy)
    assert sorted(tmp_path.iterdir()) == [path, copy]
