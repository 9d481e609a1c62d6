"""Trained networks that answer: engines and exported programs."""
