"""Networks: a stem, three stages of cells, a classifier. Any genotype, any size.

Shapes: N batch, C channels, H height, W width.
"""

from collections.abc import Collection, Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nascli.errors import InputError
from nascli.models.cells.cell import Cell
from nascli.models.cells.spec import CellNetworkSpec
from nascli.models.cells.topology import STAGES, CellSlot, live_cells, plan_cells, read_from, start_of_stage
from nascli.models.interface import FeatureInfo, ImageClassifier, Unit
from nascli.models.layers import global_average, init_weights, set_batch_norms
from nascli.models.recompute import recompute


class CellNetwork(ImageClassifier):
    """A genotype built at one size; weights start from torch's global random generator.

    A cell whose output nobody reads is not built (where cells read h[i-1] alone, every other one is idle). While
    `grad_checkpointing` is true and the network trains, a cell's activations are computed again in the backward pass.

    Args:
        spec: Genotype and macro numbers.

    References: Zoph et al. 2018, figure 2. Cell order, stem and auxiliary head follow the released code.
    """

    spec: CellNetworkSpec

    def __init__(self, spec: CellNetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stem = _stem(spec)
        self.plan = tuple(plan_cells(spec))
        self.cells = nn.ModuleDict()
        channels = {0: spec.stem_filters}  # of every output that is needed; the stem's is output 0, cell k's k + 1
        for position in sorted(live_cells(self.plan, spec.genotype)):
            slot = self.plan[position]
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
        positions = tuple(map(int, self.cells))
        self._last_reader = {output: k for k in positions for output in (self.plan[k].prev_prev, k)}
        self._taps = _taps(self.plan, tuple(channels))
        if spec.aux_head and "stage2" not in self._taps:
            raise InputError(
                f"cell {spec.genotype.name}: an auxiliary head reads stage 2, which is idle in this network",
                "Leave the auxiliary head out, or give more cells_per_stage",
            )
        self._channels = channels
        finest = 1 if spec.stem == "cifar" else 8
        self.feature_info = tuple(
            FeatureInfo(name, channels[self._taps[name]] if name in self._taps else 0, finest * 2**k)
            for k, name in enumerate(STAGES)
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(channels[len(self.plan)], spec.classes)
        self.aux_head = (
            AuxiliaryHead(channels[self._taps["stage2"]], spec.classes, map_size(spec, "stage2"))
            if spec.aux_head
            else None
        )
        set_batch_norms(self, spec.batch_norm_momentum, spec.batch_norm_epsilon)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to logits (N, classes)."""
        last = len(self.plan)
        return self._classify(self._outputs(x, [last])[last])

    def forward_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and the auxiliary head's logits while training with one (else None)."""
        if self.aux_head is None or not self.training:
            return self(x), None
        last, auxiliary = len(self.plan), self._taps["stage2"]
        outputs = self._outputs(x, (last, auxiliary))
        return self._classify(outputs[last]), self.aux_head(outputs[auxiliary])

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of the last cell of each stage, after the ReLU that a next cell would begin with."""
        outputs = self._outputs(x, self._taps.values())
        return {name: F.relu(outputs[output]) for name, output in self._taps.items()}

    def maps_before(self, stage: str) -> tuple[FeatureInfo, ...]:
        """The outputs of earlier cells that a stage reads: h[i-1] before h[i]."""
        stem_stride = 1 if self.spec.stem == "cifar" else 2
        return tuple(
            FeatureInfo(
                f"output{output}",
                self._channels[output],
                stem_stride * 2 ** (self.plan[output - 1].log2_stride if output else 0),
            )
            for output in self._read_from(stage)
        )

    def forward_to(self, x: Tensor, stage: str) -> tuple[Tensor, ...]:
        """Images to the maps of `maps_before`."""
        wanted = self._read_from(stage)
        outputs = self._run(x, {0: self.stem(x)}, self._positions(0, start_of_stage(self.plan, stage)), wanted)
        return tuple(outputs[output] for output in wanted)

    def forward_from(self, maps: Sequence[Tensor], stage: str) -> Tensor:
        """Run a stage, its reduction cell included, to the end on such maps; then ReLU and global average pool."""
        last = len(self.plan)
        positions = self._positions(start_of_stage(self.plan, stage), last)
        outputs = self._run(maps[0], dict(zip(self._read_from(stage), maps, strict=True)), positions, [last])
        return _pool_last(outputs[last])

    def units(self) -> list[Unit]:
        """Stem, each cell that is built, classifier."""
        cells = (
            Unit(_label(self.plan[position]), f"cells.{position}", cell, self.plan[position].filters, is_block=True)
            for position, cell in zip(self._positions(0, len(self.plan)), self.cells.values(), strict=True)
        )
        return [Unit("stem", "stem", self.stem), *cells, Unit("classifier", "classifier", self.classifier)]

    def set_static_graph(self, on: bool) -> None:
        """Draw drop-path masks even at probability 0."""
        for cell in self.cells.values():
            assert isinstance(cell, Cell)
            cell.always_masked = on

    def set_drop_path(self, prob: float) -> None:
        """Set drop path for the next steps, scaled by depth: cell l of L drops with prob * (l + 1) / L.

        Args:
            prob: Probability of dropping in the last cell at this slot, in [0, 1); the schedule over slots (linear from
                0) is the caller's.

        References: ScheduledDropPath, Zoph et al. 2018, section 4; the depth scaling is in the released code only.
        """
        for position, cell in self.cells.items():
            assert isinstance(cell, Cell)
            cell.drop_path_prob = prob * (int(position) + 1) / len(self.plan)

    def _positions(self, start: int, end: int) -> list[int]:
        """Positions of the cells that are built, from `start` to before `end`."""
        return [position for position in map(int, self.cells) if start <= position < end]

    def _read_from(self, stage: str) -> list[int]:
        return read_from(self.plan, self._positions(0, len(self.plan)), self.spec.genotype, stage)

    def _outputs(self, x: Tensor, wanted: Collection[int]) -> dict[int, Tensor]:
        return self._run(x, {0: self.stem(x)}, map(int, self.cells), wanted)

    def _run(
        self, images: Tensor, known: dict[int, Tensor], positions: Iterable[int], wanted: Collection[int]
    ) -> dict[int, Tensor]:
        """The wanted outputs of the cells at these positions, from those that are known.

        Any other is let go when its last reader has it, which is a tenth of a training's memory. `images` say how many
        drop-path masks are drawn.
        """
        outputs = _Outputs(known)
        for newest in positions:
            cell = self.cells[str(newest)]
            assert isinstance(cell, Cell)
            prev_prev, prev = map(outputs.read, (self.plan[newest].prev_prev, newest), cell.takes_activated)
            inputs = prev_prev, prev, cell.draw_masks(images)
            again = self.grad_checkpointing and self.training
            outputs.plain[newest + 1] = recompute(cell, *inputs) if again else cell(*inputs)
            outputs.forget([k for k, reader in self._last_reader.items() if reader == newest], wanted)
        return outputs.plain

    def _classify(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(_pool_last(x)))
        return logits


class _Outputs:
    """Outputs of stem and cells by number, kept for as long as a cell may read them.

    Two cells may read an output, and most begin with a ReLU, which is computed, and kept for the backward pass, once.
    """

    def __init__(self, known: dict[int, Tensor]) -> None:
        self.plain = known
        self._activated: dict[int, Tensor] = {}

    def read(self, output: int, pre_activated: bool) -> Tensor | None:
        if not pre_activated or output not in self.plain:
            return self.plain.get(output)
        if output not in self._activated:
            self._activated[output] = F.relu(self.plain[output])
        return self._activated[output]

    def forget(self, outputs: Iterable[int], wanted: Collection[int]) -> None:
        for output in outputs:
            self._activated.pop(output, None)
            if output not in wanted:
                self.plain.pop(output, None)


class AuxiliaryHead(nn.Module):
    """A second classifier on the last normal cell of stage 2, for training only.

    ReLU, average pool 5x5 stride 3, 1x1 to 128, BN, ReLU, a convolution of 768 that covers the whole remaining map, BN,
    ReLU, classifier.

    Args:
        channels: C of the map it reads.
        classes: Logits.
        size: Height and width of that map.

    References: released code of Zoph et al. 2018.
    Deviation: on maps under 5 pixels, which the paper never has, the pool covers the whole map.
    """

    def __init__(self, channels: int, classes: int, size: int) -> None:
        super().__init__()
        window = min(5, size)
        remaining = (size - window) // 3 + 1
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(window, 3),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 768, remaining, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(768, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, size, size) to logits (N, classes)."""
        logits: Tensor = self.layers(x)
        return logits


def _taps(plan: tuple[CellSlot, ...], outputs: tuple[int, ...]) -> dict[str, int]:
    """The newest of the built outputs at each stage's resolution (for stage 1 the stem's counts too).

    A stage whose only cell is idle has none: its reduction stands in for its one cell, and the next reads past it.
    """
    log2_stride = {output: plan[output - 1].log2_stride if output else 0 for output in outputs}
    deepest = plan[-1].log2_stride
    newest = {log2_stride[output]: output for output in sorted(outputs)}
    return {name: newest[deepest - 2 + k] for k, name in enumerate(STAGES) if deepest - 2 + k in newest}


def _label(slot: CellSlot) -> str:
    place = "stem" if slot.stage == 0 else f"stage {slot.stage}"
    return f"{place} {slot.role}"


def _pool_last(x: Tensor) -> Tensor:
    """Bring the last cell's output to what the classifier reads: ReLU, then each channel's mean, (N, C)."""
    return global_average(F.relu(x))


def _stem(spec: CellNetworkSpec) -> nn.Sequential:
    """3x3 convolution and batch norm, no ReLU; for ImageNet with stride 2 and without padding (released code)."""
    stride, padding = (1, 1) if spec.stem == "cifar" else (2, 0)
    return nn.Sequential(
        nn.Conv2d(3, spec.stem_filters, 3, stride, padding, bias=False), nn.BatchNorm2d(spec.stem_filters)
    )


def map_size(spec: CellNetworkSpec, stage: str) -> int:
    """Height and width of a stage's map at the spec's image size."""
    size, log2_stride = spec.image_size, STAGES.index(stage)
    if spec.stem == "imagenet":
        size, log2_stride = (size - 3) // 2 + 1, log2_stride + 2
    for _ in range(log2_stride):
        size = -(-size // 2)
    return size
