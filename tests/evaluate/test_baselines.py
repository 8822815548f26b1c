"""Naive systems."""

import numpy as np
import pytest

from pipelines.evaluate.baselines import classification, translation
from pipelines.evaluate.baselines.classification import (
    bag_of_words_baselines,
    majority_class,
    text_classifiers,
)
from pipelines.evaluate.baselines.translation import nearest_texts, translation_baselines

WORDS = {
    "latin": (["good", "fine", "lovely"], ["bad", "poor", "awful"], ["the", "film", "was"]),
    "arabic": (["رائع", "جميل", "ممتع"], ["سيئ", "ممل", "رديء"], ["هذا", "الفيلم", "كان"]),
    "emoji": (["😀", "🎉"], ["😡", "👎"], ["film", "cinema"]),
}

LINEAR = ["bag-of-words naive Bayes", "tf-idf logistic regression", "naive Bayes n-grams"]


def texts(good, bad, plain, n, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=n)
    return [
        " ".join(random.permutation([*random.choice(plain, 4), random.choice((bad, good)[y])]))
        for y in labels
    ], labels


@pytest.mark.parametrize("script", WORDS)
def test_all_classifiers_learn_words_of_any_script(script):
    train, train_labels = texts(*WORDS[script], 200, 0)
    test, test_labels = texts(*WORDS[script], 100, 1)
    answers = text_classifiers([train[:70], train[70:]], train_labels, [test], classes=2)
    assert list(answers) == [
        "majority class",
        "bag-of-words naive Bayes",
        "tf-idf logistic regression",
        "naive Bayes n-grams",
    ]
    for name, probabilities in answers.items():
        assert probabilities.shape == (100, 2)
        assert probabilities.sum(1) == pytest.approx(np.ones(100))
        if name != "majority class":
            assert (probabilities.argmax(1) == test_labels).mean() > 0.95, name


def test_scripts_without_spaces_are_read_by_characters():
    train = ["この映画は良い", "とても良い映画だ", "この映画は悪い", "とても悪い映画だ"] * 10
    labels = np.array([1, 1, 0, 0] * 10)
    answers = text_classifiers([train], labels, [["本当に良い", "本当に悪い"]], classes=2)
    for name in LINEAR:
        assert answers[name].argmax(1).tolist() == [1, 0], name


def test_pairs_of_words_count():
    train = ["not good at all", "good not bad at all"] * 20
    labels = np.array([0, 1] * 20)
    test = [["it is not good", "it is not bad"]]
    answers = text_classifiers([train], labels, test, classes=2)
    assert answers["tf-idf logistic regression"].argmax(1).tolist() == [0, 1]


def test_counts_are_those_of_scikit_learn():
    from sklearn.feature_extraction.text import CountVectorizer

    train, _ = texts(*WORDS["latin"], 50, 0)
    bag = classification._BagOfWords(train, 1000)
    vectorizer = CountVectorizer(ngram_range=(1, 2)).fit(train)
    counts = vectorizer.transform(train)
    kept = np.asarray(counts.sum(0)).ravel() >= 2
    ours, theirs = bag.train.toarray(), counts.toarray()[:, kept]
    assert ours.shape == theirs.shape
    assert sorted(map(tuple, ours.T)) == sorted(map(tuple, theirs.T))


def test_many_classes_of_which_training_lacks_some():
    train = [f"word{number % 3} and more" for number in range(60)]
    labels = np.arange(60) % 3 * 2
    answers = text_classifiers([train], labels, [["word1 and", "word2"]], classes=6)
    for probabilities in answers.values():
        assert probabilities.shape == (2, 6)
        assert (probabilities[:, [1, 3, 5]] == 0).all()
    for name in LINEAR:
        assert answers[name].argmax(1).tolist() == [2, 4], name


def test_texts_without_words_leave_the_majority():
    answers = text_classifiers([["", "!", "?"]], np.array([0, 1, 1]), [["", "new"]], classes=2)
    assert list(answers) == ["majority class"]
    assert answers["majority class"] == pytest.approx(np.array([[1 / 3, 2 / 3]] * 2))


