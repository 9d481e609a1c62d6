"""Seconds and memory of a detector: nascli's on NASNet-A beside torchvision's on ResNet-50, backbones of equal cost.

    python benchmarks/detection_step.py --rounds 5 --json detection_step.json

Two things are timed, in float32 on the CPU unless --precision and --device say otherwise: a training step (forward,
backward, SGD with momentum; no weight is frozen), and in float32 alone finding boxes. The peer is
`fasterrcnn_resnet50_fpn`, in the default layout and with channels last in memory, its step written as torchvision's own
training script has it. nascli's are the step that `nascli detect` makes and the detector that `load_detector` gives. F
of NASNet-A is the one whose mult-adds come nearest to ResNet-50's at the same image size; the table says how near.

The rest is equal: images, boxes, classes, channels of pyramid and box head, proposals, samples; the table shows how
many crops reach the box head. One thing is not: torchvision's pyramid begins at stride 4, nascli's at stride 8. So the
peer is measured a third time, with the levels of nascli's. Boxes are found in OpenVINO, too, by either detector: what
`nascli.detect.engines.accelerate` makes of it, in float32 and in bfloat16.

Each measurement is a fresh process, and peak memory the whole process's. On a GPU all are made in one, without
OpenVINO, and peak memory is that of all tensors; a step begins with images and boxes on the CPU.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from common import Column, Figures, Task, arguments, compare, count_mult_adds, fresh, measure_here, peak_mib, serve
from on_device import (
    PeakMemory,
    add_device_options,
    add_precision_option,
    autocast,
    measured_here,
    name_gpu,
    time_calls_on,
)

if TYPE_CHECKING:
    from torch import nn

    from nascli.config import DetectorConfig
    from nascli.data.detection.dataset import AnnotatedImage
    from nascli.models.interface import ImageClassifier

NASCLI, PLAIN, LAST = "nascli", "torchvision", "torchvision, channels last"
SAME_LEVELS = "torchvision, channels last, levels from stride 8"
ENGINES: dict[str, Task] = {
    "nascli, OpenVINO": {"measure": NASCLI, "openvino": "float32"},
    "nascli, OpenVINO bfloat16": {"measure": NASCLI, "openvino": "bfloat16"},
    "torchvision, OpenVINO": {"measure": LAST, "openvino": "float32"},
    "torchvision, OpenVINO bfloat16": {"measure": LAST, "openvino": "bfloat16"},
}
TRAIN, FIND = "training step", "finding boxes"
PRESET: Final = "imagenet-mobile"
FINEST_ANCHOR = 64
"""Side in pixels of the anchors at stride 8; at every other stride they are eight times the stride too."""
PYRAMID, HEAD = 256, 1024
"""Channels of the pyramid and width of the box head: torchvision's."""
SGD: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4}


def prepare(task: Task) -> Figures:
    """The F whose mult-adds come nearest to those of ResNet-50's stages, and nascli's detector of it as files."""
    import torch
    from torch import nn
    from torchvision.models import resnet50

    from nascli.config import CellNetworkConfig
    from nascli.genotype.resolve import load_genotype
    from nascli.models.scaling import SizeCost, Target, find_size, measure_size
    from nascli.models.spec import resolve_network

    with torch.device("meta"):
        peer = resnet50().eval()
        peer.fc = nn.Identity()
        mult_adds = count_mult_adds(peer, task["size"])
    genotype = load_genotype(task["cell"])

    def measured(filters: int, cells_per_stage: int) -> SizeCost:
        numbers = {"filters": filters, "cells_per_stage": cells_per_stage, "image_size": task["size"]}
        return measure_size(resolve_network(genotype, CellNetworkConfig.model_validate({"preset": PRESET, **numbers})))

    target = Target("mult_adds", mult_adds)
    found = find_size(measured, target, measured(44, task["cells_per_stage"]))
    write_detector_of({**task, "filters": found.chosen.width})
    return {"filters": found.chosen.width, "distance": found.distance}


