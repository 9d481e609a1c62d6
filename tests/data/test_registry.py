"""Data sets by name, from files that the tests write."""

import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from nascli.config import DATASETS, DataConfig, Preprocessing
from nascli.data.in_memory import ImageArray
from nascli.data.registry import LOADERS, load_dataset
from nascli.data.streaming import ImageFiles
from nascli.errors import CorruptFileError, InputError, NascliError


def write_image(path: Path, value: int, size: tuple[int, int] = (12, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def write_folder(root: Path, *, size: tuple[int, int] = (12, 12), test: str = "val") -> str:
    """Two classes, three images each to train on and one to test on; the gray of an image says which it is."""
    for label, name in enumerate(("cat", "dog")):
        for k in range(3):
            write_image(root / "train" / name / f"{k}.png", 100 * label + k, size)
        write_image(root / test / name / "0.png", 100 * label + 50, size)
    return f"folder:{root}"


def test_digits_are_the_same_images_every_time() -> None:
    first, second = load_dataset(DataConfig()), load_dataset(DataConfig(dataset="digits"))
    assert isinstance(first.train, ImageArray)
    assert isinstance(second.train, ImageArray)
    assert torch.equal(first.train.images, second.train.images)
    assert (len(first.train), len(first.val)) == (1438, 359)
    assert first.class_names == tuple("0123456789")
    assert first.train.images.shape == (1438, 3, 16, 16)
    assert first.train.images.dtype == torch.uint8
    assert int(first.train.images.max()) == 255
    assert torch.equal(first.train.images[:, 0], first.train.images[:, 2])


def test_digits_are_split_by_class_and_share_no_image() -> None:
    data = load_dataset(DataConfig())
    parts = torch.bincount(data.val.labels) / (torch.bincount(data.train.labels) + torch.bincount(data.val.labels))
    assert float(parts.min()) > 0.19
    assert float(parts.max()) < 0.21
    assert isinstance(data.train, ImageArray)
    assert isinstance(data.val, ImageArray)
    train, test = ({image.numpy().tobytes() for image in part.images} for part in (data.train, data.val))
    assert not train & test


def test_images_in_memory_are_brought_to_the_size_asked_for() -> None:
    data = load_dataset(DataConfig(), 24)
    assert data.image_size == data.val.image_size == 24


@pytest.mark.parametrize("test", ["val", "test"])
def test_a_folder_of_small_equal_images_is_loaded_to_memory(tmp_path: Path, test: str) -> None:
    data = load_dataset(DataConfig(dataset=write_folder(tmp_path, test=test)))
    assert isinstance(data.train, ImageArray)
    assert isinstance(data.val, ImageArray)
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.val.images[:, 1, 5, 5].tolist() == [50, 150]
    assert data.class_names == ("cat", "dog")
    assert data.val_name == test
    assert data.image_size == 12
    assert data.mean[0] == pytest.approx(51 / 255)


def test_preprocessing_reaches_streamed_images_and_not_those_in_memory(tmp_path: Path) -> None:
    asked = Preprocessing(crop=0.5, interpolation="bicubic")
    streamed = load_dataset(DataConfig(dataset=write_folder(tmp_path / "a", size=(40, 30))), preprocessing=asked)
    assert streamed.preprocessing == asked
    assert load_dataset(DataConfig(dataset=f"folder:{tmp_path / 'a'}")).preprocessing == Preprocessing()
    held = load_dataset(DataConfig(dataset=write_folder(tmp_path / "b")), 24, preprocessing=asked)
    assert held.preprocessing == Preprocessing(resize="both_sides", crop=1)


def test_classes_as_a_part_of_more(tmp_path: Path) -> None:
    data = load_dataset(DataConfig(dataset=write_folder(tmp_path))).among(("ant", "cat", "cow", "dog"))
    assert data.classes == 4
    assert data.val.labels.tolist() == [1, 3]
    assert data.train.labels.tolist() == [1, 1, 1, 3, 3, 3]


def test_val_is_taken_where_there_is_a_test_too(tmp_path: Path) -> None:
    write_folder(tmp_path, test="val")
    write_image(tmp_path / "test" / "cat" / "0.png", 7)
    data = load_dataset(DataConfig(dataset=f"folder:{tmp_path}"))
    assert len(data.val) == 2


@pytest.mark.parametrize("which", ["large", "not square", "first differs", "one differs"])
def test_other_folders_are_streamed(tmp_path: Path, which: str) -> None:
    size = {"large": (200, 200), "not square": (12, 20)}.get(which, (12, 12))
    name = write_folder(tmp_path, size=size)
    if which == "first differs":
        write_image(tmp_path / "train" / "dog" / "0.png", 9, (30, 30))
    if which == "one differs":
        write_image(tmp_path / "val" / "dog" / "9.png", 9, (30, 30))
    data = load_dataset(DataConfig(dataset=name, workers=0), image_size=16)
    assert isinstance(data.train, ImageFiles)
    assert data.image_size == 16
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert load_dataset(DataConfig(dataset=name), stream_size=331).image_size == 331
    assert load_dataset(DataConfig(dataset=name)).image_size == 224


def test_imagenet_is_a_folder_under_the_data_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "imagenet")
    data = load_dataset(DataConfig(dataset="imagenet", data_dir=str(tmp_path)))
    assert isinstance(data.train, ImageFiles)
    assert (data.name, data.classes, len(data.train)) == ("imagenet", 2, 6)


def break_folder(root: Path, fault: str) -> None:
    """Spoil an image folder in one way."""
    if fault == "truncated":
        path = root / "train" / "dog" / "1.png"
        path.write_bytes(path.read_bytes()[:40])
    elif fault == "text":
        (root / "val" / "dog" / "0.png").write_text("not an image")
    elif fault == "other class":
        write_image(root / "val" / "cow" / "0.png", 1)
    elif fault == "one class":
        for path in [*(root / "train" / "dog").iterdir()]:
            path.unlink()
        (root / "train" / "dog").rmdir()
    elif fault == "empty class":
        (root / "train" / "ant").mkdir()
    elif fault == "empty val":
        for path in [*(root / "val").glob("*/*.png")]:
            path.unlink()
    elif fault == "no val":
        (root / "val").rename(root / "later")
    elif fault == "no train":
        (root / "train").rename(root / "later")


@pytest.mark.parametrize(
    ("fault", "kind", "phrase"),
    [
        ("truncated", CorruptFileError, "train/dog/1.png cannot be decoded"),
        ("text", CorruptFileError, "val/dog/0.png cannot be decoded"),
        ("other class", InputError, "class 'cow' is not among those of"),
        ("one class", InputError, "holds only one class, 'cat'; at least two are needed"),
        ("empty class", InputError, "train/ant: there are no images in it"),
        ("empty val", InputError, "val: there are no images in it"),
        ("no val", InputError, "has images to train on and none to validate on"),
        ("no train", InputError, "has nothing to train on, only val"),
    ],
)
def test_a_folder_with_a_fault_is_refused_by_name(
    tmp_path: Path, fault: str, kind: type[NascliError], phrase: str
) -> None:
    name = write_folder(tmp_path)
    break_folder(tmp_path, fault)
    with pytest.raises(kind) as caught:
        load_dataset(DataConfig(dataset=name))
    assert phrase in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_broken_images_are_skipped_of_memory_as_far_as_is_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = write_folder(tmp_path)
    for path in ("train/cat/0.png", "train/dog/1.png"):
        (tmp_path / path).write_bytes(b"not an image")
    data = load_dataset(DataConfig(dataset=name, max_unreadable_images=2))
    assert isinstance(data.train, ImageArray)
    assert data.train.images[:, 0, 0, 0].tolist() == [1, 2, 100, 102]
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert [text.partition(" cannot")[0] for text in caplog.messages] == [
        f"warning: image {tmp_path}/train/cat/0.png",
        f"warning: image {tmp_path}/train/dog/1.png",
    ]
    with pytest.raises(CorruptFileError) as caught:
        load_dataset(DataConfig(dataset=name, max_unreadable_images=1))
    assert "2 images cannot be decoded, 1 may be skipped" in str(caught.value)
    assert str(caught.value).endswith("or allow for more: --set data.max_unreadable_images=N")
    with pytest.raises(CorruptFileError, match=r"or allow for more: --max-unreadable N$"):
        load_dataset(DataConfig(dataset=name, max_unreadable_images=1), allow_option="--max-unreadable N")


@pytest.mark.parametrize("side", [12, 30])
def test_each_split_names_its_own_images_that_were_skipped(tmp_path: Path, side: int) -> None:
    """Those of 12 pixels lie in memory, those of 12 x 30 are streamed."""
    name = write_folder(tmp_path, size=(12, side))
    for path in ("train/cat/0.png", "val/dog/0.png"):
        (tmp_path / path).write_bytes(b"not an image")
    data = load_dataset(DataConfig(dataset=name, max_unreadable_images=2, workers=0), 16)
    assert isinstance(data.val, ImageArray if side == 12 else ImageFiles)
    list(data.train.training_batches(torch.arange(len(data.train)), 4, 0))
    list(data.val.to(torch.device("cpu")).evaluation_batches(4))
    assert data.train.skipped == (str(tmp_path / "train/cat/0.png"),)
    assert data.val.skipped == (str(tmp_path / "val/dog/0.png"),)


def test_training_and_test_images_share_what_is_allowed(tmp_path: Path) -> None:
    name = write_folder(tmp_path, size=(40, 30))
    for path in ("train/cat/1.png", "val/dog/0.png"):
        (tmp_path / path).write_bytes(b"not an image")
    data = load_dataset(DataConfig(dataset=name, max_unreadable_images=1, workers=0), 16)
    assert len(list(data.train.training_batches(torch.arange(6), 2, 0))) == 3
    with pytest.raises(CorruptFileError, match=r"2 images .* 1 may be skipped: .*train/cat/1\.png, .*val/dog/0\.png"):
        list(data.val.evaluation_batches(2))


@pytest.mark.parametrize(
    ("dataset", "phrase"),
    [
        ("digit", "Did you mean digits?"),
        ("cifar", "Did you mean cifar10"),
        ("flowers", "Known: digits, cifar10, cifar100, imagenet, folder:PATH"),
        ("coco", "nascli detect train --dataset coco takes it"),
        ("folder", "unknown"),
        ("folder:", "Write folder:PATH"),
        ("folder:gone", "gone: no such folder"),
        ("pack:", "Write pack:FILE.h5"),
        ("pack:gone.h5", "pack gone.h5: no such file. nascli pack SRC FILE.h5 makes one"),
        ("imagenet", "data/imagenet/train: no such folder. Put the images at"),
    ],
)
def test_a_data_set_that_is_not_there_is_refused(dataset: str, phrase: str) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(DataConfig(dataset=dataset))
    assert phrase in str(caught.value)


def test_every_data_set_of_the_config_has_a_loader() -> None:
    assert list(LOADERS) == list(DATASETS)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)


