"""Scores of texts, compared with sacreBLEU's own."""

import importlib.util
import random
import re
import sys

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.lib_ter import translation_edit_rate
from sacrebleu.metrics.ter import TER

from pipelines.core.errors import UserError
from pipelines.evaluate.bootstrap import measure_all
from pipelines.evaluate.metrics import ter as edit_rate
from pipelines.evaluate.metrics import translation
from pipelines.evaluate.metrics.generation import as_texts
from pipelines.evaluate.metrics.translation import (
    TRANSLATION,
    check_tokenizer,
    sentence_chrf,
    translation_scores,
)

ENGLISH = re.findall(
    r"\S+", "a the man two small dogs , run over green grass . Water & it's 3,5 x-ray"
)
JAPANESE = re.findall(r"\S+", "私 は 今日 学校 へ 行きます 。 猫 が 好き です 、 とても ！")


def corpus(words, n=60, seed=0, gap=" ", references=1):
    """Texts of up to 14 words, some empty, and references to which they are more or less alike."""
    rng = random.Random(seed)
    right = [
        [gap.join(rng.choices(words, k=rng.randint(1, 14))) for _ in range(references)]
        for _ in range(n)
    ]
    said = []
    for given in right:
        kept = [word for word in rng.choice(given).split(gap or None) if rng.random() > 0.2]
        if rng.random() < 0.3:
            rng.shuffle(kept)
        said.append(gap.join(kept))
    return [said[0], "", *said[2:]], right


def theirs(said, right, rows, *, tokenize="13a", lowercase=False):
    """What sacreBLEU says of the corpus that has these rows."""
    asian = tokenize not in ("13a", "intl")
    hypotheses = [said[row] for row in rows]
    most = max(map(len, right))
    streams = [[(right[r] + [None] * most)[k] for r in rows] for k in range(most)]
    return {
        "bleu": BLEU(tokenize=tokenize, lowercase=lowercase),
        "chrf": CHRF(word_order=2, lowercase=lowercase),
        "ter": TER(normalized=asian, asian_support=asian),
    }, {
        "bleu": BLEU(tokenize=tokenize, lowercase=lowercase).corpus_score(hypotheses, streams),
        "chrf": CHRF(word_order=2, lowercase=lowercase).corpus_score(hypotheses, streams),
        "ter": TER(normalized=asian, asian_support=asian).corpus_score(hypotheses, streams),
    }


@pytest.mark.parametrize(
    ("words", "gap", "settings"),
    [
        (ENGLISH, " ", {}),
        (ENGLISH, " ", {"tokenize": "intl", "lowercase": True}),
        (JAPANESE, "", {"tokenize": "char"}),
        (JAPANESE, "", {"tokenize": "zh"}),
        pytest.param(
            JAPANESE,
            "",
            {"tokenize": "ja-mecab"},
            marks=pytest.mark.skipif(
                importlib.util.find_spec("ipadic") is None, reason="needs the extra japanese"
            ),
        ),
    ],
)
@pytest.mark.parametrize("references", [1, 3])
def test_are_those_of_sacrebleu_on_the_corpus_and_on_resamples(words, gap, settings, references):
    said, right = corpus(words, gap=gap, references=references)
    scores = translation_scores(said, right, **settings)
    n = len(said)
    rng = np.random.default_rng(0)
    resamples = [np.arange(n), *(rng.integers(n, size=n) for _ in range(3)), np.arange(5, 9)]
    weights = np.stack([np.bincount(rows, minlength=n) for rows in resamples])
    found = {name: scores[name].of(weights.astype(np.float32)) for name in ("bleu", "chrf", "ter")}
    for place, rows in enumerate(resamples):
        _, expected = theirs(said, right, rows, **settings)
        for name, values in found.items():
            assert values[place] == pytest.approx(expected[name].score, rel=1e-9), name


def test_signatures_are_those_of_sacrebleu():
    said, right = corpus(ENGLISH, references=2)
    for several in (right, [given[: 1 + row % 2] for row, given in enumerate(right)]):
        scores = translation_scores(said, several, lowercase=True)
        metrics, _ = theirs(said, several, range(len(said)), lowercase=True)
        most = max(map(len, several))
        streams = [[(given + [None] * most)[k] for given in several] for k in range(most)]
        for name, metric in metrics.items():
            metric.corpus_score(said, streams)
            assert scores[name].signature == str(metric.get_signature())


def test_references_may_differ_in_number():
    said, right = ["a b c d e", "x y"], [["a b c d f", "a b c d e"], ["x z"]]
    _, expected = theirs(said, right, [0, 1])
    scores = translation_scores(said, right)
    for name in expected:
        assert scores[name].of(np.ones((1, 2)))[0] == pytest.approx(expected[name].score)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (["", ""], ["a b", "c"]),
        (["x", "y"], ["a b", "c"]),
        (["a", "b c"], ["a", "b c"]),
        (["a b c d", ""], ["a b c d", ""]),
        (["a", ""], ["", ""]),
    ],
)
def test_strange_corpora(said, right):
    right = [[text] for text in right]
    _, expected = theirs(said, right, [0, 1])
    scores = translation_scores(said, right)
    for name in expected:
        assert scores[name].of(np.ones((1, 2)))[0] == pytest.approx(expected[name].score), name


