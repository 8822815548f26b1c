"""Cross-entropy over a large vocabulary, computed at the positions that count only."""

import tensorflow as tf

from models.token_decoder import OutputWeights


def token_losses(
    readouts: tf.Tensor, weights: OutputWeights, targets: tf.Tensor, smoothing: float = 0.0
) -> tf.Tensor:
    """Cross-entropy in nats at each of the targets (B, T) int32; 0 where the target is 0, padding.

    readouts (B, T, R). smoothing: share of each target's probability that is spread evenly over the
    vocabulary (Szegedy et al. 2016).
    """
    positions, labels, logits = _logits_at_targets(readouts, weights, targets)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if smoothing:
        # Cross-entropy with the uniform distribution: log Z - mean of logits.
        target_logits = tf.gather(logits, labels, batch_dims=1)
        losses += smoothing * (target_logits - tf.reduce_mean(logits, -1))
    return tf.scatter_nd(positions, losses, tf.shape(targets, tf.int64))


def token_measures(
    readouts: tf.Tensor, weights: OutputWeights, targets: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Measures of each row's targets (B, T), each given all before it; (B,) float32.

    log_likelihood of a row in nats; its number of tokens; tokens_right, those of them that had the
    highest probability.
    """
    positions, labels, logits = _logits_at_targets(readouts, weights, targets)
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    correct = tf.argmax(logits, -1, output_type=labels.dtype) == labels
    shape = tf.shape(targets, tf.int64)[:1]

    def sum_by_row(values: tf.Tensor) -> tf.Tensor:
        return tf.scatter_nd(positions[:, :1], values, shape)

    return {
        "log_likelihood": sum_by_row(-nats),
        "tokens": sum_by_row(tf.ones_like(nats)),
        "tokens_right": sum_by_row(tf.cast(correct, tf.float32)),
    }


def _logits_at_targets(
    readouts: tf.Tensor, weights: OutputWeights, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The N real positions: positions (N, 2), labels (N,) and logits (N, V).

    The output layer is most of a decoder's work, and padding would take its share of it.
    """
    positions = tf.where(targets != 0)
    rows = tf.cast(tf.gather_nd(readouts, positions), tf.float32)
    kernel, bias = weights
    logits = tf.nn.bias_add(tf.matmul(rows, kernel, transpose_b=True), bias)
    return positions, tf.gather_nd(targets, positions), logits


def log_odds(logits: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Log p / (1 - p) of the chosen classes: logits (..., C), chosen (...) int32.

    Unlike p and log p it still changes where the model is sure.
    """
    is_chosen = tf.one_hot(ids, tf.shape(logits)[-1], on_value=True, off_value=False)
    others = tf.where(is_chosen, logits.dtype.min, logits)
    own = tf.gather(logits, ids, batch_dims=ids.shape.rank)
    return own - tf.reduce_logsumexp(others, -1)
