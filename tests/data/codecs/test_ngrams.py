"""N-grams of texts: ids worked by hand, what is counted, and what plain Python makes of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.settings import NgramSettings
from pipelines.core.errors import UserError
from pipelines.data.codecs import ngrams
from pipelines.data.codecs.ngrams import FACTOR, NONE, NgramCodec, ngram_matrix
from pipelines.data.codecs.special_ids import UNKNOWN
from pipelines.data.codecs.text import TextCodec, TextSettings

TEXT: dict[str, Any] = {
    "tokens": "word",
    "vocabulary_size": 1000,
    "minimum_count": 1,
    "lowercase": True,
    "strip_markup": True,
    "punctuation": "keep",
    "max_tokens": 100,
    "truncate": "head",
    "model_type": "unigram",
}

NGRAMS: dict[str, Any] = {"order": 2, "minimum_count": 1, "limit": 1000}


def fit_codec(
    *batches: Sequence[Any], text: dict[str, Any] | None = None, **changes: Any
) -> NgramCodec:
    """A codec that has learnt from the batches.

    text  settings of the text codec, where they aren't those of TEXT.
    """
    words = TextCodec("text", TextSettings(**{**TEXT, **(text or {})}))
    words.fit(batches)
    made = NgramCodec("text", NgramSettings(**{**NGRAMS, **changes}), words)
    made.fit(batches)
    return made


def encode(made: NgramCodec, texts: Sequence[Any]) -> list[list[int]]:
    ids = made.encode(made.text.as_tensor(texts))
    assert ids.dtype == tf.int32
    return ids.to_list()


# Three texts hold b, two hold a, one holds both of them in this order: no ties.
TRAIN = ["a b", "b", "b", "a"]
B, A, A_B = 1, 2, 3


def test_ids_are_by_the_number_of_texts_and_rise_within_a_text() -> None:
    made = fit_codec(TRAIN)
    assert made.size == 4
    assert made.summary() == {"ngrams": 3, "order": 2}
    assert encode(made, ["a b", "b", "a", "b a"]) == [[B, A, A_B], [B], [A], [B, A]]


def test_an_ngram_stands_once_however_often_the_text_has_it() -> None:
    assert encode(fit_codec(TRAIN), ["a b a b a", "b b b"]) == [[B, A, A_B], [B]]


def test_texts_are_counted_not_occurrences() -> None:
    # Three a's in one text are fewer than one b in each of two.
    assert encode(fit_codec(["a a a", "b", "b"], order=1), ["b", "a"]) == [[1], [2]]


def test_a_text_without_known_ngrams_has_none() -> None:
    made = fit_codec(TRAIN)
    assert encode(made, ["", "x y", "x a"]) == [[NONE], [NONE], [A]]


def test_unknown_words_are_part_of_ngrams_if_training_has_such() -> None:
    # x and y are too rare for the vocabulary, and so "a x" and "a y" are the same n-gram.
    made = fit_codec(["a x", "a y", "a"], text={"minimum_count": 2}, minimum_count=2)
    assert made.text.vocabulary[2:] == ("a",)
    assert made.size - 1 == 3
    assert len(encode(made, ["a z"])[0]) == 3
    # A text without a token is one that is unknown.
    assert encode(made, [""]) == encode(made, ["z"])
    assert len(encode(made, ["z"])[0]) == 1


@pytest.mark.parametrize(("order", "known"), [(1, 4), (2, 7), (3, 9), (4, 10), (5, 10)])
def test_ngrams_have_up_to_order_tokens(order: int, known: int) -> None:
    made = fit_codec(["a b c d"], order=order)
    assert made.size - 1 == known
    assert encode(made, ["a b c d"]) == [list(range(1, known + 1))]


def test_ngrams_do_not_reach_into_the_next_text() -> None:
    made = fit_codec(["a b", "c d"], order=3)
    assert made.size - 1 == 6  # four words and two pairs
    four = {*encode(made, ["a", "b", "c", "d"])[0], *encode(made, ["b", "c", "d"])[0]}
    assert len(encode(made, ["b c"])[0]) == 2
    assert four < set(range(1, 7))


def test_rare_ngrams_are_left_out() -> None:
    assert encode(fit_codec(TRAIN, minimum_count=2), ["a b"]) == [[B, A]]
    assert encode(fit_codec(TRAIN, minimum_count=3), ["a b", "a"]) == [[B], [NONE]]
    none = fit_codec(TRAIN, minimum_count=4)
    assert none.size == 1
    assert encode(none, ["a b", ""]) == [[NONE], [NONE]]


def test_the_most_frequent_stay_within_the_limit() -> None:
    assert encode(fit_codec(TRAIN, limit=2), ["a b"]) == [[B, A]]
    assert encode(fit_codec(TRAIN, limit=1), ["a b", "a"]) == [[B], [NONE]]


def test_texts_are_read_whole_however_long() -> None:
    made = fit_codec(["a b c d e"], text={"max_tokens": 2}, order=1)
    assert made.text.encode(tf.constant(["a b c d e"])).row_lengths().numpy() == [2]
    assert encode(made, ["a b c d e"]) == [[1, 2, 3, 4, 5]]


def test_lists_of_words() -> None:
    made = fit_codec(
        [["a b", "c"], ["c"], ["c"], ["a b"]], text={"tokens": "list"}, minimum_count=1
    )
    assert made.raw.is_sequence
    # c is in three, "a b", which is one word, in two, and both in one.
    assert encode(made, [["a b", "c"], [], ["a b"], ["a"]]) == [[1, 2, 3], [NONE], [2], [NONE]]


def test_a_batch_is_encoded_like_its_members() -> None:
    texts = ["a b", "", "b b a", "x", "a"]
    made = fit_codec(TRAIN)
    assert encode(made, texts) == [encode(made, [text])[0] for text in texts]
    assert made.encode(tf.constant([], tf.string)).shape[0] == 0


def test_batches_do_not_matter_for_what_is_learnt() -> None:
    texts = ["a b c", "b c", "c a", "a b", "c c", "b"]
    one = fit_codec(texts, order=3).state()
    assert fit_codec(texts[:1], texts[1:5], texts[5:], order=3).state() == one
    assert fit_codec(texts[3:], texts[:3], order=3).state()["keys"] == one["keys"]


def test_encodes_in_a_graph_with_a_batch_of_any_size() -> None:
    made = fit_codec(TRAIN)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def graph(texts: tf.Tensor) -> tf.RaggedTensor:
        return made.encode(texts)

    for texts in (["a b", ""], ["b"], ["x", "b a", "a"]):
        assert graph(tf.constant(texts)).to_list() == encode(made, texts)


# == Against plain Python


def key(tokens: Sequence[int]) -> int:
    """The 64-bit key of token ids, as a signed number."""
    total = 0
    for size, token in enumerate(tokens, start=1):
        total = (total + (token + 1) * size) * FACTOR % 2**64
    return total - 2**64 if total >= 2**63 else total


def ngrams_of(ids: Sequence[int], order: int) -> set[tuple[int, ...]]:
    return {
        tuple(ids[start : start + size])
        for size in range(1, order + 1)
        for start in range(len(ids) - size + 1)
    }


def ids_in_python(
    train: list[list[int]], texts: list[list[int]], chosen: NgramSettings
) -> list[list[int]]:
    """Token ids to ids of n-grams."""
    counts = Counter(one for text in train for one in ngrams_of(text, chosen.order))
    enough = [one for one, count in counts.items() if count >= chosen.minimum_count]
    kept = sorted(enough, key=lambda one: (-counts[one], key(one)))[: chosen.limit]
    number = {one: place for place, one in enumerate(kept, start=1)}
    return [
        sorted(number[one] for one in ngrams_of(text, chosen.order) if one in number) or [NONE]
        for text in texts
    ]


TEXTS = st.lists(st.lists(st.sampled_from("abcde"), max_size=7).map(" ".join), min_size=1)


@settings(max_examples=12, deadline=None)
@given(
    train=TEXTS.filter(any), texts=TEXTS,
    order=st.integers(1, 5), minimum=st.integers(1, 3), limit=st.integers(1, 30),
)  # fmt: skip
def test_ids_are_those_of_plain_python(
    train: list[str], texts: list[str], order: int, minimum: int, limit: int
) -> None:
    made = fit_codec(
        train, text={"vocabulary_size": 5}, order=order, minimum_count=minimum, limit=limit
    )
    learnt, asked = (
        made.text.all_ids(tf.constant(part, tf.string)).to_list() for part in (train, texts)
    )
    assert encode(made, texts) == ids_in_python(learnt, asked, made.settings)


def test_ties_go_by_key() -> None:
    made = fit_codec(["a b c"], order=3)
    ids = {letter: made.text.vocabulary.index(letter) for letter in "abc"}
    ngrams = [tuple(ids[letter] for letter in one) for one in ("a", "b", "c", "ab", "bc", "abc")]
    place = {one: rank for rank, one in enumerate(sorted(ngrams, key=key), start=1)}
    assert encode(made, ["a", "b", "c"]) == [[place[ids[one],]] for one in "abc"]
    pair = {place[ids["a"],], place[ids["b"],], place[ids["a"], ids["b"]]}
    assert encode(made, ["a b"]) == [sorted(pair)]


# == By position


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 6])
def test_ids_by_position_are_those_of_the_text(order: int, length: int) -> None:
    made = fit_codec(["a b a c", "c b a", "b c a b c a"], order=order)
    texts = [one[: 2 * length - 1] for one in ("a b c a b c", "c", "a b")]
    tokens = made.text.all_ids(tf.constant(texts)).to_tensor(0, shape=[3, length])
    by_size = made.ids_by_position(tokens)
    assert [part.shape for part in by_size] == [
        (3, max(length - size + 1, 0)) for size in range(1, order + 1)
    ]
    for row, expected in enumerate(encode(made, texts)):
        found = {int(one) for part in by_size for one in part[row]} - {NONE}
        assert sorted(found) == expected


def test_ids_stand_where_their_ngram_starts() -> None:
    made = fit_codec(TRAIN)
    b, a = 2, 3
    assert made.text.vocabulary[b:] == ("b", "a")
    singles, pairs = made.ids_by_position(tf.constant([[a, b, UNKNOWN, 0], [b, a, b, a]]))
    assert singles.numpy().tolist() == [[A, B, NONE, NONE], [B, A, B, A]]
    assert pairs.numpy().tolist() == [[A_B, NONE, NONE], [NONE, A_B, NONE]]


def test_ids_at_the_end_are_of_the_ngrams_that_end_there() -> None:
    made = fit_codec(["a b c", "a b", "b", "b"], order=3)
    a, b, c = (made.text.vocabulary.index(letter) for letter in "abc")
    found = made.ids_at_end(tf.constant([[a, b, c], [0, a, b], [0, 0, b], [c, b, a]]))
    single = {letter: encode(made, [letter])[0][0] for letter in "abc"}
    (pair,) = {*encode(made, ["a b"])[0]} - {single["a"], single["b"]}
    assert found.shape == (4, 3)
    assert found[:, 0].numpy().tolist() == [single["c"], single["b"], single["b"], single["a"]]
    assert found[1:].numpy()[:, 1:].tolist() == [[pair, NONE], [NONE, NONE], [NONE, NONE]]
    assert sorted(found[0].numpy()) == sorted(
        {*encode(made, ["a b c"])[0]} - {single["a"], single["b"], pair}
    )


# == State


def test_what_was_learnt_is_restored_from_json() -> None:
    made = fit_codec(["a b c", "c b", "c"], order=3)
    again = NgramCodec("text", made.settings, made.text)
    again.restore(json.loads(json.dumps(made.state())))
    assert again.size == made.size
    assert again.state() == made.state()
    texts = ["a b c", "c b a", "x"]
    assert encode(again, texts) == encode(made, texts)


def test_restoring_replaces_what_was_learnt_before() -> None:
    first, second = fit_codec(["a b", "a"]), fit_codec(["b a", "a"])
    assert len(encode(first, ["b a"])[0]) == 2
    first.restore(second.state())
    assert len(encode(first, ["b a"])[0]) == 3


@pytest.mark.parametrize("change", [{"order": 3}, {"minimum_count": 2}, {"limit": 7}])
def test_other_settings_are_refused(change: dict[str, int]) -> None:
    made = fit_codec(TRAIN)
    other = NgramCodec("text", NgramSettings(**{**NGRAMS, **change}), made.text)
    with pytest.raises(UserError, match="n-grams learnt with"):
        other.restore(made.state())


def test_nothing_can_be_encoded_before_it_is_learnt() -> None:
    learnt = fit_codec(TRAIN)
    made = NgramCodec("text", learnt.settings, learnt.text)
    with pytest.raises(ValueError, match="call fit or load"):
        made.encode(tf.constant(["a"]))


# == Counting


def test_keys_seen_once_are_forgotten_where_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ngrams, "BUFFER", 3)
    monkeypatch.setattr(ngrams, "MOST_COUNTED", 3)
    counts = ngrams._KeyCounts()
    for keys in ([7, 5, 7, 3], [9, 7, 5, 9], [7, 4, 5]):
        counts.add(np.array(keys))
    # 7 stays with all that it was seen; 5 and 3 are forgotten after the first four; the later 5s
    # are two.
    assert len(counts.keys) <= 4
    assert counts.most_frequent(10, 2)[0] == 7


def test_counts_add_up_over_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "BUFFER", 1)
    counts = ngrams._KeyCounts()
    for keys in ([4, 4], [-2, 9], [9, 4], [], [9, 9]):
        counts.add(np.array(keys, np.int64))
    assert counts.most_frequent(10, 1).tolist() == [9, 4, -2]  # 4, 3 and 1 times
    assert counts.most_frequent(10, 3).tolist() == [9, 4]
    assert counts.most_frequent(1, 1).tolist() == [9]


def test_a_matrix_says_which_text_has_which_ngram() -> None:
    batches = [np.array([[1, 2, 0], [0, 0, 0]]), np.array([[2, 3]]), np.zeros((0, 1), int)]
    assert ngram_matrix(batches, 4).toarray().tolist() == [
        [0, 1, 1, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 1],
    ]
    assert ngram_matrix(batches, 3).toarray().tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 1]]
    assert ngram_matrix([], 3).shape == (0, 3)
