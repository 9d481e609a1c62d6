"""The paper's head: stage 3 of the network on the crop of each proposal."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nascli.config import (
    CellNetworkConfig,
    DetectDataConfig,
    DetectorConfig,
    DetectRecipe,
    DetectTrainConfig,
    find_recipe,
    load_recipe,
)
from nascli.data.detection.dataset import Category
from nascli.data.detection.registry import load_detection_data
from nascli.detect.job import prepare_detect_job, run_detect_job
from nascli.detect.model import (
    DetectorSpec,
    build_detector,
    load_detector,
    write_detector,
)
from nascli.detect.stage3_head import STAGE, SingleScaleBackbone, SingleScaleRoIPool
from nascli.engine.estimate import LiveBytes
from nascli.engine.task import Run
from nascli.errors import InputError
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import Block, CellSpec
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.network import CellNetwork
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import WEIGHTS_FILE, save_weights
from tests.cells import build_cells
from tests.detect.coco_folder import write_coco
from tests.detect.small_detector import small_network

CPU = torch.device("cpu")
CONFIG = DetectorConfig(
    head="nasnet",
    pyramid_channels=8,
    roi_size=5,
    min_size=64,
    max_size=64,
    anchor_size=8,
    rpn_post_nms_top_n=12,
    box_batch_size_per_image=6,
    box_detections_per_img=5,
    box_score_thresh=0,
)
OLDER = CellSpec(blocks=(Block(inputs=(0, 0), ops=("sep_conv_3x3", "conv_1x1")),), concat=(2,))
NEWER = CellSpec(blocks=(Block(inputs=(1, 1), ops=("sep_conv_3x3", "conv_1x1")),), concat=(2,))


def network_of(cell: str | CellSpec, stem: str = "cifar", **numbers: object) -> CellNetwork:
    preset = "cifar10" if stem == "cifar" else "imagenet-mobile"
    least = {"preset": preset, "filters": 4, "cells_per_stage": 1, "stem_filters": 4, "batch_norm_momentum": 1.0}
    genotype = (
        zoo_genotype(cell)
        if isinstance(cell, str)
        else CellGenotype(name="one input", space="own", normal=cell, reduction=cell)
    )
    return build_cells(genotype, CellNetworkConfig.model_validate(least | numbers), classes=3)


def make(network: ImageClassifier, **changes: object) -> Any:  # noqa: ANN401
    torch.manual_seed(0)
    return build_detector(network, CONFIG.model_copy(update=changes), 2)


def scenes() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images, one of them without a box."""
    noise = torch.Generator().manual_seed(1)
    images = [torch.rand(3, 64, 48, generator=noise), torch.rand(3, 40, 64, generator=noise)]
    boxes = torch.tensor([[5.0, 5.0, 30.0, 40.0], [8.0, 30.0, 40.0, 60.0]])
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return images, [{"boxes": boxes, "labels": torch.tensor([2, 1])}, empty]


def backward(detector: nn.Module) -> dict[str, Tensor]:
    """The losses of a step, always with the same draws; gradients are there afterwards."""
    torch.manual_seed(4)
    losses: dict[str, Tensor] = detector.train()(*scenes())
    torch.autograd.backward(sum(losses.values(), start=torch.zeros(())))
    return losses


def heard(detector: Any) -> list[tuple[int, ...]]:  # noqa: ANN401
    """Shapes of what the head will be given."""
    shapes: list[tuple[int, ...]] = []
    detector.roi_heads.box_head.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    return shapes


CASES: dict[str, tuple[str | CellSpec, str, dict[str, object]]] = {
    "nasnet-a": ("nasnet-a", "imagenet", {"cells_per_stage": 2}),
    "skipping": ("nasnet-a", "cifar", {"skip_reduction_input": True}),
    "amoebanet-a": ("amoebanet-a", "cifar", {}),
    "darts-v2": ("darts-v2", "imagenet", {}),
    "enas": ("enas", "cifar", {}),
    "in place": ("pnasnet-5", "imagenet", {"reduction_placement": "in_place", "cells_per_stage": 2}),
    "older alone": (OLDER, "cifar", {"cells_per_stage": 2}),
    "newer alone": (NEWER, "imagenet", {}),
}


