"""Scores of captions: worked by hand, what must hold of all, and wild texts."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.evaluate.bootstrap import measure_all
from pipelines.evaluate.metrics.captioning import (
    CAPTIONING,
    CiderReward,
    WordRules,
    caption_scores,
    caption_words,
    cider,
    common_subsequence,
    rouge_l,
)
from pipelines.evaluate.metrics.cider import Cider
from pipelines.evaluate.metrics.meteor import (
    align,
    check_stemmer,
    find_stemmer,
    meteor_from_sums,
    meteor_statistics,
)

MEASURED = ("token_accuracy", "perplexity")
WORDS = ["a", "the", "man", "two", "small", "dogs", "run", "running", "green", "grass", "on", "in"]


def cut(*texts):
    return [text.split() for text in texts]


def value(name, predicted, references, **options):
    return float(
        caption_scores(predicted, references, WordRules(**options))[name].of(unit(predicted))[0]
    )


def unit(examples):
    return np.ones((1, len(examples)))


def made_up(n=40, references=3, seed=0):
    rng = random.Random(seed)
    right = [
        [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(references)]
        for _ in range(n)
    ]
    said = [" ".join(word for word in rng.choice(r).split() if rng.random() < 0.8) for r in right]
    return said, right


class TestCider:
    def test_of_short_captions_by_hand(self):
        """Two images: "a" is in both, weight ln(2/2) = 0; the rest in one, weight ln 2.

        "a cat" compared with itself: cosine 1 for n = 1 and 2, none for 3 and 4: 10 * 2/4. With
        "a dog" only "a" is common, which weighs nothing.
        """
        right = [cut("a cat"), cut("a dog")]
        assert cider(cut("a cat", "a cat"), right) == pytest.approx([5, 0])

    def test_repetition_is_clipped_and_other_lengths_cost(self):
        """For n = 1 min(2, 1) * 1 / (2 * 1) = 1/2, times ln 2 squared above and below; n = 2: none.

        Length, in pairs of words, is 1 against 0: exp(-1 / (2 * 36)).
        """
        right = [cut("cat"), cut("dog")]
        expected = 10 * (1 / 2) / 4 * math.exp(-1 / 72)
        assert cider(cut("cat cat", "dog"), right) == pytest.approx([expected, 10 / 4])

    def test_several_references_are_averaged(self):
        """Beside "red cat": 1 for n = 1 and 2. Beside "old cat": one of two equal weights is
        common: 1/2 for n = 1, no pair. "cat" is in both references but in one image.
        """
        right = [cut("red cat", "old cat"), cut("blue dog")]
        expected = 10 * ((1 + 1) + (1 / 2)) / 4 / 2
        assert cider(cut("red cat", "blue dog"), right) == pytest.approx([expected, 5])

    def test_a_single_image_gives_0(self):
        assert cider(cut("a cat sits here"), [cut("a cat sits here")]) == [0]

    def test_candidates_may_be_of_any_images_in_any_number(self):
        said, right = made_up()
        words, given = [text.split() for text in said], [cut(*texts) for texts in right]
        scorer = Cider(given)
        whole = scorer.scores(words, np.arange(len(words)))
        rows = [5, 5, 0, 17]
        np.testing.assert_allclose(scorer.scores([words[r] for r in rows], rows), whole[rows])
        assert scorer.scores([], []).shape == (0,)

    def test_words_that_no_reference_has_count_in_the_length_only(self):
        """Of "cat zzz" one of two equal weights: 1 / sqrt(2) for n = 1; lengths 1 and 0 pairs."""
        right = [cut("cat"), cut("dog")]
        expected = 10 / math.sqrt(2) / 4 * math.exp(-1 / 72)
        assert cider(cut("cat zzz", ""), right) == pytest.approx([expected, 0])

    def test_an_image_without_references_is_refused(self):
        with pytest.raises(ValueError, match="image 1 has none"):
            Cider([cut("a"), []])


class TestReward:
    def test_is_the_score_and_keeps_document_frequencies_of_all_references(self):
        said, right = made_up()
        reward = CiderReward(right)
        score = caption_scores(said, right)["cider"]
        for row in (0, 7, 39):
            alone = np.eye(len(said))[[row]]
            assert reward.scores([said[row].encode()], [row]) == pytest.approx(score.of(alone))


class TestRouge:
    def test_precision_and_recall_are_the_highest_of_any_reference(self):
        """Of the first it shares "a c", 2/4 and 2/3; of the second "b c d", 3/4 and 3/6."""
        precision, recall = 3 / 4, 2 / 3
        expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
        found = rouge_l(cut("a b c d"), [cut("a x c", "b c d e f g")])
        assert found == pytest.approx([expected])

    def test_nothing_in_common_and_nothing_said_are_0(self):
        assert rouge_l(cut("a", ""), [cut("b"), cut("b")]).tolist() == [0, 0]

    @given(st.lists(st.integers(0, 3), max_size=9), st.lists(st.integers(0, 3), max_size=9))
    def test_common_subsequences_are_those_of_the_textbook(self, a, b):
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1, j + 1] = (
                    table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
                )
        assert common_subsequence(list(map(str, a)), list(map(str, b))) == table[-1, -1]


class TestMeteor:
    @staticmethod
    def of(text, *references, language="english"):
        return meteor_from_sums(
            meteor_statistics(cut(text), [cut(*references)], find_stemmer(language))
        )[0]

    def test_words_in_another_order(self):
        """Both match, in two chunks of two: penalty 0.6 * (2/2)^0.2."""
        assert self.of("b a", "a b") == pytest.approx(0.4)

    def test_a_word_that_is_missing(self):
        """Precision 1, recall 2/3: 1 / (0.15 + 0.85 * 3/2); two chunks of two matches."""
        assert self.of("a dog", "a big dog") == pytest.approx(0.4 / 1.425)

    def test_stems_are_worth_less_than_words(self):
        """Two words and a stem: 2.6 of 3 either way; all matched in one chunk: no penalty."""
        assert self.of("a dog running", "a dog runs") == pytest.approx(2.6 / 3)
        assert self.of("a dog running", "a dog runs", language=None) < 0.5

    def test_the_best_reference_counts(self):
        assert self.of("a dog", "no", "a dog", "a big dog") == 1

    def test_one_word_matches_one_word(self):
        """Precision 1/3, recall 1/2, one chunk of one: 1 / (0.15 * 3 + 0.85 * 2) * 0.4."""
        assert self.of("the the the", "the cat") == pytest.approx(0.4 / (0.45 + 1.7))

    def test_of_equal_matches_those_in_fewer_chunks(self):
        """The second "a" belongs to "a dog": the first would make two chunks."""
        found = align(*[cut("a dog")[0]] * 2, *[cut("a cat and a dog")[0]] * 2)
        assert (found.matches, found.chunks) == (2, 1)

    def test_a_word_is_matched_before_its_stem(self):
        """Beside "the swing" the word "swing", though "swinging" follows upon "the"."""
        said, right = cut("the swinging swing", "the swing")
        stem = find_stemmer("english")
        found = align(said, [stem(word) for word in said], right, [stem(word) for word in right])
        assert (found.matches, found.weight, found.chunks) == (2, 2.0, 2)

    def test_many_repetitions_end(self):
        text = ["a"] * 60
        assert align(text, text, text, text).matches == 60

    def test_an_unknown_language_is_named(self):
        check_stemmer(None)
        check_stemmer("french")
        with pytest.raises(UserError, match=r"english.*got klingon"):
            check_stemmer("klingon")


class TestBleu:
    SAID, RIGHT = ["the dog runs in the park"], [["a dog runs in the big park", "the dog"]]

    def test_by_hand(self):
        """Words: the (twice, clipped at 1) dog runs in park: 5/6. Pairs: the dog, dog runs, runs
        in, in the: 4/5. Threes: 2/4, fours: 1/3. Closest length 7, not 2: exp(1 - 7/6).
        """
        short = math.exp(1 - 7 / 6)
        for name, precisions in {
            "bleu_1": [5 / 6],
            "bleu_2": [5 / 6, 4 / 5],
            "bleu_3": [5 / 6, 4 / 5, 2 / 4],
            "bleu": [5 / 6, 4 / 5, 2 / 4, 1 / 3],
        }.items():
            mean = math.prod(precisions) ** (1 / len(precisions))
            assert value(name, self.SAID, self.RIGHT) == pytest.approx(100 * short * mean), name

    def test_is_not_smoothed(self):
        assert value("bleu", ["a cat sits on it"], [["a cat lies on it"]]) == 0


class TestVariety:
    def test_by_hand(self):
        """Three different captions of four; of the references' words red, cat, dog two are used."""
        said = ["red cat", "Red cat.", "cat", "blue bird"]
        right = [["red cat"], ["red dog"], ["cat"], ["dog"]]
        assert value("distinct_captions", said, right) == 3 / 4
        assert value("vocabulary_used", said, right) == pytest.approx(2 / 3)

    def test_no_more_for_examples_that_are_drawn_twice(self):
        scores = caption_scores(["a cat", "a dog"], [["a cat"], ["a dog"]])
        for name in ("distinct_captions", "vocabulary_used"):
            assert scores[name].of(np.array([[2.0, 0.0], [1.0, 1.0]])) == pytest.approx([1, 1])


