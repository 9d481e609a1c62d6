"""Recipes: every number of a run, in frozen models that refuse what they do not know.

A recipe is a TOML file in `recipes/<command>/`. The order is defaults < recipe < flags < `--set`. The models
of this package are the whole list of knobs; each field says its unit. A key that does not exist is refused with
the nearest one that does.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nascli.config.data import (
        DATASETS,
        DETECTION_DATASETS,
        MAX_MEGAPIXELS,
        DataConfig,
        DetectDataConfig,
        find_dataset,
    )
    from nascli.config.detect import (
        DETECTION_HEADS,
        DetectorConfig,
        DetectRecipe,
        DetectTrainConfig,
    )
    from nascli.config.errors import describe_error, explain, parse, suggestion
    from nascli.config.files import find_recipe, load_recipe, read_toml, recipes_folder, to_toml
    from nascli.config.network import (
        NETWORK_SECTIONS,
        CellNetworkConfig,
        EdgeNetworkConfig,
        MobileNetworkConfig,
        NetworkConfig,
        Preprocessing,
        ResNetConfig,
        follow_family,
    )
    from nascli.config.objective import TRADE_OFFS, ObjectiveConfig
    from nascli.config.search import (
        EVALUATORS,
        STRATEGIES,
        TABLE,
        BayesianConfig,
        EvaluatorInfo,
        EvolutionConfig,
        HalvingConfig,
        LatencyConfig,
        Nsga2Config,
        PpoConfig,
        ReinforceConfig,
        RerankConfig,
        SearchConfig,
        SearchRecipe,
        SupernetConfig,
        TableConfig,
        find_evaluator,
    )
    from nascli.config.section import (
        ByFamily,
        FamilySection,
        Recipe,
        Section,
        Strict,
        TrainingPrecision,
        list_meanings,
        load_plugins,
        one_of,
    )
    from nascli.config.space import (
        SPACE_SECTIONS,
        CellSpaceConfig,
        EdgeSpaceConfig,
        MobileSpaceConfig,
        SpaceConfig,
    )
    from nascli.config.train import (
        BACKBONE,
        FineTuneConfig,
        KeepConfig,
        OptimConfig,
        StartConfig,
        TrainConfig,
        TrainRecipe,
    )

_MODULES = ("section", "errors", "files", "data", "network", "space", "train", "objective", "search", "detect")


def __getattr__(name: str) -> object:
    if not name.startswith("_"):
        for module in _MODULES:  # those that need few others first
            found = getattr(import_module(f"nascli.config.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module 'nascli.config' has no attribute {name!r}")
