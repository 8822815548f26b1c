"""Baselines of classification, which a recurrent network has to beat.

Bag-of-words classifiers know words and pairs of neighbouring words, but no further order. Their
features are the usual ones: binary counts for naive Bayes (Wang & Manning 2012), tf-idf with
sublinear counts for logistic regression. They aren't tuned.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from models.ngram_training import classify
from pipelines.core.contracts import Split
from pipelines.core.types import Value
from pipelines.evaluate.baselines import ngrams
from pipelines.evaluate.baselines._texts import SLOTS, number_tokens, read_texts, select_texts

if TYPE_CHECKING:
    from scipy import sparse

MAX_TRAINING_TEXTS = 50_000
"""Most training texts for the bag-of-words classifiers, spread evenly over all of them."""

MAX_FEATURES = 100_000
"""Most features: the words and pairs of words that occur most often."""

MAX_WEIGHTS = 1_000_000
"""Most weights (features by classes); logistic regression's solver holds 20 copies of them."""

MIN_SPACE_SHARE = 1 / 20
"""Texts with a smaller share of spaces have no words; their characters are taken instead."""

INVERSE_REGULARISATION = 10.0


_SEPARATOR = (
    r"\s\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f\u2010-\u2027\u3000-\u3003\u3008-\u3011\uff01-\uff0f"
)
_WORDS = re.compile(f"[^{_SEPARATOR}]+")
_CHARACTERS = re.compile(f"[^{_SEPARATOR}]")
_WORDS_AND_MARKS = re.compile(rf"[^{_SEPARATOR}]+|\S")
_CHARACTERS_AND_MARKS = re.compile(r"\S")


def _is_spaceless(texts: Sequence[str]) -> bool:
    spaces = sum(text.count(" ") for text in texts)
    return spaces < MIN_SPACE_SHARE * sum(map(len, texts))


def majority_class(train_labels: np.ndarray, classes: int, examples: int) -> np.ndarray:
    """Probabilities (examples, classes) of a system that always predicts the training shares."""
    shares = np.bincount(train_labels, minlength=classes) / len(train_labels)
    return np.tile(shares, (examples, 1))


def bag_of_words_baselines(
    train: Split, test: Split, *, text: str, label: str
) -> dict[str, dict[str, np.ndarray]]:
    """Probabilities (N, C) of the test examples, by the name of the system.

    text, label  names of the raw column of texts, and of the field of class numbers.
    """
    labels = train.column(label)
    answers = text_classifiers(
        train.raw(text), labels, test.raw(text), classes=int(labels.max()) + 1
    )
    return {name: {"probabilities": probabilities} for name, probabilities in answers.items()}


def text_classifiers(
    train_texts: Iterable[Sequence[Value]],
    train_labels: np.ndarray,
    test_texts: Iterable[Sequence[Value]],
    *,
    classes: int,
) -> dict[str, np.ndarray]:
    """Probabilities (N, C) by classifier. Texts are batches, as from Split.raw; labels (N,) int."""
    train_labels = np.asarray(train_labels, int)
    rows = np.linspace(0, len(train_labels) - 1, min(MAX_TRAINING_TEXTS, len(train_labels))).astype(
        int
    )
    labels = train_labels[rows]
    texts, asked = list(select_texts(read_texts(train_texts), rows)), list(read_texts(test_texts))
    bag = _BagOfWords(texts, min(MAX_FEATURES, MAX_WEIGHTS // classes))
    test = bag.counts(asked)
    answers = {"majority class": majority_class(train_labels, classes, test.shape[0])}
    if bag.size and len(np.unique(labels)) > 1:
        answers["bag-of-words naive Bayes"] = _naive_bayes(bag.train, labels, test, classes)
        answers["tf-idf logistic regression"] = _logistic_regression(
            bag.train, labels, test, classes
        )
        answers["naive Bayes n-grams"] = _ngram_classifier(texts, labels, asked, classes)
    return answers


def _ngram_classifier(
    texts: Sequence[str], labels: np.ndarray, test: Sequence[str], classes: int
) -> np.ndarray:
    numbers: dict[str, int] = {}
    split = (_CHARACTERS_AND_MARKS if _is_spaceless(texts) else _WORDS_AND_MARKS).findall
    features = ngrams.NgramFeatures(
        *number_tokens(texts, split, numbers, grow=True), len(texts), classes
    )
    tested = features.matrix(*number_tokens(test, split, numbers, grow=False), len(test))
    return classify(features.train, labels, tested, classes)


class _BagOfWords:
    """The most frequent words and pairs of neighbouring words of a set of texts, as features.

    Words are numbered, and pairs are hashed (Weinberger et al. 2009) into SLOTS. This is several
    times as fast as scikit-learn's CountVectorizer, which makes strings of pairs.
    """

    def __init__(self, texts: Sequence[str], most_features: int):
        self.pattern = _CHARACTERS if _is_spaceless(texts) else _WORDS
        self.words: dict[str, int] = {}
        slots, documents = self._slots(texts, grow=True)
        occurrences = np.bincount(slots, minlength=SLOTS)
        candidates = np.flatnonzero(occurrences >= min(2, len(texts)))
        order = np.argsort(-occurrences[candidates], kind="stable")
        frequent = candidates[order[:most_features]]
        self.size = len(frequent)
        self.feature = np.full(SLOTS, -1, np.int32)
        self.feature[frequent] = np.arange(self.size)
        self.train = self._matrix(slots, documents, len(texts))

    def counts(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Counts of each feature in each of the texts (N, size)."""
        return self._matrix(*self._slots(texts, grow=False), len(texts))

    def _slots(self, texts: Sequence[str], *, grow: bool) -> tuple[np.ndarray, np.ndarray]:
        """Slot and text number of each occurrence of a word or pair."""
        flat, documents = number_tokens(texts, self.pattern.findall, self.words, grow=grow)
        first, second = flat[:-1], flat[1:]
        pair = (documents[:-1] == documents[1:]) & (first > 0) & (second > 0)
        pairs = (first[pair] * 0x9E3779B1 + second[pair] * 0x85EBCA77) >> 5
        slots = np.concatenate([flat[flat > 0], pairs]) % SLOTS
        return slots, np.concatenate([documents[flat > 0], documents[:-1][pair]])

    def _matrix(self, slots: np.ndarray, documents: np.ndarray, rows: int) -> sparse.csr_matrix:
        from scipy import sparse

        columns = self.feature[slots]
        known = columns >= 0
        ones = np.ones(int(known.sum()), np.float32)
        return sparse.csr_matrix(
            (ones, (documents[known], columns[known])), shape=(rows, self.size)
        )


def _naive_bayes(
    train: sparse.csr_matrix, labels: np.ndarray, test: sparse.csr_matrix, classes: int
) -> np.ndarray:
    from sklearn.naive_bayes import MultinomialNB

    model = MultinomialNB().fit(train.sign(), labels)
    return _to_all_classes(model.predict_proba(test.sign()), model.classes_, classes)


def _logistic_regression(
    train: sparse.csr_matrix, labels: np.ndarray, test: sparse.csr_matrix, classes: int
) -> np.ndarray:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    weigh = TfidfTransformer(sublinear_tf=True).fit(train)
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=50, tol=3e-4)
    with warnings.catch_warnings():
        # Accuracy on held-out texts converges long before the gradient vanishes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(weigh.transform(train), labels)
    return _to_all_classes(model.predict_proba(weigh.transform(test)), model.classes_, classes)


def _to_all_classes(probabilities: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Adds classes that the training texts lack, with probability 0."""
    full = np.zeros((len(probabilities), classes))
    full[:, known] = probabilities
    return full
