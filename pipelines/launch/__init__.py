"""How a training starts: as the chief, as one of several workers, or by Ray."""