def test_exact_match_is_of_any_reference_and_of_case_as_asked():
    said, right = ["A  cat", "a dog"], [["the cat", "a cat"], ["a dog", "x"]]
    assert value("exact_match", said, right) == 1 / 2
    assert value("exact_match", said, right, lowercase=True) == 1


@pytest.mark.parametrize(
    ("text", "tokenize", "words"),
    [
        ('A man, "Tom", rides: a T-shirt (red) & 3.5 -- dogs!', "13a",
         ["a", "man", "tom", "rides", "a", "t-shirt", "red", "&", "3.5", "dogs"]),
        ("Ein Hund läuft.", "intl", ["ein", "hund", "läuft"]),
        ("猫、寝る。", "char", ["猫", "寝", "る"]),
        ("قطة نائمة، هنا؟", "13a", ["قطة", "نائمة،", "هنا؟"]),
        ("قطة نائمة، هنا؟", "intl", ["قطة", "نائمة", "هنا"]),
        ("😀 👩‍👩‍👧 smile", "13a", ["😀", "👩‍👩‍👧", "smile"]),
        ("", "13a", []),
    ],
)  # fmt: skip
def test_words_are_lower_cased_without_punctuation(text, tokenize, words):
    assert caption_words([text], tokenize) == [words]


def test_scores_come_in_their_order_and_measured_ones_only_if_measured():
    said, right = made_up()
    names = [metric.name for metric in CAPTIONING]
    assert list(caption_scores(said, right)) == names[: -len(MEASURED)]
    measured = {name: np.ones(len(said)) for name in ("log_likelihood", "tokens", "tokens_right")}
    assert list(caption_scores(said, right, measured=measured)) == names


