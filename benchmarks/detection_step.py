"""Seconds and memory of a detector: nascli's on NASNet-A beside torchvision's on ResNet-50, backbones of equal cost.

    python benchmarks/detection_step.py --rounds 5 --json detection_step.json

Two things are timed, in float32 on the CPU: a training step (forward, backward, SGD with momentum; no weight is frozen)
and finding boxes. The peer is `fasterrcnn_resnet50_fpn`, in the default layout and with channels last in memory, its
step written as torchvision's own training script has it. nascli's are the step that `nascli detect` makes and the
detector that `load_detector` gives. F of NASNet-A is the one whose mult-adds come nearest to ResNet-50's at the same
image size; the table says how near.

The rest is equal: images, boxes, classes, channels of pyramid and box head, proposals, samples; the table shows how
many crops reach the box head. One thing is not: torchvision's pyramid begins at stride 4, nascli's at stride 8. So the
peer is measured a third time, with the levels of nascli's.

Each measurement is a fresh process. Peak memory is the whole process's.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from common import (
    Figures,
    Task,
    arguments,
    console,
    fresh,
    grid,
    in_turn,
    progress,
    ratios,
    serve,
    spread,
    three,
    write,
)

if TYPE_CHECKING:
    from torch import nn

    from nascli.config import DetectorConfig
    from nascli.data.detection.dataset import AnnotatedImage
    from nascli.models.interface import ImageClassifier

NASCLI, PLAIN, LAST = "nascli", "torchvision", "torchvision, channels last"
SAME_LEVELS = "torchvision, channels last, levels from stride 8"
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
    from torch.utils.flop_counter import FlopCounterMode
    from torchvision.models import resnet50

    from nascli.config import CellNetworkConfig
    from nascli.genotype.resolve import load_genotype
    from nascli.models.scaling import Rung, Target, find_size, measure_size
    from nascli.models.spec import resolve_network

    counter = FlopCounterMode(display=False)
    with torch.device("meta"):
        peer = resnet50()
        peer.fc = nn.Identity()
        with counter, torch.no_grad():
            peer.eval()(torch.empty(1, 3, task["size"], task["size"]))
    genotype = load_genotype(task["cell"])

    def measured(filters: int, cells_per_stage: int) -> Rung:
        numbers = {"filters": filters, "cells_per_stage": cells_per_stage, "image_size": task["size"]}
        return measure_size(resolve_network(genotype, CellNetworkConfig.model_validate({"preset": PRESET, **numbers})))

    target = Target("mult_adds", counter.get_total_flops() // 2)
    found = find_size(measured, target, 44, task["cells_per_stage"])
    write_detector_of({**task, "filters": found.chosen.filters})
    return {"filters": found.chosen.filters, "distance": found.distance}


def write_detector_of(task: Task) -> None:
    """nascli's detector with random weights as a run folder has it."""
    from nascli.data.detection.dataset import Category
    from nascli.detect.model import DetectorSpec, save_detector_weights, write_detector

    detector, network = nascli_detector(task)
    settle(detector, task)
    categories = tuple(Category(k, str(k)) for k in range(1, task["classes"] + 1))
    write_detector(Path(task["folder"]), DetectorSpec(network.spec, nascli_config(task), categories))
    save_detector_weights(Path(task["folder"]), detector)


def nascli_measure(task: Task) -> Figures:
    """nascli's detector: to find boxes, as `nascli detect --predict` loads it."""
    import torch

    from nascli.detect.model import load_detector

    torch.set_num_threads(task["threads"])
    if task["work"] == TRAIN:
        detector, network = nascli_detector(task)
        return nascli_step(detector, task) | count_backbone(network.features, task)
    loaded: Any = load_detector(Path(task["folder"]), torch.device("cpu"))[0]
    return find(loaded, task) | count_backbone(loaded.backbone.network.features, task)


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
    from nascli.data.detection.dataset import training_target
    from nascli.detect.plan import DetectPlan
    from nascli.detect.state import start_state
    from nascli.detect.step import computing_as_asked, train_step

    plan = DetectPlan(DetectTrainConfig(batch_size=task["batch"], **SGD), 0, torch.device("cpu"), task["batch"])
    state = start_state(detector.train(), plan)
    entries, pictures = annotated(task)
    targets = [training_target(entry) for entry in entries]
    with computing_as_asked(detector, plan):
        return measure(detector, lambda: train_step(state, plan, entries, pictures, targets, seed=0), task)


