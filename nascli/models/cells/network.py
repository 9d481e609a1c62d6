"""Networks: a stem, three stages of cells, a classifier. Any genotype, any size.

Shapes: N batch, C channels, H height, W width.
"""

from collections.abc import Collection, Sequence
from itertools import islice

import torch.nn.functional as F
from torch import Tensor, nn

from nascli.errors import InputError
from nascli.models.cells.cell import Cell
from nascli.models.cells.ops import pad_pools
from nascli.models.cells.spec import CellNetworkSpec
from nascli.models.cells.topology import (
    STAGES,
    CellSlot,
    find_live_cells,
    find_stage_inputs,
    find_stage_start,
    list_slots,
)
from nascli.models.interface import FeatureInfo, ImageClassifier, Unit
from nascli.models.layers import BatchNorm, draw_path_masks, global_average, init_weights, set_batch_norms


class CellNetwork(ImageClassifier):
    """A genotype built at one size; weights start from torch's global random generator.

    A cell whose output nobody reads is not built (where cells read h[i-1] alone, every other one is idle).

    Attributes:
        slots: The stack of cells, idle ones too.
        cells: Those that are built, by position in the stack.

    References: Zoph et al. 2018, figure 2. Cell order, stem and auxiliary head follow the released code.
    """

    spec: CellNetworkSpec

    def __init__(self, spec: CellNetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stem = _stem(spec)
        self.slots = tuple(list_slots(spec))
        self.cells = nn.ModuleDict()
        channels = {0: spec.stem_filters}  # of every output that is needed; the stem's is output 0, cell k's k + 1
        for position in sorted(find_live_cells(self.slots, spec.genotype)):
            slot = self.slots[position]
            cell = Cell(
                slot.cell(spec.genotype),
                (channels.get(slot.prev_prev, 0), channels.get(position, 0)),
                slot.filters,
                2 if slot.role == "reduction" else 1,
                slot.prev_prev_size,
                pre_activated=True,
            )
            self.cells[str(position)] = cell
            channels[position + 1] = cell.channels_out
        self._positions = tuple(map(int, self.cells))
        self._last_reader = {output: k for k in self._positions for output in (self.slots[k].prev_prev, k)}
        self._channels, self._taps = channels, _find_taps(self.slots, tuple(channels))
        if spec.aux_head and "stage2" not in self._taps:
            raise InputError(
                f"cell {spec.genotype.name}: an auxiliary head reads stage 2, which is idle in this network",
                "Set train.aux_weight to 0, or give more cells_per_stage",
            )
        finest = 1 if spec.stem == "cifar" else 8
        self.feature_info = tuple(
            FeatureInfo(name, channels[self._taps[name]] if name in self._taps else 0, finest * 2**k)
            for k, name in enumerate(STAGES)
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(channels[len(self.slots)], spec.classes)
        self.aux_head = None
        if spec.aux_head:
            self.aux_head = AuxiliaryHead(channels[self._taps["stage2"]], spec.classes, _stage2_side(spec))
        pad_pools(self, spec.zero_padded_pools)
        set_batch_norms(self, spec.batch_norm_momentum, spec.batch_norm_epsilon)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (N, 3, H, W) to logits (N, classes)."""
        last = len(self.slots)
        return self._classify(self._run_all(x, [last])[last])

    def forward_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and the auxiliary head's logits while training with one (else None)."""
        if self.aux_head is None or not self.training:
            return self(x), None
        last, auxiliary = len(self.slots), self._taps["stage2"]
        outputs = self._run_all(x, (last, auxiliary))
        return self._classify(outputs[last]), self.aux_head(outputs[auxiliary])

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of the last cell of each stage, after the ReLU that a next cell would begin with."""
        outputs = self._run_all(x, self._taps.values())
        return {name: F.relu(outputs[output]) for name, output in self._taps.items()}

    def maps_before(self, stage: str) -> tuple[FeatureInfo, ...]:
        """The outputs of earlier cells that a stage reads: h[i-1] before h[i]."""
        stem = 1 if self.spec.stem == "cifar" else 2
        return tuple(
            FeatureInfo(f"output{k}", self._channels[k], stem * 2 ** (self.slots[k - 1].log2_stride if k else 0))
            for k in self._stage_inputs(stage)
        )

    def forward_to(self, x: Tensor, stage: str) -> tuple[Tensor, ...]:
        """Images to the maps of `maps_before`."""
        wanted, start = self._stage_inputs(stage), find_stage_start(self.slots, stage)
        outputs = self._run(x, {0: self.stem(x)}, [k for k in self._positions if k < start], wanted)
        return tuple(outputs[output] for output in wanted)

    def forward_from(self, maps: Sequence[Tensor], stage: str) -> Tensor:
        """Run a stage, its reduction cell included, to the end on such maps; then ReLU and global average pool."""
        last, start = len(self.slots), find_stage_start(self.slots, stage)
        known = dict(zip(self._stage_inputs(stage), maps, strict=True))
        return _pool_last(self._run(maps[0], known, [k for k in self._positions if k >= start], [last])[last])

    def units(self) -> list[Unit]:
        """Stem, each cell that is built, classifier."""
        blocks = []
        for key, cell in self.cells.items():
            slot = self.slots[int(key)]
            place, stage = (f"stage {slot.stage}", f"stage{slot.stage}") if slot.stage else ("stem", "stem")
            label = f"{place} {slot.role}"
            blocks.append(Unit(label, f"cells.{key}", cell, slot.filters, is_block=True, stage=stage))
        return [Unit("stem", "stem", self.stem), *blocks, Unit("classifier", "classifier", self.classifier)]

    def draw_masks(self, images: Tensor, positions: Sequence[int]) -> dict[int, tuple[Tensor, ...]]:
        """The drop-path masks of the cells at these positions for a pass over images; none where nothing drops.

        Drop path is scaled by depth: cell l of L drops with `drop_path_prob` * (l + 1) / L.

        References: ScheduledDropPath, Zoph et al. 2018, section 4; the depth scaling is in the released code only.
        """
        if not self.drops_paths:
            return {}
        counts = {position: self._cell(position).droppable for position in positions}
        shares = tuple((position + 1) / len(self.slots) for position in positions for _ in range(counts[position]))
        drawn = iter(draw_path_masks(images, self.drop_path_prob, shares))
        return {position: tuple(islice(drawn, count)) for position, count in counts.items()}

    def _cell(self, position: int) -> Cell:
        cell = self.cells[str(position)]
        assert isinstance(cell, Cell)
        return cell

    def _stage_inputs(self, stage: str) -> list[int]:
        return find_stage_inputs(self.slots, self._positions, self.spec.genotype, stage)

    def _run_all(self, x: Tensor, wanted: Collection[int]) -> dict[int, Tensor]:
        return self._run(x, {0: self.stem(x)}, self._positions, wanted)

    def _run(
        self, images: Tensor, outputs: dict[int, Tensor], positions: Sequence[int], wanted: Collection[int]
    ) -> dict[int, Tensor]:
        """The wanted outputs of the cells at these positions, from the known `outputs`.

        Any other is let go when its last reader has it, which is a tenth of a training's memory. `images` say how many
        drop-path masks are made.
        """
        masks = self.draw_masks(images, positions)
        activated: dict[int, Tensor] = {}  # two cells may read an output: its ReLU is computed, and kept, once
        for position in positions:
            cell = self._cell(position)
            reads = zip((self.slots[position].prev_prev, position), cell.takes_activated, strict=True)
            inputs = (_read(output, relu, outputs, activated) for output, relu in reads)
            outputs[position + 1] = self.run_block(cell, *inputs, masks.get(position))
            for output in [k for k, reader in self._last_reader.items() if reader == position]:
                activated.pop(output, None)
                if output not in wanted:
                    outputs.pop(output, None)
        return outputs

    def _classify(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(_pool_last(x)))
        return logits


class AuxiliaryHead(nn.Module):
    """A second classifier on the map of stage 2, of C channels and `size` pixels a side; for training only.

    A map of another size, as of smaller training images, is resized to that first (bilinear).

    ReLU, average pool 5x5 stride 3, 1x1 to 128, BN, ReLU, a convolution of 768 that covers the whole remaining map, BN,
    ReLU, classifier.

    References: released code of Zoph et al. 2018.
    Deviation: on maps under 5 pixels, which the paper never has, the pool covers the whole map.
    """

    def __init__(self, channels: int, classes: int, size: int) -> None:
        super().__init__()
        self._size = size
        window = min(5, size)
        remaining = (size - window) // 3 + 1
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(window, 3),
            nn.Conv2d(channels, 128, 1, bias=False),
            BatchNorm(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 768, remaining, bias=False),
            BatchNorm(768),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(768, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, classes)."""
        if x.shape[2:] != (self._size, self._size):
            x = F.interpolate(x, (self._size, self._size), mode="bilinear")
        logits: Tensor = self.layers(x)
        return logits


def _find_taps(slots: tuple[CellSlot, ...], outputs: tuple[int, ...]) -> dict[str, int]:
    """The newest of the built outputs at each stage's resolution (for stage 1 the stem's counts too).

    A stage whose only cell is idle has none: its reduction stands in for its one cell, and the next reads past it.
    """
    first = slots[-1].log2_stride - 2
    newest = {slots[output - 1].log2_stride if output else 0: output for output in sorted(outputs)}
    return {name: newest[first + k] for k, name in enumerate(STAGES) if first + k in newest}


def _read(output: int, pre_activated: bool, outputs: dict[int, Tensor], activated: dict[int, Tensor]) -> Tensor | None:
    """An output as a cell takes it; None where it is not built, since the cell does not read it then."""
    if not pre_activated or output not in outputs:
        return outputs.get(output)
    if output not in activated:
        activated[output] = F.relu(outputs[output])
    return activated[output]


def _pool_last(x: Tensor) -> Tensor:
    """Bring the last cell's output to what the classifier reads: ReLU, then each channel's mean, (N, C)."""
    return global_average(F.relu(x))


def _stem(spec: CellNetworkSpec) -> nn.Sequential:
    """3x3 convolution and batch norm, no ReLU; for ImageNet with stride 2 and without padding (released code)."""
    stride, padding = (1, 1) if spec.stem == "cifar" else (2, 0)
    return nn.Sequential(nn.Conv2d(3, spec.stem_filters, 3, stride, padding, bias=False), BatchNorm(spec.stem_filters))


def _stage2_side(spec: CellNetworkSpec) -> int:
    """Height and width of the map of stage 2, at the spec's image size."""
    if spec.stem == "cifar":
        return -(-spec.image_size // 2)
    return -(-((spec.image_size - 1) // 2) // 8)
