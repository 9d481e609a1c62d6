"""Networks of cells of edges: a stem, three stages of cells with residual blocks between them, a classifier.

Shapes: N batch, C channels, H height, W width.
"""

from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.genotype.edges.formula import CONVOLUTIONS, POOL, Edge
from nascli.genotype.edges.genotype import EdgeGenotype
from nascli.models.edges.family import EdgeNetworkSpec
from nascli.models.interface import FeatureInfo, ImageClassifier, Unit
from nascli.models.layers import BatchNorm, avg_pool, conv, global_average, init_weights, set_batch_norms


class EdgeCell(nn.Module):
    """A cell: each node is the sum of what its live edges bring; (N, C, H, W) to the same shape.

    A convolution is ReLU, convolution, batch norm; the ReLU, or the pool, of a node is computed once for all edges that
    begin with it. Edges that change nothing are not built: a cell without a way from its input to its output gives
    zeros.

    References: Dong and Yang 2020, "NAS-Bench-201", section 2.1.
    Deviation: there a convolution of a node that gets nothing gives the offset of its batch norm.
    """

    def __init__(self, genotype: EdgeGenotype, channels: int) -> None:
        super().__init__()
        self.reads: dict[int, list[tuple[int, str]]] = {}  # by node: the sources and ops of its live edges
        self.edges = nn.ModuleDict()
        for source, target in sorted(genotype.live, key=lambda edge: (edge[1], edge[0])):
            op = genotype.nodes[target - 1][source]
            self.reads.setdefault(target, []).append((source, op))
            if op in CONVOLUTIONS:
                layers = conv(channels, channels, CONVOLUTIONS[op]), BatchNorm(channels)
                self.edges[_name((source, target))] = nn.Sequential(*layers)
        self._output = len(genotype.nodes)

    def forward(self, x: Tensor) -> Tensor:
        """Run the cell."""
        nodes, activated, pooled = {0: x}, dict[int, Tensor](), dict[int, Tensor]()
        for target, edges in self.reads.items():
            brought: list[Tensor] = []
            for source, op in edges:
                if op in CONVOLUTIONS:
                    if source not in activated:
                        activated[source] = F.relu(nodes[source])
                    brought.append(self.edges[_name((source, target))](activated[source]))
                elif op == POOL:
                    if source not in pooled:
                        pooled[source] = avg_pool(nodes[source], 3, 1)
                    brought.append(pooled[source])
                else:
                    brought.append(nodes[source])
            nodes[target] = reduce(add, brought)
        return nodes[self._output] if self._output in nodes else torch.zeros_like(x)


class ResidualReduction(nn.Module):
    """s(x) + f(x), where f is ReLU, 3x3 convolution and batch norm, twice, the first with stride 2.

    The shortcut s is the average over 2x2 pixels and a 1x1 convolution, without batch norm.

    (N, channels_in, H, W) to (N, channels_out, H/2, W/2), rounded up.

    References: the released code of Dong and Yang 2020, `ResNetBasicblock`.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.ReLU(),
            conv(channels_in, channels_out, 3, 2, padding="symmetric"),
            BatchNorm(channels_out),
            nn.ReLU(inplace=True),
            conv(channels_out, channels_out, 3),
            BatchNorm(channels_out),
        )
        self.shortcut = conv(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        result: Tensor = self.shortcut(avg_pool(x, 2, 2)) + self.path(x)
        return result


class EdgeNetwork(ImageClassifier):
    """A cell built at one size; weights start from torch's global random generator.

    References: Dong and Yang 2020, "NAS-Bench-201", figure 1.
    """

    spec: EdgeNetworkSpec

    def __init__(self, spec: EdgeNetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.aux_head = None
        widths = spec.stage_filters
        self.feature_info = tuple(FeatureInfo(f"stage{k + 1}", width, 2**k) for k, width in enumerate(widths))
        self.stem = nn.Sequential(conv(3, widths[0], 3), BatchNorm(widths[0]))
        self.stages = nn.ModuleDict()
        for place, info in enumerate(self.feature_info):
            first = [ResidualReduction(widths[place - 1], info.channels)] if place else []
            cells = (EdgeCell(spec.genotype, info.channels) for _ in range(spec.cells_per_stage))
            self.stages[info.name] = nn.Sequential(*first, *cells)
        self.head = nn.Sequential(BatchNorm(widths[-1]), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(widths[-1], spec.classes)
        set_batch_norms(self, spec.batch_norm_momentum, spec.batch_norm_epsilon)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (N, 3, H, W) to logits (N, classes)."""
        *_, last = self._run(x).values()
        logits: Tensor = self.classifier(self.dropout(global_average(self.head(last))))
        return logits

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage after ReLU, that of the last after its batch norm, too."""
        maps = self._run(x)
        last = self.feature_info[-1].name
        return {name: self.head(each) if name == last else F.relu(each) for name, each in maps.items()}

    def units(self) -> list[Unit]:
        """Stem, each residual block and cell, the last batch norm, classifier."""
        blocks = (
            Unit(
                f"{name.replace('stage', 'stage ')} {'cell' if isinstance(block, EdgeCell) else 'residual block'}",
                f"stages.{name}.{place}",
                block,
                is_block=True,
                stage=name,
            )
            for name, stage in self.stages.items()
            for place, block in stage.named_children()
        )
        ends = (Unit("head", "head", self.head), Unit("classifier", "classifier", self.classifier))
        return [Unit("stem", "stem", self.stem), *blocks, *ends]

    def _run(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage."""
        x = self.stem(x)
        outputs: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            for block in stage.children():
                x = self.run_block(block, x)
            outputs[name] = x
        return outputs


def _name(edge: Edge) -> str:
    """The name of an edge's module."""
    return f"{edge[0]}_{edge[1]}"
