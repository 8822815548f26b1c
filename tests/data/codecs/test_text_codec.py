"""Text codec: hand-worked tokens, truncation, training only on what it is given, SavedModel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pipelines.core.contracts import FieldSpec
from pipelines.core.errors import UserError
from pipelines.data.codecs import counting
from pipelines.data.codecs.text import TextCodec, TextSettings

DEFAULTS: dict[str, Any] = {
    "tokens": "word",
    "vocabulary_size": 1000,
    "minimum_count": 1,
    "lowercase": True,
    "strip_markup": True,
    "punctuation": "keep",
    "max_tokens": 1000,
    "truncate": "head",
    "model_type": "unigram",
}


def codec(*, markers: bool = False, **changes: Any) -> TextCodec:
    return TextCodec("text", TextSettings(**{**DEFAULTS, **changes}), markers=markers)


def fit_codec(texts: list[Any], *, markers: bool = False, **changes: Any) -> TextCodec:
    made = codec(markers=markers, **changes)
    made.fit([texts])
    return made


def tokens(text: str | bytes, **changes: Any) -> list[str]:
    pieces = codec(**changes).tokenize(tf.constant([text]))
    return [token.decode() for token in pieces[0].numpy()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's good, isn't it?", "it 's good , is n't it ?"),
        ("I can’t, I WON'T", "i ca n't , i wo n't"),
        ("'Quoted' dogs' bones", "' quoted ' dogs ' bones"),
        ("3.14 costs $1,000.50. End.Next", "3.14 costs $ 1,000.50 . end . next"),
        ("well-made (very)...", "well - made ( very ) ..."),
        ("Ein Mädchen läuft über die Straße.", "ein mädchen läuft über die straße ."),
        ("l'homme dell'arte", "l' homme dell' arte"),
        ("私はテストをする。", "私 は テ ス ト を す る 。"),
        ("ラーメン3杯", "ラ ー メ ン 3 杯"),
        ("ไทยดี", "ไ ท ย ดี"),
        ("مَرْحَبًا، كيف؟", "مَرْحَبًا ، كيف ؟"),
        ("안녕 세상", "안녕 세상"),
        ("hi👩‍👩‍👧!👍🏽🇩🇪🇫🇷 ❤️", "hi 👩‍👩‍👧 ! 👍🏽 🇩🇪 🇫🇷 ❤️"),
        ("a<br /><br>b &amp; c &lt;d&gt;", "a b & c < d >"),
        ("2 < 3 > 1", "2 < 3 > 1"),
        ("a\u00a0b\u3000c\u200bd\x00e", "a b c d e"),
        ("so\u00adft \ufeffbom", "soft bom"),
        (b"caf\xff\xfe ok", "caf \ufffd \ufffd ok"),
        ("", "<unk>"),
        (" \n\t ", "<unk>"),
        ("<br>", "<unk>"),
    ],
)
def test_words_worked_by_hand(text: str | bytes, expected: str) -> None:
    assert tokens(text) == expected.split()


def test_settings_change_tokens() -> None:
    assert tokens("Oh, don't! 👍 #1", punctuation="drop") == ["oh", "do", "n't", "👍", "1"]
    assert tokens("A <b>B</b>", lowercase=False) == ["A", "B"]
    assert tokens("<b>", strip_markup=False) == ["<", "b", ">"]


def test_characters() -> None:
    assert tokens("  Ab\n c!", tokens="character") == ["a", "b", " ", "c", "!"]
    assert tokens("Ab, c!", tokens="character", punctuation="drop") == ["a", "b", " ", "c"]
    made = fit_codec(["abc 日本"], tokens="character")
    assert made.decode(made.encode(tf.constant(["日 cab"]))[0].numpy()) == "日 cab"


def test_ids_are_by_frequency_then_by_token() -> None:
    made = fit_codec(["b a c", "c b d", "c e"])
    assert made.vocabulary == ("<pad>", "<unk>", "c", "b", "a", "d", "e")
    assert made.encode(tf.constant(["c x a"])).to_list() == [[2, 1, 4]]
    assert made.field.dtype == "int32"
    assert made.encode(tf.constant(["c"])).dtype == tf.int32
    assert fit_codec(["b a c", "c b d"], vocabulary_size=3).vocabulary == ("<pad>", "<unk>", "b")
    assert fit_codec(["b a c", "c b d"], minimum_count=2).size == 4


def test_markers_enclose() -> None:
    made = fit_codec(["a b", "a"], markers=True, max_tokens=1)
    assert made.vocabulary[:5] == ("<pad>", "<unk>", "<s>", "</s>", "a")
    assert made.encode(tf.constant(["a b", ""])).to_list() == [[2, 4, 3], [2, 1, 3]]
    assert made.tokenize(tf.constant(["a b"])).to_list() == [[b"<s>", b"a", b"</s>"]]
    assert made.decode(np.array([2, 4, 5, 3, 5, 0])) == "a b"


@pytest.mark.parametrize(
    ("truncate", "expected"), [("head", "a b c d"), ("tail", "g h i j"), ("both", "a h i j")]
)
def test_truncation_worked_by_hand(truncate: str, expected: str) -> None:
    assert tokens("a b c d e f g h i j", max_tokens=4, truncate=truncate) == expected.split()
    assert tokens("a b c d", max_tokens=4, truncate=truncate) == ["a", "b", "c", "d"]
    assert tokens("", max_tokens=4, truncate=truncate) == ["<unk>"]


@pytest.mark.parametrize("kind", ["word", "character"])
def test_a_batch_is_encoded_like_its_members(kind: str) -> None:
    texts = ["The cat, it's", "", "日本 🇩🇪", "x " * 50, "'", "a.b 1.5"]
    made = fit_codec(texts[:4], tokens=kind, max_tokens=20, truncate="both")
    together = made.encode(tf.constant(texts)).to_list()
    assert together == [made.encode(tf.constant([text])).to_list()[0] for text in texts]
    assert min(map(len, together)) == 1
    assert made.encode(tf.constant([], tf.string)).shape[0] == 0


def test_a_megabyte() -> None:
    made = fit_codec(["word. " * 170_000], max_tokens=10)
    assert made.encode(tf.constant(["word. " * 170_000])).row_lengths().numpy() == [10]


@pytest.mark.parametrize(
    "text",
    [
        "he said: (well) it's \"3.5\", isn't it?",
        "私はテスト。",
        "l'homme est well-made, and so on...",
    ],
)
def test_decode_spaces_as_people_write(text: str) -> None:
    made = fit_codec([text])
    decoded = made.decode(made.encode(tf.constant([text]))[0].numpy())
    assert decoded.replace('" 3.5 "', '"3.5"') == text.lower()


def test_state_restores_and_is_checked_against_the_settings() -> None:
    made = fit_codec(["a b b", "ü c"])
    state = json.loads(json.dumps(made.state()))
    again = codec()
    again.restore(state)
    text = tf.constant(["ü b x"])
    assert again.encode(text).to_list() == made.encode(text).to_list()
    assert (again.vocabulary, again.summary()) == (made.vocabulary, made.summary())
    with pytest.raises(UserError, match="minimum_count"):
        codec(minimum_count=2).restore(state)


def test_summary_worked_by_hand() -> None:
    facts = fit_codec(["a a a b", "a", "a c"], minimum_count=2, max_tokens=3).summary()
    assert facts["vocabulary"] == 3
    assert facts["unknown_share"] == pytest.approx(2 / 7)
    assert facts["truncated_share"] == pytest.approx(1 / 3)
    assert facts["mean_length"] == pytest.approx(7 / 3)
    assert (facts["median_length"], facts["length_95"]) == (2, 4)


def test_counting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MAX_COUNTED", 3)
    made = codec()
    made.fit([["often often often"], ["a b c"], ["often d"], ["often e f"]])
    assert made.vocabulary[2] == "often"
    assert made.size <= 6


def test_no_text_is_an_error() -> None:
    with pytest.raises(UserError, match="no text"):
        fit_codec(["", " "])


LISTS = [["New", "York", "'s", "<br>"], ["York", "!"], ["caf\u00e9 au lait"]]


def test_a_list_of_words_is_taken_as_it_was_split() -> None:
    made = fit_codec(LISTS, tokens="list")
    assert made.raw == FieldSpec((None,), "string")
    words = ["york", "!", "'s", "<br>", "caf\u00e9 au lait", "new"]
    assert made.vocabulary == ("<pad>", "<unk>", *words)
    values = tf.ragged.constant([["NEW", "York", "yorks"], [], [b"\xff"]], dtype=tf.string)
    assert made.encode(values).to_list() == [[7, 2, 1], [1], [1]]
    pieces = made.tokenize(values).to_list()
    assert pieces == [[b"new", b"york", b"yorks"], [b"<unk>"], ["\ufffd".encode()]]
    assert made.decode(np.array([7, 2, 4, 3, 0])) == "new york's!"


def test_words_of_a_list_keep_their_case_if_asked_and_are_cut_like_a_text() -> None:
    made = fit_codec(LISTS, tokens="list", lowercase=False, markers=True, max_tokens=2)
    ids = made.encode(tf.ragged.constant([["York", "New", "!"]]))
    assert [made.vocabulary[k] for k in ids.to_list()[0]] == ["<s>", "York", "New", "</s>"]
    again = codec(tokens="list", lowercase=False, markers=True, max_tokens=2)
    again.restore(json.loads(json.dumps(made.state())))
    assert again.encode(tf.ragged.constant([["York", "New", "!"]])).to_list() == ids.to_list()


def test_a_column_of_the_wrong_kind_is_an_error_that_names_the_remedy() -> None:
    with pytest.raises(UserError, match=r"lists of words with tokens=list.*use tokens=word"):
        fit_codec(["New York"], tokens="list")
    with pytest.raises(UserError, match=r"text with tokens=word.*use tokens=list"):
        fit_codec([["New", "York"]])


def test_a_vocabulary_that_was_not_learnt_is_an_error() -> None:
    with pytest.raises(ValueError, match="learnt or restored first"):
        codec().state()


RELOAD = """
import sys, json
import tensorflow as tf
for kind in sys.argv[1:]:  # sentencepiece comes last: the others must load without its package
    if kind.endswith("sentencepiece"):
        import tensorflow_text
    out = tf.saved_model.load(kind).serve(tf.constant(["a cat, it's", "", "🇩🇪 unseen"]))
    text = [text.decode() for text in out["text"].numpy()]
    print(json.dumps([out["ids"].numpy().tolist(), text]))
