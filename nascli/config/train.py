"""The recipe of `nascli train`."""

from typing import Annotated

from pydantic import Field

from nascli.config.data import DataConfig
from nascli.config.network import NETWORK_SECTIONS, CellNetworkConfig, NetworkConfig
from nascli.config.optim import OptimConfig
from nascli.config.section import ByFamily, Section


class TrainConfig(OptimConfig):
    """Training of a classifier."""

    batch_size: int = Field(64, ge=2, description="images per optimizer step; batch normalization needs two")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="probability spread over the wrong classes")
    aux_weight: float = Field(0.0, ge=0, description="weight of the auxiliary head's loss; 0 builds no such head")
    drop_path_prob: float = Field(
        0.0, ge=0, lt=1, description="probability of dropping a path in the last cell at the last step"
    )
    grad_checkpointing: bool = Field(
        False,
        description="recompute activations in the backward pass instead of keeping them: less memory, more time, the "
        "same weights",
    )
    compile: bool = Field(
        False, description="compile the cells with torch.compile, which takes minutes and needs a C++ compiler"
    )


class TrainRecipe(Section):
    """Everything `nascli train` needs to repeat a run."""

    seed: int = Field(0, description="seed of everything random")
    data: DataConfig = Field(default_factory=DataConfig)
    network: Annotated[NetworkConfig, ByFamily(NETWORK_SECTIONS)] = Field(default_factory=CellNetworkConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
