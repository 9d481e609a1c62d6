"""Engines of a detector: what computes its networks once it is trained.

Backbone, pyramid and the proposals' convolutions are one program, from a batch's images; the box head is another, from
the crops of proposals. Anchors, proposals, crops and the choice of boxes stay torchvision's.

Shapes: N batch, H and W of the batch's padded images, M proposals of all images, C channels, S side of a crop.
"""

import copy
from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.models.deploy.engines import find_engine
from nascli.models.deploy.openvino import Precision
from nascli.models.deploy.parts import PART_ENGINES, Program

_CROPS = 32
"""Crops that an engine takes at once: their number differs by image, and a program for each would take time to make."""


def accelerate(detector: nn.Module, engine: str = "auto", precision: Precision = "float32") -> tuple[nn.Module, str]:
    """A detector that gives the same boxes to rounding, faster, in evaluation mode only; and the name of its engine.

    Args:
        detector: From `build_detector` or `load_detector`; it is left as it is.
        engine: One of `PART_ENGINES`; `auto` is the fastest on the detector's device that knows its steps.
        precision: `bfloat16` computes the networks in it, and all that is between them in float32.

    Raises:
        InputError: There is no engine of that name, or it does not work here.
    """
    trained: Any = detector
    device, channels = next(detector.parameters()).device, int(trained.backbone.out_channels)
    name, (crops, images) = find_engine(
        engine,
        PART_ENGINES,
        device,
        precision,
        lambda build: (
            build(BoxHead(trained), channels, device, precision),
            build(ProposingBackbone(trained), 3, device, precision),
        ),
    )
    if (name, precision) == ("trained", "float32"):
        return detector, name
    backbone = AnsweringBackbone(images, channels)
    answering = {
        id(trained.backbone): backbone,
        id(trained.rpn.head): AnsweringProposals(backbone),
        id(trained.roi_heads.box_head): _AnsweringBoxHead(crops),
    }
    return copy.deepcopy(detector, answering).eval(), name  # what answers stands in place of copies


class ProposingBackbone(nn.Module):
    """The half that reads images: maps by name, and objectness and corrections of the anchors, map by map."""

    def __init__(self, detector: Any) -> None:  # noqa: ANN401 - torchvision's
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.rpn.head

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        """Normalized images (N, 3, H, W)."""
        maps = self.backbone(images)
        return maps, *self.head(list(maps.values()))


class BoxHead(nn.Module):
    """The box head beside the backbone, whose weights it may use."""

    def __init__(self, detector: Any) -> None:  # noqa: ANN401 - torchvision's
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.roi_heads.box_head

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (M, C, S, S) to vectors (M, length)."""
        vectors: Tensor = self.head(crops)
        return vectors


class AnsweringBackbone(nn.Module):
    """The backbone by an engine, which computes the proposals' numbers in the same go and keeps them for their head."""

    def __init__(self, program: Program, channels: int) -> None:
        super().__init__()
        self._program, self._proposals = program, list[tuple[list[Tensor], list[Tensor]]]()
        self.out_channels = channels  # torchvision reads it under this name

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalized images (N, 3, H, W) to maps by name."""
        assert not self.training
        maps, objectness, corrections = self._program(images)
        self._proposals[:] = [(list(objectness), list(corrections))]
        return OrderedDict(maps)

    def take_proposals(self) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness and corrections of the anchors on the images just seen, map by map; once."""
        return self._proposals.pop()


class AnsweringProposals(nn.Module):
    """The proposals' head: hands on what the backbone's program computed."""

    def __init__(self, backbone: AnsweringBackbone) -> None:
        super().__init__()
        self._take = backbone.take_proposals

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness and corrections of the anchors on each of the backbone's maps."""
        return self._take()


class _AnsweringBoxHead(nn.Module):
    """The box head by an engine, a fixed number of crops at a time; the last ones are filled up with zeros."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (M, C, S, S) to vectors (M, length)."""
        filled = F.pad(crops, (0, 0, 0, 0, 0, 0, 0, -len(crops) % _CROPS if len(crops) else _CROPS))
        return torch.cat([self._program(chunk) for chunk in torch.split(filled, _CROPS)])[: len(crops)]
