"""State, step, loop, checkpoints, metrics: one training loop for every pipeline."""
