"""The detector over built networks: taps, anchors, frozen batch norms, its folder on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import MultiScaleRoIAlign

from nascli.config import DETECTION_HEADS, DetectorConfig
from nascli.data.detection.dataset import Category
from nascli.detect.backbone import PyramidBackbone
from nascli.detect.heads import HEADS, anchor_sizes
from nascli.detect.model import (
    DetectorSpec,
    build_detector,
    is_detector,
    load_detector,
    write_detector,
)
from nascli.errors import CorruptFileError, InputError
from nascli.models.families import build_network
from nascli.models.serialization import WEIGHTS_FILE, save_weights
from tests.detect.small_detector import small_network
from tests.records import forget_checksum

CPU = torch.device("cpu")
CONFIG = DetectorConfig(pyramid_channels=16, head_channels=32, rpn_post_nms_top_n=20, box_detections_per_img=5)
CATEGORIES = (Category(3, "red thing"), Category(7, "blue thing"))


@pytest.mark.parametrize(
    ("stem", "taps", "strides"),
    [("cifar", ("stage2", "stage3"), (2, 4, 8)), ("imagenet", ("stage1", "stage2", "stage3"), (8, 16, 32, 64))],
)
@pytest.mark.parametrize("size", [(96, 64), (75, 131)])
def test_the_pyramid_taps_stages_of_stride_two_and_more(
    stem: str, taps: tuple[str, ...], strides: tuple[int, ...], size: tuple[int, int]
) -> None:
    backbone = PyramidBackbone(small_network(stem), 16)
    levels = backbone(torch.rand(2, 3, *size))
    assert (backbone.taps, backbone.strides) == (taps, strides)
    assert tuple(levels) == (*taps, "pool")
    for level, stride in zip(levels.values(), strides, strict=True):
        assert level.shape[:2] == (2, 16)
        for side, whole in zip(level.shape[2:], size, strict=True):
            assert abs(side - whole / stride) <= 1


def test_what_detection_does_not_use_is_left_out() -> None:
    names = {
        name.split(".")[1] for name, _ in PyramidBackbone(small_network(), 16).named_parameters() if "network" in name
    }
    assert names == {"stem", "cells"}


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_no_strided_pointwise_convolution_reaches_onednn(stem: str) -> None:
    """Its backward pass corrupts memory on channels-last maps of fewer than 16 channels (oneDNN issue 6035)."""
    convolutions = [m for m in PyramidBackbone(small_network(stem), 16).modules() if isinstance(m, nn.Conv2d)]
    assert [m for m in convolutions if m.kernel_size == (1, 1) and m.stride != (1, 1)] == []
    assert len(convolutions) > 10


def test_frozen_batch_norms_keep_statistics_and_scale() -> None:
    backbone = PyramidBackbone(small_network(), 16, freeze_batch_norm=True).train()
    norms = [module for module in backbone.network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=1.0)
    sum(level.square().mean() for level in backbone(torch.rand(2, 3, 64, 64)).values()).backward()
    optimizer.step()
    assert len(norms) > 5
    assert all(torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True))  # type: ignore[arg-type]
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)
    assert backbone.training
    assert not any(norm.training for norm in norms)


def test_every_head_has_a_meaning_and_a_builder() -> None:
    assert list(HEADS) == list(DETECTION_HEADS)


def test_any_classifier_is_a_backbone_of_the_pyramid_and_the_papers_head_says_what_it_lacks() -> None:
    detector: Any = build_detector(build_network("resnet-20", image_size=64), CONFIG, 2)
    assert not hasattr(detector.backbone.network, "classifier")
    with torch.no_grad():
        (output,) = detector.eval()([torch.rand(3, 70, 50)])
    assert len(output["boxes"]) == len(output["scores"]) <= 5
    with pytest.raises(InputError, match=r"resnet-20: .*cannot be restarted at stage 3.*--head fpn"):
        build_detector(build_network("resnet-20"), CONFIG.model_copy(update={"head": "nasnet"}), 2)


def test_anchor_sizes_double_a_level_with_even_steps_between() -> None:
    config = DetectorConfig(anchor_size=16, anchor_scales=2)
    first, second = anchor_sizes(config, 2)
    assert list(first) == pytest.approx([16, 16 * 2**0.5])
    assert list(second) == pytest.approx([32, 32 * 2**0.5])


def test_training_gives_four_losses_and_use_gives_boxes_in_the_image() -> None:
    torch.manual_seed(0)
    detector = build_detector(small_network(), CONFIG, 2).train()
    images = [torch.rand(3, 50, 80), torch.rand(3, 90, 40)]
    targets = [
        {"boxes": torch.tensor([[5.0, 5.0, 30.0, 40.0]]), "labels": torch.tensor([2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},  # a negative
    ]
    losses = detector(images, targets)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    with torch.no_grad():
        for image, output in zip(images, detector.eval()(images), strict=True):
            assert len(output["boxes"]) <= 5
            assert set(output["labels"].tolist()) <= {1, 2}
            assert (output["boxes"][:, 2] <= image.shape[2]).all()
            assert (output["boxes"][:, 3] <= image.shape[1]).all()


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_crops_know_their_strides_without_having_seen_a_image(stem: str) -> None:
    """torchvision finds the same on images of usual sizes, and other strides where the first ones are small."""
    detector: Any = build_detector(small_network(stem), CONFIG, 2)
    crops = detector.roi_heads.box_roi_pool
    fresh = MultiScaleRoIAlign(crops.featmap_names, 7, 2)
    fresh(detector.backbone(torch.rand(1, 3, 128, 128)), [torch.tensor([[8.0, 8.0, 40.0, 50.0]])], [(128, 128)])
    assert crops.scales == fresh.scales
    assert vars(crops.map_levels) == vars(fresh.map_levels)


def test_images_are_normalized_as_the_backbone_was_trained() -> None:
    transform: Any = build_detector(small_network(), CONFIG, 2).transform
    assert (transform.image_mean, transform.image_std) == ([0.4, 0.5, 0.6], [0.2, 0.2, 0.2])


@pytest.mark.parametrize("size", [(1, 7000), (7000, 1), (1, 1), (5, 6400), (64, 96), (1001, 1502)])
def test_an_image_of_any_shape_keeps_a_pixel_and_its_boxes(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nascli.detect.model.REDUCED_ABOVE", 1)  # the last size is a very large one
    height, width = size
    transform: Any = build_detector(small_network(), DetectorConfig(min_size=64, max_size=64), 2).transform
    target = {"boxes": torch.tensor([[0.0, 0.0, width, height / 2]]), "labels": torch.tensor([1])}
    images, (moved,) = transform([torch.rand(3, height, width)], [target])
    ((rows, columns),) = images.image_sizes
    assert 1 <= min(rows, columns) <= max(rows, columns) <= 64
    torch.testing.assert_close(moved["boxes"], torch.tensor([[0.0, 0.0, columns, rows / 2]]))
    (found,) = transform.eval().postprocess([moved], images.image_sizes, [size])
    torch.testing.assert_close(found["boxes"], target["boxes"])


@pytest.mark.parametrize("training", [True, False])
def test_the_shorter_side_gets_its_length_whatever_it_was(training: bool) -> None:
    config = DetectorConfig(min_size=64, max_size=96)
    detector: Any = build_detector(small_network(), config, 2).train(training)
    for length in range(33, 120):  # 49 * (64 / 49) is less than 64 in floating point, and so are others
        wide, high, flat = (
            torch.rand(3, *size) for size in ((length, length + 9), (length + 9, length), (length, 200))
        )
        images, _ = detector.transform([wide, high, flat])
        assert [min(size) for size in images.image_sizes[:2]] == [64, 64]
        assert max(images.image_sizes[2]) == 96 or min(images.image_sizes[2]) == 64
        assert images.image_sizes[0] == (64, 64 * (length + 9) // length)


def test_a_strip_is_resized_once() -> None:
    """What is computed from an image follows from its size alone, and from nothing else, whatever the size is."""
    transform: Any = build_detector(small_network(), DetectorConfig(min_size=64, max_size=64), 2).eval().transform
    strip = torch.rand(3, 3, 300)
    images, _ = transform([strip])
    plain = torch.nn.functional.interpolate(transform.normalize(strip)[None], (1, 64), mode="bilinear")
    assert images.image_sizes == [(1, 64)]
    torch.testing.assert_close(images.tensors[:, :, :1], plain)


def test_contradicting_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"max_size 64 is less than detector\.min_size 96"):
        build_detector(small_network(), DetectorConfig(max_size=64), 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network = small_network()
    spec = DetectorSpec(network.spec, CONFIG, CATEGORIES)
    write_detector(tmp_path, spec)
    torch.manual_seed(1)
    save_weights(tmp_path / WEIGHTS_FILE, build_detector(network, CONFIG, 2))
    return tmp_path


def test_a_detector_comes_back_from_its_folder(folder: Path) -> None:
    first, spec = load_detector(folder, CPU)
    second, _ = load_detector(folder, CPU)
    assert (spec.config, spec.categories, spec.class_names) == (CONFIG, CATEGORIES, ("red thing", "blue thing"))
    assert not first.training
    image = torch.rand(3, 70, 50)
    with torch.no_grad():
        ours, theirs = first([image])[0], second([image])[0]
    assert all(torch.equal(ours[key], theirs[key]) for key in ("boxes", "labels", "scores"))
    assert is_detector(folder)
    assert not is_detector(folder.parent)


def edit(name: str, key: str, value: object) -> Callable[[Path], None]:
    def mutate(folder: Path) -> None:
        forget_checksum(folder / name, **{key: value})

    return mutate


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncate(name: str) -> Callable[[Path], None]:
    def mutate(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])

    return mutate


@pytest.mark.parametrize(
    ("mutate", "error", "phrase"),
    [
        (remove("weights.safetensors"), InputError, "Finish the run with: nascli detect --resume"),
        (remove("detector.json"), InputError, "detector.json"),
        (remove("network.json"), InputError, "network.json"),
        (truncate("weights.safetensors"), CorruptFileError, "weights.safetensors are damaged"),
        (truncate("detector.json"), CorruptFileError, "detector.json is not JSON"),
        (edit("detector.json", "schema", 2), InputError, "Upgrade nascli"),
        (edit("detector.json", "detector", {"min_sise": 3}), InputError, "Did you mean min_size?"),
        (edit("detector.json", "categories", [{"id": 1}]), CorruptFileError, "not a detector"),
        (edit("detector.json", "categories", [{"id": True, "name": "a"}]), CorruptFileError, "not a detector"),
        (edit("detector.json", "detector", {"min_size": True}), InputError, "min_size = True"),
        (edit("network.json", "classes", True), InputError, "classes = True"),
        (edit("detector.json", "categories", [{"id": 1, "name": "a"}]), InputError, "roi_heads"),
    ],
)
def test_damaged_folders(folder: Path, mutate: Callable[[Path], None], error: type[Exception], phrase: str) -> None:
    mutate(folder)
    with pytest.raises(error) as caught:
        load_detector(folder, CPU)
    assert phrase in str(caught.value)