def write_detector_of(task: Task) -> None:
    """nascli's detector with random weights as a run folder has it."""
    from nascli.data.detection.dataset import Category
    from nascli.detect.model import DetectorSpec, write_detector
    from nascli.models.serialization import WEIGHTS_FILE, save_weights

    detector, network = nascli_detector(task)
    settle(detector, task)
    categories = tuple(Category(k, str(k)) for k in range(1, task["classes"] + 1))
    write_detector(Path(task["folder"]), DetectorSpec(network.spec, nascli_config(task), categories))
    save_weights(Path(task["folder"]) / WEIGHTS_FILE, detector)


def nascli_measure(task: Task) -> Figures:
    """nascli's detector: to find boxes, as `nascli detect predict` loads it."""
    import torch

    from nascli.detect.model import load_detector

    torch.set_num_threads(task["threads"])
    if task["case"] == TRAIN and "openvino" in task:
        return {}  # a step has no engine
    if task["case"] == TRAIN:
        detector, network = nascli_detector(task)
        cost = {"backbone_mult_adds": count_mult_adds(network.features, task["size"])}
        return nascli_step(detector, task) | cost
    loaded: Any = load_detector(Path(task["folder"]), torch.device("cpu"))[0]
    cost = {"backbone_mult_adds": count_mult_adds(loaded.backbone.network.features, task["size"])}
    return find(loaded.to(task["device"]), task) | cost


def nascli_detector(task: Task) -> "tuple[nn.Module, ImageClassifier]":
    """A detector with random weights, and the network in it."""
    import torch

    from nascli.detect.model import build_detector
    from nascli.models.families import build_network

    torch.manual_seed(0)
    numbers = {name: task[name] for name in ("filters", "cells_per_stage")}
    network = build_network(task["cell"], PRESET, image_size=task["size"], batch_norm_momentum=0.1, **numbers)
    return build_detector(network, nascli_config(task), task["classes"]), network


def nascli_config(task: Task) -> "DetectorConfig":
    from nascli.config import DetectorConfig

    return DetectorConfig(
        min_size=task["size"],
        max_size=task["size"],
        anchor_size=FINEST_ANCHOR,
        pyramid_channels=PYRAMID,
        head_channels=HEAD,
        rpn_post_nms_top_n=task["proposals"],
        box_batch_size_per_image=task["box_batch_size_per_image"],
        box_detections_per_img=task["detections"],
    )


def nascli_step(detector: "nn.Module", task: Task) -> Figures:
    import torch

    from nascli.config import DetectTrainConfig
    from nascli.data.detection.dataset import DetectionSplit, training_target
    from nascli.detect.sampler import BatchSampler
    from nascli.detect.task import DetectBatch, DetectTask
    from nascli.engine.step import train_step
    from nascli.engine.task import Run, TrainPlan
    from nascli.engine.train_state import start_state

    kind: dict[str, Any] = {"precision": task["precision"], **SGD}
    config, run = DetectTrainConfig(batch_size=task["batch_size"], **kind), Run(torch.device(task["device"]))
    split = DetectionSplit("none", Path(), (), ())
    detect = DetectTask(
        detector.train(), split, split, BatchSampler(TrainPlan(config, task["batch_size"]), config, 0), run
    )
    state = start_state(detect, run)
    entries, images = make_images(task)
    batch = DetectBatch(entries, images, [training_target(entry) for entry in entries])
    with detect.training():
        return measure(detector, lambda: train_step(state, detect, batch, 0, run), task)


