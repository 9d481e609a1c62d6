"""A detector on the user's own images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nascli.config import DetectorConfig
from nascli.data.detection.dataset import Category
from nascli.detect.model import DetectorSpec, build_detector
from nascli.detect.predict import ImageReader, choose_output_folder, predict_boxes, write_predictions
from nascli.detect.visualize import compute_enlargement
from nascli.errors import CorruptFileError, InputError, NascliError
from nascli.records import read_record
from tests.detect.small_detector import small_network

CPU = torch.device("cpu")
Built = tuple[nn.Module, DetectorSpec]


@pytest.fixture(scope="module")
def built() -> Built:
    torch.manual_seed(0)
    network = small_network()
    config = DetectorConfig(pyramid_channels=16, head_channels=32, rpn_post_nms_top_n=20, box_detections_per_img=5)
    spec = DetectorSpec(network.spec, config, (Category(3, "red thing"), Category(7, "blue thing")))
    return build_detector(network, config, 2).eval(), spec


def save(path: Path, mode: str, size: tuple[int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def test_images_of_any_mode_size_and_name(tmp_path: Path, built: Built) -> None:
    paths = [
        save(tmp_path / "a" / "one.png", "L", (37, 91)),
        save(tmp_path / "b" / "one.png", "RGBA", (300, 21)),
        save(tmp_path / "b" / "ONE.png", "P", (64, 64)),
        save(tmp_path / "photo of a.dog.jpeg", "RGB", (640, 480)),
        save(tmp_path / "tiny.gif", "P", (5, 5)),
    ]
    out = tmp_path / "out"
    predictions = predict_boxes(built, ImageReader().collect(paths).files, out, device=CPU, threshold=0.0)
    names = [prediction.drawn.name for prediction in predictions]
    assert names == ["one.png", "one-2.png", "ONE-3.png", "photo of a.dog.jpg", "tiny.png"]
    write_predictions(predictions, out, 0.0)
    values = read_record(out / "predictions.json")
    assert values == {"threshold": 0.0, "images": [prediction.to_dict() for prediction in predictions]}
    for prediction in predictions:
        with Image.open(prediction.drawn) as drawn:
            factor = compute_enlargement((prediction.width, prediction.height))
            assert drawn.size == (prediction.width * factor, prediction.height * factor)
        assert len(prediction.objects) <= 5
        for each in prediction.objects:
            x, y, width, height = each.bbox
            assert (each.category_id, each.name) in ((3, "red thing"), (7, "blue thing"))
            assert x >= 0
            assert x + width <= prediction.width + 1e-3
            assert y + height <= prediction.height + 1e-3
    scores = [each.score for each in predictions[3].objects]
    assert scores == sorted(scores, reverse=True), "best first"


def test_the_threshold_is_kept(tmp_path: Path, built: Built) -> None:
    path = save(tmp_path / "a.png", "RGB", (64, 64))
    everything = predict_boxes(built, [path], tmp_path / "all", device=CPU, threshold=0.0)[0].objects
    middle = everything[2].score
    some = predict_boxes(built, [path], tmp_path / "some", device=CPU, threshold=middle)[0].objects
    assert some == tuple(each for each in everything if each.score >= middle)
    assert 0 < len(some) < len(everything)


def test_folders_stand_for_their_images_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.webp"):
        save(tmp_path / "photos" / name, "RGB", (8, 8))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    assert [path.name for path in ImageReader().collect([tmp_path / "photos"]).files] == ["a.JPG", "b.png", "c.webp"]


def test_what_cannot_be_read_is_refused_before_anything_is_begun(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", "RGB", (8, 8))
    cut = save(tmp_path / "cut.jpg", "RGB", (64, 64))
    cut.write_bytes(cut.read_bytes()[:-200])
    (tmp_path / "empty").mkdir()
    for path, error, phrase in (
        (cut, CorruptFileError, "cut.jpg cannot be decoded"),
        (tmp_path / "gone.png", InputError, "gone.png: no such file"),
        (tmp_path / "empty", InputError, "no image in this folder"),
    ):
        with pytest.raises(error, match=phrase):
            ImageReader().collect([good, path])


def test_predictions_never_replace_others_unasked(tmp_path: Path) -> None:
    assert choose_output_folder(tmp_path, "predictions", None, False) == tmp_path / "predictions"
    (tmp_path / "predictions").mkdir()
    assert choose_output_folder(tmp_path, "predictions", None, False) == tmp_path / "predictions-2"
    assert choose_output_folder(tmp_path, "predictions", None, True) == tmp_path / "predictions"
    out = tmp_path / "out"
    out.mkdir()
    assert choose_output_folder(tmp_path, "predictions", out, False) == out
    (out / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match=r"is not empty.*--overwrite"):
        choose_output_folder(tmp_path, "predictions", out, False)
    assert choose_output_folder(tmp_path, "predictions", out, True) == out
    with pytest.raises(InputError, match="is a file"):
        choose_output_folder(tmp_path, "predictions", out / "mine.txt", True)


def test_a_folder_that_cannot_be_written(tmp_path: Path, built: Built) -> None:
    path = save(tmp_path / "a.png", "RGB", (8, 8))
    (tmp_path / "file").write_text("")
    with pytest.raises(NascliError, match=r"cannot be written.*another place"):
        predict_boxes(built, [path], tmp_path / "file" / "inside", device=CPU, threshold=0.5)
