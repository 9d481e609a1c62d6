"""The costs of networks as they will be deployed, which may be larger than the children that are trained."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from nascli.config import LatencyConfig, SearchRecipe
from nascli.engine.device import cpu_threads, resolve_device
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import SearchSpace
from nascli.models.deploy.timing import measure_latency, settle_engine
from nascli.models.latency import Latency
from nascli.search.evaluators.evaluator import Evaluator
from nascli.search.evaluators.proxy import ChildSetup
from nascli.search.trial import Score


@dataclass(frozen=True)
class CostMeter:
    """Measures params, mult-adds and latency of the network that a genotype will be deployed as.

    Args:
        setup: Builds these networks.
        form: How they answer; engine and device are settled before a latency is asked for.
    """

    setup: ChildSetup
    form: LatencyConfig

    def latency(self, genotype: Genotype) -> Latency:
        """The latency of one image, the one cost that is not repeatable: a network may pass a bound one time only."""
        setup, form = self.setup, self.form
        device = setup.device if setup.device.type == form.device else torch.device(form.device)
        with cpu_threads(form.threads):
            return measure_latency(setup.child(genotype, seed=0), form.engine, form.precision, device)

    def settle(self, space: SearchSpace, log: Callable[[str], None]) -> LatencyConfig:
        """The form with the engine and device that `auto` means here; a network of the space answers in it once.

        Raises:
            InputError: The engine or the device does not work here.
            NascliError: The engine cannot take such networks.
        """
        form, setup = self.form, self.setup
        device = resolve_device(form.device) if form.device != "auto" else setup.device
        genotype = space.decode([0] * len(space.decision_sizes), name="first")
        engine = settle_engine(setup.child(genotype, seed=0), form.engine, form.precision, device, log)
        return form.model_copy(update={"engine": engine, "device": device.type})


def build_meter(recipe: SearchRecipe, setup: ChildSetup) -> CostMeter:
    """The meter of a recipe: of the objective's own network where it names one, else of the children."""
    deployed = recipe.objective.network
    return CostMeter(replace(setup, network=deployed, aux_head=False) if deployed else setup, recipe.latency)


@dataclass(frozen=True)
class CostEvaluator:
    """An evaluator whose scores have the costs that an objective weighs.

    Args:
        evaluator: Gives the rest of the score.
        with_latency: Whether the latency is one of them.
        first_epochs: Epochs of the first training of a trial, at which the latency is measured, once.
    """

    evaluator: Evaluator
    meter: CostMeter
    with_latency: bool
    first_epochs: int | None = None

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """The other evaluator's score, with params and mult-adds of the network that will be deployed; its latency too.

        A latency that a constraint has measured is kept.
        """
        score = self.evaluator.evaluate(genotype, seed, epochs)
        latency = score.latency
        if self.with_latency and latency is None and epochs == self.first_epochs:
            latency = self.meter.latency(genotype)
        cost = self.meter.setup.cost(genotype)
        return replace(score, params=cost.params, mult_adds=cost.mult_adds, latency=latency)
