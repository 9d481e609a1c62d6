"""Chains as networks."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from nascli.models.interface import FeatureInfo, ImageClassifier, Unit
from tests.outside_family.family import ChainNetworkSpec


class ChainNetwork(ImageClassifier):
    """Three convolutions, each with batch norm and ReLU, then mean, dropout and classifier."""

    aux_head = None

    def __init__(self, spec: ChainNetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        layers = spec.genotype.layers
        widths = [3, *(layer.width * spec.filters for layer in layers)]
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, layer.kernel, 2 if place else 1, layer.kernel // 2, bias=False),
                nn.BatchNorm2d(after, spec.batch_norm_epsilon, spec.batch_norm_momentum),
                nn.ReLU(inplace=True),
            )
            for place, (layer, (before, after)) in enumerate(zip(layers, pairwise(widths), strict=True))
        )
        self.feature_info = tuple(
            FeatureInfo(f"layer{place}", width, 2**place) for place, width in enumerate(widths[1:])
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(widths[-1], spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        """See `ImageClassifier`."""
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.classifier(self.dropout(x.mean((2, 3))))
        return logits

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """See `ImageClassifier`."""
        found = {}
        for info, layer in zip(self.feature_info, self.layers, strict=True):
            x = found[info.name] = layer(x)
        return found

    def units(self) -> Sequence[Unit]:
        """See `ImageClassifier`."""
        layers = [
            Unit(f"layer {place}", f"layers.{place}", layer, is_block=True) for place, layer in enumerate(self.layers)
        ]
        return [*layers, Unit("classifier", "classifier", self.classifier)]
