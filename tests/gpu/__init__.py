"""Promises that hold on a GPU, too: `make test-gpu`.

They import torch, torchvision, numpy, pytest and what nascli itself needs, for a machine that has no more. Those that
cost little where there is no GPU, and that no other test makes there, run on the CPU as well.
"""
