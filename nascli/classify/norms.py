"""Statistics of batch norms, measured for weights that come without any."""

import torch
from torch import nn

from nascli.data.dataset import Split
from nascli.data.transforms import Normalizer
from nascli.models.interface import ImageClassifier


@torch.no_grad()
def measure_batch_norms(
    network: ImageClassifier, split: Split, batch_size: int, normalizer: Normalizer, device: torch.device
) -> None:
    """Measure the batch-norm statistics of a network on a split: the mean over its batches, all counting the same.

    The network is left in evaluation mode.
    """
    norms = [module for module in network.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().reset_running_stats()
    for number, (images, _) in enumerate(split.evaluation_batches(batch_size), 1):
        for norm in norms:
            norm.momentum = 1 / number  # torch's own way to a mean asks the device for the number, norm by norm
        network(normalizer(images.to(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
