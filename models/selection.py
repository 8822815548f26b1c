"""Choosing among the scores of a whole vocabulary, which is what takes a search its time.

N rows of V scores. A `bias` (V,) of 0 and -inf says what is never chosen.
"""

import numpy as np
import tensorflow as tf

NUCLEUS = 128
"""So many of the most likely tokens hold most nuclei; rows where they don't are sorted whole."""

BELOW_ONE = 1 - 2**-20
"""Or rounding could draw what lies behind the last token with a probability."""


def log_probability(logits: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """(N,): of one token (N,) in each row of logits (N, V); at least log 1e-37 = -85.

    Softmax is one fused pass, in a quarter of the time of TensorFlow's reduce_logsumexp. What this
    gives for a likely token, taken from its logit, is the log sum exp of the row.
    """
    first = tf.range(tf.size(token)) * logits.shape[-1]
    chosen = tf.gather(tf.reshape(tf.nn.softmax(logits), [-1]), first + token)
    return tf.math.log(tf.maximum(chosen, 1e-37))


def largest(scores: tf.Tensor, k: int, bias: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """The min(k, V) largest of scores + bias in each row, from high to low: values, places.

    scores (N, V). Only the blocks of the row with the highest maxima are sorted: a row's k largest
    lie in k blocks, or in k and as many as the bias touches, whose maxima may be too high. Several
    times as fast as tf.math.top_k, if k is small. Rows are padded, which costs a copy, where no
    good width of a block divides V.
    """
    size = len(bias)
    width = _width(size, 1.5 * (size / (k + 1)) ** 0.5)
    blocks = -(-size // width)
    touched = len(set(np.flatnonzero(bias) // width))
    if 4 * (k + touched) > blocks:
        return tf.math.top_k(scores + bias, min(k, size))
    rows = _blocks(scores, width, -np.inf)
    bias = np.pad(bias, [0, blocks * width - size]).reshape(blocks, width)
    block = tf.math.top_k(tf.reduce_max(rows, -1), k + touched).indices
    inside = _gather_blocks(rows, block) + tf.gather(tf.constant(bias), block)
    values, place = tf.math.top_k(tf.reshape(inside, [-1, (k + touched) * width]), k)
    return values, tf.gather(block, place // width, batch_dims=1) * width + place % width


def _width(size: int, best: float) -> int:
    """The width of blocks: of `size`'s divisors the one nearest to `best`, if any is near."""
    near = [n for n in range(max(int(best / 2), 1), int(best * 2) + 1) if size % n == 0]
    return min(near, key=lambda n: abs(n - best)) if near else max(int(best), 1)


def _blocks(rows: tf.Tensor, width: int, padding: float) -> tf.Tensor:
    """(N, V) -> (N, blocks, width)."""
    blocks = -(-rows.shape[-1] // width)
    missing = blocks * width - rows.shape[-1]
    if missing:
        rows = tf.pad(rows, [[0, 0], [0, missing]], constant_values=padding)
    return tf.reshape(rows, [-1, blocks, width])


def _gather_blocks(rows: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """Of rows (N, blocks, width) the blocks (N, C): (N, C, width)."""
    _, blocks, width = rows.shape
    first = tf.range(tf.shape(rows)[0])[:, tf.newaxis] * blocks
    # Faster than gathering by row and block.
    return tf.gather(tf.reshape(rows, [-1, width]), first + block)


def ngram_successors(history: tf.Tensor, n: int) -> tf.Tensor:
    """Tokens that would repeat an n-gram: (M, 3) of row, hypothesis, token.

    history (B, K, n - 1 + t): n - 1 times -1, then a hypothesis' t tokens.
    """
    length = tf.shape(history)[2] - (n - 1)
    tokens = history[:, :, n - 1 :]
    repeats = tf.ones_like(tokens, tf.bool)
    for place in range(n - 1):
        same = history[:, :, place : place + length] == history[:, :, length + place, tf.newaxis]
        repeats = repeats & same
    where = tf.cast(tf.where(repeats), tf.int32)
    return tf.concat([where[:, :2], tf.boolean_mask(tokens, repeats)[:, tf.newaxis]], 1)


def sample(
    logits: tf.Tensor,
    uniform: tf.Tensor,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> tf.Tensor:
    """A token for each row, (N,): the inverse of the distribution function at uniform (N,).

    logits (N, V), at -inf what is never drawn. They are divided by the temperature; then only the
    top_k most likely are kept (Fan et al. 2018), of these the fewest that together have a
    probability of at least top_p (Holtzman et al. 2020).
    """
    logits = logits / temperature
    size = logits.shape[-1]
    bias = np.zeros(size, np.float32)
    if top_k is not None:
        values, tokens = largest(logits, top_k, bias)
        return _drawn(tf.nn.softmax(values), tokens, uniform, top_p)[0]
    if top_p in (None, 1):
        return _place(tf.nn.softmax(logits), uniform)
    values, tokens = largest(logits, NUCLEUS, bias)
    highest = log_probability(logits, tokens[:, 0])[:, tf.newaxis]
    token, whole = _drawn(tf.exp(values - values[:, :1] + highest), tokens, uniform, top_p)
    rest = tf.where(~whole)

    def sorted_whole() -> tf.Tensor:
        values, tokens = tf.math.top_k(tf.gather(logits, rest[:, 0]), size)
        numbers = tf.gather(uniform, rest[:, 0])
        drawn, _ = _drawn(tf.nn.softmax(values), tokens, numbers, top_p)
        return tf.tensor_scatter_nd_update(token, rest, drawn)

    return tf.cond(tf.shape(rest)[0] > 0, sorted_whole, lambda: token)


def _drawn(
    probabilities: tf.Tensor, tokens: tf.Tensor, uniform: tf.Tensor, top_p: float | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """A token for each row from the most likely ones (N, C), sorted; whether they reach top_p."""
    whole = tf.ones_like(uniform, tf.bool)
    if top_p is not None:
        before = tf.cumsum(probabilities, -1, exclusive=True)
        whole = before[:, -1] + probabilities[:, -1] >= top_p
        probabilities = tf.where(before < top_p, probabilities, 0.0)
    return tf.gather(tokens, _place(probabilities, uniform), batch_dims=1), whole


def _place(probabilities: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """A place in each row (N,) of probabilities (N, C), which need not sum to 1.

    First a block of a row, then a place in it: a sum takes a fifth of a cumulative sum's time.
    """
    rows = _blocks(probabilities, _width(probabilities.shape[-1], 64), 0.0)
    total = tf.cumsum(tf.reduce_sum(rows, -1), -1)
    point = uniform * total[:, -1] * BELOW_ONE
    block = tf.searchsorted(total, point[:, tf.newaxis], side="right")
    before = tf.gather(tf.pad(total, [[0, 0], [1, 0]]), block, batch_dims=1)[:, 0]
    inside = tf.cumsum(_gather_blocks(rows, block)[:, 0], -1)
    point = tf.minimum(point - before, inside[:, -1] * BELOW_ONE)
    place = tf.searchsorted(inside, point[:, tf.newaxis], side="right")
    return (block * rows.shape[-1] + place)[:, 0]
