"""What a tagger must beat."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence

MOST_WORDS = 250_000
"""Of the training data that the CRF on features learns from."""

ITERATIONS = 60


def most_frequent_tags(
    train: Iterable[tuple[Sequence[str], Sequence[str]]], test: Iterable[Sequence[str]]
) -> list[list[str]]:
    """For each word the tag that it most often has in training.

    A word that training lacks has the tag that words of one occurrence most often have: they are
    the most like it. Ties go to the first in alphabetical order.
    """
    counts: dict[str, Counter[str]] = {}
    for words, tags in train:
        for word, tag in zip(words, tags, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    rare: Counter[str] = Counter()
    overall: Counter[str] = Counter()
    for found in counts.values():
        overall.update(found)
        if found.total() == 1:
            rare.update(found)
    usual = _most_frequent(rare or overall)
    best = {word: _most_frequent(found) for word, found in counts.items()}
    return [[best.get(word, usual) for word in words] for words in test]


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda tag: (-counts[tag], tag))


def has_crfsuite() -> bool:
    """Whether the extra `crfsuite` is installed."""
    return importlib.util.find_spec("pycrfsuite") is not None


def crf_on_features(
    train: Sequence[tuple[Sequence[str], Sequence[str]]], test: Iterable[Sequence[str]]
) -> list[list[str]]:
    """A linear-chain CRF on hand-made features of words (Okazaki 2007, "CRFsuite").

    What one had before neural networks: words, their ends and shapes, and those of two neighbours
    on each side. It learns from the first MOST_WORDS words, by L-BFGS with ITERATIONS iterations.
    """
    import pycrfsuite

    trainer = pycrfsuite.Trainer(verbose=False)
    trainer.set_params({"c1": 0.1, "c2": 0.01, "max_iterations": ITERATIONS})
    left = MOST_WORDS
    for words, tags in train:
        if left <= 0:
            break
        trainer.append(pycrfsuite.ItemSequence(features(words)), list(tags))
        left -= len(words)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.crfsuite"
        trainer.train(path)
        tagger = pycrfsuite.Tagger()
        tagger.open(path)
        try:
            return [tagger.tag(pycrfsuite.ItemSequence(features(words))) for words in test]
        finally:
            tagger.close()


def features(words: Sequence[str]) -> list[list[str]]:
    """Of each word."""
    own = [_of_word(word) for word in words]
    return [
        [
            "bias",
            *own[place],
            *(
                f"{offset:+d}:{feature}"
                for offset in (-2, -1, 1, 2)
                for feature in _near(own, place + offset)
            ),
        ]
        for place in range(len(words))
    ]


def _near(own: Sequence[Sequence[str]], place: int) -> Sequence[str]:
    if not 0 <= place < len(own):
        return ("no word",)
    return own[place][:2]  # the word and its shape


def _of_word(word: str) -> list[str]:
    """First the word and its shape, then beginnings and ends."""
    lower = word.lower()
    ends = [f"{length}:{part}" for length in (1, 2, 3, 4) for part in (lower[-length:],)]
    begins = [f"begins:{lower[:length]}" for length in (2, 3)]
    return [f"word:{lower}", f"shape:{_shape(word)}", *(f"ends{end}" for end in ends), *begins]


def _shape(word: str) -> str:
    """Ada as Xx, 3.5 as 0.0: runs of letters, capitals and digits as one each."""
    made = "".join(
        "0" if c.isdigit() else "X" if c.isupper() else "x" if c.isalpha() else c for c in word
    )
    return re.sub(r"(.)\1+", r"\1", made)