def peer_measure(task: Task) -> Figures:
    """torchvision's detector in one of its forms."""
    import torch

    from nascli.data.detection.dataset import training_target
    from nascli.detect.inference import to_float

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    detector: Any = peer_detector(task)
    if task["variant"] != PLAIN:
        detector.to(memory_format=torch.channels_last)
    if task["work"] == FIND:
        settle(detector, task)
        return find(detector.eval(), task) | count_backbone(detector.backbone.body, task)
    optimizer = torch.optim.SGD(detector.train().parameters(), **SGD)
    entries, pictures = annotated(task)
    images = [to_float(picture, torch.device("cpu")) for picture in pictures]
    targets = [training_target(entry) for entry in entries]

    def step() -> None:
        loss = sum(detector(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return measure(detector, step, task) | count_backbone(detector.backbone.body, task)


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


def annotated(task: Task) -> "tuple[list[AnnotatedImage], list[Any]]":
    """Pictures of noise, uint8 (3, H, W), each with boxes drawn at random."""
    import numpy as np
    import torch

    from nascli.data.detection.dataset import AnnotatedImage

    draw, side, count = np.random.default_rng(0), task["size"], task["boxes"]
    entries: list[AnnotatedImage] = []
    for number in range(task["batch"]):
        sides = draw.uniform(side / 8, side / 2, (count, 2))
        boxes = np.concatenate((draw.uniform(0, side / 2, (count, 2)), sides), 1)
        labels = draw.integers(1, task["classes"] + 1, count)
        crowd = np.zeros(count, dtype=bool)
        entries.append(AnnotatedImage(number, Path("noise"), side, side, boxes, labels, sides.prod(1), crowd))
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (len(entries), 3, side, side), generator=generator, dtype=torch.uint8)
    return entries, list(pictures)


def settle(detector: "nn.Module", task: Task) -> None:
    """Let the batch norms take the statistics of the pictures: without, random weights propose hardly a box."""
    import torch

    from nascli.detect.inference import to_float

    norms = [module for module in detector.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean over all batches, which are one
    pictures = torch.stack([to_float(picture, torch.device("cpu")) for picture in annotated(task)[1]])
    with torch.no_grad():
        detector.train().get_submodule("backbone")(pictures)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def find(detector: Any, task: Task) -> Figures:  # noqa: ANN401
    """Boxes found on the pictures, with as much to do whatever the random weights say.

    Anchors are proposed as they are and none gives way to another, so that all have the same number of crops to look
    at; all classes are equally likely, so that all keep the same number of boxes (none, where there are 80 classes).
    """
    import torch

    from nascli.detect.inference import to_float

    images = [to_float(picture, torch.device("cpu")) for picture in annotated(task)[1]]
    detector.rpn.nms_thresh = 1.0
    for layer in (detector.rpn.head.bbox_pred, detector.roi_heads.box_predictor.cls_score):
        for parameter in layer.parameters():
            parameter.data.zero_()
    with torch.no_grad():
        figures = measure(detector, lambda: detector(images), task)
        return {**figures, "found": sum(len(each["scores"]) for each in detector(images))}


def count_backbone(features: Callable[[Any], object], task: Task) -> Figures:
    """Mult-adds of the backbone for one image, its pyramid left out."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        features(torch.zeros(1, 3, task["size"], task["size"]))
    return {"backbone_mult_adds": counter.get_total_flops() // 2}


def measure(detector: "nn.Module", work: Callable[[], object], task: Task) -> Figures:
    """Median seconds after the first third, the process's peak memory, and how many crops reached the box head."""
    crops: list[int] = []
    head = detector.get_submodule("roi_heads.box_head")
    head.register_forward_pre_hook(lambda module, given: crops.append(len(given[0])))
    began = time.perf_counter()
    seconds: list[float] = []
    while time.perf_counter() - began < task["seconds"] or len(seconds) < 3:
        since = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - since)
    timed = sorted(seconds[len(seconds) // 3 :])
    return {
        "seconds": timed[len(timed) // 2],
        "times": len(timed),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "crops": crops[-1],
        "params": sum(p.numel() for p in detector.parameters() if p.requires_grad),
    }


PEERS = (PLAIN, LAST, SAME_LEVELS)
MEASURES: dict[str, Callable[[Task], Figures]] = {
    "prepare": prepare,
    NASCLI: nascli_measure,
    **dict.fromkeys(PEERS, peer_measure),
}


def options() -> argparse.ArgumentParser:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20, help="of work in each measurement; a third warms up")
    parser.add_argument("--cell", default="nasnet-a")
    parser.add_argument("--cells-per-stage", type=int, default=4, help="N")
    parser.add_argument("--size", type=int, default=320, help="height and width of the images in pixels")
    parser.add_argument("--batch", type=int, default=2, help="images at once")
    parser.add_argument("--boxes", type=int, default=8, help="on each image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--proposals", type=int, default=1000, help="an image")
    parser.add_argument("--box-samples", type=int, default=512, help="proposals an image that the box loss looks at")
    parser.add_argument("--detections", type=int, default=100, help="boxes found an image")
    return parser


def main() -> None:
    asked = options().parse_args()
    shared = {name: value for name, value in vars(asked).items() if name not in ("rounds", "json")}
    measurements: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="nascli-detection-") as folder:
        shared["folder"] = folder
        chosen = fresh(__file__, {"measure": "prepare", **shared})
        for work in (TRAIN, FIND):
            for round_, variant in in_turn([NASCLI, *PEERS], asked.rounds):
                task = {"measure": variant, "variant": variant, "work": work, **shared, "filters": chosen["filters"]}
                figures = fresh(__file__, task)
                measurements.append({"work": work, "variant": variant, **figures})
                progress(f"{work}, round {round_}, {variant}: {figures['seconds']:.2f} s")
    results = summarise(measurements)
    show(results, f"F = {chosen['filters']}, {asked.batch} images of {asked.size} pixels")
    write(asked, {"chosen": chosen, "results": results, "measurements": measurements})


def summarise(measurements: list[Figures]) -> list[Figures]:
    """For each kind of work and detector: seconds, memory, and nascli's ratios to it."""
    results: list[Figures] = []
    for work in (TRAIN, FIND):
        taken = {
            name: [m for m in measurements if (m["work"], m["variant"]) == (work, name)] for name in (NASCLI, *PEERS)
        }
        seconds, peaks = (
            {name: [each[key] for each in own] for name, own in taken.items()} for key in ("seconds", "peak_mib")
        )
        results.extend(
            {
                "work": work,
                "variant": name,
                "seconds": spread(seconds[name]),
                "peak_mib": spread(peaks[name]),
                "nascli_times_as_fast": ratios(seconds[name], seconds[NASCLI]),
                "nascli_memory": ratios(peaks[NASCLI], peaks[name]),
                "crops": own[0]["crops"],
                "params": own[0]["params"],
                "backbone_mult_adds": own[0]["backbone_mult_adds"],
            }
            for name, own in taken.items()
        )
    return results


def show(results: list[Figures], title: str) -> None:
    headings = (
        "work, detector",
        "backbone",
        "crops",
        "seconds",
        "MiB",
        "nascli, times as fast",
        "nascli's memory, times",
    )
    table = grid(f"{title}: median, least to greatest", *headings)
    for each in results:
        table.add_row(
            f"{each['work']}, {each['variant']}",
            f"{each['backbone_mult_adds'] / 1e9:.3f}G",
            str(each["crops"]),
            three(each["seconds"]),
            three(each["peak_mib"], ".0f"),
            three(each["nascli_times_as_fast"]),
            three(each["nascli_memory"]),
        )
    console().print(table)


if __name__ == "__main__" and not serve(MEASURES):
    main()
