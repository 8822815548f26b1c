"""Cross-entropy of an output layer over a large vocabulary, at the positions that count."""

import tensorflow as tf

from models.token_decoder import Projection


def token_losses(
    readouts: tf.Tensor, projection: Projection, targets: tf.Tensor, smoothing: float = 0.0
) -> tf.Tensor:
    """Nats at each of the targets (B, T) int32, 0 where the target is 0, which is padding.

    readouts (B, T, R). smoothing: share of a target spread evenly over the vocabulary (Szegedy et
    al. 2016).
    """
    places, labels, logits = _at_targets(readouts, projection, targets)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if smoothing:
        # Cross-entropy with the even distribution: log Z - mean of logits.
        chosen = tf.gather(logits, labels, batch_dims=1)
        losses += smoothing * (chosen - tf.reduce_mean(logits, -1))
    return tf.scatter_nd(places, losses, tf.shape(targets, tf.int64))


def token_measures(
    readouts: tf.Tensor, projection: Projection, targets: tf.Tensor
) -> dict[str, tf.Tensor]:
    """How well each row's targets (B, T) are foreseen, each given all before it; all (B,) float32.

    log_likelihood of a row in nats; its tokens; tokens_right, that were the most probable.
    """
    places, labels, logits = _at_targets(readouts, projection, targets)
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = tf.argmax(logits, -1, output_type=labels.dtype) == labels
    shape = tf.shape(targets, tf.int64)[:1]

    def of_row(values: tf.Tensor) -> tf.Tensor:
        return tf.scatter_nd(places[:, :1], values, shape)

    return {
        "log_likelihood": of_row(-nats),
        "tokens": of_row(tf.ones_like(nats)),
        "tokens_right": of_row(tf.cast(right, tf.float32)),
    }


def _at_targets(
    readouts: tf.Tensor, projection: Projection, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of the N real positions only: places (N, 2), labels (N,) and logits (N, V).

    The output layer is most of a decoder's work.
    """
    places = tf.where(targets != 0)
    rows = tf.cast(tf.gather_nd(readouts, places), tf.float32)
    kernel, bias = projection
    logits = tf.nn.bias_add(tf.matmul(rows, kernel, transpose_b=True), bias)
    return places, tf.gather_nd(targets, places), logits


def log_odds(logits: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Log p / (1 - p) of the chosen classes: logits (..., C), chosen (...) int32.

    Unlike p and log p it still moves where the model is sure.
    """
    one = tf.one_hot(chosen, tf.shape(logits)[-1], on_value=True, off_value=False)
    others = tf.where(one, logits.dtype.min, logits)
    own = tf.gather(logits, chosen, batch_dims=chosen.shape.rank)
    return own - tf.reduce_logsumexp(others, -1)
