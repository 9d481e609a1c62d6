"""The macro numbers of a network, and how an image becomes its input."""

from typing import Literal

from pydantic import Field

from nascli.config.section import Section

Preset = Literal["cifar10", "imagenet-mobile", "imagenet-large", "pnasnet-large", "pnasnet-mobile"]
"""The published sizes that a network can start from; their numbers are in `nascli.models.cells.spec.PRESETS`."""


class NetworkConfig(Section):
    """The macro numbers of a network; what is left out comes from the preset."""

    preset: Preset | None = Field(None, description="published sizes to start from; chosen by image size when left out")
    filters: int | None = Field(None, ge=1, description="F, filters of an op in the first stage")
    cells_per_stage: int | None = Field(None, ge=1, description="N, normal cells in each of the three stages")
    image_size: int | None = Field(None, ge=8, description="height and width of the input in pixels")
    stem: Literal["cifar", "imagenet"] | None = Field(None, description="layers before the first cell")
    stem_filters: int | None = Field(None, ge=1, description="channels of the stem convolution")
    dropout: float | None = Field(None, ge=0, lt=1, description="before the classifier, probability")
    skip_reduction_input: bool | None = Field(
        None, description="the cell after a reduction reads two cells before it instead of one"
    )
    reduction_placement: Literal["added", "in_place"] | None = Field(
        None,
        description="the reduction cell of a stage is added to its normal cells, or stands in for the first (PNASNet)",
    )
    batch_norm_momentum: float | None = Field(None, gt=0, le=1, description="PyTorch's sense: 1 - decay")
    batch_norm_epsilon: float | None = Field(None, gt=0)


class Preprocessing(Section):
    """How an image file becomes the input of a network that is measured; its size, mean and std stand beside it.

    The image is resized, and the central square of the network's size is cut out. The defaults are what our own
    networks are measured with.
    """

    resize: Literal["shorter_side", "both_sides"] = Field(
        "shorter_side", description="which sides get the length size / crop: both make a square of any image"
    )
    crop: float = Field(0.875, gt=0, le=1, description="side of the central square over that length; 1 is all of it")
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
