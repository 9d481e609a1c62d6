"""A detector's exported file finds the detector's boxes, on images of any size, and says how to feed it."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from nascli.config import CellNetworkConfig, DetectorConfig
from nascli.data.detection.dataset import Category
from nascli.data.images.decoding import image_to_tensor
from nascli.detect import export
from nascli.detect.compare import Answer, draw_images, measure_difference
from nascli.detect.export import EXPORTS
from nascli.detect.inference import to_float
from nascli.detect.model import DetectorSpec
from nascli.detect.whole import WholeDetector
from nascli.errors import InputError, NascliError
from nascli.genotype.resolve import zoo_genotype
from nascli.models.deploy.openvino import open_core
from nascli.models.families import build_network
from nascli.models.interface import ImageClassifier
from tests.cells import build_cells
from tests.detect.small_detector import small_network
from tests.detect.test_engines import detect, draw, prepare
from tests.fakes import hide_package
from tests.published import CELL_NAMES

CATEGORIES = (Category(3, "cat"), Category(7, "Hündchen <&>"))
SIZES = [(64, 64, 4), (49, 98, 2), (101, 60, 5), (5, 5, 0), (3, 300, 0), (240, 320, 9)]
"""H, W and squares of images: one whose shorter side torchvision rounds down, tiny ones, a strip, a large one."""


def make(network: ImageClassifier, **settings: object) -> tuple[nn.Module, DetectorSpec]:
    """A detector that finds boxes, with scores that are not all 1, and its description."""
    numbers = {"min_size": 64, "max_size": 96, "box_score_thresh": 0.0, **settings}
    found: Any = prepare(network, **numbers)
    side, channels = 7 if numbers.get("head", "fpn") == "fpn" else 17, found.backbone.out_channels
    with torch.no_grad():
        found.train().roi_heads.box_head(torch.randn(16, channels, side, side))  # statistics of a head with batch norms
    found.eval()
    return found, DetectorSpec(network.spec, DetectorConfig.model_validate(numbers), CATEGORIES)


def open_onnx(path: Path) -> Answer:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = ["boxes", "labels", "scores"]
    return lambda image: [torch.from_numpy(each) for each in session.run(names, {"image": image.numpy()})]


def open_ir(path: Path) -> Answer:
    compiled = open_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def answer(image: Tensor) -> list[Tensor]:
        given = compiled(image.numpy())
        return [torch.from_numpy(given[name].copy()) for name in ("boxes", "labels", "scores")]

    return answer


OPEN: dict[str, Callable[[Path], Answer]] = {".onnx": open_onnx, ".xml": open_ir}


def assert_same(found: nn.Module, answer: Answer, image: Tensor) -> int:
    """The number of boxes that both find."""
    (expected,) = detect(found, [image])
    difference = measure_difference(answer(image), tuple(expected[name] for name in ("boxes", "labels", "scores")), 320)
    assert difference is not None, image.shape
    assert max(difference) < 1e-4
    return len(expected["boxes"])


@dataclass(frozen=True)
class Written:
    """A detector with head fpn, and the folder of its two files."""

    found: nn.Module
    spec: DetectorSpec
    before: dict[str, Tensor]
    folder: Path

    @property
    def answers(self) -> dict[str, Answer]:
        return {ending: open_file(self.folder / f"model{ending}") for ending, open_file in OPEN.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("exported") / "new"
    found, spec = make(small_network())
    before = {name: value.clone() for name, value in found.state_dict().items()}
    for ending, write in EXPORTS.items():
        made = write(found, spec, folder / f"model{ending}")
        files = list(folder.glob("*.onnx" if ending == ".onnx" else "*.[xb]*"))
        assert made.size == sum(each.stat().st_size for each in files)
        assert len(made.found) == 5
        assert max(made.found) > 0
        assert max(made.difference, made.shift) < 1e-4
    return Written(found, spec, before, folder)


def test_files_find_the_boxes_on_images_of_any_size(written: Written) -> None:
    assert sorted(path.name for path in written.folder.iterdir()) == ["model.bin", "model.onnx", "model.xml"]
    for answer in written.answers.values():
        assert sum(assert_same(written.found, answer, draw(*size)) for size in SIZES)
    here = str(Path(export.__file__).parents[2]).encode()
    assert not any(here in path.read_bytes() for path in written.folder.iterdir())


def test_the_detector_stays_as_it_was(written: Written) -> None:
    after = written.found.state_dict()
    assert after.keys() == written.before.keys()
    assert all(torch.equal(value, written.before[name]) for name, value in after.items())


@pytest.mark.parametrize("ending", EXPORTS)
@pytest.mark.parametrize(
    ("head", "network"),
    [
        ("nasnet", "imagenet"),
        pytest.param("fpn", "imagenet", marks=pytest.mark.slow),
        pytest.param("nasnet", "cifar", marks=pytest.mark.slow),
    ],
)
def test_other_heads_and_stems_are_exported(head: str, network: str, ending: str, tmp_path: Path) -> None:
    found, spec = make(small_network(network), head=head)
    answer = OPEN[ending](EXPORTS[ending](found, spec, tmp_path / f"model{ending}").path)
    assert sum(assert_same(found, answer, draw(*size)) for size in SIZES)


@pytest.mark.parametrize("ending", [".xml", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_on_images_without_objects_a_file_finds_nothing(ending: str, tmp_path: Path) -> None:
    found, spec = make(small_network(), box_score_thresh=0.9)
    made = EXPORTS[ending](found, spec, tmp_path / f"model{ending}")
    assert set(made.found) == {0}
    boxes, labels, scores = OPEN[ending](made.path)(draw(70, 50, 0))
    assert (boxes.shape, labels.shape, scores.shape) == ((0, 4), (0,), (0,))


@pytest.mark.slow
@pytest.mark.parametrize("ending", EXPORTS)
@pytest.mark.parametrize("settings", [{"resize": "both_sides", "max_size": 64}, {"box_detections_per_img": 3}], ids=str)
def test_other_settings_are_exported(settings: dict[str, object], ending: str, tmp_path: Path) -> None:
    found, spec = make(build_network("resnet-20", image_size=32), **settings)
    answer = OPEN[ending](EXPORTS[ending](found, spec, tmp_path / f"model{ending}").path)
    assert sum(assert_same(found, answer, draw(*size)) for size in SIZES)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["fpn", "nasnet"])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_detectors_of_every_published_cell_are_exported(name: str, head: str, tmp_path: Path) -> None:
    numbers = {"preset": "imagenet-mobile", "filters": 8, "cells_per_stage": 2, "stem_filters": 8}
    network = build_cells(zoo_genotype(name), CellNetworkConfig.model_validate(numbers), classes=4)
    found, spec = make(network, head=head)
    for ending, write in EXPORTS.items():
        path = write(found, spec, tmp_path / f"model{ending}").path
        answer = OPEN[ending](path)
        for size in SIZES[3:]:
            assert_same(found, answer, draw(*size))


def test_files_say_how_to_feed_them(written: Written) -> None:
    session = onnxruntime.InferenceSession(written.folder / "model.onnx")
    assert session.get_inputs()[0].shape == [3, "height", "width"]
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["categories"]) == [{"id": 3, "name": "cat"}, {"id": 7, "name": "Hündchen <&>"}]
    assert json.loads(said["mean"]) == [0.4, 0.5, 0.6]
    assert (said["head"], said["resize"], json.loads(said["max_size"])) == ("fpn", "shorter_side", 96)
    model = open_core().read_model(written.folder / "model.xml")
    assert {key: model.get_rt_info(["nascli", key]).astype(str) for key in said} == said


def test_files_refuse_what_is_no_image(written: Written) -> None:
    for answer in written.answers.values():
        for image in (torch.rand(1, 3, 64, 64), torch.rand(4, 64, 64), torch.rand(64, 64)):
            with pytest.raises(Exception, match=r"(?i)dim|shape|rank"):
                answer(image)


def run_documented(name: str, folder: Path) -> Any:  # noqa: ANN401 - what it printed as JSON
    """Run the script of the documentation that imports a package, where there is no nascli and no torch."""
    text = Path(__file__).parents[2].joinpath("docs", "detection.md").read_text(encoding="utf-8")
    (script,) = (
        each.split("```")[0] for each in text.split("```python\n")[1:] if f"import {name}" in each.split("```")[0]
    )
    lines = ["import sys", "sys.modules['nascli'] = sys.modules['torch'] = sys.modules['openvino_telemetry'] = None"]
    lines += [
        script,
        "import json",
        "print(json.dumps([boxes.tolist(), labels.tolist(), scores.tolist(), categories]))",
    ]
    done = subprocess.run([sys.executable, "-I", "-c", "\n".join(lines)], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_documented_scripts_find_the_boxes(written: Written) -> None:
    image = Image.fromarray((255 * draw(60, 90, 5)).byte().permute(1, 2, 0).numpy())
    image.save(written.folder / "photo.jpg", quality=95)
    pixels = to_float(image_to_tensor(Image.open(written.folder / "photo.jpg")), torch.device("cpu"))
    for name in ("onnxruntime", "openvino"):
        boxes, labels, scores, categories = run_documented(name, written.folder)
        given = torch.tensor(boxes), torch.tensor(labels), torch.tensor(scores)
        assert assert_same(written.found, partial(lambda given, image: given, given), pixels)
        assert [each["name"] for each in categories] == [each.name for each in CATEGORIES]


@pytest.mark.parametrize("ending", [".xml", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_a_file_with_other_boxes_is_not_written(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"model{ending}"
    path.write_text("of before")

    def change(detector: nn.Module) -> WholeDetector:
        other = WholeDetector(detector)
        nn.init.constant_(other.heads.box_predictor.bbox_pred.bias, 0.3)
        return other

    monkeypatch.setattr(export, "WholeDetector", change)
    with pytest.raises(NascliError, match="other boxes than the detector on images of 64x64"):
        EXPORTS[ending](*make(small_network()), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "of before"


@pytest.mark.parametrize(("package", "ending"), [("onnxruntime", ".onnx"), ("onnx", ".xml"), ("openvino", ".xml")])
def test_what_is_not_installed_is_named(package: str, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, package)
    extra = "openvino" if package == "openvino" else "onnx"
    with pytest.raises(InputError, match=rf"(?i){package}, which is not installed.*nascli\[{extra}\]"):
        EXPORTS[ending](*make(small_network()), Path(f"model{ending}"))


def test_answers_are_compared_in_any_order_and_each_box_once() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 20]])
    labels, scores = torch.tensor([1, 2]), torch.tensor([0.5, 0.5])
    answer = boxes, labels, scores
    assert measure_difference([each.flip(0) for each in answer], answer, 20) == (0, 0)
    near = measure_difference((boxes + 1e-3, labels, scores + 1e-4), answer, 20)
    assert near == pytest.approx((1e-4, 5e-5), rel=1e-2)
    for other in (
        (boxes[:1], labels[:1], scores[:1]),
        (boxes, labels.flip(0), scores),
        (boxes + 1, labels, scores),
        (boxes, labels, scores + 0.01),
        (boxes * torch.nan, labels, scores),
        (boxes[[0, 0]], labels[[0, 0]], scores),
    ):
        assert measure_difference(other, answer, 20) is None


def test_images_that_are_compared_are_of_several_sizes() -> None:
    kinds = [list(kind) for kind in draw_images(DetectorConfig(min_size=64, max_size=96))]
    assert len({image.shape for kind in kinds for image in kind}) == 3
    assert all(len(kind) > 1 and not torch.equal(kind[0], kind[1]) for kind in kinds)
