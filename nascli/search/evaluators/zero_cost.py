"""Scores of a genotype without training: its size, its work, and two looks at the untrained child network.

They cost about as much as building the child network and one training step. In the NASNet space they agree only weakly
with the order that training gives: they are for rejecting the worst cells, and for trying a search on.

Both looks take the child network as the recipe builds it, with the random weights that a training from the same seed
would start from, and show it one batch: `BATCH` training images, fixed by the data and never varied, so that every
cell of a search sees the same. Batch norms use the batch's own statistics; dropout and drop path are off; the
auxiliary head takes no part; numbers are float32 whatever the recipe's precision, and computed by one thread on a
CPU, as in a worker, so that a score does not depend on the process.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nascli.config import suggestion
from nascli.data.dataset import no_image_left
from nascli.data.transforms import FloatBatch
from nascli.engine.device import cpu_threads, generator_for
from nascli.errors import DivergedError, InputError
from nascli.genotype.genotype import Genotype
from nascli.models.interface import ImageClassifier
from nascli.search.evaluators.proxy import ChildSetup
from nascli.search.trial import Score

BATCH = 64
"""Images that an untrained network is shown, where the data has so many."""

ZeroCostFunction = Callable[[ChildSetup, Genotype, int], float]
"""From the setup of a child, its genotype and the seed of its weights to a score; the higher, the better."""


def params(setup: ChildSetup, genotype: Genotype, seed: int) -> float:
    """Trainable parameters of the child network, without an auxiliary head."""
    return float(setup.cost(genotype).params)


def mult_adds(setup: ChildSetup, genotype: Genotype, seed: int) -> float:
    """Multiply-accumulates of the child network for one image."""
    return float(setup.cost(genotype).mult_adds)


def naswot(setup: ChildSetup, genotype: Genotype, seed: int) -> float:
    """The log-determinant of a kernel of binary codes: it is high where an untrained network tells images apart.

    K[i, j] is the number of rectified units that are either on for both images i and j or off for both; the score is
    the sum of log(max(e, 1)) over the eigenvalues e of K.

    A ReLU that several ops of a cell share is computed once by the network and counts once. One output that two cells
    read is rectified by each and counts twice.

    References: Mellor et al. 2021, "Neural Architecture Search without Training", section 3.
    Deviation: the paper takes log |K|, which is minus infinity where two images have equal codes. An eigenvalue below
        1, which is less than one unit's worth of difference, counts as 1 here: the score is finite and at least 0, and
        equal to the paper's wherever all eigenvalues are above 1.
    """
    kernel = _CodeKernel()
    with cpu_threads(1), torch.no_grad():
        network = build_untrained_child(setup, genotype, seed)
        images, _ = load_fixed_batch(setup)
        with kernel:
            network(images)
    assert kernel.total is not None, "every network ends with a ReLU"
    eigenvalues = np.linalg.eigvalsh(kernel.total.cpu().numpy())
    return float(np.log(np.maximum(eigenvalues, 1.0)).sum())


def grad_norm(setup: ChildSetup, genotype: Genotype, seed: int) -> float:
    """Sum of the Euclidean norms of the loss gradient, one for each weight of a convolution or classifier.

    The loss is the cross-entropy of one batch, without label smoothing. Biases and batch norms take no part.

    Raises:
        DivergedError: The sum is not finite.

    References: Abdelfattah et al. 2021, "Zero-Cost Proxies for Lightweight NAS", section 3 (grad_norm).
    """
    with cpu_threads(1):
        network = build_untrained_child(setup, genotype, seed)
        images, labels = load_fixed_batch(setup)
        weights = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        loss = F.cross_entropy(network(images), labels)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)  # the auxiliary head's are unused
        norms = [gradient.double().norm() for gradient in gradients if gradient is not None]
    norm = torch.stack(norms).sum().item()
    if not math.isfinite(norm):
        raise DivergedError(f"the gradient norm of the untrained network is {norm}")
    return norm


ZERO_COST_SCORES: dict[str, ZeroCostFunction] = {
    "params": params,
    "mult_adds": mult_adds,
    "naswot": naswot,
    "grad_norm": grad_norm,
}
"""Every zero-cost score by name, the cheapest first; constraints name them too."""

_MILLIONS = ("params", "mult_adds")


@dataclass(frozen=True)
class ZeroCostScore:
    """An evaluator that does not train: the reward is a zero-cost score, `params` and `mult_adds` in millions.

    `kind` is a name in `ZERO_COST_SCORES`; InputError where it is not.
    """

    kind: str
    setup: ChildSetup

    def __post_init__(self) -> None:
        if self.kind not in ZERO_COST_SCORES:
            raise InputError(f"unknown score {self.kind!r}", suggestion(self.kind, ZERO_COST_SCORES))

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """Score the untrained child; its weights follow from `seed`, and `epochs` changes nothing."""
        started = time.monotonic()
        cost = self.setup.cost(genotype)
        value = ZERO_COST_SCORES[self.kind](self.setup, genotype, seed)
        reward = value / 1e6 if self.kind in _MILLIONS else value
        return Score.of(None, cost.params, cost.mult_adds, started, reward)


def build_untrained_child(setup: ChildSetup, genotype: Genotype, seed: int) -> ImageClassifier:
    """The child network that a training from `seed` starts from, on its device, in training mode, no dropout."""
    network = setup.child(genotype, seed)
    network.to(setup.device).to(memory_format=torch.channels_last)
    network.train()
    network.dropout.eval()
    return network


def load_fixed_batch(setup: ChildSetup) -> FloatBatch:
    """`BATCH` training images by a draw that never changes, normalized, and their labels, on the setup's device."""
    split = setup.data.train
    chosen = torch.randperm(len(split), generator=generator_for(0, "cheap-score"))[:BATCH]
    batch = next(split.take(chosen).evaluation_batches(BATCH), None)
    if batch is None:
        raise no_image_left(len(chosen))
    images, labels = batch
    return setup.normalizer(images.to(setup.device)), labels.to(setup.device)


class _CodeKernel(TorchFunctionMode):
    """While entered, adds up the kernel of the codes of every ReLU that is computed, as a layer or as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.total: Tensor | None = None  # float64 (N, N)

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if func in (F.relu, F.hardtanh):  # the latter is ReLU6, whose codes are whether a unit is on, too
            assert isinstance(result, Tensor)
            signs = (result > 0).flatten(1).float() * 2 - 1  # (N, C * H * W), 1 for on and -1 for off
            agreements = (signs @ signs.T).double().add(signs.shape[1]).div(2)  # exact to 2^24 units a ReLU
            self.total = agreements if self.total is None else self.total + agreements
        return result
