"""Residual networks for CIFAR (He et al. 2016)."""
