"""The parameters of a network that are trained, and the part of the learning rate at which: stage by stage."""

from torch import nn

from nascli.config import BACKBONE, FineTuneConfig
from nascli.errors import InputError
from nascli.models.interface import ImageClassifier


def freeze_weights(network: ImageClassifier, config: FineTuneConfig) -> None:
    """Freeze the stages and the batch norms that `config` names, in place.

    A frozen parameter needs no gradient. The batch norms of a frozen stage stay in evaluation mode. The auxiliary head,
    which serves training alone, is never frozen.

    Raises:
        InputError: No such stage, or nothing would be trained.
    """
    stages = network.units_by_stage()
    frozen = _find_frozen(network, config)
    kept: list[nn.BatchNorm2d] = []
    for name, units in stages.items():
        norms = [each for unit in units for each in unit.module.modules() if isinstance(each, nn.BatchNorm2d)]
        if name in frozen:
            for unit in units:
                unit.module.requires_grad_(False)
        elif config.freeze_batch_norm in ("scale", "both"):
            for norm in norms:
                norm.requires_grad_(False)
        if name in frozen or config.freeze_batch_norm in ("statistics", "both"):
            kept += norms
    network.freeze_norms(kept)


def find_lr_factors(network: ImageClassifier, config: FineTuneConfig) -> dict[str, float]:
    """The part of the learning rate for each parameter, by name.

    The classifier, and with it the auxiliary head, has c; the k-th stage before it d^k.

    Args:
        config: Its `classifier_lr_factor` is c, its `layer_decay` d.

    Raises:
        InputError: There is a decay, and no stage before the classifier is trained.

    References: Clark et al. 2020, "ELECTRA", section 3.2, gives each layer of a pretrained network a rate so; here it
        is each stage.
    """
    stages = network.units_by_stage()
    trained = [name for name in list(stages)[:-1] if name not in _find_frozen(network, config)]
    if config.layer_decay < 1 and not trained:
        raise InputError(
            f"train.layer_decay = {config.layer_decay:g}: no stage before the classifier is trained, so no rate decays",
            "Freeze fewer stages, or leave train.layer_decay out",
            field="train.layer_decay",
        )
    factors = dict.fromkeys((name for name, _ in network.named_parameters()), config.classifier_lr_factor)
    for distance, name in enumerate(reversed(stages)):
        for unit in stages[name] if distance else ():
            for inside, _ in unit.module.named_parameters():
                factors[f"{unit.path}.{inside}"] = config.layer_decay**distance
    return factors


def _find_frozen(network: ImageClassifier, config: FineTuneConfig) -> set[str]:
    names = list(network.units_by_stage())
    for name in config.freeze:
        if name not in (*names, BACKBONE):
            raise InputError(
                f"train.freeze: {network.spec.name} has no stage {name!r}",
                f"Its stages are {', '.join(names)}; {BACKBONE} is all but the last",
                field="train.freeze",
            )
    frozen = set(config.freeze) | (set(names[:-1]) if BACKBONE in config.freeze else set())
    if frozen >= set(names):
        raise InputError(
            "train.freeze: every stage is frozen, so nothing would be trained",
            f"Freeze {BACKBONE} to train the classifier alone",
            field="train.freeze",
        )
    return frozen - {BACKBONE}