@pytest.mark.usefixtures("offline")
def test_cifar_that_is_not_there_is_asked_for_at_its_place(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(DataConfig(dataset="cifar10", data_dir=str(tmp_path)))
    assert f"{tmp_path}/cifar-10-batches-py does not exist" in str(caught.value)
    assert (
        f"Put cifar-10-python.tar.gz (from https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz) into {tmp_path}/"
        in str(caught.value)
    )


@pytest.mark.usefixtures("offline")
def test_cifar_with_wrong_checksums_is_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "train").write_bytes(b"half a file")
    with pytest.raises(CorruptFileError) as caught:
        load_dataset(DataConfig(dataset="cifar100", data_dir=str(tmp_path)))
    assert f"{tmp_path}/cifar-100-python is damaged" in str(caught.value)


@pytest.mark.usefixtures("offline")
def test_cifar_that_is_there_is_read_without_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    for k, name in enumerate(names):
        pixels = np.full((4, 3072), k, dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1, 2, k % 3]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["plane", "car", "bird"]}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: Path(path).is_file())
    data = load_dataset(DataConfig(dataset="cifar10", data_dir=str(tmp_path)))
    assert isinstance(data.train, ImageArray)
    assert data.train.images.shape == (20, 3, 32, 32)
    assert data.train.images[::4, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert data.val.labels.tolist() == [0, 1, 2, 2]
    assert data.class_names == ("plane", "car", "bird")
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-batches-py"]
