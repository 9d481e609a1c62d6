"""Families of architectures that other packages add, found by their entry points."""

import functools

from nascli.errors import NascliError

GROUP = "nascli.families"
"""The entry point group in which a package names the module that adds its family to the tables (`docs/families.md`)."""


@functools.cache
def load_plugins() -> None:
    """Import the modules of all installed packages that add a family, once per process.

    Called wherever a family is looked up, and not when the tables are imported: the modules import the tables.

    Raises:
        NascliError: A module cannot be imported.
    """
    from importlib.metadata import entry_points  # here, since it searches every installed package

    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            raise NascliError(
                f"{point.value}, a family of another package ({point.name}), cannot be imported: {error}",
                "Mend or uninstall that package",
            ) from error
