"""The interface of networks to the rest of the program: one base class, whatever the architecture.

Shapes: N batch, C channels, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nascli.models.spec import NetworkSpec


@dataclass(frozen=True)
class FeatureInfo:
    """One map that `features` gives, by its key: `stage2`.

    Args:
        channels: C; 0 where the network has no map of this stride (every cell of the stage is idle).
        stride: Pixels of the image per pixel of the map, along either side.
    """

    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class Unit:
    """One piece of a network: cost is counted by unit, and blocks are compiled and recomputed one by one.

    Args:
        label: What tables call it, `stage 1 normal`.
        path: The module's place in the network, `cells.3`.
        stage: The stage it belongs to, by which a recipe freezes it, `stage1`; empty is a stage of its own, `path`.
        filters: Channels that tables show; None is the output's.
        is_block: One of the repeated blocks of the body, not stem or classifier.
    """

    label: str
    path: str
    module: nn.Module
    filters: int | None = None
    is_block: bool = False
    stage: str = ""


class ImageClassifier(nn.Module, ABC):
    """A network from normalized images (N, 3, H, W) to logits (N, classes), at any H and W.

    Attributes:
        spec: All that is needed to build it again.
        feature_info: The maps of `features`, the finest first.
        dropout: The layer before the classifier.
        classifier: The last layer.
        aux_head: A second classifier for training; None without one.
        grad_checkpointing: Blocks' activations are computed again in the backward pass, while the network trains.
        drop_path_prob: Probability of drop path in the last block; earlier ones have a part of it, by depth. A scalar
            on a GPU goes with `static_graph`, since whether it is 0 cannot be seen without a wait.
        static_graph: Drop-path masks are made at probability 0, too, so that every step runs the same operations.
        frozen_norms: Batch norms that stay in evaluation mode: they use and keep the statistics that they have.
    """

    spec: NetworkSpec
    feature_info: tuple[FeatureInfo, ...]
    dropout: nn.Dropout
    classifier: nn.Linear
    aux_head: nn.Module | None
    grad_checkpointing: bool = False
    drop_path_prob: float | Tensor = 0.0
    static_graph: bool = False
    frozen_norms: tuple[nn.BatchNorm2d, ...] = ()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""

    @abstractmethod
    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The maps of `feature_info` by name, without those of 0 channels; activated, as a next layer may read them.

        Returns:
            (N, channels, H / stride, W / stride) each, rounded up.
        """

    @abstractmethod
    def units(self) -> Sequence[Unit]:
        """All modules with weights but the auxiliary head, each in one unit, in the order of the computation."""

    def units_by_stage(self) -> dict[str, list[Unit]]:
        """The units by stage, in the order of the computation; the last stage is the classifier."""
        stages: dict[str, list[Unit]] = {}
        for unit in self.units():
            stages.setdefault(unit.stage or unit.path, []).append(unit)
        return stages

    def class_layers(self) -> dict[str, nn.Linear]:
        """The layers with an output per class, by their place in the network: `classifier`, the auxiliary head's."""
        layers = [(path, module) for path, module in self.named_modules() if isinstance(module, nn.Linear)]
        auxiliary = [(path, layer) for path, layer in layers if path.startswith("aux_head.")]
        return {"classifier": self.classifier, **dict(auxiliary[-1:])}

    def freeze_norms(self, norms: Iterable[nn.BatchNorm2d]) -> None:
        """Keep these batch norms of the network, and no others, in evaluation mode from now on."""
        self.frozen_norms = tuple(norm.eval() for norm in norms)

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for norm in self.frozen_norms:
            norm.eval()
        return self

    def forward_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and the auxiliary head's logits while training with one (else None)."""
        return self(x), None

    @property
    def drops_paths(self) -> bool:
        """Whether a pass has drop-path masks. They are made before the blocks that they are for.

        So a block needs no random numbers: it may be computed twice, or compiled once for every probability.
        """
        return self.training and (self.static_graph or bool(self.drop_path_prob > 0))

    def set_grad_checkpointing(self, on: bool) -> None:
        """Keep only each block's input for the backward pass, and compute the block again there."""
        self.grad_checkpointing = on

    def run_block(self, block: nn.Module, *inputs: Any) -> Tensor:  # noqa: ANN401 - whatever the block takes
        """Call a block of the body, by `recompute` where the network trains with gradient checkpointing."""
        again = self.grad_checkpointing and self.training
        result: Tensor = recompute(block, *inputs) if again else block(*inputs)
        return result

    def remove_classifier(self) -> None:
        """Take away what a detector does not use: classifier, auxiliary head, drop path."""
        del self.classifier
        self.aux_head = None
        self.drop_path_prob = 0.0


@runtime_checkable
class Restartable(Protocol):
    """A network that can be run up to a stage, and from there on crops of the maps it had reached."""

    def maps_before(self, stage: str) -> tuple[FeatureInfo, ...]:
        """The maps that this stage and later ones read of earlier ones, in the order of the computation."""

    def forward_to(self, x: Tensor, stage: str) -> tuple[Tensor, ...]:
        """Images to the maps of `maps_before`, each (N, channels, H / stride, W / stride), rounded up."""

    def forward_from(self, maps: Sequence[Tensor], stage: str) -> Tensor:
        """Run this stage to the end on such maps, of any size: to what the classifier reads, (N, C)."""


class Supernet(Protocol):
    """The weights that all children of a search space share, and the children that inherit them."""

    # spec, space and child are those of the family
    def build_shared_parameters(self, spec: Any, space: Any) -> nn.ParameterDict:  # noqa: ANN401
        """Fresh shared weights by name, from torch's global random generator; `spec` has any child of the space."""

    def bare_child(self, spec: Any) -> ImageClassifier:  # noqa: ANN401
        """A child without storage, to be called with inherited weights; it keeps no batch-norm statistics."""

    def inherit_weights(self, child: Any, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ANN401
        """The weights of a child by their names in it; gradients flow back into the shared ones."""

    def extract_child(self, spec: Any, shared: Mapping[str, Tensor]) -> ImageClassifier:  # noqa: ANN401
        """A stand-alone child with copies of its inherited weights."""


def recompute(module: nn.Module, *inputs: Any) -> Tensor:  # noqa: ANN401 - whatever the module takes
    """Call a module; for the backward pass keep its inputs only, and run it on them once more there.

    Result, gradients and buffers are those of a plain call: the second run takes the same random numbers and leaves
    the running statistics of batch norms as they are.

    References: Chen et al. 2016, "Training deep nets with sublinear memory cost", section 4.
    """
    result: Tensor = checkpoint(
        module, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _BuffersAside(module))
    )
    return result


class _BuffersAside(AbstractContextManager[None]):
    """While it lasts, a module works on copies of its buffers: batch norms would else count the batch twice.

    Freezing them instead (evaluation mode, or a momentum of 0) would change what they keep for the backward pass, or
    still count batches.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kept: list[tuple[nn.Module, str, Tensor]] = []

    def __enter__(self) -> None:
        for owner in self._module.modules():
            self._kept += [(owner, name, buffer) for name, buffer in owner.named_buffers(recurse=False)]
        for owner, name, buffer in self._kept:
            setattr(owner, name, buffer.clone())

    def __exit__(self, *raised: object) -> None:
        for owner, name, buffer in self._kept:
            setattr(owner, name, buffer)
        self._kept.clear()