def peer_measure(task: Task) -> Figures:
    """torchvision's detector in one of its forms."""
    import torch

    from nascli.data.detection.dataset import training_target
    from nascli.detect.inference import to_float

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    if task["case"] == TRAIN and "openvino" in task:
        return {}
    detector: Any = peer_detector(task)
    if task["variant"] != PLAIN:
        detector.to(memory_format=torch.channels_last)
    if task["case"] == FIND:
        settle(detector, task)
        cost = {"backbone_mult_adds": count_mult_adds(detector.eval().backbone.body, task["size"])}
        return find(detector.to(task["device"]), task) | cost
    cost = {"backbone_mult_adds": count_mult_adds(detector.backbone.body, task["size"])}
    detector.to(task["device"])
    optimizer = torch.optim.SGD(detector.train().parameters(), **SGD)
    entries, images = make_images(task)
    inputs = [to_float(image, torch.device("cpu")) for image in images]
    targets = [training_target(entry) for entry in entries]

    def step() -> None:
        images = [image.to(task["device"]) for image in inputs]
        boxes = [{name: each.to(task["device"]) for name, each in target.items()} for target in targets]
        with autocast(task):
            loss = sum(detector(images, boxes).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return measure(detector, step, task) | cost


def peer_detector(task: Task) -> "nn.Module":
    from torch import nn
    from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import MultiScaleRoIAlign

    numbers = {
        "min_size": task["size"],
        "max_size": task["size"],
        "rpn_pre_nms_top_n_train": 2 * task["proposals"],
        "rpn_pre_nms_top_n_test": task["proposals"],
        "rpn_post_nms_top_n_train": task["proposals"],
        "rpn_post_nms_top_n_test": task["proposals"],
        "box_detections_per_img": task["detections"],
        "box_batch_size_per_image": task["box_batch_size_per_image"],
    }
    detector: nn.Module
    if task["variant"] == SAME_LEVELS:
        backbone = resnet_fpn_backbone(
            backbone_name="resnet50",
            weights=None,
            norm_layer=nn.BatchNorm2d,
            trainable_layers=5,
            returned_layers=[2, 3, 4],
        )
        sides = tuple((FINEST_ANCHOR * 2**level,) for level in range(4))
        anchors = AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * 4)
        crops = MultiScaleRoIAlign(["0", "1", "2"], 7, 2)
        parts = {"rpn_anchor_generator": anchors, "box_roi_pool": crops}
        detector = FasterRCNN(backbone, task["classes"] + 1, **parts, **numbers)
    else:
        numbers["num_classes"] = task["classes"] + 1
        detector = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, **numbers)
    return detector


def make_images(task: Task) -> "tuple[list[AnnotatedImage], list[Any]]":
    """Images of noise, uint8 (3, H, W), each with boxes drawn at random."""
    import numpy as np
    import torch

    from nascli.data.detection.dataset import AnnotatedImage

    draw, side, count = np.random.default_rng(0), task["size"], task["boxes"]
    entries: list[AnnotatedImage] = []
    for number in range(task["batch_size"]):
        sides = draw.uniform(side / 8, side / 2, (count, 2))
        boxes = np.concatenate((draw.uniform(0, side / 2, (count, 2)), sides), 1)
        labels = draw.integers(1, task["classes"] + 1, count)
        crowd = np.zeros(count, dtype=bool)
        entries.append(AnnotatedImage(number, Path("noise"), side, side, boxes, labels, sides.prod(1), crowd))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (len(entries), 3, side, side), generator=generator, dtype=torch.uint8)
    return entries, list(images)


