"""The sections of `nascli search` besides those of a training: space, strategies, evaluators."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from nascli.config.data import DataConfig
from nascli.config.network import NETWORK_SECTIONS, CellNetworkConfig, NetworkConfig
from nascli.config.objective import ObjectiveConfig
from nascli.config.section import ByFamily, Section, list_meanings, one_of
from nascli.config.space import SPACE_SECTIONS, CellSpaceConfig, SpaceConfig
from nascli.config.train import OptimConfig, TrainConfig, WeightDecay

STRATEGIES = {
    "ppo": "the paper's controller, trained by proximal policy optimization",
    "reinforce": "the same controller, trained by the plain policy gradient",
    "random": "uniform decisions, the baseline",
    "evolution": "regularized evolution",
    "bayesian": "Bayesian optimization with a Gaussian process",
    "nsga2": "evolution towards the whole front of accuracy and cost",
    "exhaustive": "every network of a small space once",
}
"""The strategies; `nascli.search.builders` has their constructors. One with settings has the section of its name."""

TABLE = "table:"
"""Begins the name of an evaluator that answers from a file."""


@dataclass(frozen=True)
class EvaluatorInfo:
    """An evaluator as recipes and messages know it.

    Args:
        meaning: The reward in a few words.
        is_accuracy: Whether the reward is a proxy accuracy.
        trains_children: Whether each child is trained, so that there are epochs to shorten and steps to time.
        uses_seed: Whether another seed may give another reward.
        caution: Said of the rewards at the end of a search.
    """

    meaning: str
    is_accuracy: bool = False
    trains_children: bool = False
    uses_seed: bool = True
    caution: str = "Nothing was trained for it; nascli train measures the final accuracy."


EVALUATORS = {
    "proxy": EvaluatorInfo(
        "proxy accuracy",
        is_accuracy=True,
        trains_children=True,
        caution="It is that of a small network on held-out training images after a short training. It ranks "
        "architectures; it is not the final accuracy, which nascli train measures on the test split.",
    ),
    "one_shot": EvaluatorInfo(
        "proxy accuracy with inherited weights of a supernet",
        is_accuracy=True,
        uses_seed=False,
        caution="It is that of a network on held-out training images that was never trained alone. It ranks "
        "architectures roughly; nascli train measures the final accuracy on the test split.",
    ),
    f"{TABLE}FILE": EvaluatorInfo("accuracy from a table", is_accuracy=True),
    "params": EvaluatorInfo("a score without training, params in millions"),
    "mult_adds": EvaluatorInfo("a score without training, multiply-accumulates in millions"),
    "naswot": EvaluatorInfo("a score without training, Mellor et al. 2021"),
    "grad_norm": EvaluatorInfo("a score without training, Abdelfattah et al. 2021"),
}
"""The evaluators; `nascli.search.builders` has their constructors."""


def find_evaluator(name: str) -> EvaluatorInfo:
    """The entry of `search.evaluator`; KeyError where there is none."""
    return EVALUATORS[f"{TABLE}FILE" if name.startswith(TABLE) else name]


_REWARDS = {name: info.meaning for name, info in EVALUATORS.items()}


class ControllerConfig(Section):
    """The controller of `ppo` and `reinforce`, and the parts of an update that they share."""

    hidden: int = Field(100, ge=1, le=10_000, description="LSTM units")
    init_range: float = Field(0.1, gt=0, description="initial weights are uniform between minus and plus this number")
    batch_size: int = Field(20, ge=1, le=1_000_000, description="architectures per update")
    lr: float = Field(3.5e-4, gt=0, description="learning rate of Adam")
    entropy_weight: float = Field(1e-5, ge=0, description="weight of the entropy bonus")
    baseline_decay: float = Field(0.95, ge=0, lt=1, description="decay of the moving average of rewards, the baseline")
    max_grad_norm: float = Field(0.5, gt=0, description="largest norm of the gradient; not in the paper")


class PpoConfig(ControllerConfig):
    """The controller of the paper with numbers for some hundred trials; those for 20,000 are in `cifar10-paper`."""

    batch_size: int = Field(5, ge=1, le=1_000_000, description="architectures per update; the paper has 20")
    lr: float = Field(0.002, gt=0, description="learning rate of Adam; the paper has 0.00035")
    entropy_weight: float = Field(0.003, ge=0, description="weight of the entropy bonus; the paper has 0.00001")
    update_epochs: int = Field(4, ge=1, le=10_000, description="passes over a batch per update; not in the paper")
    clip: float = Field(0.2, gt=0, lt=1, description="largest change of the probability ratio; not in the paper")


class ReinforceConfig(ControllerConfig):
    """The controller of `ppo` with the plain policy gradient; numbers of Zoph and Le 2017 where it gives them."""

    batch_size: int = Field(8, ge=1, le=1_000_000, description="architectures per update")
    lr: float = Field(6e-4, gt=0, description="learning rate of Adam")


class EvolutionConfig(Section):
    """Regularized evolution: the oldest of a population dies, a mutant of the best of a sample is born."""

    population: int = Field(20, ge=2, le=1_000_000, description="cells alive; the initial ones are random")
    sample: int = Field(5, ge=1, le=1_000_000, description="cells drawn from the population, whose best is the parent")
    batch_size: int = Field(
        4, ge=1, le=1_000_000, description="mutants proposed before rewards of earlier ones are known"
    )


class BayesianConfig(Section):
    """Bayesian optimization: a Gaussian process, fitted to all results, chooses the next cells."""

    n_startup_trials: int = Field(12, ge=1, le=1_000_000, description="random cells before the model chooses cells")
    batch_size: int = Field(
        4, ge=1, le=1_000_000, description="cells proposed before rewards of earlier ones are known"
    )
    candidates: int = Field(
        200, ge=2, le=1_000_000, description="mutated and random cells that the model scores per batch"
    )
    max_observations: int = Field(
        400, ge=10, le=20_000, description="largest number of results the model is fitted to; the time is cubic in it"
    )


class Nsga2Config(Section):
    """NSGA-II: the best of a population in accuracy and cost live on; children mix two of them."""

    population: int = Field(
        20, ge=2, le=100_000, description="networks alive; the initial ones are random. The paper has 100"
    )
    batch_size: int = Field(
        4, ge=1, le=100_000, description="children per generation; the paper has as many as are alive"
    )
    crossover: float = Field(0.9, ge=0, le=1, description="share of the children that mix the tokens of two parents")


class HalvingConfig(Section):
    """Successive halving: a child is trained for few epochs first, and for more only if it is among the best."""

    rungs: tuple[int, ...] = Field((), description="epochs of the rungs below train.epochs, rising; empty is off")
    promote_fraction: float = Field(
        1 / 3, gt=0, lt=1, description="share of the children of a rung that are promoted to the next"
    )
    restart: bool = Field(
        True, description="train anew for each rung; false continues one training, whose accuracy on the way counts"
    )


class RerankConfig(Section):
    """The best cells of a search, trained again for longer and with several seeds, to choose among them."""

    top: int = Field(0, ge=0, le=100_000, description="number of cells that are trained again; 0 is off")
    epochs: int = Field(0, ge=0, le=1_000_000, description="epochs of that training; 0 is train.epochs")
    num_seeds: int = Field(1, ge=1, le=10_000, description="trainings per cell, each from other weights")


class SupernetConfig(OptimConfig):
    """Training of the network that holds the weights of every child; each step trains a child drawn at random."""

    section: ClassVar[str] = "supernet"

    batch_size: int = Field(
        64, ge=2, le=1_000_000, description="images per optimizer step; batch normalization needs two"
    )
    weight_decay: WeightDecay = 1e-4
    bn_calibration_images: int = Field(
        1024,
        ge=2,
        le=1_000_000_000,
        description="training images that measure a child's batch-norm statistics before it is scored",
    )


class LatencyConfig(Section):
    """The form of a network whose latency a constraint names: the one that is to answer in the end."""

    engine: Literal["auto", "trained", "folded", "graphed", "openvino"] = Field(
        "auto", description="engine that answers; auto is the fastest on the device"
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="number format that it computes in")
    threads: int = Field(1, ge=1, le=4_096, description="CPU threads that it computes with")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device that it computes on; auto is the one of the search"
    )
    table: str | None = Field(
        None, description="file of nascli latency, whose layers are summed; by default latencies are measured"
    )


class TableConfig(Section):
    """The columns of a CSV file that a search is answered from."""

    accuracy: str | None = Field(
        None,
        description="column of the accuracy, without the number of a training (_1, _2) at its end; by default the "
        "first that has accuracy in its name",
    )
    latency: str | None = Field(
        None, description="column of the latency, as of one of several devices; its name ends in _s, _ms, _us or _ns"
    )


class SearchConfig(Section):
    """The search itself: how many cells, which strategy, which evaluator, how many workers."""

    strategy: Annotated[str, one_of(STRATEGIES)] = Field(
        "ppo", description=f"strategy that proposes the cells. {list_meanings(STRATEGIES)}"
    )
    trials: int = Field(
        20, ge=1, le=10_000_000, description="number of cells to propose, duplicates and rejected ones included"
    )
    warm_start_trials: int = Field(
        0, ge=0, le=10_000_000, description="proposals of another strategy that ppo or reinforce first learns from"
    )
    warm_start_strategy: Literal["random", "evolution"] = Field("random", description="that other strategy")
    evaluator: str = Field(
        "proxy", description=f"evaluator, which makes the reward of a cell. {list_meanings(_REWARDS)}"
    )
    num_seeds: int = Field(
        1, ge=1, le=10_000, description="trainings per cell, each from other weights; the reward is their mean"
    )
    inherit_weights: bool = Field(
        False, description="start a child from the weights of the one most like it, where shapes agree (proxy)"
    )
    constraints: tuple[str, ...] = Field(
        (), description='what a cell must satisfy before it is trained: "params<6M", "latency<20ms", "naswot>50%"'
    )
    executor: Literal["local", "ray"] = Field(
        "local", description="worker processes of this machine (local) or of a Ray cluster (ray)"
    )
    workers: int = Field(
        0, ge=0, le=4_096, description="worker processes, with one thread each; 0 is one per core or GPU slot"
    )
    workers_per_gpu: int = Field(
        0, ge=0, le=1_024, description="worker processes per GPU; 0 is as many as its memory and the CPU cores allow"
    )
    asynchronous: bool = Field(False, description="do not wait for whole batches: faster, but not repeatable")
    holdout: float = Field(
        0.1, gt=0, lt=1, description="share of the training images that is held out to measure the reward"
    )
    failure_reward: float = Field(
        0.0, allow_inf_nan=False, description="reward of a child that failed or violates a constraint"
    )
    retries: int = Field(2, ge=0, le=1_000, description="new attempts for a child whose worker was lost")
    patience: int = Field(
        200,
        ge=0,
        le=1_000_000_000,
        description="the search ends after this many proposals in a row that repeat earlier ones; 0 is off",
    )
    top: int = Field(5, ge=1, le=100_000, description="number of genotypes written to top/")


class SearchRecipe(Section):
    """Everything `nascli search` needs to repeat a run."""

    seed: int = Field(0, description="seed of everything random")
    data: DataConfig = Field(default_factory=DataConfig)
    space: Annotated[SpaceConfig, ByFamily(SPACE_SECTIONS)] = Field(default_factory=CellSpaceConfig)
    network: Annotated[NetworkConfig, ByFamily(NETWORK_SECTIONS)] = Field(default_factory=CellNetworkConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    search: SearchConfig = Field(default_factory=SearchConfig)
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    ppo: PpoConfig = Field(default_factory=PpoConfig)
    reinforce: ReinforceConfig = Field(default_factory=ReinforceConfig)
    evolution: EvolutionConfig = Field(default_factory=EvolutionConfig)
    bayesian: BayesianConfig = Field(default_factory=BayesianConfig)
    nsga2: Nsga2Config = Field(default_factory=Nsga2Config)
    supernet: SupernetConfig = Field(default_factory=SupernetConfig)
    latency: LatencyConfig = Field(default_factory=LatencyConfig)
    table: TableConfig = Field(default_factory=TableConfig)
    halving: HalvingConfig = Field(default_factory=HalvingConfig)
    rerank: RerankConfig = Field(default_factory=RerankConfig)

    @model_validator(mode="before")
    @classmethod
    def _follow_space(cls, values: object) -> object:
        """Make `[network]` and `[objective.network]` ones of the space's family where they name none."""
        if not isinstance(values, Mapping):
            return values
        family = {"family": ByFamily(SPACE_SECTIONS).find_family(values.get("space"))}
        made = dict(values)
        if isinstance(network := values.get("network", {}), Mapping):
            made["network"] = {**family, **network}
        objective = values.get("objective")
        if isinstance(objective, Mapping) and isinstance(network := objective.get("network"), Mapping):
            made["objective"] = {**objective, "network": {**family, **network}}
        return made

    @property
    def weighs_cost(self) -> bool:
        """Whether the reward is another number than the accuracy: one that weighs a cost, too."""
        return self.objective.quantity is not None
