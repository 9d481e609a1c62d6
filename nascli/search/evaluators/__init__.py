"""Evaluators: they score cells."""
