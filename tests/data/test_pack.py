"""Packs: what is in them, that they are whole, and that they are read as the folder is."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from nascli.config import DataConfig
from nascli.data.dataset import ImageData
from nascli.data.images.decoding import decode_image
from nascli.data.in_memory import ImageArray
from nascli.data.pack.build import PackCallbacks, PackSettings, PackSummary, pack_folder
from nascli.data.pack.format import Pack, open_pack
from nascli.data.registry import load_dataset
from nascli.data.streaming import ImageFiles
from nascli.errors import CorruptFileError, InputError, Interrupted, NascliError

SMALL = PackSettings(size=20)
FILES = ("train/cat/0.jpg", "train/cat/1.png", "train/dog/0.png", "train/dog/1.jpg", "val/cat/0.png", "val/dog/0.jpg")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six noisy images of several sizes and formats."""
    noise = np.random.default_rng(0)
    for k, name in enumerate(FILES):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (14, 18) if k == 0 else (30 + 5 * k, 60 - 5 * k)
        Image.fromarray(noise.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return tmp_path / "source"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images.h5"


def packed(source: Path, path: Path) -> Pack:
    pack_folder(source, path, SMALL)
    return open_pack(path)


def beside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each.name != "source")


def test_a_pack_holds_images_labels_names_and_settings(source: Path, path: Path) -> None:
    summary = pack_folder(source, path, SMALL)
    assert summary == PackSummary(path, 4, 2, 2, path.stat().st_size, ())
    assert beside(path) == ["images.h5"]
    with h5py.File(path) as file:
        assert file.attrs["format"] == b"nascli image pack"
        assert (file.attrs["size"], file.attrs["quality"], file.attrs["source"]) == (20, 90, os.fsencode(source))
        assert [name.decode() for name in file["classes"]] == ["cat", "dog"]
        assert file["train/labels"][()].tolist() == [0, 0, 1, 1]
        assert [name.decode() for name in file["val/paths"]] == ["val/cat/0.png", "val/dog/0.jpg"]
        offsets = file["train/offsets"][()]
        first = file["train/images"][offsets[0] : offsets[1]].tobytes()
    assert first == (source / FILES[0]).read_bytes()  # small, and a JPEG


def test_larger_images_are_reduced_to_the_shorter_side_and_smaller_ones_kept(source: Path, path: Path) -> None:
    index = packed(source, path).index()
    sizes = [decode_image(image).size for image, _ in (*index.train, *index.val)]
    assert sizes[0] == (18, 14)
    assert sizes[1] == (31, 20)  # of 55x35
    assert sizes[5] == (20, 31)  # of 35x55
    original = decode_image(source / FILES[1]).resize((31, 20), Image.Resampling.BILINEAR)
    found = np.asarray(decode_image(index.train[1][0])).astype(int)
    assert np.abs(found - np.asarray(original)).mean() < 25  # noise, as a JPEG
    assert [label for _, label in index.train] == [0, 0, 1, 1]


def test_the_same_folder_gives_the_same_bytes_whatever_the_number_of_threads(source: Path, path: Path) -> None:
    pack_folder(source, path, SMALL, workers=1)
    other = path.with_name("other.h5")
    pack_folder(source, other, SMALL, workers=3)
    assert other.read_bytes() == path.read_bytes()
    pack_folder(source, other, PackSettings(size=20, quality=50), overwrite=True)
    assert len(other.read_bytes()) < len(path.read_bytes())


def stop_after(images: int) -> PackCallbacks:
    """Stops when so many images are done in this call."""
    seen: list[int] = []
    return PackCallbacks(on_image=lambda done, count: seen.append(done), should_stop=lambda: len(seen) == images)


def counting(done: list[int]) -> PackCallbacks:
    return PackCallbacks(on_image=lambda number, count: done.append(number))


def test_stopped_it_goes_on_where_it_was(source: Path, path: Path) -> None:
    whole = packed(source, path.with_name("whole.h5")).path.read_bytes()
    with pytest.raises(Interrupted, match=r"stopped after 4 of 6 images; they are saved\. Give the same command again"):
        pack_folder(source, path, SMALL, callbacks=stop_after(4))
    assert beside(path) == ["images.h5.partial", "whole.h5"]
    notes: list[str] = []
    done: list[int] = []
    pack_folder(source, path, SMALL, callbacks=PackCallbacks(counting(done).on_image, notes.append))
    assert notes == [f"resumes from {path}.partial: 4 of 6 images are done"]
    assert done == [5, 6]
    assert path.read_bytes() == whole
    assert beside(path) == ["images.h5", "whole.h5"]


