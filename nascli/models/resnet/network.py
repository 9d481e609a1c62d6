"""The residual network for CIFAR.

Shapes: N batch, C channels, H height, W width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nascli.models.interface import FeatureInfo, ImageClassifier, Unit
from nascli.models.layers import BatchNorm, init_weights, set_batch_norms, subsample
from nascli.models.resnet.family import ResNetSpec


class ResidualBlock(nn.Module):
    """ReLU(s(x) + f(x)), where f is a 3x3 convolution, batch norm, ReLU, another 3x3 convolution and batch norm.

    The shortcut s is the paper's option A, without weights: every other pixel where there is a stride, and channels of
    zeros for those that are added.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, channels_out - channels_in
        self.path = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            BatchNorm(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            BatchNorm(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) to (N, channels_out, H / stride, W / stride), rounded up."""
        shortcut = subsample(x, self.stride, self.stride) if self.stride > 1 else x
        if self.added:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.added))
        return F.relu(shortcut + self.path(x))


class ResNet(ImageClassifier):
    """A stem, three stages of n residual blocks, a classifier: 6n + 2 layers.

    Weights start from torch's global random generator.

    References: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.
    """

    spec: ResNetSpec

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.aux_head = None
        self.feature_info = tuple(FeatureInfo(f"stage{k + 1}", width, 2**k) for k, width in enumerate(spec.widths))
        before = spec.widths[0]
        self.stem = nn.Sequential(nn.Conv2d(3, before, 3, 1, 1, bias=False), BatchNorm(before), nn.ReLU())
        self.stages = nn.ModuleDict()
        for info in self.feature_info:
            first = ResidualBlock(before, info.channels, 1 if info.stride == 1 else 2)
            others = (ResidualBlock(info.channels, info.channels, 1) for _ in range((spec.depth - 2) // 6 - 1))
            self.stages[info.name] = nn.Sequential(first, *others)
            before = info.channels
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(before, spec.classes)
        set_batch_norms(self, spec.batch_norm_momentum, spec.batch_norm_epsilon)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (N, 3, H, W) to logits (N, classes)."""
        last = self.features(x)[self.feature_info[-1].name]
        logits: Tensor = self.classifier(self.dropout(last.mean((2, 3))))
        return logits

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage."""
        x = self.stem(x)
        outputs: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            assert isinstance(stage, nn.Sequential)
            for block in stage:
                x = self.run_block(block, x)
            outputs[name] = x
        return outputs

    def units(self) -> list[Unit]:
        """Stem, each block, classifier."""
        blocks = (
            Unit(f"{name.replace('stage', 'stage ')} block", f"stages.{name}.{place}", block, is_block=True, stage=name)
            for name, stage in self.stages.items()
            for place, block in stage.named_children()
        )
        return [Unit("stem", "stem", self.stem), *blocks, Unit("classifier", "classifier", self.classifier)]
