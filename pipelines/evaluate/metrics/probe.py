"""How long the sequences are that a network solves, and how wrong it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipelines.core.scores import Metric, Score, by_name
from pipelines.core.sections import Figure
from pipelines.report.plots import INK, SERIES

SOLVED = 0.1
"""A length is solved where the error is at most this share of what guessing makes."""


LONGEST_SOLVED = Metric("longest_solved", "longest solved sequence")
RELATIVE_ERROR = Metric("error_of_guessing", "error relative to guessing", higher_is_better=False)
ERROR = Metric("error", higher_is_better=False)
LOSS = Metric("loss", higher_is_better=False)
PROBE = (LONGEST_SOLVED, RELATIVE_ERROR, ERROR, LOSS)
"""The most important first."""


def errors_of(predictions: Mapping[str, np.ndarray], answers: np.ndarray) -> np.ndarray:
    """(N,) mean over an example's answers: share that is wrong, or squared error.

    answers (N, K); predictions "probabilities" (N, K, C) or "numbers" (N, K).
    """
    if "probabilities" in predictions:
        return (predictions["probabilities"].argmax(-1) != answers).mean(1)
    return ((predictions["numbers"] - answers) ** 2).mean(1)


def guessing(answers: np.ndarray) -> float:
    """The error of the best constant: of symbols by place, of numbers their variance."""
    if answers.dtype.kind in "iu":
        most = [np.bincount(column).max() / len(column) for column in answers.T]
        return float(1 - np.mean(most))
    return float(answers.var(0).mean())


def probing_scores(
    predictions: Mapping[str, np.ndarray], answers: np.ndarray, lengths: np.ndarray
) -> dict[str, Score]:
    """By name, in the order of PROBE."""
    errors, guess = errors_of(predictions, answers), guessing(answers)
    kind = "wrong answers" if "probabilities" in predictions else "squared error"
    scores = [
        Score(
            LONGEST_SOLVED,
            _longest(errors, lengths, guess),
            f"steps of the longest sequences that are solved, as all shorter ones are: {kind} at "
            f"most {SOLVED:g} of what the best constant makes ({guess:.4g}); 0 if none is",
        ),
        Score(
            RELATIVE_ERROR,
            _mean(errors / max(guess, 1e-30)),
            f"{kind}, as a share of what the best constant makes ({guess:.4g}), all lengths",
        ),
        Score(ERROR, _mean(errors), f"{kind}, mean, all lengths"),
    ]
    if "probabilities" in predictions:
        likely = np.take_along_axis(predictions["probabilities"], answers[..., None], -1)[..., 0]
        nats = -np.log(np.maximum(likely, 1e-7)).mean(1)
        loss = Score(LOSS, _mean(nats), "mean nats an answer")
    else:
        loss = Score(LOSS, _mean(errors), "mean squared error")
    return by_name([*scores, loss])


def _mean(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    def of(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(1)
        return np.where(total > 0, weights @ values / np.where(total > 0, total, 1), np.nan)

    return of


def by_ladder(errors: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths that occur, rising (L,), and one-hot rows of who has them (N, L)."""
    ladder = np.unique(lengths)
    return ladder, (lengths[:, None] == ladder).astype(float)


def _longest(
    errors: np.ndarray, lengths: np.ndarray, guess: float
) -> Callable[[np.ndarray], np.ndarray]:
    ladder, member = by_ladder(errors, lengths)

    def of(weights: np.ndarray) -> np.ndarray:
        counts = weights @ member
        means = (weights * errors) @ member / np.maximum(counts, 1e-9)
        # A length that a resample lacks says nothing against it.
        solved = (means <= SOLVED * guess) | (counts == 0)
        run = np.cumprod(solved, axis=1).sum(1).astype(int)
        return np.concatenate([[0.0], ladder.astype(float)])[run]

    return of


def ladder_figure(errors: np.ndarray, lengths: np.ndarray, guess: float) -> Figure:
    """Error by length, as a share of guessing's."""
    ladder, member = by_ladder(errors, lengths)
    means = errors @ member / member.sum(0) / max(guess, 1e-30)

    def draw(axes: Any) -> None:
        axes.plot(ladder, means, "o-", color=SERIES[0], label="this network")
        axes.axhline(1, color=INK, linestyle="--", lw=1, label="guessing")
        axes.axhline(SOLVED, color=SERIES[2], linestyle=":", lw=1.4, label="solved")
        axes.set_xticks(ladder)
        axes.set_ylim(0, max(1.1, 1.05 * float(means.max())))
        axes.set_xlabel("steps of a sequence")
        axes.set_ylabel("error, as a share of guessing's")
        axes.legend(fontsize=8)

    caption = "A length counts as solved below the dotted line, if all shorter ones are."
    return Figure("How long a sequence is solved", draw, caption, size=(5.0, 3.3))
