"""Streaming: what a batch holds depends on the files and the seed, and on nothing else."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nascli.config import Preprocessing
from nascli.data.dataset import UnreadableImages
from nascli.data.images.decoding import decode_image, image_to_tensor
from nascli.data.streaming import ImageFiles, Window, random_window
from nascli.errors import CorruptFileError, NascliError


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    """Nine noisy images of several sizes, shades and formats."""
    noise = np.random.default_rng(0)
    paths = []
    for k in range(9):
        pixels = noise.integers(0, 256, (30 + 5 * k, 60 - 3 * k, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).convert("L" if k == 4 else "RGB")
        paths.append(tmp_path / f"{k}.{'jpg' if k % 2 else 'png'}")
        image.save(paths[-1])
    return ImageFiles(tuple(paths), torch.arange(9) % 3, image_size=24, workers=0)


def collect(files: ImageFiles, seed: int) -> torch.Tensor:
    return torch.cat([images for images, _ in files.training_batches(torch.arange(9), 2, seed)])


def test_batches_are_the_same_with_and_without_workers(files: ImageFiles) -> None:
    alone, together = files, ImageFiles(files.paths, files.labels, 24, workers=2)
    assert torch.equal(collect(alone, 5), collect(together, 5))
    for (images, labels), (others, same) in zip(
        alone.evaluation_batches(4), together.evaluation_batches(4), strict=True
    ):
        assert torch.equal(images, others)
        assert torch.equal(labels, same)


def test_batches_that_are_kept_do_not_change_when_others_come(files: ImageFiles) -> None:
    """More batches than there are places in shared memory, and a reader that is slower than the processes."""
    order = torch.arange(36) % 9
    together = ImageFiles(files.paths, files.labels, 24, workers=2)
    kept = []
    for images, labels in together.training_batches(order, 3, 5):
        time.sleep(0.02)
        kept.append((images, labels, images.clone()))
    assert len(kept) == 12
    assert all(torch.equal(images, then) for images, _, then in kept)
    alone = [(images, labels) for images, labels in files.training_batches(order, 3, 5)]
    for (images, labels, _), (others, same) in zip(kept, alone, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, same)


def test_shared_memory_that_does_not_suffice_is_said(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensor: torch.Tensor) -> None:
        raise RuntimeError("unable to allocate")

    monkeypatch.setattr(torch.Tensor, "share_memory_", fail)
    assert len(collect(files, 5)) == 9
    with pytest.raises(NascliError, match=r"no shared memory for 3 batches, .* of 1 processes .*--set data\.workers=0"):
        collect(ImageFiles(files.paths, files.labels, 24, workers=1), 5)


def test_crops_follow_from_the_seed_and_the_position(files: ImageFiles) -> None:
    first = collect(files, 5)
    assert first.shape == (9, 3, 24, 24)
    assert first.dtype == torch.uint8
    assert torch.equal(first, collect(files, 5))
    assert not torch.equal(first, collect(files, 6))
    (later, labels), *_ = files.training_batches(torch.tensor([7, 3]), 2, 5)
    assert torch.equal(later, first[[7, 3]])
    assert labels.tolist() == [1, 0]


@given(height=st.integers(1, 500), width=st.integers(1, 500), seed=st.integers(0, 2**63 - 1))
def test_a_random_window_lies_inside_and_has_the_shape_of_inception_crops(height: int, width: int, seed: int) -> None:
    window = random_window(height, width, seed)
    assert window == random_window(height, width, seed)
    assert 0 <= window.top < window.bottom <= height
    assert 0 <= window.left < window.right <= width
    rows, columns = window.bottom - window.top, window.right - window.left
    if 3 * height <= 4 * width <= 16 / 3 * height:  # otherwise all of a thin image may be taken
        assert (rows - 0.5) * 3 / 4 <= columns + 0.5
        assert (columns - 0.5) * 3 / 4 <= rows + 0.5
        assert (rows + 0.5) * (columns + 0.5) >= 0.05 * height * width


def test_random_windows_are_everywhere_and_of_every_size() -> None:
    windows = [random_window(300, 400, seed) for seed in range(2000)]
    areas = np.array([(w.bottom - w.top) * (w.right - w.left) / 120_000 for w in windows])
    assert areas.min() < 0.06
    assert areas.max() > 0.9
    assert abs(np.mean(areas < 0.3) - 0.25 / 0.71) < 0.04  # uniform from 0.05 on, but the largest often do not fit
    assert min(w.top for w in windows) == min(w.left for w in windows) == 0
    assert max(w.bottom for w in windows) == 300
    assert max(w.right for w in windows) == 400


def test_of_an_image_too_thin_for_any_crop_the_middle_is_taken() -> None:
    assert random_window(100, 2, 0) == Window(48, 51, 0, 2)
    assert random_window(2, 100, 0) == Window(0, 2, 48, 51)


def test_a_training_crop_is_the_window_resized_to_within_rounding(files: ImageFiles) -> None:
    crops = collect(files, 5)
    for position in (0, 2, 4):  # lossless ones
        image = decode_image(files.paths[position])
        top, bottom, left, right = random_window(image.height, image.width, 5 + position)
        part = image.crop((left, top, right, bottom)).resize((24, 24), Image.Resampling.BILINEAR)
        difference = (crops[position].int() - image_to_tensor(part).int()).abs()
        assert int(difference.max()) <= 1


def test_streaming_leaves_the_global_generator_alone(files: ImageFiles) -> None:
    state = torch.get_rng_state()
    collect(files, 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluation_sees_the_central_seven_eighths(tmp_path: Path) -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[4:60, 4:60] = 200
    Image.fromarray(image).save(tmp_path / "a.png")
    files = ImageFiles((tmp_path / "a.png",), torch.zeros(1, dtype=torch.int64), image_size=56, workers=0)
    (images, _), *_ = files.evaluation_batches(8)
    assert bool((images == 200).all())


@pytest.mark.parametrize("size", [(90, 60), (60, 90)])
@pytest.mark.parametrize(
    ("preprocessing", "resized", "method"),
    [
        (Preprocessing(), ((60, 40), (40, 60)), Image.Resampling.BILINEAR),  # 35 / 0.875 = 40
        (Preprocessing(crop=0.911, interpolation="bicubic"), ((57, 38), (38, 57)), Image.Resampling.BICUBIC),
        (Preprocessing(resize="both_sides", crop=1), ((35, 35), (35, 35)), Image.Resampling.BILINEAR),
        (Preprocessing(resize="both_sides", crop=0.7), ((50, 50), (50, 50)), Image.Resampling.BILINEAR),
    ],
)
def test_evaluation_prepares_images_as_it_is_told(
    size: tuple[int, int],
    preprocessing: Preprocessing,
    resized: tuple[tuple[int, int], tuple[int, int]],
    method: Image.Resampling,
    tmp_path: Path,
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    files = ImageFiles((tmp_path / "a.png",), torch.zeros(1, dtype=torch.int64), 35, 0, preprocessing=preprocessing)
    (images, _), *_ = files.evaluation_batches(1)
    width, height = resized[size[0] < size[1]]
    left, top = round((width - 35) / 2), round((height - 35) / 2)
    expected = image.resize((width, height), method).crop((left, top, left + 35, top + 35))
    assert torch.equal(images[0], image_to_tensor(expected))
    plain = ImageFiles(files.paths, files.labels, 35, 0)
    (varied, _), (same, _) = (next(iter(f.training_batches(torch.arange(1), 1, 5))) for f in (files, plain))
    assert torch.equal(varied, same)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_named_even_from_a_worker(files: ImageFiles, tmp_path: Path, workers: int) -> None:
    truncate(tmp_path / "6.png")
    broken = ImageFiles(files.paths, files.labels, 24, workers)
    with pytest.raises(CorruptFileError, match=rf"^image {tmp_path}/6.png cannot be decoded: [^\n]*$"):
        collect(broken, 0)


def truncate(*paths: Path) -> None:
    for path in paths:
        path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_that_is_allowed_is_named_once_and_the_next_one_stands_in(
    files: ImageFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    whole = collect(files, 5)
    truncate(tmp_path / "3.jpg", tmp_path / "8.png")
    lenient = ImageFiles(files.paths, files.labels, 24, workers, unreadable=UnreadableImages(2))
    found = collect(lenient, 5)
    assert torch.equal(found, collect(lenient, 5))
    assert torch.equal(found, collect(ImageFiles(files.paths, files.labels, 24, 0, unreadable=UnreadableImages(7)), 5))
    good = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(found[good], whole[good])
    assert found.shape == whole.shape
    labels = torch.cat([labels for _, labels in lenient.training_batches(torch.arange(9), 4, 5)])
    assert labels.tolist() == [0, 1, 2, 1, 1, 2, 0, 1, 0]  # those of 4 and of 0 in the places of 3 and 8
    warnings = [text for text in caplog.messages if "3.jpg" in text]
    assert len(warnings) == 2  # one of each split that counts for itself
    assert warnings[0].startswith(f"warning: image {tmp_path}/3.jpg cannot be decoded: ")
    assert "it is skipped (1 of 2 allowed)" in warnings[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_in_evaluation_a_broken_file_is_skipped_and_no_other_counted_for_it(
    files: ImageFiles, tmp_path: Path, workers: int
) -> None:
    whole = torch.cat([images for images, _ in files.evaluation_batches(4)])
    broken = [2, 3, 6, 8]  # one of the first batch's end, its neighbor, one in the middle, and a batch of its own
    truncate(*(Path(str(files.paths[k])) for k in broken))
    lenient = ImageFiles(files.paths, files.labels, 24, workers, unreadable=UnreadableImages(4))
    batches = list(lenient.evaluation_batches(4))
    good = [k for k in range(9) if k not in broken]
    assert [len(labels) for _, labels in batches] == [2, 3]
    assert torch.equal(torch.cat([images for images, _ in batches]), whole[good])
    assert torch.equal(torch.cat([labels for _, labels in batches]), files.labels[good])
    assert lenient.unreadable.names == tuple(str(files.paths[k]) for k in broken)


@pytest.mark.parametrize("workers", [0, 2])
def test_more_broken_files_than_allowed_are_all_named(files: ImageFiles, tmp_path: Path, workers: int) -> None:
    truncate(tmp_path / "1.jpg", tmp_path / "6.png", tmp_path / "8.png")
    lenient = ImageFiles(files.paths, files.labels, 24, workers, unreadable=UnreadableImages(2, "--more N"))
    for _ in range(2):  # nothing is forgotten by asking again
        with pytest.raises(CorruptFileError) as caught:
            collect(lenient, 0)
        names = ", ".join(f"{tmp_path}/{name}" for name in ("1.jpg", "6.png", "8.png"))
        assert str(caught.value) == (
            f"3 images cannot be decoded, 2 may be skipped: {names}. "
            "Replace or remove the file, or allow for more: --more N"
        )


def test_a_split_without_any_image_left_is_an_error(files: ImageFiles, tmp_path: Path) -> None:
    truncate(tmp_path / "0.png", tmp_path / "1.jpg")
    lenient = files.take(torch.tensor([0, 1]))
    lenient = ImageFiles(lenient.paths, lenient.labels, 24, 0, unreadable=UnreadableImages(5))
    with pytest.raises(CorruptFileError, match="none of the 2 images of a split can be decoded"):
        list(lenient.training_batches(torch.arange(2), 1, 0))
    assert list(lenient.evaluation_batches(1)) == []  # another process may have some


def test_decoding_turns_upright_and_to_rgb(tmp_path: Path) -> None:
    turned = Image.new("RGB", (20, 10), (9, 9, 9))
    exif = turned.getexif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    turned.save(tmp_path / "turned.jpg", exif=exif)
    Image.new("CMYK", (20, 10)).save(tmp_path / "inks.jpg")
    assert image_to_tensor(decode_image(tmp_path / "turned.jpg")).shape == (3, 20, 10)
    assert image_to_tensor(decode_image(tmp_path / "inks.jpg")).shape == (3, 10, 20)


def test_a_part_of_the_files_keeps_their_labels(files: ImageFiles) -> None:
    part = files.take(torch.tensor([8, 1]))
    assert part.paths == (files.paths[8], files.paths[1])
    assert part.labels.tolist() == [2, 1]
    assert len(part) == 2
