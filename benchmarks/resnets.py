"""The residual networks that He et al. 2016 made for CIFAR, at the cost of any network of nascli.

They can stand wherever a `Network` is trained or becomes a detector's backbone. Shapes: N batch, C channels, H height,
W width.

References: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.
Deviation: widths other than 16, 32 and 64, so that they cost what they are compared with.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nascli.classify.job import TrainJob
from nascli.models.cells.topology import STAGES
from nascli.models.cost import measure_cost
from nascli.models.interface import FeatureInfo, ImageClassifier, Unit
from nascli.models.layers import init_weights
from nascli.models.spec import NetworkSpec
from nascli.seeding import derive_seed

WIDEST = 1024
"""Channels of the last stage up to which a width is looked for."""


class ResidualBlock(nn.Module):
    """ReLU(s(x) + f(x)), where f is a 3x3 convolution, batch norm, ReLU, another 3x3 convolution and batch norm.

    The shortcut s is the paper's option A: every other pixel where there is a stride, and channels of zeros for those
    that are added. It costs nothing.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, channels_out - channels_in
        self.path = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, channels_out, H / stride, W / stride), rounded up."""
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(shortcut + self.path(x))


class ResNet(ImageClassifier):
    """A stem, three stages of n residual blocks, a classifier: 6n + 2 layers.

    Args:
        spec: Of the network that it is compared with; what is said of the data (classes, image size, mean, standard
            deviation) is true of this one too.
        blocks: n.
        widths: Channels of each stage.
    """

    def __init__(self, spec: NetworkSpec, blocks: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.spec = spec
        self.aux_head = None
        self.dropout = nn.Dropout(0.0)
        self.feature_info = tuple(
            FeatureInfo(name, width, 2**k) for k, (name, width) in enumerate(zip(STAGES, widths, strict=True))
        )
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )  # fmt: skip
        self.stages = nn.ModuleDict()
        before = widths[0]
        for stage, width in zip(STAGES, widths, strict=True):
            stride = 1 if stage == STAGES[0] else 2
            first = ResidualBlock(before, width, stride)
            self.stages[stage] = nn.Sequential(first, *(ResidualBlock(width, width, 1) for _ in range(blocks - 1)))
            before = width
        self.classifier = nn.Linear(before, spec.classes)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to logits (N, classes)."""
        logits: Tensor = self.classifier(self.features(x)[STAGES[-1]].mean((2, 3)))
        return logits

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage, (N, C, H / stride, W / stride), rounded up."""
        x = self.stem(x)
        outputs: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            x = outputs[name] = stage(x)
        return outputs

    def units(self) -> list[Unit]:
        """Stem, stages, classifier."""
        stages = [Unit(name, f"stages.{name}", stage) for name, stage in self.stages.items()]
        return [Unit("stem", "stem", self.stem), *stages, Unit("classifier", "classifier", self.classifier)]


def nearest_resnet(spec: NetworkSpec, blocks: int) -> ResNet:
    """The ResNet with n = `blocks` whose mult-adds are nearest to those of the network of `spec`.

    The stages have w, 2w and 4w channels, w being the nearest there is; then the last stage gets the width that comes
    nearest of all, which is a finer step. Weights start from torch's global random generator.
    """
    target = measure_cost(spec).mult_adds

    def mult_adds(widths: Sequence[int]) -> int:
        with torch.device("meta"):
            return count_mult_adds(ResNet(spec, blocks, widths))

    width = _nearest(range(1, WIDEST // 4), target, lambda width: mult_adds((width, 2 * width, 4 * width)))
    last = _nearest(range(2 * width, WIDEST), target, lambda last: mult_adds((width, 2 * width, last)))
    return ResNet(spec, blocks, (width, 2 * width, last))


def count_mult_adds(network: ResNet) -> int:
    """Multiply-accumulates of one image of the size in `network.spec`, counted as `nascli.models.cost` counts them."""
    counter, side = FlopCounterMode(display=False), network.spec.image_size
    was_training = network.training
    with counter, torch.no_grad():
        network.eval()(torch.empty(1, 3, side, side, device=network.classifier.weight.device))
    network.train(was_training)
    return counter.get_total_flops() // 2


def resnet_beside(job: TrainJob, blocks: int) -> ResNet:
    """The ResNet of a job's cost, with weights that follow from the job's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(job.recipe.seed, "init"))
        return nearest_resnet(job.spec, blocks)


def _nearest(choices: range, target: int, cost: Callable[[int], int]) -> int:
    """The choice whose cost, which grows with it, is nearest to the target."""
    above = min(bisect_left(choices, target, key=cost), len(choices) - 1)
    return min(choices[max(above - 1, 0) : above + 1], key=lambda choice: abs(cost(choice) - target))