def test_perfect_captions_score_the_most_there_is():
    right = [["two dogs run over green grass", "x"], ["a man in the water", "y"]]
    found = caption_scores([given[0] for given in right], right)
    most = {name: float(score.of(unit(right))[0]) for name, score in found.items()}
    # The other reference has nothing in common: half of CIDEr's 10.
    assert most.pop("cider") == pytest.approx(5)
    assert most.pop("vocabulary_used") == pytest.approx(11 / 13)
    for name in ("bleu", "bleu_1", "bleu_2", "bleu_3"):
        assert most.pop(name) == pytest.approx(100)
    assert list(most.values()) == pytest.approx([1.0] * len(most))


def test_captions_in_another_order_score_the_same():
    said, right = made_up()
    order = np.random.default_rng(0).permutation(len(said))
    one, other = (
        caption_scores(said, right),
        caption_scores([said[row] for row in order], [right[row] for row in order]),
    )
    weights = np.random.default_rng(1).integers(0, 3, (2, len(said))).astype(float)
    for name in one:
        np.testing.assert_allclose(one[name].of(weights), other[name].of(weights[:, order]), 1e-9)


def test_references_in_another_order_score_the_same():
    said, right = made_up()
    turned = [given[::-1] for given in right]
    for name in ("cider", "bleu", "rouge_l", "exact_match", "vocabulary_used"):
        assert value(name, said, right) == pytest.approx(value(name, said, turned))


def test_weights_select_and_repeat_examples():
    """Of what the whole corpus has no part in: as if those examples were the corpus."""
    said, right = made_up()
    rows = [3, 3, 10, 25]
    weights = np.bincount(rows, minlength=len(said))[None].astype(float)
    scores = caption_scores(said, right)
    for name in ("bleu", "bleu_2", "rouge_l", "meteor_exact_stem", "exact_match"):
        alone = value(name, [said[row] for row in rows], [right[row] for row in rows])
        assert scores[name].of(weights)[0] == pytest.approx(alone), name


def test_intervals_hold_the_value():
    said, right = made_up(100)
    for name, one in measure_all(caption_scores(said, right), 100, resamples=200, seed=0).items():
        entry = one.entry()
        assert entry.low <= entry.value <= entry.high, name


TEXTS = st.one_of(
    st.text(max_size=20), st.text("ab .,'😀猫ا\n\x00", max_size=12), st.just(""), st.binary()
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=6),
    st.sampled_from(["13a", "intl", "char", "zh"]),
)
def test_any_texts_have_scores_in_range(pairs, tokenize):
    said, right = [one for one, _ in pairs], [given for _, given in pairs]
    highest = dict.fromkeys(("bleu", "bleu_1", "bleu_2", "bleu_3"), 100) | {"cider": 10}
    for name, score in caption_scores(said, right, WordRules(tokenize)).items():
        found = float(score.of(unit(said))[0])
        if name == "vocabulary_used" and math.isnan(found):  # no reference has a word
            continue
        assert -1e-9 <= found <= highest.get(name, 1) + 1e-6, name
