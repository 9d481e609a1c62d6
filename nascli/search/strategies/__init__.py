"""Strategies: they propose cells and learn from rewards."""
