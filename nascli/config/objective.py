"""The section `[objective]` of a search: what it is for besides accuracy."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nascli.config.network import NETWORK_SECTIONS, NetworkConfig
from nascli.config.section import ByFamily, Section

Cost = Literal["latency", "mult_adds", "params"]

TRADE_OFFS = {"soft": (-0.07, -0.07), "hard": (0.0, -1.0)}
"""The exponents below and above the target: a doubled cost has to bring 5 % of accuracy; no more than the target is of
use, and beyond it the accuracy is divided by the overrun. (Tan et al. 2019, section 3)"""

_SOFT = TRADE_OFFS["soft"]


class ObjectiveConfig(Section):
    """A cost that the reward weighs beside the accuracy; without a quantity the accuracy alone is the reward."""

    quantity: Cost | None = Field(None, description="cost that the reward weighs: latency, mult_adds or params")
    target: str | None = Field(None, description='cost that is aimed at, such as "20ms", "300M" or "4M"')
    below: float = Field(_SOFT[0], ge=-3, le=3, description="exponent of cost / target where the cost is lower")
    above: float = Field(_SOFT[1], ge=-3, le=3, description="exponent of cost / target where the cost is higher")
    network: Annotated[NetworkConfig, ByFamily(NETWORK_SECTIONS)] | None = Field(
        None,
        description="numbers of the network whose cost counts, as in [network]; by default the child that is trained",
    )

    @model_validator(mode="after")
    def _complete(self) -> "ObjectiveConfig":
        if (self.quantity is None) != (self.target is None):
            raise ValueError("quantity and target go together: give both, or neither")
        if self.quantity is None and self.network is not None:
            raise ValueError("network is the one whose cost counts: give quantity and target")
        return self
