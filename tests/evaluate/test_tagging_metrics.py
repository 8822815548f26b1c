"""Scores of tags, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.core.scores import Score
from pipelines.evaluate.metrics.tagging import EntityCounts, tagging_scores

REFERENCES = [
    ["B-PER", "I-PER", "O", "B-LOC"],
    ["O", "O", "B-ORG", "I-ORG"],
    ["B-PER", "O"],
]
PREDICTED = [
    ["B-PER", "I-PER", "O", "B-ORG"],  # one right, one of another type
    ["O", "B-ORG", "I-ORG", "I-ORG"],  # overlaps
    ["O", "O"],  # missed
]
UNKNOWN = [np.array([1, 0, 0, 1]), np.array([0, 0, 0, 0]), np.array([1, 0])]


def value(score: Score, weights: tuple[float, ...] = (1, 1, 1)) -> float:
    return float(score.of(np.array([weights], float))[0])


@pytest.fixture(scope="module")
def scores() -> dict[str, Score]:
    return tagging_scores(PREDICTED, REFERENCES, UNKNOWN, of_entities=True)


def test_entities_by_hand(scores: dict[str, Score]) -> None:
    """Of 4 that are there and 3 that are answered 1 is right."""
    assert value(scores["entity_precision"]) == pytest.approx(1 / 3)
    assert value(scores["entity_recall"]) == pytest.approx(1 / 4)
    assert value(scores["entity_f1"]) == value(scores["entity_f1_strict"]) == pytest.approx(2 / 7)
    # PER: 1 of 2 and 1; LOC: 0 of 1 and 0; ORG: 0 of 1 and 2.
    assert value(scores["entity_f1_macro"]) == pytest.approx((2 / 3 + 0 + 0) / 3)
    # The organization overlaps one of its type; the other stands where a place is.
    assert value(scores["entity_f1_partial"]) == pytest.approx(2 * 1.5 / 7)


def test_words_by_hand(scores: dict[str, Score]) -> None:
    """Right: 3 of 4, 2 of 4, 1 of 2."""
    assert value(scores["accuracy"]) == pytest.approx(6 / 10)
    assert value(scores["accuracy_known"]) == pytest.approx((2 + 2 + 1) / 7)
    assert value(scores["accuracy_unknown"]) == pytest.approx(1 / 3)
    assert value(scores["sentence_accuracy"]) == 0
    assert value(scores["accuracy"], (2, 0, 0)) == pytest.approx(3 / 4)


def test_a_sentence_counts_as_often_as_its_weight_says(scores: dict[str, Score]) -> None:
    assert value(scores["entity_f1"], (2, 0, 0)) == pytest.approx(1 / 2)
    assert np.isnan(value(scores["entity_f1"], (0, 0, 0)))


def test_rules_differ_where_the_data_breaks_its_scheme() -> None:
    references = [["I-PER", "I-PER", "O", "B-LOC"]]
    found = tagging_scores([["B-PER", "I-PER", "O", "B-LOC"]], references, of_entities=True)
    assert value(found["entity_f1"], (1,)) == 1
    assert value(found["entity_f1_strict"], (1,)) == pytest.approx(2 / 3)


def test_labels_have_no_entities() -> None:
    found = tagging_scores([["N", "V"]], [["N", "N"]], of_entities=False)
    assert list(found) == ["accuracy", "sentence_accuracy"]


def test_an_entity_that_is_answered_in_two_parts_is_not_right() -> None:
    counts = EntityCounts([["B-A", "B-A"]], [["B-A", "I-A"]])
    assert (counts.there.sum(), counts.answered.sum(), counts.right.sum()) == (1, 2, 0)
    assert counts.partial.tolist() == [2]
