"""Adversarial training (Miyato, Dai & Goodfellow 2017, "Adversarial Training Methods for
Semi-Supervised Text Classification"): word vectors are moved a little where it hurts most.

A network that answers the same however its inputs are moved a little depends less on single words,
and learns fewer of them by heart.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from models.embedding import EmbeddedVectors, Embedding, embedded_vectors
from models.layer_tree import flatten_layers
from pipelines.core.task import Objective
from pipelines.core.types import Nest, Tensors


class Adversarial:
    """An Objective: the mean of a task's own losses and of those with moved word vectors.

    objective  the task, or another objective; each Embedding of its model is moved, once for each
               time that it is called.
    size       how far a sequence is moved: the length of all of its vectors' displacement together,
               relative to the root mean square of a batch's lengths of vectors. So the same texts
               in several smaller batches, or on several workers, move by slightly other lengths.
    time_major  whether the model's embeddings give (T, B, D), or (B, T, D).
    """

    def __init__(self, objective: Objective, size: float, *, time_major: bool):
        self.objective, self.size, self.time_major = objective, size, time_major

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        """The arguments: how vectors are moved depends on the targets."""
        return model, inputs, step

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        model, inputs, step = outputs
        layers = [layer for layer in flatten_layers(model) if isinstance(layer, Embedding)]

        def losses_with(vectors: EmbeddedVectors) -> tf.Tensor:
            with embedded_vectors.attach((layer, vectors) for layer in layers):
                made = self.objective.outputs(model, inputs, step)
            return self.objective.losses(made, targets)

        found: list[tf.Tensor] = []

        def watch(embed: Callable[[], tf.Tensor]) -> tf.Tensor:
            found.append(embed())
            tape.watch(found[-1])
            return found[-1]

        with tf.GradientTape() as tape:
            own = losses_with(watch)
            total = tf.reduce_sum(own)
        pairs = zip(found, tape.gradient(total, found), strict=True)
        # Embeddings are called in the same order again. The vectors have the dropout that they
        # had: only that of later layers is drawn anew.
        moved = iter([vectors + self._displacement(vectors, slope) for vectors, slope in pairs])
        return (own + losses_with(lambda _: next(moved))) / 2

    def _displacement(
        self, vectors: tf.Tensor, gradient: tf.Tensor | tf.IndexedSlices
    ) -> tf.Tensor:
        """Vectors and the loss's gradient, both with D last, to as much: no further gradient."""
        squares = tf.reduce_sum(tf.square(tf.cast(vectors, tf.float32)), -1)
        real = tf.math.count_nonzero(squares, dtype=tf.float32)
        mean = tf.sqrt(tf.math.divide_no_nan(tf.reduce_sum(squares), real))
        steepest = tf.cast(tf.convert_to_tensor(gradient), tf.float32)
        axes = [0, 2] if self.time_major else [1, 2]
        lengths = tf.sqrt(tf.reduce_sum(tf.square(steepest), axes, keepdims=True))
        displacement = self.size * mean * tf.math.divide_no_nan(steepest, lengths)
        return tf.stop_gradient(tf.cast(displacement, vectors.dtype))