@pytest.mark.parametrize(("cell", "stem", "numbers"), CASES.values(), ids=CASES)
def test_any_cell_learns_and_finds(cell: str | CellSpec, stem: str, numbers: dict[str, object]) -> None:
    detector = make(network_of(cell, stem, **numbers))
    shapes = heard(detector)
    losses = backward(detector)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    gradients = {name: p.grad for name, p in detector.named_parameters()}
    assert [name for name, grad in gradients.items() if grad is None or not bool(torch.isfinite(grad).all())] == []
    last = max(detector.backbone.network.cells, key=int)
    assert any(bool(grad.any()) for name, grad in gradients.items() if f"cells.{last}." in name)
    images, _ = scenes()
    with torch.no_grad():
        found = detector.eval()(images)
    for image, each in zip(images, found, strict=True):
        assert 0 < len(each["boxes"]) <= CONFIG.box_detections_per_img
        assert set(each["labels"].tolist()) <= {1, 2}
        assert (each["boxes"][:, 2] <= image.shape[2]).all()
        assert (each["boxes"][:, 3] <= image.shape[1]).all()
    width = detector.backbone.out_channels
    trained, used = shapes
    assert trained == (2 * CONFIG.box_batch_size_per_image, width, 5, 5)
    assert used[1:] == (width, 5, 5)
    assert 2 < used[0] <= 2 * CONFIG.rpn_post_nms_top_n


@pytest.mark.parametrize(("stem", "stride"), [("cifar", 2), ("imagenet", 16)])
def test_the_map_joins_the_last_two_normal_cells_of_stage_2(stem: str, stride: int) -> None:
    network = network_of("nasnet-a", stem, cells_per_stage=3)
    kept: dict[int, Tensor] = {}
    end = {"cifar": 7, "imagenet": 9}[stem]  # 3 cells, a reduction, 3 cells; with ImageNet's stem two more before
    for place in (end - 2, end - 1):
        network.cells[str(place)].register_forward_hook(lambda cell, i, output, k=place: kept.update({k: output}))
    backbone = SingleScaleBackbone(network).eval()
    (found,) = backbone(torch.randn(2, 3, 64, 96)).values()
    assert backbone.stride == stride
    assert found.shape == (2, backbone.out_channels, 64 // stride, 96 // stride)
    assert torch.equal(found, torch.cat([kept[end - 2], kept[end - 1]], 1))
    assert [network.slots[place].role for place in (end - 2, end - 1)] == ["normal", "normal"]


def test_with_one_cell_a_stage_it_joins_the_reduction_cell_and_that_one() -> None:
    network = network_of("nasnet-a")
    roles = [network.slots[int(info.name.removeprefix("output")) - 1].role for info in network.maps_before("stage3")]
    assert roles == ["reduction", "normal"]


def test_crops_are_samples_in_the_middle_of_their_pixels() -> None:
    ramp = torch.arange(16.0).expand(1, 1, 16, 16).contiguous()  # the number of the column; its middle is at 4 k + 2
    crops = SingleScaleRoIPool(4, 3)({STAGE: ramp}, [torch.tensor([[8.0, 8.0, 32.0, 20.0]])], [(64, 64)])
    middles = torch.tensor([12.0, 20.0, 28.0])  # of thirds of 8 to 32
    torch.testing.assert_close(crops, ((middles - 2) / 4).expand(1, 1, 3, 3))


def test_each_proposal_is_judged_by_its_own_crop() -> None:
    detector = make(network_of("nasnet-a")).eval()
    crops = torch.randn(5, detector.backbone.out_channels, 5, 5)
    with torch.no_grad():
        together = detector.roi_heads.box_head(crops)
        for k in range(5):
            torch.testing.assert_close(detector.roi_heads.box_head(crops[k : k + 1])[0], together[k])


@pytest.mark.parametrize("number", [3, 9])
def test_so_many_proposals_reach_the_head(number: int) -> None:
    detector = make(network_of("darts-v2"), rpn_post_nms_top_n=number).eval()
    shapes = heard(detector)
    with torch.no_grad():
        detector(scenes()[0])
    assert shapes[0][0] == 2 * number


def test_anchors_of_all_sizes_stand_at_each_place() -> None:
    detector = make(network_of("enas"), anchor_size=8, anchor_scales=2)
    (sides,) = detector.rpn.anchor_generator.sizes
    assert list(sides) == pytest.approx([8 * 2 ** (k / 2) for k in range(8)])


def test_frozen_batch_norms_of_stage_3_too_keep_statistics_and_scale() -> None:
    detector = make(network_of("nasnet-a"), freeze_batch_norm=True)
    norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [copy.deepcopy(norm.state_dict()) for norm in norms]
    backward(detector)
    torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=0.1).step()
    assert len(norms) > 20
    for norm, old in zip(norms, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in norm.state_dict().items())
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize("head", ["nasnet", "fpn"])
def test_recomputed_cells_give_the_same_losses_gradients_and_statistics_with_less_memory(head: str) -> None:
    found = []
    for again in (False, True):
        torch.manual_seed(2)
        detector = make(network_of("nasnet-a"), head=head, grad_checkpointing=again, roi_size=9)
        live = LiveBytes()
        with live:
            losses = backward(detector)
        grads = [p.grad for p in detector.parameters()]
        found.append((live.peak, [*losses.values(), *grads, *detector.buffers()]))
    (plain, ours), (recomputing, theirs) = found
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None)
    assert recomputing < 0.8 * plain


