"""Gradients, which may be of some rows only, and what moves a variable by them in one operation."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Gradient = Any
"""tf.Tensor, or tf.IndexedSlices: some rows of one."""


def merged(gradient: Gradient) -> Gradient:
    """With each row once, if it is of rows."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def scaled(gradient: Gradient, scale: tf.Tensor) -> Gradient:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * scale, gradient.indices, gradient.dense_shape)
    return gradient * scale


def adam(
    variable: Any,
    moments: tuple[Any, Any],
    gradient: tf.Tensor,
    rate: tf.Tensor,
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """Adam's update (Kingma & Ba 2015), by a rate that has the correction of its bias.

    Keras makes some ten passes over each variable; for an embedding that is much of an update.
    """
    tf.raw_ops.ResourceApplyAdam(
        var=native(variable).handle,
        m=native(moments[0]).handle,
        v=native(moments[1]).handle,
        beta1_power=0.0,  # of the correction, which the rate has
        beta2_power=0.0,
        lr=rate,
        beta1=betas[0],
        beta2=betas[1],
        epsilon=epsilon,
        grad=gradient,
    )


def follow(average: tf.Variable, variable: tf.Variable, decay: tf.Tensor) -> None:
    """An exponential moving average: decay average + (1 - decay) variable."""
    # One pass less than assign_sub((1 - decay) * ...).
    tf.raw_ops.ResourceApplyGradientDescent(
        var=average.handle, alpha=1 - decay, delta=average - variable
    )


def native(variable: Any) -> tf.Variable:
    """The TensorFlow variable that a Keras variable may be around."""
    return variable if isinstance(variable, tf.Variable) else variable.value
