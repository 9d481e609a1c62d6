"""Executors: they run evaluations, here or elsewhere."""
