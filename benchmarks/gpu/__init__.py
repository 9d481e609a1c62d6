"""A kit for a machine that has a GPU for a quarter of an hour, and no network: see `docs/performance.md`."""