def test_a_copy_has_a_network_of_its_own() -> None:
    """A moving average copies the detector."""
    detector = make(network_of("darts-v2")).eval()
    twin = copy.deepcopy(detector)
    with torch.no_grad():
        crops = torch.randn(2, detector.backbone.out_channels, 5, 5)
        before = twin.roi_heads.box_head(crops)
        for parameter in detector.parameters():
            parameter.zero_()
        assert torch.equal(twin.roi_heads.box_head(crops), before)


def test_a_detector_comes_back_from_its_folder(tmp_path: Path) -> None:
    network = network_of("pnasnet-5", cells_per_stage=2)
    spec = DetectorSpec(network.spec, CONFIG, (Category(3, "red thing"), Category(7, "blue thing")))
    write_detector(tmp_path, spec)
    detector = make(network).eval()
    save_weights(tmp_path / WEIGHTS_FILE, detector)
    loaded, read = load_detector(tmp_path, CPU)
    assert read == spec
    with torch.no_grad():
        ours, theirs = (each(scenes()[0])[0] for each in (detector, loaded))
    assert all(torch.equal(ours[key], theirs[key]) for key in ("boxes", "labels", "scores"))


def test_maps_of_two_sizes_are_refused() -> None:
    network = network_of("pnasnet-5", reduction_placement="in_place")
    with pytest.raises(InputError, match=r"stage 3 of this network reads stage 1.*cells_per_stage, or --head fpn"):
        make(network)


def test_sizes_that_would_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match=r"max_size 96 would mean nothing. Give both the same number"):
        make(network_of("enas"), resize="both_sides", max_size=96)
    with pytest.raises(InputError, match=r"train\.multi_scale and detector\.resize = 'both_sides' exclude"):
        load_recipe(DetectRecipe, None, {}, ["detector.resize=both_sides", "train.multi_scale=[64]"])


def test_both_sides_get_one_length_and_boxes_come_back() -> None:
    detector = make(network_of("enas"), resize="both_sides")
    targets = [{"boxes": torch.tensor([[12.0, 10.0, 24.0, 30.0]]), "labels": torch.tensor([1])}]
    images, moved = detector.transform([torch.rand(3, 40, 96)], targets)
    assert images.tensors.shape == (1, 3, 64, 64)
    torch.testing.assert_close(moved[0]["boxes"], torch.tensor([[8.0, 16.0, 16.0, 48.0]]))


def test_it_learns(tmp_path: Path) -> None:
    data_dir = str(write_coco(tmp_path / "data"))
    changes = {
        "pyramid_channels": 32,
        "roi_size": 7,
        "anchor_size": 12,
        "rpn_post_nms_top_n": 50,
        "box_batch_size_per_image": 16,
    }
    recipe = DetectRecipe(
        data=DetectDataConfig(dataset="coco", data_dir=data_dir, evaluate_on="train"),
        detector=CONFIG.model_copy(update={**changes, "box_detections_per_img": 100, "box_score_thresh": 0.05}),
        train=DetectTrainConfig(epochs=12, batch_size=4, lr=0.05, warmup_steps=4, clip_grad_norm=1.0),
    )
    torch.manual_seed(3)
    data = load_detection_data(recipe.data)
    job = prepare_detect_job(recipe, data, small_network(), trained=False, backbone="a test's", device=CPU)
    (tmp_path / "run").mkdir()
    assert run_detect_job(job, tmp_path / "run", Run(CPU))["ap50"] > 0.5


def test_the_papers_recipe_makes_two_steps(tmp_path: Path) -> None:
    """With small images and a small network, all else as it stands there."""
    write_coco(tmp_path / "data", train=2, val=2)
    more = {"data.data_dir": str(tmp_path / "data"), "detector.min_size": 64, "detector.max_size": 64}
    recipe = load_recipe(DetectRecipe, find_recipe("detect", "coco-paper"), more | {"train.epochs": 1})
    config = recipe.detector
    assert (config.head, config.rpn_post_nms_top_n, config.roi_size, config.freeze_batch_norm) == (
        "nasnet",
        300,
        17,
        True,
    )
    assert [len(recipe.train.lr_milestones), recipe.train.lr, recipe.train.batch_size] == [2, 3e-4, 1]
    data = load_detection_data(recipe.data)
    job = prepare_detect_job(recipe, data, small_network("imagenet"), trained=True, backbone="a test's", device=CPU)
    detector: Any = job.detector
    assert detector.rpn.anchor_generator.sizes == ((64, 128, 256, 512),)
    folder = tmp_path / "run"
    folder.mkdir()
    report = run_detect_job(job, folder, Run(CPU))
    assert (report["steps"], report["images"]) == (2, 2)
    assert len(list((folder / "detections").iterdir())) == 2
