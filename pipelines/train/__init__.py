"""Training: the loop, its state, optimizers and updates."""
