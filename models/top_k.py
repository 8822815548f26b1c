"""Top k and sampling over a whole vocabulary, which is where a search spends its time.

There are N rows of V scores. A `bias` (V,) of 0 and -inf marks what is never chosen.
"""

import numpy as np
import tensorflow as tf

from models.settings import Sample
from models.tensors import static_size

NUCLEUS_CANDIDATES = 128
"""The most likely tokens that are searched for a nucleus; rows with a larger one are sorted."""

BELOW_ONE = 1 - 2**-20
"""Keeps a point below the total, or rounding could pick a token behind the last possible one."""


def token_log_probability(logits: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Log-probability (N,) of one token (N,) in each row of logits (N, V); at least -85.

    That is log 1e-37. Softmax is one fused pass and takes a quarter of the time of TensorFlow's
    reduce_logsumexp. A likely token's logit minus this is the row's log sum exp.
    """
    first = tf.range(tf.size(token)) * static_size(logits)
    probability = tf.gather(tf.reshape(tf.nn.softmax(logits), [-1]), first + token)
    return tf.math.log(tf.maximum(probability, 1e-37))


def blockwise_top_k(scores: tf.Tensor, k: int, bias: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """The min(k, V) largest of scores + bias in each row, from high to low: values, positions.

    scores (N, V). Each row is cut into blocks, and only those with the highest maxima are sorted.
    The k largest scores lie in at most k blocks, and no block outside the k with the highest maxima
    can hold one of them. The maxima are taken before the bias is added, so a block that the bias
    touches may seem too high: as many more blocks are sorted as it touches. This is several times
    as fast as tf.math.top_k, if k is small. Where no good width of a block divides V, rows are
    padded, which costs a copy.
    """
    size = len(bias)
    width = _block_width(size, 1.5 * (size / (k + 1)) ** 0.5)
    blocks = -(-size // width)
    biased_blocks = len(set(np.flatnonzero(bias) // width))
    if 4 * (k + biased_blocks) > blocks:
        return tf.math.top_k(scores + bias, min(k, size))
    rows = _split_blocks(scores, width, -np.inf)
    bias = np.pad(bias, [0, blocks * width - size]).reshape(blocks, width)
    block = tf.math.top_k(tf.reduce_max(rows, -1), k + biased_blocks).indices
    candidates = _gather_blocks(rows, block) + tf.gather(tf.constant(bias), block)
    values, place = tf.math.top_k(tf.reshape(candidates, [-1, (k + biased_blocks) * width]), k)
    # From a place among the candidates back to one in the row.
    return values, tf.gather(block, place // width, batch_dims=1) * width + place % width


def _block_width(size: int, best: float) -> int:
    """The divisor of `size` that is nearest to `best`, if one is near; else `best`, rounded."""
    near = [n for n in range(max(int(best / 2), 1), int(best * 2) + 1) if size % n == 0]
    return min(near, key=lambda n: abs(n - best)) if near else max(int(best), 1)


def _split_blocks(rows: tf.Tensor, width: int, padding: float) -> tf.Tensor:
    """(N, V) -> (N, blocks, width)."""
    size = static_size(rows)
    blocks = -(-size // width)
    missing = blocks * width - size
    if missing:
        rows = tf.pad(rows, [[0, 0], [0, missing]], constant_values=padding)
    return tf.reshape(rows, [-1, blocks, width])


def _gather_blocks(rows: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """The blocks (N, C) of rows (N, blocks, width): (N, C, width)."""
    blocks, width = static_size(rows, 1), static_size(rows)
    first = tf.range(tf.shape(rows)[0])[:, tf.newaxis] * blocks
    # Faster than gathering by row and block.
    return tf.gather(tf.reshape(rows, [-1, width]), first + block)


def repeated_ngram_tokens(history: tf.Tensor, n: int) -> tf.Tensor:
    """Tokens that would repeat an n-gram: (M, 3) of input, hypothesis, token.

    history (B, K, n - 1 + t): n - 1 times -1, then a hypothesis' t tokens. A token that follows
    the same n - 1 tokens as the last n - 1 of the hypothesis would repeat an n-gram.
    """
    length = tf.shape(history)[2] - (n - 1)
    tokens = history[:, :, n - 1 :]
    repeats = tf.ones_like(tokens, tf.bool)
    for place in range(n - 1):
        same = history[:, :, place : place + length] == history[:, :, length + place, tf.newaxis]
        repeats = repeats & same
    where = tf.cast(tf.where(repeats), tf.int32)
    return tf.concat([where[:, :2], tf.boolean_mask(tokens, repeats)[:, tf.newaxis]], 1)


def sample_tokens(logits: tf.Tensor, uniform: tf.Tensor, settings: Sample) -> tf.Tensor:
    """A random token for each row, (N,), by the inverse distribution function at uniform (N,).

    logits (N, V), -inf for what is never drawn. They are divided by the temperature; then only the
    top_k most likely are kept (Fan et al. 2018), and of these the nucleus: the fewest that together
    have a probability of at least top_p (Holtzman et al. 2020).
    """
    top_k, top_p = settings.top_k, settings.top_p
    logits = logits / settings.temperature
    size = static_size(logits)
    bias = np.zeros(size, np.float32)
    if top_k is not None:
        values, tokens = blockwise_top_k(logits, top_k, bias)
        return _sample_sorted(tf.nn.softmax(values), tokens, uniform, top_p)[0]
    if top_p in (None, 1):
        return _sample_positions(tf.nn.softmax(logits), uniform)
    values, tokens = blockwise_top_k(logits, NUCLEUS_CANDIDATES, bias)
    highest = token_log_probability(logits, tokens[:, 0])[:, tf.newaxis]
    probabilities = tf.exp(values - values[:, :1] + highest)
    token, complete = _sample_sorted(probabilities, tokens, uniform, top_p)
    incomplete = tf.where(tf.logical_not(complete))

    def sort_whole_rows() -> tf.Tensor:
        values, tokens = tf.math.top_k(tf.gather(logits, incomplete[:, 0]), size)
        numbers = tf.gather(uniform, incomplete[:, 0])
        sampled, _ = _sample_sorted(tf.nn.softmax(values), tokens, numbers, top_p)
        return tf.tensor_scatter_nd_update(token, incomplete, sampled)

    return tf.cond(tf.shape(incomplete)[0] > 0, sort_whole_rows, lambda: token)


def _sample_sorted(
    probabilities: tf.Tensor, tokens: tf.Tensor, uniform: tf.Tensor, top_p: float | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """A token for each row from its most likely ones (N, C), sorted; whether they reach top_p."""
    complete = tf.ones_like(uniform, tf.bool)
    if top_p is not None:
        before = tf.cumsum(probabilities, -1, exclusive=True)
        complete = before[:, -1] + probabilities[:, -1] >= top_p
        probabilities = tf.where(before < top_p, probabilities, 0.0)
    positions = _sample_positions(probabilities, uniform)
    return tf.gather(tokens, positions, batch_dims=1), complete


def _sample_positions(probabilities: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """A random position in each row (N,) of probabilities (N, C), which need not sum to 1.

    First a block of the row is found, then a position in it: the sums of blocks take a fifth of the
    time of a cumulative sum over the row.
    """
    rows = _split_blocks(probabilities, _block_width(static_size(probabilities), 64), 0.0)
    total = tf.cumsum(tf.reduce_sum(rows, -1), -1)
    point = uniform * total[:, -1] * BELOW_ONE
    block = tf.searchsorted(total, point[:, tf.newaxis], side="right")
    before = tf.gather(tf.pad(total, [[0, 0], [1, 0]]), block, batch_dims=1)[:, 0]
    inside = tf.cumsum(_gather_blocks(rows, block)[:, 0], -1)
    point = tf.minimum(point - before, inside[:, -1] * BELOW_ONE)
    place = tf.searchsorted(inside, point[:, tf.newaxis], side="right")
    return (block * static_size(rows) + place)[:, 0]