"""


class Model(tf.Module):
    def __init__(self, codec: TextCodec) -> None:
        super().__init__()
        self.resources = codec.resources

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def serve(values: tf.Tensor) -> dict[str, tf.Tensor]:
            ids = codec.encode(values)
            return {"ids": ids.to_tensor(), "text": codec.text(ids)}

        self.serve = serve


def test_saved_models_in_a_fresh_process(tmp_path: Path) -> None:
    here, paths = [], []
    for kind in ("word", "character", "sentencepiece"):
        texts = ["a cat, it's a cat", "🇩🇪 and more"] * 9
        model = Model(fit_codec(texts, tokens=kind, vocabulary_size=40))
        paths.append(str(tmp_path / kind))
        tf.saved_model.save(model, paths[-1])
        out = model.serve(tf.constant(["a cat, it's", "", "🇩🇪 unseen"]))
        here.append([out["ids"].numpy().tolist(), [t.decode() for t in out["text"].numpy()]])
        assert here[-1][1][0] == "a cat, it's"
    run = subprocess.run(
        [sys.executable, "-c", RELOAD, *paths], capture_output=True, text=True, check=True
    )
    assert [json.loads(line) for line in run.stdout.splitlines()] == here


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_sentencepiece_adapts_to_little_text(model_type: str) -> None:
    made = fit_codec(
        ["the cat sat on the mat", "<b>A</b> dog"] * 5,
        tokens="sentencepiece",
        model_type=model_type,
        vocabulary_size=5000,
        markers=True,
    )
    assert 10 < made.size < 5000
    ids = made.encode(tf.constant(["the cat", ""]))
    assert ids[0].numpy()[0] == 2
    assert ids[1].numpy().tolist() == [2, 1, 3]
    assert made.decode(ids[0].numpy()) == "the cat"
    again = codec(markers=True, tokens="sentencepiece", model_type=model_type, vocabulary_size=5000)
    again.restore(json.loads(json.dumps(made.state())))
    assert again.encode(tf.constant(["the cat", ""])).to_list() == ids.to_list()
    assert b"".join(made.tokenize(tf.constant(["the cat"]))[0].numpy()[1:-1]).decode() == "▁the▁cat"
    assert set(made.summary()) >= {"vocabulary", "unknown_share", "mean_length"}


def test_a_vocabulary_too_small_for_the_characters_is_reported_with_how_many_there_are() -> None:
    """A to h, the sign for a space, padding and unknown: eleven."""
    small = codec(tokens="sentencepiece", vocabulary_size=10)
    with pytest.raises(UserError, match=r"text: a vocabulary_size of 10 .* give more than"):
        small.fit([["abcd efgh"]])


def test_words_with_vectors_are_known_as_far_as_there_is_room(tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("the 1 2\nfilm 3 4\nrare 5 6\nrarer 7 8\n")
    settings = TextSettings(**{**DEFAULTS, "vocabulary_size": 6})
    made = TextCodec("text", settings, vectors=str(vectors))
    made.fit([["film film new"]])
    assert made.vocabulary == ("<pad>", "<unk>", "film", "new", "the", "rare")
    assert made.encode(tf.constant(["new rare rarer"])).to_list() == [[3, 5, 1]]
    again = TextCodec("text", settings, vectors=str(vectors))
    vectors.unlink()
    again.restore(made.state())
    assert again.vocabulary == made.vocabulary
