"""Training: the loop and its state, training steps, optimizers and the best weights."""
