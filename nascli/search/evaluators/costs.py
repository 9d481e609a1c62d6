"""The costs of networks as they will be deployed, which may be larger than the children that are trained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch

from nascli.config import LatencyConfig, SearchRecipe
from nascli.engine.device import cpu_threads, resolve_device
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import SearchSpace, first_genotype
from nascli.models.deploy.layer_table import Conditions, TimedLayers, check_coverage, read_latency_table, require_keys
from nascli.models.deploy.timing import measure_latency, settle_engine
from nascli.models.latency import Latency, describe_conditions
from nascli.search.evaluators.evaluator import Evaluator, start_from
from nascli.search.evaluators.proxy import ChildSetup
from nascli.search.trial import Score


@dataclass(frozen=True)
class CostMeter:
    """Measures params, mult-adds and latency of the network that a genotype will be deployed as.

    Args:
        setup: Builds these networks.
        form: How they answer; engine and device are settled before a latency is asked for.
        layers: A table that latencies are summed from; without one they are measured.
    """

    setup: ChildSetup
    form: LatencyConfig
    layers: TimedLayers | None = None

    def latency(self, genotype: Genotype) -> Latency:
        """The latency of one image; measured, it is not repeatable: a network may pass a bound one time only.

        Raises:
            InputError: The table lacks a layer.
        """
        setup, form = self.setup, self.form
        if self.layers is not None:
            spec = setup.spec(genotype)
            return self.layers.sum(require_keys(spec), spec.image_size)
        device = setup.device if setup.device.type == form.device else torch.device(form.device)
        with cpu_threads(form.threads):
            return measure_latency(setup.child(genotype, seed=0), form.engine, form.precision, device)

    def settle(self, space: SearchSpace, log: Callable[[str], None]) -> Self:
        """The same with the engine and device that `auto` means here; a network of the space answers in them once.

        Raises:
            InputError: The engine or the device does not work here; or the table lacks a layer of the space.
            NascliError: The engine cannot take such networks.
        """
        form, setup = self.form, self.setup
        if self.layers is not None:
            check_coverage(self.layers, space, setup.spec)
            return self
        device = resolve_device(form.device) if form.device != "auto" else setup.device
        engine = settle_engine(setup.child(first_genotype(space), seed=0), form.engine, form.precision, device, log)
        return replace(self, form=form.model_copy(update={"engine": engine, "device": device.type}))

    @property
    def conditions(self) -> Conditions:
        """The conditions that latencies hold for."""
        form = self.form
        own = Conditions(form.engine, form.precision, form.device, form.threads)
        return own if self.layers is None else self.layers.table.conditions

    def describe(self) -> str:
        """The same in words, with the size of the image, and the table if there is one."""
        size = self.setup.network.image_size or self.setup.data.image_size
        source = "" if self.layers is None else f", summed from {self.layers.source}"
        return describe_conditions(*self.conditions, size) + source


def build_meter(recipe: SearchRecipe, setup: ChildSetup) -> CostMeter:
    """The meter of a recipe: of the objective's own network where it names one, else of the children."""
    deployed, table = recipe.objective.network, recipe.latency.table
    layers = TimedLayers(read_latency_table(Path(table)), table) if table else None
    return CostMeter(replace(setup, network=deployed, aux_head=False) if deployed else setup, recipe.latency, layers)


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

    def start_from(self, parent: str) -> Evaluator:
        """As the other evaluator's."""
        return replace(self, evaluator=start_from(self.evaluator, parent))

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
