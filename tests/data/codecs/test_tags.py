"""Tags as numbers, in the scheme that is learnt and back; characters of words."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from pipelines.core.errors import UserError
from pipelines.data.codecs.spelling import SpellingCodec
from pipelines.data.codecs.tags import TagCodec

ADA = ["B-PER", "I-PER", "O", "B-PER", "B-PER", "I-PER", "I-PER", "O", "B-LOC"]


def ragged(rows: Sequence[Sequence[str]]) -> tf.RaggedTensor:
    return tf.ragged.constant([list(row) for row in rows], tf.string, ragged_rank=1)


def fit(codec: TagCodec, *rows: Sequence[str]) -> TagCodec:
    codec.fit([list(rows)])
    return codec


def names_of(codec: TagCodec, row: Sequence[str]) -> list[str]:
    """The tags that are learnt."""
    numbers = codec.encode(ragged([row])).to_tensor().numpy()[0]
    return [("?", *codec.names)[number] for number in numbers]


def test_ends_and_single_words_are_learnt_apart_and_read_back_as_bio() -> None:
    codec = fit(TagCodec("tags", "bioes"), ADA)
    assert names_of(codec, ADA) == [
        "B-PER",
        "E-PER",
        "O",
        "S-PER",
        "B-PER",
        "I-PER",
        "E-PER",
        "O",
        "S-LOC",
    ]
    assert codec.decode(codec.encode(ragged([ADA])).to_tensor().numpy()[0]) == ADA


def test_bio_stays_as_it_is() -> None:
    assert names_of(fit(TagCodec("tags", "bio"), ADA), ADA) == ADA


def test_an_entity_ends_where_its_row_does_and_the_next_begins_anew() -> None:
    """Rows that lie next to each other: the second begins with an I- that continues nothing."""
    rows = [["O", "B-A"], ["I-A", "I-A"], [], ["I-A"]]
    codec = fit(TagCodec("tags", "bioes"), *rows)
    made = codec.encode(ragged(rows)).to_list()
    assert [[codec.names[n - 1] for n in row] for row in made] == [
        ["O", "S-A"], ["B-A", "E-A"], [], ["S-A"],
    ]  # fmt: skip


def test_what_the_codec_makes_is_allowed() -> None:
    rows = [["I-A", "I-B", "O", "I-B", "B-A", "I-A"], ADA]
    for scheme in ("bio", "bioes"):
        codec = fit(TagCodec("tags", scheme), *rows)
        start, moves, end = (np.array(part) for part in codec.allowed)
        for row in codec.encode(ragged(rows)).to_list():
            places = np.array(row) - 1
            assert start[places[0]]
            assert moves[places[:-1], places[1:]].all()
            assert end[places[-1]]


def test_tags_are_numbered_from_frequent_to_rare_and_labels_stay_what_they_are() -> None:
    codec = fit(TagCodec("tags", "bioes"), ["NOUN", "B-X", "VERB", "NOUN"])
    assert (codec.names, codec.counts) == (("NOUN", "B-X", "VERB"), (2, 1, 1))
    assert not codec.has_entities
    assert np.array(codec.allowed[1]).all()


def test_a_tag_that_training_lacks_has_no_number_of_its_own() -> None:
    codec = fit(TagCodec("tags", "bio"), ["NOUN", "VERB"])
    assert codec.encode(ragged([["VERB", "ADJ"]])).to_list() == [[2, 0]]


def test_a_codec_is_restored_from_its_state() -> None:
    codec = fit(TagCodec("tags", "bioes"), ADA)
    again = TagCodec("tags", "bioes")
    again.restore(json.loads(json.dumps(codec.state())))
    assert again.state() == codec.state()
    assert names_of(again, ADA) == names_of(codec, ADA)


@pytest.mark.parametrize("rows", [[], [["O", "O"]], [[f"t{n}" for n in range(2001)]]])
def test_too_few_or_too_many_tags_are_no_tags(rows: list[list[str]]) -> None:
    with pytest.raises(UserError, match="is it the right column"):
        TagCodec("tags", "bio").fit([rows])


class TestSpelling:
    @pytest.fixture
    def codec(self) -> SpellingCodec:
        made = SpellingCodec("words", most=4, minimum_count=2)
        made.fit([[["ab", "a"], ["äb"], ["abz"]]])
        return made

    def test_frequent_characters_come_first(self, codec: SpellingCodec) -> None:
        """A and b are in three words each, ä and z in one."""
        assert codec.characters == ("a", "b")
        assert codec.size == 4

    def test_words_are_padded_and_long_ones_keep_both_ends(self, codec: SpellingCodec) -> None:
        made = codec.encode(ragged([["ab", ""], ["abzzzba"], []])).to_list()
        assert made == [[[2, 3, 0, 0], [0, 0, 0, 0]], [[2, 3, 3, 2]], []]

    def test_unknown_characters_and_bytes_that_are_no_text(self, codec: SpellingCodec) -> None:
        values = tf.RaggedTensor.from_row_lengths(tf.constant([b"a\xff", "ö"]), [2])
        assert codec.encode(values).to_list() == [[[2, 1, 0, 0], [1, 0, 0, 0]]]

    def test_a_batch_without_words(self, codec: SpellingCodec) -> None:
        made = codec.encode(tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.string), [0, 0]))
        assert made.flat_values.shape == (0, 4)
