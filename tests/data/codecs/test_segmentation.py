"""Drawn segmentations: the same text, other pieces, by known probabilities."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow_text")

from pipelines.data.codecs import subwords
from pipelines.data.codecs.segmentation import Segmentation, resegment

TEXTS = ["the lower the better", "newest and widest", "wider and lower", "日本語 の 文"] * 20


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def segmentation(request: pytest.FixtureRequest) -> Segmentation:
    model = subwords.train(iter(TEXTS), 60, request.param, True, "source")
    return Segmentation(model, request.param, 0.3)


def ids_of(made: Segmentation, text: str) -> np.ndarray:
    return np.asarray(made.processor.encode(text), np.int32)


def test_a_drawn_segmentation_spells_the_same_text(segmentation: Segmentation) -> None:
    random = np.random.default_rng(0)
    for text in dict.fromkeys(TEXTS):
        ids = ids_of(segmentation, text)
        for _ in range(30):
            drawn = segmentation.draw(ids, 4, random)
            assert segmentation.processor.decode(drawn) == text


def test_segmentations_differ_and_come_again_with_the_same_seed(segmentation: Segmentation) -> None:
    ids = ids_of(segmentation, "the lower the better")
    drawn = [tuple(segmentation.draw(ids, 4, np.random.default_rng(n))) for n in range(40)]
    again = [tuple(segmentation.draw(ids, 4, np.random.default_rng(n))) for n in range(40)]
    assert drawn == again
    assert len(set(drawn)) > 1


def test_what_was_met_before_does_not_change_what_is_drawn(segmentation: Segmentation) -> None:
    fresh = Segmentation(
        segmentation.processor.serialized_model_proto(), segmentation.model_type, 0.3
    )
    ids = ids_of(segmentation, "newest and widest")
    one = segmentation.draw(ids, 4, np.random.default_rng(5))
    assert fresh.draw(ids, 4, np.random.default_rng(5)) == one


def test_unigram_pieces_are_drawn_in_proportion_to_their_probability() -> None:
    """Two segmentations of a word: their shares are p1^alpha : p2^alpha."""
    made = Segmentation(subwords.train(iter(TEXTS), 60, "unigram", True, "source"), "unigram", 0.5)
    ids = ids_of(made, "lower")
    variants, cumulative = made._variants(tuple(ids.tolist()))
    scores = np.asarray([sum(made.scores[i] for i in one) for one in variants])
    expected = np.exp(0.5 * scores) / np.exp(0.5 * scores).sum()
    np.testing.assert_allclose(np.diff(np.concatenate([[0], cumulative, [1]])), expected, rtol=1e-6)
    random = np.random.default_rng(0)
    drawn = [tuple(made.draw(ids, 4, random)) for _ in range(2000)]
    share = sum(one == tuple(variants[0]) for one in drawn) / 2000
    assert abs(share - expected[0]) < 0.05


def test_markers_and_padding_stay_and_rows_keep_their_text(segmentation: Segmentation) -> None:
    rows = [[2, *ids_of(segmentation, text).tolist(), 3] for text in TEXTS[:4]]
    lengths = np.asarray([len(row) for row in rows], np.int32)
    padded = np.zeros((4, lengths.max() + 2), np.int32)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    made, new = resegment(padded, lengths, segmentation, 4, np.random.default_rng(1))
    assert made.shape == (4, new.max())
    for row, length, text in zip(made, new, TEXTS, strict=False):
        assert row[0] == 2
        assert row[length - 1] == 3
        assert np.all(row[length:] == 0)
        assert segmentation.processor.decode(row[1 : length - 1].tolist()) == text