def test_undefined_where_nothing_counts():
    scores = translation_scores(["a b"], [["a b"]], measured=MEASURED)
    for score in scores.values():
        assert np.isnan(score.of(np.zeros((1, 1)))).all(), score.metric


MEASURED = {
    "log_likelihood": np.array([-2.0]),
    "tokens": np.array([4]),
    "tokens_right": np.array([3]),
    "translation": np.array(["a b"], object),
}


def test_order_direction_and_what_needs_the_model():
    scores = translation_scores(["a b"], [["a b"]], measured=MEASURED)
    assert tuple(score.metric for score in scores.values()) == TRANSLATION
    lower = {name for name, one in scores.items() if not one.metric.higher_is_better}
    assert lower == {"ter", "perplexity"}
    one = np.ones((1, 1))
    assert scores["perplexity"].of(one)[0] == pytest.approx(np.exp(0.5))
    assert scores["token_accuracy"].of(one)[0] == 0.75
    assert "4 reference tokens" in scores["perplexity"].signature
    assert list(translation_scores(["a"], [["a"]])) == [one.name for one in TRANSLATION[:4]]


def test_perplexity_is_of_all_tokens_not_a_mean_over_texts():
    measured = {
        "log_likelihood": np.array([-1.0, -9.0]),
        "tokens": np.array([1, 3]),
        "tokens_right": np.array([1, 0]),
    }
    scores = translation_scores(["a", "b"], [["a"], ["b"]], measured=measured)
    weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    assert scores["perplexity"].of(weights) == pytest.approx(np.exp([10 / 4, 1.0]))
    assert scores["token_accuracy"].of(weights) == pytest.approx([0.25, 1.0])


def test_exact_match():
    said = ["A  b", "c", "d"]
    right = [["x", "A b "], ["C"], ["e"]]
    every = np.ones((1, 3))
    assert translation_scores(said, right)["exact_match"].of(every)[0] == pytest.approx(1 / 3)
    lowercase = translation_scores(said, right, lowercase=True)
    assert lowercase["exact_match"].of(every)[0] == pytest.approx(2 / 3)


def test_bytes_are_text():
    said, right = corpus(JAPANESE, gap="")
    encoded = np.array([text.encode() for text in said], object)
    a = translation_scores(said, right, tokenize="char")
    b = translation_scores(encoded, [[given[0].encode()] for given in right], tokenize="char")
    for name, score in a.items():
        assert score.of(np.ones((1, 60))) == b[name].of(np.ones((1, 60)))
    assert as_texts([b"\xff", "a"]) == ["�", "a"]


def test_statistics_are_made_when_asked_for_and_once(monkeypatch):
    made = []
    original = CHRF._extract_corpus_statistics

    def counting(self, *arguments):
        made.append(self)
        return original(self, *arguments)

    monkeypatch.setattr(CHRF, "_extract_corpus_statistics", counting)
    scores = translation_scores(["a b"], [["a c"]])
    scores["bleu"].of(np.ones((1, 1)))
    assert not made
    for _ in range(3):
        scores["chrf"].of(np.ones((2, 1)))
    assert len(made) == 1


def test_ter_is_left_out_where_it_would_take_very_long(monkeypatch):
    monkeypatch.setattr(translation, "MAX_TER_CELLS", 20)
    said, right = ["a b c d e"] * 2, [["a b c d f"]] * 2
    measured = measure_all(translation_scores(said, right), 2, resamples=100, seed=0)
    assert list(measured) == ["bleu", "chrf", "exact_match"]


def test_a_sentences_chrf():
    said, right = corpus(ENGLISH, references=2)
    metric = CHRF(word_order=2)
    expected = [metric.sentence_score(a, b).score for a, b in zip(said, right, strict=True)]
    assert sentence_chrf(said, right) == pytest.approx(expected)


def test_the_tokenizer_of_japanese_is_an_extra(monkeypatch):
    check_tokenizer("13a")
    monkeypatch.setitem(sys.modules, "ipadic", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"task.bleu_tokenize=ja-mecab needs .*'\.\[japanese\]'"):
        check_tokenizer("ja-mecab")


@pytest.mark.parametrize("short", [0, edit_rate.PYTHON_CELLS])
@pytest.mark.parametrize("words", [2, 5, 40])
def test_edits_are_those_of_sacrebleu(monkeypatch, short, words):
    monkeypatch.setattr(edit_rate, "PYTHON_CELLS", short)
    rng = random.Random(words)
    for _ in range(60):
        a, b = ([str(rng.randrange(words)) for _ in range(rng.randrange(30))] for _ in "ab")
        assert edit_rate.count_edits(a, b) == translation_edit_rate(a, b)[0], (a, b)


@pytest.mark.parametrize(("said", "right"), [(60, 18), (18, 60), (3, 80), (56, 56)])
def test_edits_far_from_the_diagonal_and_past_the_bounds(said, right):
    rng = random.Random(said)
    a, b = ([str(rng.randrange(60)) for _ in range(size)] for size in (said, right))
    assert edit_rate.count_edits(a, b) == translation_edit_rate(a, b)[0]
    moved = b[right // 2 :] + b[: right // 2]
    assert edit_rate.count_edits(moved, b) == translation_edit_rate(moved, b)[0]
