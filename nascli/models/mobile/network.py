"""Mobile networks: a stem, blocks of equal layers, a head, a classifier. Any genotype, any width.

Shapes: N batch, C channels, H height, W width.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from nascli.genotype.mobile.genotype import MobileBlock
from nascli.models.interface import FeatureInfo, ImageClassifier, Unit
from nascli.models.layers import draw_path_masks, global_average, init_weights, set_batch_norms
from nascli.models.mobile.layers import MobileLayer, conv_bn
from nascli.models.mobile.spec import MobileNetworkSpec


class MobileNetwork(ImageClassifier):
    """A chain of blocks built at one width; weights start from torch's global random generator.

    Attributes:
        blocks: The layers of each block, in order.

    References: Tan et al. 2019, "MnasNet"; Sandler et al. 2018, "MobileNetV2". Stem and head follow the released code.
    Deviation: the classifier's weights start with a deviation of 0.01, as MobileNetV2's; MnasNet's code draws them
        evenly from within 1 / sqrt(classes).
    """

    spec: MobileNetworkSpec

    def __init__(self, spec: MobileNetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.aux_head = None
        first = conv_bn(3, spec.stem_filters, 3, spec.strides[0], padding=spec.padding, activation=spec.activation)
        self.stem = nn.Sequential(*first)
        self.blocks = nn.ModuleList(_build_block(spec, place) for place in range(len(spec.genotype.blocks)))
        last = conv_bn(spec.block_filters[-1], spec.head_filters, 1, activation=spec.activation)
        self.head: nn.Module = nn.Sequential(*last)
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(spec.head_filters, spec.classes)
        self._taps = _find_taps(spec)  # the number of blocks that each map is after
        self.feature_info = tuple(self._taps)
        set_batch_norms(self, spec.batch_norm_momentum, spec.batch_norm_epsilon)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (N, 3, H, W) to logits (N, classes)."""
        last = self._run(self.stem(x), 0, len(self.blocks))
        logits: Tensor = self.classifier(self.dropout(self._pool(last)))
        return logits

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The map before each layer with a stride, and the last; linear, as the layers that follow read them."""
        x, done = self.stem(x), 0
        maps = {}
        for info, number in self._taps.items():
            maps[info.name] = x = self._run(x, done, number)
            done = number
        return maps

    def maps_before(self, stage: str) -> tuple[FeatureInfo, ...]:
        """The map that the blocks of a stage begin with: that of `feature_info` before its own."""
        place = [info.name for info in self.feature_info].index(stage)
        assert place, "the first stage begins with the image"
        return (self.feature_info[place - 1],)

    def forward_to(self, x: Tensor, stage: str) -> tuple[Tensor, ...]:
        """Images to the map of `maps_before`."""
        return (self._run(self.stem(x), 0, self._taps[self.maps_before(stage)[0]]),)

    def forward_from(self, maps: Sequence[Tensor], stage: str) -> Tensor:
        """Run the blocks after that map to the end; then head, unless it was removed, and global average pool."""
        (x,) = maps
        return self._pool(self._run(x, self._taps[self.maps_before(stage)[0]], len(self.blocks)))

    def units(self) -> list[Unit]:
        """Stem, each layer of each block, head, classifier."""
        layers = (
            Unit(
                f"block {place + 1}.{number + 1} {_title(block)}",
                f"blocks.{place}.{number}",
                layer,
                is_block=True,
                stage=f"block{place + 1}",
            )
            for place, block in enumerate(self.spec.genotype.blocks)
            for number, layer in enumerate(self._layers(place, place + 1))
        )
        ends = (Unit("head", "head", self.head), Unit("classifier", "classifier", self.classifier))
        return [Unit("stem", "stem", self.stem), *layers, *ends]

    def draw_masks(self, images: Tensor, first: int, end: int) -> dict[MobileLayer, Tensor]:
        """The drop-path masks of the layers with a skip in some blocks, for a pass over images; none where none drops.

        Drop path is scaled by depth: layer l of L drops with `drop_path_prob` * (l + 1) / L.

        References: Huang et al. 2016, "Deep Networks with Stochastic Depth"; MnasNet was trained without.
        """
        if not self.drops_paths:
            return {}
        places = {layer: place for place, layer in enumerate(self._layers(), 1)}
        dropped = [layer for layer in self._layers(first, end) if layer.skip != "none"]
        shares = tuple(places[layer] / len(places) for layer in dropped)
        return dict(zip(dropped, draw_path_masks(images, self.drop_path_prob, shares), strict=True))

    def remove_classifier(self) -> None:
        """Take away the head, too: a detector reads maps before it."""
        super().remove_classifier()
        self.head = nn.Identity()

    def _layers(self, first: int = 0, end: int | None = None) -> Iterator[MobileLayer]:
        """The layers of some blocks, in order."""
        for block in list(self.blocks)[first:end]:
            for layer in block.children():
                assert isinstance(layer, MobileLayer)
                yield layer

    def _run(self, x: Tensor, first: int, end: int) -> Tensor:
        masks = self.draw_masks(x, first, end)
        for layer in self._layers(first, end):
            x = self.run_block(layer, x, masks.get(layer))
        return x

    def _pool(self, last: Tensor) -> Tensor:
        return global_average(self.head(last))


def _build_block(spec: MobileNetworkSpec, place: int) -> nn.Sequential:
    plans = spec.plan_layers(place)
    return nn.Sequential(*(MobileLayer(plan, padding=spec.padding, activation=spec.activation) for plan in plans))


def _find_taps(spec: MobileNetworkSpec) -> dict[FeatureInfo, int]:
    """The maps before each block with a stride, and the last, by the number of blocks that are before them."""
    channels, strides = (spec.stem_filters, *spec.block_filters), (*spec.strides, 2)
    taps, total = {}, 1
    for number, width in enumerate(channels):
        total *= strides[number]
        if strides[number + 1] > 1:
            taps[FeatureInfo(f"block{number}" if number else "stem", width, total)] = number
    return taps


def _title(block: MobileBlock) -> str:
    return f"{block.op} {block.kernel}×{block.kernel}{' SE' if block.se else ''}"
