"""Static facts of tensors, known before their graph runs."""

import tensorflow as tf


def static_size(x: tf.Tensor, axis: int = -1) -> int:
    """The size of an axis. ValueError where it is only known when the graph runs."""
    size = x.shape[axis]
    if size is None:
        raise ValueError(f"axis {axis} must have a size when the graph is made; got {x.shape}.")
    return size
