"""Drawings of cells with ops on their edges."""
