"""Ways to start a training: as the chief, as another worker, or with Ray."""
