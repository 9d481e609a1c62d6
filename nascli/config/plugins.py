"""Packages of others that add to the tables of nascli, found by their entry points."""

import functools
from importlib.metadata import entry_points

FAMILIES = "nascli.families"
"""Group of the modules that add a family of architectures to `nascli.genotype.families`; they import no torch."""

NETWORKS = "nascli.networks"
"""Group of the modules that add the networks of such a family to `nascli.models.families`."""


@functools.cache
def load_plugins(group: str) -> None:
    """Import every module that an installed package names in an entry point group, once per process."""
    for point in entry_points(group=group):
        point.load()
