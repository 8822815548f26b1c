"""What scores of written texts share, whatever was read: a translation's and a caption's alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from pipelines.core.scores import Metric, Score

Of = Callable[[np.ndarray], np.ndarray]
Statistics = Callable[[], np.ndarray]

EXACT_MATCH = Metric("exact_match", scale=1)
TOKEN_ACCURACY = Metric("token_accuracy", scale=1)
PERPLEXITY = Metric("perplexity", higher_is_better=False)


def as_texts(values: Iterable[str | bytes]) -> list[str]:
    """Bytes are UTF-8, of which damage is shown as �."""
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in values
    ]


def weighted(statistics: Statistics, score: Callable[[np.ndarray], np.ndarray]) -> Of:
    """The score of the sums of the statistics, each example counted as often as its weight says."""

    def of(weights: np.ndarray) -> np.ndarray:
        # In float64: counts of n-grams in a large corpus are more than float32 can tell apart.
        sums = np.asarray(weights, float) @ statistics()
        return np.where(weights.sum(1) > 0, score(sums), np.nan)

    return of


def matched(
    texts: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool
) -> np.ndarray:
    """Whether each of N texts (N,) bool is one of its references, whatever the white space."""

    def plain(text: str) -> str:
        words = " ".join(text.split())
        return words.lower() if lowercase else words

    pairs = zip(texts, references, strict=True)
    return np.array([plain(text) in map(plain, given) for text, given in pairs], bool)


def exact_match(
    texts: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool
) -> Score:
    """Of N texts, each against one or several references."""
    same = matched(texts, references, lowercase).astype(float)
    case = " and case" if lowercase else ""
    signature = f"share of answers that are a reference, but for white space{case}"
    return Score(EXACT_MATCH, ratio(same, np.ones(len(same))), signature)


def likelihoods(measured: Mapping[str, np.ndarray]) -> list[Score]:
    """Token accuracy and perplexity, if what they need was measured, each (N,).

    log_likelihood  the sum over a reference's tokens in nats, its end included.
    tokens          their number. tokens_right: how many of them the model found most probable.
    """
    if not {"log_likelihood", "tokens", "tokens_right"} <= set(measured):
        return []
    likelihood, tokens, right = (
        np.asarray(measured[name], float) for name in ("log_likelihood", "tokens", "tokens_right")
    )
    surprise = ratio(-likelihood, tokens)

    def perplexity(weights: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.exp(surprise(weights))

    # Their number tells vocabularies apart: other tokens make another score.
    given = f"{tokens.sum():,.0f} reference tokens, each given those before it, ends included"
    return [
        Score(TOKEN_ACCURACY, ratio(right, tokens), f"share that is right of {given}"),
        Score(
            PERPLEXITY,
            perplexity,
            f"exponential of the mean negative log-likelihood of {given}",
        ),
    ]


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> Of:
    """Of sums over the examples; NaN where nothing counts."""

    def of(weights: np.ndarray) -> np.ndarray:
        exact = np.asarray(weights, float)
        below = exact @ denominators
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(below > 0, exact @ numerators / below, np.nan)

    return of
