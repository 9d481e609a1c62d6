"""Folded networks as exported programs of torch, from which other formats are made.

Shapes: N batch, H height, W width.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, fx
from torch.export import Dim, ExportedProgram

from nascli.models.spec import NetworkSpec

INPUT, OUTPUT = "images", "logits"


def make_images(spec: NetworkSpec, batch: int) -> Tensor:
    """The random images (N, 3, H, W) that logits are compared on; the same each time."""
    side = spec.image_size
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def probe_images(spec: NetworkSpec) -> Iterator[Tensor]:
    """Images (N, 3, H, W) that a network is compared on: random numbers, zeros, an image of random noise."""
    yield from (make_images(spec, batch) for batch in (1, 3))
    yield torch.zeros(1, 3, spec.image_size, spec.image_size)
    mean, std = (torch.tensor(color).reshape(3, 1, 1) for color in (spec.mean, spec.std))
    noise = torch.rand(1, 3, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(0))
    yield (noise - mean) / std


def trace_program(folded: fx.GraphModule, spec: NetworkSpec) -> ExportedProgram:
    """A folded network as a graph of plain tensor functions: paddings are numbers in it, and N is free.

    Args:
        folded: On the CPU; its input gets the name `images`.
        spec: Tells H and W.
    """
    (old,) = folded.graph.find_nodes(op="placeholder")
    with folded.graph.inserting_before(old):
        old.replace_all_uses_with(folded.graph.placeholder(INPUT))
    folded.graph.erase_node(old)
    folded.recompile()
    shapes = ({0: Dim("batch", min=1)},)
    program = torch.export.export(folded, (make_images(spec, 2),), dynamic_shapes=shapes, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def to_texts(metadata: Mapping[str, object]) -> dict[str, str]:
    """The metadata of a file as texts: JSON where they are not."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}


@contextmanager
def quiet() -> Iterator[None]:
    """Leave aside what torch warns of in its own exporters, which differs by version: what they give is compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