def test_learns_from_a_stated_number_of_rows_spread_over_all(monkeypatch):
    monkeypatch.setattr(classification, "MAX_TRAINING_TEXTS", 40)
    # Sorted by class: the first rows alone would hold one class only.
    train = ["good film"] * 500 + ["bad film"] * 500
    labels = np.repeat([1, 0], 500)
    answers = text_classifiers([train], labels, [["good", "bad"]], classes=2)
    assert answers["bag-of-words naive Bayes"].argmax(1).tolist() == [1, 0]


def test_majority_class():
    shares = majority_class(np.array([0, 1, 1, 1]), 3, 2)
    assert shares.tolist() == [[0.25, 0.75, 0.0]] * 2


def test_from_splits():
    class Whole:
        def __init__(self, texts, labels):
            self.texts, self.labels = texts, labels

        def raw(self, column):
            assert column == "review"
            yield self.texts

        def column(self, name):
            assert name == "stars"
            return self.labels

    train = Whole(["good good", "bad bad"] * 5, np.array([1, 0] * 5, np.int32))
    test = Whole([b"good"], np.array([1]))
    answers = bag_of_words_baselines(train, test, text="review", label="stars")
    assert answers["bag-of-words naive Bayes"]["probabilities"].argmax(1).tolist() == [1]


class Pairs:
    """A split of sentence pairs that come in batches."""

    def __init__(self, sources, targets):
        self.columns = {"ja": sources, "en": targets}

    def __len__(self):
        return len(self.columns["ja"])

    def raw(self, column):
        values = self.columns[column]
        yield values[:2]
        yield values[2:]


TRAIN = Pairs(
    ["私は猫が好きです", "今日は雨が降る", "彼は学校へ行く", "هذا كتاب جيد"],
    ["I like cats", "It rains today", "He goes to school", "A good book"],
)


def test_the_nearest_source_has_the_nearest_translation():
    test = Pairs(["私は犬が好きです".encode(), "  هذا كتاب ", "明日は雨が降る", ""], [])
    answers = translation_baselines(TRAIN, test, source="ja", target="en")
    assert list(answers) == ["source copied", "nearest training sentence"]
    copied, nearest = (one["translation"] for one in answers.values())
    assert copied.tolist() == ["私は犬が好きです", "  هذا كتاب ", "明日は雨が降る", ""]
    assert nearest.tolist()[:3] == ["I like cats", "A good book", "It rains today"]
    assert nearest.dtype == copied.dtype == object


def test_a_stated_number_of_training_examples_is_searched(monkeypatch):
    monkeypatch.setattr(translation, "MAX_TRAINING_PAIRS", 2)
    test = Pairs(["彼は学校へ行く"], [])
    answers = translation_baselines(TRAIN, test, source="ja", target="en")
    assert answers["nearest of 2 training sentences"]["translation"][0] in TRAIN.columns["en"]


def test_nearest_texts_are_those_of_scikit_learn_whatever_the_batches(monkeypatch):
    from sklearn.feature_extraction.text import TfidfVectorizer

    random = np.random.default_rng(0)
    known, asked = (
        [" ".join(random.choice(list("abcdefgh"), 12)) for _ in range(n)] for n in (70, 30)
    )
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(2, 4), sublinear_tf=True)
    vectors = vectorizer.fit_transform([f" {text} " for text in known])
    similar = (vectorizer.transform([f" {text} " for text in asked]) @ vectors.T).toarray()
    found = nearest_texts(known, asked)
    assert similar[np.arange(30), found] == pytest.approx(similar.max(1), rel=1e-5)
    monkeypatch.setattr(translation, "MAX_SIMILARITIES", 200)
    assert nearest_texts(known, asked).tolist() == found.tolist()


def test_nothing_in_common_and_damaged_text_have_an_answer():
    assert nearest_texts(["abc", "def"], ["xyz", "\udc00", "def"]).tolist() == [0, 0, 1]
    assert nearest_texts(["", ""], ["", "a"]).tolist() == [0, 0]