def damage(content: bytes) -> Iterator[bytes]:
    """A file cut off, as a power cut leaves it, and changed, at some places each."""
    for length in (0, 10, *range(60, len(content), len(content) // 4)):
        yield content[:length]
        yield content[:length] + bytes(len(content) - length)
        yield content[:length] + bytes([content[length] ^ 1]) + content[length + 1 :]


@pytest.mark.parametrize("images", [1, 4])
def test_cut_off_or_changed_anywhere_what_is_whole_is_kept(
    source: Path, path: Path, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of one image and of several, each file in turn removed, cut off, zeroed from a place on, or changed."""
    monkeypatch.setattr("nascli.data.pack.shards._SHARD_IMAGES", images)
    whole = packed(source, path.with_name("whole.h5")).path.read_bytes()
    partial = path.with_name("images.h5.partial")
    with pytest.raises(Interrupted):
        pack_folder(source, path, SMALL, callbacks=stop_after(6))
    files = {file.name: file.read_bytes() for file in partial.iterdir() if file.name != ".lock"}
    kept = set()
    for name, content in files.items():
        for damaged in (None, *damage(content)):
            partial.mkdir(exist_ok=True)
            for other, good in files.items():
                (partial / other).write_bytes(good)
            if damaged is None:
                (partial / name).unlink()
            else:
                (partial / name).write_bytes(damaged)
            (partial / "images.h5").write_bytes(b"half a pack")
            done: list[int] = []
            pack_folder(source, path, SMALL, overwrite=True, callbacks=counting(done))
            assert path.read_bytes() == whole, (name, damaged)
            assert beside(path) == ["images.h5", "whole.h5"]
            kept.add(6 - len(done))
    assert kept >= ({0, 1, 2, 3, 4, 5, 6} if images == 1 else {0, 4, 6})


def test_a_kill_while_a_shard_is_written_leaves_those_before(
    source: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nascli.data.pack.shards._SHARD_IMAGES", 2)
    with pytest.raises(Interrupted):
        pack_folder(source, path, SMALL, callbacks=stop_after(4))
    (path.with_name("images.h5.partial") / ".00000004.npz.nascli-0123abcd.partial").write_bytes(b"half a shard")
    done: list[int] = []
    pack_folder(source, path, SMALL, callbacks=counting(done))
    assert done == [5, 6]
    assert beside(path) == ["images.h5"]


def test_a_source_file_that_changed_is_packed_again(source: Path, path: Path) -> None:
    with pytest.raises(Interrupted):
        pack_folder(source, path, SMALL, callbacks=stop_after(5))
    Image.new("RGB", (40, 40), (200, 0, 0)).save(source / FILES[3])
    notes: list[str] = []
    pack_folder(source, path, SMALL, callbacks=PackCallbacks(log=notes.append))
    assert "3 of 6 images are done" in notes[0]
    image, _ = open_pack(path).index().train[3]
    assert np.abs(np.asarray(decode_image(image))[5, 5].astype(int) - [200, 0, 0]).max() < 5


def test_what_was_begun_with_other_settings_is_gone_on_with_or_begun_anew(source: Path, path: Path) -> None:
    with pytest.raises(Interrupted):
        pack_folder(source, path, SMALL, callbacks=stop_after(2))
    with pytest.raises(InputError, match=r"images\.h5\.partial was begun with other settings"):
        pack_folder(source, path, PackSettings(size=24))
    pack_folder(source, path, PackSettings(size=24), overwrite=True)
    assert open_pack(path).settings["size"] == 24


def test_one_process_at_a_time_writes_a_pack(source: Path, path: Path) -> None:
    def pack_too(done: int, images: int) -> None:
        with pytest.raises(InputError, match=r"images\.h5\.partial is in use by another process"):
            pack_folder(source, path, SMALL)

    pack_folder(source, path, SMALL, callbacks=PackCallbacks(on_image=pack_too))


@pytest.mark.parametrize("allowed", [0, 1])
def test_more_unreadable_images_than_allowed_stop_it_and_the_work_is_kept(
    source: Path, path: Path, allowed: int
) -> None:
    good = [(source / name).read_bytes() for name in FILES]
    (source / FILES[1]).write_bytes(good[1][:300])
    (source / FILES[5]).write_bytes(b"poison")
    notes: list[str] = []
    with pytest.raises(CorruptFileError) as caught:
        pack_folder(source, path, SMALL, max_unreadable=allowed, callbacks=PackCallbacks(log=notes.append))
    assert f"{source}/{FILES[1]}" in str(caught.value)
    assert (f"{source}/{FILES[5]}" in str(caught.value)) == (allowed == 1)
    assert "or allow for more: --max-unreadable N" in str(caught.value)
    assert not path.exists()
    notes.clear()
    made = pack_folder(source, path, SMALL, max_unreadable=2, callbacks=PackCallbacks(log=notes.append))
    assert made.skipped == (f"{source}/{FILES[1]}", f"{source}/{FILES[5]}")
    assert (made.train_images, made.val_images) == (3, 1)
    assert [text.partition(" cannot")[0] for text in notes[1:]] == [f"warning: image {each}" for each in made.skipped]
    assert open_pack(path).train.labels.tolist() == [0, 1, 1]


def test_a_repaired_image_is_taken(source: Path, path: Path) -> None:
    good = (source / FILES[2]).read_bytes()
    (source / FILES[2]).write_bytes(good[:300])
    with pytest.raises(CorruptFileError):
        pack_folder(source, path, SMALL)
    (source / FILES[2]).write_bytes(good)
    assert pack_folder(source, path, SMALL).train_images == 4


def test_a_test_split_without_images_left_is_refused(source: Path, path: Path) -> None:
    for name in FILES[4:]:
        (source / name).write_bytes(b"poison")
    with pytest.raises(CorruptFileError, match="none of the 2 images"):
        pack_folder(source, path, SMALL, max_unreadable=9)
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NascliError, match=r"file/images\.h5 cannot be written: "):
        pack_folder(source, tmp_path / "file" / "images.h5", SMALL)
    with pytest.raises(InputError, match="is a folder"):
        pack_folder(source, tmp_path, SMALL)


def batches(data: ImageData) -> tuple[torch.Tensor, torch.Tensor]:
    order = torch.arange(len(data.train)).flip(0)
    train = torch.cat([images for images, _ in data.train.training_batches(order, 2, 7)])
    return train, torch.cat([images for images, _ in data.val.evaluation_batches(2)])


def test_a_streamed_pack_gives_the_same_batches_with_and_without_workers(source: Path, path: Path) -> None:
    pack_folder(source, path, PackSettings(size=64))
    alone, together = (load_dataset(DataConfig(dataset=f"pack:{path}", workers=n), 16) for n in (0, 2))
    assert isinstance(alone.train, ImageFiles)
    assert alone.class_names == ("cat", "dog")
    assert (alone.name, len(alone.train), len(alone.val)) == (f"pack:{path}", 4, 2)
    for one, other in zip(batches(alone), batches(together), strict=True):
        assert torch.equal(one, other)
    folder = load_dataset(DataConfig(dataset=f"folder:{source}", workers=0), 16)
    own = batches(alone)[0][3].float()  # the image that was packed byte for byte
    assert torch.equal(own, batches(folder)[0][3].float())


def test_an_image_of_a_pack_can_be_pickled(source: Path, path: Path) -> None:
    image, _ = packed(source, path).index().train[2]
    content = image.open("rb").read()
    assert pickle.loads(pickle.dumps(image)).open("rb").read() == content


def test_a_pack_of_small_equal_images_lies_in_memory(tmp_path: Path, path: Path) -> None:
    for name in FILES:
        target = tmp_path / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12), (40 * ("dog" in name) + 20,) * 3).save(target)
    pack_folder(tmp_path / "source", path, PackSettings())
    data = load_dataset(DataConfig(dataset=f"pack:{path}"))
    assert isinstance(data.train, ImageArray)
    assert data.image_size == 12
    assert data.train.images[:, 0, 6, 6].tolist() == [20, 20, 60, 60]
    assert data.val.labels.tolist() == [0, 1]


def spoil(path: Path, name: str, position: int) -> None:
    """Change a bit of a table."""
    with h5py.File(path) as file:
        place = file[name].id.get_offset() + position
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_damaged_image_is_named_and_can_be_skipped(source: Path, path: Path) -> None:
    pack = packed(source, path)
    spoil(path, "train/images", int(pack.train.offsets[2]) + 100)
    name = f"image train/dog/0.png in {path}"
    with pytest.raises(CorruptFileError, match=f"{name} is damaged: it has not the checksum"):
        open_pack(path).verify()
    data = load_dataset(DataConfig(dataset=f"pack:{path}", workers=0, max_unreadable_images=1), 16)
    assert len(batches(data)[0]) == 4
    with pytest.raises(CorruptFileError, match=name):
        batches(load_dataset(DataConfig(dataset=f"pack:{path}", workers=2), 16))


@pytest.mark.parametrize(
    "table", ["classes", "train/labels", "train/offsets", "val/paths", "val/checksums", "val/offsets"]
)
def test_a_damaged_table_is_found(source: Path, path: Path, table: str) -> None:
    packed(source, path)
    spoil(path, table, 1)
    with pytest.raises(CorruptFileError, match=r"images\.h5 is damaged or no pack: the checksum of its tables"):
        open_pack(path)


@pytest.mark.parametrize("part", [0.0, 0.2, 0.6, 0.99])
def test_a_truncated_pack_is_found(source: Path, path: Path, part: float) -> None:
    packed(source, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(CorruptFileError, match=r"images\.h5 is (damaged or )?no pack"):
        open_pack(path)


def test_foreign_and_newer_files_are_refused(source: Path, path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(InputError, match="is not a pack of nascli"):
        open_pack(path)
    pack_folder(source, path, SMALL, overwrite=True)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
    with pytest.raises(InputError, match=r"pack format 2; this nascli reads up to 1\. Install a newer"):
        open_pack(path)


def test_tables_that_do_not_fit_each_other_are_refused(
    source: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nascli.data.checked_h5.checksum", lambda columns, settings: "right")
    for table, position, value in (
        ("train/offsets", 1, 1 << 40),
        ("train/offsets", 0, 1),
        ("val/offsets", 1, -5),
        ("train/labels", 0, 2),
        ("train/labels", 0, -1),
    ):
        pack_folder(source, path, SMALL, overwrite=True)
        with h5py.File(path, "r+") as file:
            file[table][position] = value
        with pytest.raises(CorruptFileError, match="do not fit each other"):
            open_pack(path)