def settle(detector: "nn.Module", task: Task) -> None:
    """Let the batch norms take the statistics of the images: without, random weights propose hardly a box."""
    import torch

    from nascli.detect.inference import to_float

    norms = [module for module in detector.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean over all batches, which are one
    images = torch.stack([to_float(image, torch.device("cpu")) for image in make_images(task)[1]])
    with torch.no_grad():
        detector.train().get_submodule("backbone")(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def find(detector: Any, task: Task) -> Figures:  # noqa: ANN401
    """Boxes found on the images, with as much to do whatever the random weights say.

    Anchors are proposed as they are and none gives way to another, so that all have the same number of crops to look
    at; all classes are equally likely, so that all keep the same number of boxes (none, where there are 80 classes).
    """
    import torch

    from nascli.detect.inference import to_float

    images = [to_float(image, torch.device(task["device"])) for image in make_images(task)[1]]
    detector.rpn.nms_thresh = 1.0
    for layer in (detector.rpn.head.bbox_pred, detector.roi_heads.box_predictor.cls_score):
        for parameter in layer.parameters():
            parameter.data.zero_()
    answering = detector
    if "openvino" in task:
        from nascli.detect.engines import accelerate

        answering, _ = accelerate(detector, "openvino", task["openvino"])
    with torch.no_grad():
        figures = measure(answering, lambda: answering(images), task)
        return {**figures, "found": sum(len(each["scores"]) for each in answering(images))}


def measure(detector: "nn.Module", work: Callable[[], object], task: Task) -> Figures:
    """Median seconds after the first third, peak memory, and how many crops reached the box head."""
    crops: list[int] = []
    head = detector.get_submodule("roi_heads.box_head")
    head.register_forward_pre_hook(lambda module, given: crops.append(len(given[0])))
    memory = PeakMemory(task)
    timed = time_calls_on(task["device"], work, task["seconds"], 3)
    return {
        "seconds": timed[len(timed) // 2],
        "times": len(timed),
        "peak_mib": memory.read() if task["here"] or task["device"] == "cuda" else peak_mib(),
        "crops": crops[-1],
        "params": sum(p.numel() for p in detector.parameters() if p.requires_grad),
    }


PEERS = (PLAIN, LAST, SAME_LEVELS)
MEASURES: dict[str, Callable[[Task], Figures]] = {
    "prepare": prepare,
    NASCLI: nascli_measure,
    **dict.fromkeys(PEERS, peer_measure),
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20, help="of work in each measurement; a third warms up")
    parser.add_argument("--case", choices=(TRAIN, FIND), help="default: both")
    parser.add_argument("--cell", default="nasnet-a")
    parser.add_argument("--cells-per-stage", type=int, default=4, help="N")
    parser.add_argument("--size", type=int, default=320, help="height and width of the images in pixels")
    parser.add_argument("--batch-size", type=int, default=2, help="images at once")
    parser.add_argument("--boxes", type=int, default=8, help="on each image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--proposals", type=int, default=1000, help="per image")
    parser.add_argument("--box-batch-size-per-image", type=int, default=512, help="proposals that the box loss sees")
    parser.add_argument("--detections", type=int, default=100, help="detected boxes per image")
    add_device_options(parser)
    add_precision_option(parser)
    asked = parser.parse_args()
    works = [TRAIN, FIND] if asked.case is None else [asked.case]
    if asked.precision != "float32":  # of steps alone
        works = [TRAIN]
    columns = [
        Column("seconds", "seconds"),
        Column("backbone_mult_adds", "backbone", ",.0f"),
        Column("crops", "crops", ".0f"),
        Column("peak_mib", "MiB", ".0f"),
        Column("nascli_times_as_fast", "nascli, times as fast", figure="seconds", under=NASCLI),
        Column("nascli_memory", "nascli's memory, times", figure="peak_mib", over=NASCLI),
        Column("params"),
    ]
    with tempfile.TemporaryDirectory(prefix="nascli-detection-") as folder:
        plain = {name: value for name, value in vars(asked).items() if name != "json"}
        here, task = measured_here(asked, MEASURES), {"measure": "prepare", "folder": folder, **plain}
        chosen = fresh(__file__, task) if here is None else measure_here(prepare, task)
        settings = {"filters": chosen["filters"], "folder": folder}
        title = f"F = {chosen['filters']}, {asked.batch_size} images of {asked.size} pixels"
        engines = ENGINES if asked.device == "cpu" else {}
        variants: dict[str, Task] = {**{name: {} for name in (NASCLI, *PEERS)}, **engines}
        cases, about = dict.fromkeys(works, settings), {"chosen": chosen, **name_gpu(asked)}
        compare(__file__, asked, title, variants, columns, cases=cases, about=lambda _: about, here=here)


if __name__ == "__main__" and not serve(MEASURES):
    main()
