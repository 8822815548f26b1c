"""Scores that translations and captions have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from pipelines.core.scores import Metric, Score

ScoreFunction = Callable[[np.ndarray], np.ndarray]
"""Weights (R, N), one row a resample, to scores (R,); NaN where no example counts."""

Statistics = Callable[[], np.ndarray]
"""Computes the statistics (N, K) of each example, from whose sums a score follows."""

EXACT_MATCH = Metric("exact_match", scale=1)
TOKEN_ACCURACY = Metric("token_accuracy", scale=1)
PERPLEXITY = Metric("perplexity", higher_is_better=False)


def as_texts(values: Iterable[str | bytes]) -> list[str]:
    """Decodes bytes as UTF-8; invalid ones become �."""
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in values
    ]


def score_of_sums(
    statistics: Statistics, score: Callable[[np.ndarray], np.ndarray]
) -> ScoreFunction:
    """The score of the sums of the statistics, each example counted as often as its weight says."""

    def of(weights: np.ndarray) -> np.ndarray:
        # In float64: float32 can't count all n-grams of a large corpus.
        sums = np.asarray(weights, float) @ statistics()
        return np.where(weights.sum(1) > 0, score(sums), np.nan)

    return of


def equals_a_reference(
    texts: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool
) -> np.ndarray:
    """(N,) bool: whether each text is one of its references. White space doesn't matter."""

    def normalise(text: str) -> str:
        words = " ".join(text.split())
        return words.lower() if lowercase else words

    pairs = zip(texts, references, strict=True)
    return np.array([normalise(text) in map(normalise, several) for text, several in pairs], bool)


def exact_match(
    texts: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool
) -> Score:
    """The share of N texts that equal one of their references."""
    same = equals_a_reference(texts, references, lowercase).astype(float)
    case = " and case" if lowercase else ""
    signature = f"share of texts that equal a reference, ignoring white space{case}"
    return Score(EXACT_MATCH, ratio(same, np.ones(len(same))), signature)


def likelihoods(measured: Mapping[str, np.ndarray]) -> list[Score]:
    """Token accuracy and perplexity; none unless `measured` has these arrays (N,):

    log_likelihood  of the reference, in nats: the sum over its tokens, end marker included.
    tokens          the number of these tokens.
    tokens_right    how many of them had the highest probability.
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

    # Scores of different vocabularies can't be compared; the number of tokens shows the difference.
    counted = (
        f"{tokens.sum():,.0f} reference tokens, end markers included, each predicted from the true "
        "tokens before it"
    )
    return [
        Score(TOKEN_ACCURACY, ratio(right, tokens), f"share of right predictions among {counted}"),
        Score(
            PERPLEXITY,
            perplexity,
            f"exponential of the mean negative log-likelihood of {counted}",
        ),
    ]


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> ScoreFunction:
    """Weighted sum of the numerators (N,) by that of the denominators (N,)."""

    def of(weights: np.ndarray) -> np.ndarray:
        exact = np.asarray(weights, float)
        below = exact @ denominators
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(below > 0, exact @ numerators / below, np.nan)

    return of
