"""Recipes: every number of a run, in frozen models that refuse what they do not know.

A recipe is a TOML file in `recipes/<command>/`. The order is defaults < recipe < flags < `--set`. The models
of this package are the whole list of knobs; each field says its unit. A key that does not exist is refused with
the nearest one that does.
"""

from nascli.config.data import DATASETS, DETECTION_DATASETS, DataConfig, DetectDataConfig
from nascli.config.detect import (
    DETECTION_HEADS,
    DetectorConfig,
    DetectRecipe,
    DetectTrainConfig,
)
from nascli.config.errors import explain, parse, suggestion
from nascli.config.files import find_recipe, load_recipe, read_toml, recipes_folder, to_toml
from nascli.config.network import (
    NETWORK_SECTIONS,
    CellNetworkConfig,
    NetworkConfig,
    Preprocessing,
    Preset,
    ResNetConfig,
    change_family,
)
from nascli.config.optim import OptimConfig
from nascli.config.plugins import load_plugins
from nascli.config.search import (
    EVALUATORS,
    SPACE_SECTIONS,
    STRATEGIES,
    TABLE,
    BayesianConfig,
    CellSpaceConfig,
    EvolutionConfig,
    HalvingConfig,
    PpoConfig,
    ReinforceConfig,
    RerankConfig,
    SearchConfig,
    SearchRecipe,
    SpaceConfig,
    SupernetConfig,
)
from nascli.config.section import (
    ByFamily,
    FamilySection,
    Recipe,
    Section,
    Strict,
    TrainingPrecision,
    list_meanings,
    one_of,
)
from nascli.config.train import TrainConfig, TrainRecipe

__all__ = [
    "DATASETS",
    "DETECTION_DATASETS",
    "DETECTION_HEADS",
    "EVALUATORS",
    "NETWORK_SECTIONS",
    "SPACE_SECTIONS",
    "STRATEGIES",
    "TABLE",
    "BayesianConfig",
    "ByFamily",
    "CellNetworkConfig",
    "CellSpaceConfig",
    "DataConfig",
    "DetectDataConfig",
    "DetectRecipe",
    "DetectTrainConfig",
    "DetectorConfig",
    "EvolutionConfig",
    "FamilySection",
    "HalvingConfig",
    "NetworkConfig",
    "OptimConfig",
    "PpoConfig",
    "Preprocessing",
    "Preset",
    "Recipe",
    "ReinforceConfig",
    "RerankConfig",
    "ResNetConfig",
    "SearchConfig",
    "SearchRecipe",
    "Section",
    "SpaceConfig",
    "Strict",
    "SupernetConfig",
    "TrainConfig",
    "TrainRecipe",
    "TrainingPrecision",
    "change_family",
    "explain",
    "find_recipe",
    "list_meanings",
    "load_plugins",
    "load_recipe",
    "one_of",
    "parse",
    "read_toml",
    "recipes_folder",
    "suggestion",
    "to_toml",
]
