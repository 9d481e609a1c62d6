"""Networks in 8-bit whole numbers, by NNCF's quantization after training: ranges are measured on training images.

Shapes: H height, W width.
"""

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from nascli.errors import InputError
from nascli.models.deploy.openvino import Model, import_openvino

FEWEST_IMAGES = 100
"""Images that ranges of numbers can be measured on; with fewer, they leave out what a next image has."""


def import_nncf() -> Any:  # noqa: ANN401 - the package
    """NNCF, which reports over the network where OpenVINO's telemetry can be imported: `import_openvino` sees to it."""
    import_openvino()
    try:
        with _quiet():
            import nncf
    except ImportError as error:
        raise InputError("int8 needs NNCF, which is not installed", 'pip install "nascli[int8]"') from error
    return nncf


def quantize(model: Model, images: Sequence[Tensor]) -> Model:
    """A model of OpenVINO whose convolutions compute in int8, for any N, H and W.

    Args:
        model: From `convert`; it is left as it is.
        images: Normalized, float32 (1, 3, H, W) each; `FEWEST_IMAGES` or more.

    Raises:
        InputError: NNCF is not installed.
    """
    nncf, model = import_nncf(), model.clone()
    model.reshape(list(images[0].shape))
    with _quiet():
        content = nncf.Dataset([each.contiguous().numpy() for each in images])
        quantized = nncf.quantize(model, content, subset_size=len(images))
    quantized.reshape([-1, 3, -1, -1])
    return quantized


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave aside progress bars and notes, which NNCF and what it imports write to the user's terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
