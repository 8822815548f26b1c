"""All layers inside a model."""

import keras


def flatten_layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The model and every layer in it, at any depth.

    Keras has no public way: `model.layers` stops at the first level, and lists of layers that a
    layer keeps are not in it. tests/test_upstream.py guards the private one.
    """
    return list(model._flatten_layers())
