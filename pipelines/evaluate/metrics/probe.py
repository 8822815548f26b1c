"""Scores of synthetic tasks: the longest sequences that a network solves, and its error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipelines.core.scores import Metric, Score, by_name
from pipelines.core.sections import Figure
from pipelines.report.plots import INK, SERIES

SOLVED_SHARE = 0.1
"""A length counts as solved if the error is at most this share of the error of guessing."""


LONGEST_SOLVED = Metric("longest_solved", "longest solved sequence")
RELATIVE_ERROR = Metric("error_of_guessing", "error relative to guessing", higher_is_better=False)
ERROR = Metric("error", higher_is_better=False)
LOSS = Metric("loss", higher_is_better=False)
PROBE = (LONGEST_SOLVED, RELATIVE_ERROR, ERROR, LOSS)
"""The most important first."""


def example_errors(predictions: Mapping[str, np.ndarray], answers: np.ndarray) -> np.ndarray:
    """(N,) the share of wrong answers of each example, or its mean squared error.

    answers (N, K); predictions are "probabilities" (N, K, C) or "numbers" (N, K).
    """
    if "probabilities" in predictions:
        return (predictions["probabilities"].argmax(-1) != answers).mean(1)
    return ((predictions["numbers"] - answers) ** 2).mean(1)


def guessing_error(answers: np.ndarray) -> float:
    """The error of the best constant answer: for numbers their variance, averaged over answers."""
    if answers.dtype.kind in "iu":
        most = [np.bincount(column).max() / len(column) for column in answers.T]
        return float(1 - np.mean(most))
    return float(answers.var(0).mean())


def probe_scores(
    predictions: Mapping[str, np.ndarray], answers: np.ndarray, lengths: np.ndarray
) -> dict[str, Score]:
    """Scores by name, in the order of PROBE."""
    errors, guess = example_errors(predictions, answers), guessing_error(answers)
    kind = "wrong answers" if "probabilities" in predictions else "squared error"
    scores = [
        Score(
            LONGEST_SOLVED,
            _longest_solved_score(errors, lengths, guess),
            f"length of the longest sequences solved, where all shorter ones are, too: {kind} at "
            f"most {SOLVED_SHARE:g} of the best constant's ({guess:.4g}); 0 if none is solved",
        ),
        Score(
            RELATIVE_ERROR,
            _mean_score(errors / max(guess, 1e-30)),
            f"{kind} relative to the best constant's ({guess:.4g}), all lengths",
        ),
        Score(ERROR, _mean_score(errors), f"{kind}, mean, all lengths"),
    ]
    if "probabilities" in predictions:
        likely = np.take_along_axis(predictions["probabilities"], answers[..., None], -1)[..., 0]
        nats = -np.log(np.maximum(likely, 1e-7)).mean(1)
        loss = Score(LOSS, _mean_score(nats), "mean negative log-likelihood of an answer in nats")
    else:
        loss = Score(LOSS, _mean_score(errors), "mean squared error")
    return by_name([*scores, loss])


def _mean_score(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    def of(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(1)
        return np.where(total > 0, weights @ values / np.where(total > 0, total, 1), np.nan)

    return of


def one_hot_lengths(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different lengths, ascending (L,), and for each example a one-hot row of its (N, L)."""
    different = np.unique(lengths)
    return different, (lengths[:, None] == different).astype(float)


def _longest_solved_score(
    errors: np.ndarray, lengths: np.ndarray, guess: float
) -> Callable[[np.ndarray], np.ndarray]:
    different, member = one_hot_lengths(lengths)

    def of(weights: np.ndarray) -> np.ndarray:
        counts = weights @ member
        means = (weights * errors) @ member / np.maximum(counts, 1e-9)
        # A length without examples in a resample doesn't end the run of solved lengths.
        solved = (means <= SOLVED_SHARE * guess) | (counts == 0)
        run = np.cumprod(solved, axis=1).sum(1).astype(int)
        return np.concatenate([[0.0], different.astype(float)])[run]

    return of


def ladder_figure(errors: np.ndarray, lengths: np.ndarray, guess: float) -> Figure:
    """The error by length, relative to the error of guessing."""
    different, member = one_hot_lengths(lengths)
    means = errors @ member / member.sum(0) / max(guess, 1e-30)

    def draw(axes: Any) -> None:
        axes.plot(different, means, "o-", color=SERIES[0], label="this network")
        axes.axhline(1, color=INK, linestyle="--", lw=1, label="guessing")
        axes.axhline(SOLVED_SHARE, color=SERIES[2], linestyle=":", lw=1.4, label="solved")
        axes.set_xticks(different)
        axes.set_ylim(0, max(1.1, 1.05 * float(means.max())))
        axes.set_xlabel("steps of a sequence")
        axes.set_ylabel("error relative to guessing")
        axes.legend(fontsize=8)

    caption = "A length is solved if its error and those of all shorter ones are below the dots."
    return Figure("How long a sequence is solved", draw, caption, size=(5.0, 3.3))
