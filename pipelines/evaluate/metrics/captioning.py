"""Scores of captions against one or several reference captions each.

Words are found as captioning does it: lower-cased, without punctuation. On the same words BLEU,
CIDEr-D and ROUGE-L are those of pycocoevalcap, beside which a benchmark holds them.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from pipelines.core.scores import Metric, Score, by_name
from pipelines.evaluate.metrics.cider import Cider
from pipelines.evaluate.metrics.generation import (
    EXACT_MATCH,
    PERPLEXITY,
    TOKEN_ACCURACY,
    Of,
    as_texts,
    exact_match,
    likelihoods,
    ratio,
    weighted,
)
from pipelines.evaluate.metrics.meteor import SIGNATURE, meteor_of, meteor_statistics, stemming
from pipelines.evaluate.metrics.translation import BLEU, BleuTokenizer, bleu_of, bleu_statistics

CIDER = Metric("cider", "CIDEr-D", scale=10)
BLEUS = (BLEU, *(Metric(f"bleu_{order}", f"BLEU-{order}", scale=100) for order in (1, 2, 3)))
ROUGE_L = Metric("rouge_l", "ROUGE-L", scale=1, costly=True)
METEOR = Metric("meteor_exact_stem", "METEOR (exact, stem)", scale=1, costly=True)
DISTINCT_CAPTIONS = Metric("distinct_captions", scale=1)
VOCABULARY_USED = Metric("vocabulary_used", scale=1)
CAPTIONING = (
    CIDER,
    *BLEUS,
    ROUGE_L,
    METEOR,
    EXACT_MATCH,
    DISTINCT_CAPTIONS,
    VOCABULARY_USED,
    TOKEN_ACCURACY,
    PERPLEXITY,
)
"""The most important first; bleu is BLEU-4."""

BETA = 1.2
"""How many times as much as precision recall counts in ROUGE-L."""

SPOKEN = "#%&*/@\\"
"""Punctuation that stands for words, as in "salt & pepper"; pycocoevalcap keeps it too."""

Words = list[str]


def caption_scores(
    predicted: Sequence[str | bytes],
    references: Sequence[Sequence[str | bytes]],
    *,
    tokenize: BleuTokenizer = "13a",
    lowercase: bool = False,
    stemmer: str | None = "english",
    measured: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Score]:
    """By name, in the order of CAPTIONING.

    references  one or several for each of the N captions.
    tokenize    how words are found; see `caption_words`.
    lowercase   whether case is all the same to exact_match too.
    stemmer     Snowball's language for METEOR, or None for exact matches only.
    measured    as `texts.likelihoods` needs it; else perplexity and token accuracy are lacking.

    What has to do with the whole corpus is held fixed when examples are weighed: document
    frequencies of CIDEr-D, and how often a caption or a word occurs for the two of variety.
    """
    texts, right = as_texts(predicted), [as_texts(given) for given in references]

    @functools.cache
    def words() -> tuple[list[Words], list[list[Words]]]:
        cut = functools.partial(caption_words, tokenize=tokenize)
        return cut(texts), _grouped(cut([text for given in right for text in given]), right)

    how = f"lower case, without punctuation, tok:{tokenize}"
    scores = [
        Score(CIDER, _mean(lambda: cider(*words())), f"CIDEr-D, n 1 to 4, sigma 6, x10, {how}"),
        *_bleus(words, how),
        Score(
            ROUGE_L,
            _mean(lambda: rouge_l(*words())),
            f"ROUGE-L, beta {BETA}, most over references of precision and recall, {how}",
        ),
        Score(
            METEOR,
            weighted(
                functools.cache(lambda: meteor_statistics(*words(), stemming(stemmer))), meteor_of
            ),
            f"{SIGNATURE}; stems: {stemmer or 'none'}; {how}",
        ),
        exact_match(texts, right, lowercase),
        *_variety(words, how),
    ]
    return by_name([*scores, *likelihoods(measured or {})])


def caption_words(texts: Iterable[str], tokenize: BleuTokenizer = "13a") -> list[Words]:
    """Lower-cased words, as sacreBLEU's tokenizer cuts them, without those that are punctuation.

    13a and intl part words from punctuation as the PTB tokenizer does, but leave "dog's" one word.
    """
    from sacrebleu.metrics.bleu import BLEU

    cut: Callable[[str], str] = BLEU(tokenize=tokenize, force=True).tokenizer
    spoken = functools.lru_cache(maxsize=100_000)(_spoken)
    return [[word for word in cut(text.lower()).split() if spoken(word)] for text in texts]


def _spoken(word: str) -> bool:
    return word in SPOKEN or any(unicodedata.category(letter)[0] != "P" for letter in word)


def cider(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """CIDEr-D of each caption (N,), with document frequencies of these references."""
    return Cider(references).scores(captions, np.arange(len(captions)))


def rouge_l(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """ROUGE-L of each caption (N,), from 0 to 1 (Lin 2004): of longest common subsequences.

    Precision and recall are the highest among the references, not necessarily of the same one.
    """
    scores = []
    for words, given in zip(captions, references, strict=True):
        if not words:
            scores.append(float(any(not reference for reference in given)))
            continue
        common = [common_subsequence(words, reference) for reference in given]
        precision = max(common) / len(words)
        recall = max(
            shared / max(len(reference), 1) for shared, reference in zip(common, given, strict=True)
        )
        below = recall + BETA**2 * precision
        scores.append((1 + BETA**2) * precision * recall / below if below else 0.0)
    return np.array(scores, float)


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest: all of a's words at once, as bits (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(a)) - 1
    unmatched = whole
    for word in b:
        found = unmatched & places.get(word, 0)
        unmatched = ((unmatched + found) | (unmatched - found)) & whole
    return len(a) - unmatched.bit_count()


class CiderReward:
    """CIDEr-D of captions that are still being learnt, for self-critical training.

    Rennie et al. 2017. Document frequencies are those of all the references given, which are the
    training set's; they are read once.
    """

    def __init__(
        self, references: Sequence[Sequence[str | bytes]], *, tokenize: BleuTokenizer = "13a"
    ):
        """Reads one or several references for each of the N training images."""
        right = [as_texts(given) for given in references]
        self.tokenize: BleuTokenizer = tokenize
        flat = caption_words([text for given in right for text in given], tokenize)
        self._cider = Cider(_grouped(flat, right))

    def scores(
        self, candidates: Sequence[str | bytes], rows: Sequence[int] | np.ndarray
    ) -> np.ndarray:
        """Of each candidate (M,), from 0 to 10, beside the references of image rows[m]."""
        return self._cider.scores(caption_words(as_texts(candidates), self.tokenize), rows)


AllWords = Callable[[], tuple[list[Words], list[list[Words]]]]


def _bleus(words: AllWords, how: str) -> list[Score]:
    @functools.cache
    def statistics() -> np.ndarray:
        captions, references = words()
        return bleu_statistics(
            [" ".join(text) for text in captions],
            [[" ".join(text) for text in given] for given in references],
        )

    def one(metric: Metric, order: int) -> Score:
        of = weighted(statistics, functools.partial(bleu_of, order=order, smooth=False))
        return Score(metric, of, f"BLEU-{order}, closest reference length, not smoothed, {how}")

    return [one(metric, order) for metric, order in zip(BLEUS, (4, 1, 2, 3), strict=True)]


def _variety(words: AllWords, how: str) -> list[Score]:
    """Shares that add up over examples: one that occurs c times is 1 / c of something new."""

    def captions() -> np.ndarray:
        said = [tuple(text) for text in words()[0]]
        counts = Counter(said)
        return np.array([1 / counts[text] for text in said])

    @functools.cache
    def used() -> np.ndarray:
        said, given = words()
        right = [[word for text in texts for word in text] for texts in given]
        known = Counter(word for text in right for word in text)
        said = [[word for word in text if word in known] for text in said]
        found = Counter(word for text in said for word in text)
        return np.array(
            [
                (sum(1 / found[word] for word in text), sum(1 / known[word] for word in texts))
                for text, texts in zip(said, right, strict=True)
            ]
        )

    def share(sums: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            # Of a resample, whose references may have fewer words than its captions, not over 1.
            return np.minimum(sums[:, 0] / sums[:, 1], 1)

    return [
        Score(DISTINCT_CAPTIONS, _mean(captions), f"different captions by all captions, {how}"),
        Score(
            VOCABULARY_USED,
            weighted(used, share),
            f"share of the references' different words that captions use, {how}",
        ),
    ]


def _mean(values: Callable[[], np.ndarray]) -> Of:
    """Of a value an example (N,), made when it is first asked for."""
    made = functools.cache(values)
    return lambda weights: ratio(made(), np.ones(len(made())))(weights)


def _grouped(flat: Sequence[Words], like: Sequence[Sequence[str]]) -> list[list[Words]]:
    rest = iter(flat)
    return [[next(rest) for _ in given] for given in like]
