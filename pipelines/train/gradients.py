"""Gradients, dense or sparse, and the fused operations that apply them to a variable."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import keras
import tensorflow as tf

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices
"""A dense gradient, or some rows of one: what tf.gather gives for its first argument."""

Variable: TypeAlias = tf.Variable | keras.Variable


class AdamConstants(NamedTuple):
    """The constants of Adam: decay rates of the first and second moment, and epsilon."""

    beta_1: float
    beta_2: float
    epsilon: float


def coalesce(gradient: Gradient) -> Gradient:
    """The gradient with each row at most once, its values added up; a dense one unchanged."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, positions = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def scale_gradient(gradient: Gradient, factor: tf.Tensor) -> Gradient:
    """The gradient times a scalar."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor


def apply_adam(
    variable: Variable,
    moments: tuple[Variable, Variable],
    gradient: tf.Tensor,
    learning_rate: tf.Tensor,
    adam: AdamConstants,
) -> None:
    """Updates a variable and its two moments by Adam (Kingma & Ba 2015, algorithm 1).

    learning_rate must already include the bias correction. Keras makes some ten passes over each
    variable; this is one operation. For an embedding that is much of a training step.
    """
    tf.raw_ops.ResourceApplyAdam(
        var=tf_variable(variable).handle,
        m=tf_variable(moments[0]).handle,
        v=tf_variable(moments[1]).handle,
        # The operation corrects the bias by these two; 0 means that it doesn't.
        beta1_power=0.0,
        beta2_power=0.0,
        lr=learning_rate,
        beta1=adam.beta_1,
        beta2=adam.beta_2,
        epsilon=adam.epsilon,
        grad=gradient,
    )


def update_ema(average: tf.Variable, variable: tf.Variable, decay: tf.Tensor) -> None:
    """Updates an exponential moving average: average <- decay average + (1 - decay) variable."""
    # Gradient descent with the "gradient" average - variable and the rate 1 - decay is the same
    # formula, in one pass less than assign_sub((1 - decay) * ...).
    tf.raw_ops.ResourceApplyGradientDescent(
        var=average.handle, alpha=1 - decay, delta=average - variable
    )


def tf_variable(variable: Variable) -> tf.Variable:
    """The TensorFlow variable itself, which a Keras variable wraps."""
    return variable if isinstance(variable, tf.Variable) else variable.value
