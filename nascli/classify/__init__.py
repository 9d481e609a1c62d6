"""Training: schedules, optimizers, the loop, checkpoints, metrics, and what they run on."""
