"""Drawings of mobile genotypes."""
