"""Scores of captions against one or several reference captions each.

As usual in captioning, texts are lower-cased and punctuation is removed. On the same words BLEU,
CIDEr-D and ROUGE-L agree with pycocoevalcap; a benchmark compares them.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.core.scores import Metric, Score, by_name
from pipelines.core.types import Arrays
from pipelines.evaluate.metrics.cider import Cider
from pipelines.evaluate.metrics.generation import (
    EXACT_MATCH,
    PERPLEXITY,
    TOKEN_ACCURACY,
    ScoreFunction,
    as_texts,
    exact_match,
    likelihoods,
    ratio,
    score_of_sums,
)
from pipelines.evaluate.metrics.meteor import (
    SIGNATURE,
    find_stemmer,
    meteor_from_sums,
    meteor_statistics,
)
from pipelines.evaluate.metrics.translation import (
    BLEU,
    BleuTokenizer,
    bleu_from_sums,
    bleu_statistics,
)

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
"""The most important first; `bleu` is BLEU-4."""

BETA = 1.2
"""Weight of recall relative to precision in ROUGE-L."""

WORD_SYMBOLS = "#%&*/@\\"
"""Punctuation that is read as a word, as in "salt & pepper"; pycocoevalcap keeps it, too."""

Words = list[str]


@dataclass(frozen=True)
class WordRules:
    """When two captions have the same words.

    tokenize   how words are split; see `caption_words`.
    lowercase  whether exact_match ignores case, too.
    stemmer    Snowball's language for METEOR, or None for exact matches only.
    """

    tokenize: BleuTokenizer = "13a"
    lowercase: bool = False
    stemmer: str | None = "english"


ENGLISH = WordRules()


def caption_scores(
    predicted: Sequence[str | bytes],
    references: Sequence[Sequence[str | bytes]],
    rules: WordRules = ENGLISH,
    *,
    measured: Arrays | None = None,
) -> dict[str, Score]:
    """Scores by name, in the order of CAPTIONING.

    references  one or several for each of the N captions.
    measured    arrays for `likelihoods`; without them there is no perplexity or token accuracy.

    Resampling doesn't change numbers that belong to the whole corpus: document frequencies of
    CIDEr-D, and counts of captions and words for distinct_captions and vocabulary_used.
    """
    texts, right = as_texts(predicted), [as_texts(several) for several in references]

    @functools.cache
    def words() -> tuple[list[Words], list[list[Words]]]:
        split = functools.partial(caption_words, tokenize=rules.tokenize)
        return split(texts), _regroup(split([text for several in right for text in several]), right)

    how = f"lower case, without punctuation, tok:{rules.tokenize}"
    scores = [
        Score(
            CIDER,
            _mean_score(lambda: cider(*words())),
            f"CIDEr-D, n 1 to 4, sigma 6, x10, {how}",
        ),
        *_bleus(words, how),
        Score(
            ROUGE_L,
            _mean_score(lambda: rouge_l(*words())),
            f"ROUGE-L, beta {BETA}, maximum over references of precision and of recall, {how}",
        ),
        Score(
            METEOR,
            score_of_sums(
                functools.cache(lambda: meteor_statistics(*words(), find_stemmer(rules.stemmer))),
                meteor_from_sums,
            ),
            f"{SIGNATURE}; stems: {rules.stemmer or 'none'}; {how}",
        ),
        exact_match(texts, right, rules.lowercase),
        *_variety(words, how),
    ]
    return by_name([*scores, *likelihoods(measured or {})])


def caption_words(texts: Iterable[str], tokenize: BleuTokenizer = "13a") -> list[Words]:
    """Lower-cased words by sacreBLEU's tokenizer, without punctuation marks.

    13a and intl split punctuation off as the PTB tokenizer does, but keep "dog's" one word.
    """
    from sacrebleu.metrics.bleu import BLEU

    split: Callable[[str], str] = BLEU(tokenize=tokenize, force=True).tokenizer
    is_word = functools.lru_cache(maxsize=100_000)(_is_word)
    return [[word for word in split(text.lower()).split() if is_word(word)] for text in texts]


def _is_word(word: str) -> bool:
    return word in WORD_SYMBOLS or any(unicodedata.category(letter)[0] != "P" for letter in word)


def cider(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """CIDEr-D of each caption (N,), 0 to 10, with the document frequencies of these references."""
    return Cider(references).scores(captions, np.arange(len(captions)))


def rouge_l(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """ROUGE-L of each caption (N,), 0 to 1, by longest common subsequences (Lin 2004).

    Precision and recall are each the highest among the references, not always of the same one.
    """
    scores = []
    for words, several in zip(captions, references, strict=True):
        if not words:
            scores.append(float(any(not reference for reference in several)))
            continue
        common = [common_subsequence(words, reference) for reference in several]
        precision = max(common) / len(words)
        recall = max(
            shared / max(len(reference), 1)
            for shared, reference in zip(common, several, strict=True)
        )
        denominator = recall + BETA**2 * precision
        scores.append((1 + BETA**2) * precision * recall / denominator if denominator else 0.0)
    return np.array(scores, float)


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence of two texts (Hyyrö 2004).

    The usual table has a row for each word of b: cell i holds the length for the first i words of
    a. Neighbouring cells differ by 0 or 1, so a row fits into one integer: bit i is 0 where cell
    i + 1 is one more than cell i, and the last cell is the number of 0 bits. For the next word of b
    the addition carries from its first match in a run of 1s up to the 0 above the run. It turns the
    match into a 0 and that 0 into a 1: the step moves down to the match. In the run at the top
    there is no 0 to move, so there a match adds a step.
    """
    positions: dict[str, int] = {}
    for position, word in enumerate(a):
        positions[word] = positions.get(word, 0) | 1 << position
    all_ones = (1 << len(a)) - 1
    row = all_ones
    for word in b:
        matches = row & positions.get(word, 0)
        row = ((row + matches) | (row - matches)) & all_ones
    return len(a) - row.bit_count()


class CiderReward:
    """CIDEr-D of sampled captions, the reward of self-critical training (Rennie et al. 2017).

    Document frequencies are those of the training set's references, which are counted once.
    """

    def __init__(
        self, references: Sequence[Sequence[str | bytes]], *, tokenize: BleuTokenizer = "13a"
    ):
        """references: one or several for each of the N training images."""
        right = [as_texts(several) for several in references]
        self.tokenize: BleuTokenizer = tokenize
        flat = caption_words([text for several in right for text in several], tokenize)
        self._cider = Cider(_regroup(flat, right))

    def scores(
        self, candidates: Sequence[str | bytes], rows: Sequence[int] | np.ndarray
    ) -> np.ndarray:
        """CIDEr-D of candidate m with the references of image rows[m]: (M,), 0 to 10."""
        return self._cider.scores(caption_words(as_texts(candidates), self.tokenize), rows)


AllWords = Callable[[], tuple[list[Words], list[list[Words]]]]


def _bleus(words: AllWords, how: str) -> list[Score]:
    @functools.cache
    def statistics() -> np.ndarray:
        captions, references = words()
        return bleu_statistics(
            [" ".join(text) for text in captions],
            [[" ".join(text) for text in several] for several in references],
        )

    def one(metric: Metric, order: int) -> Score:
        of = score_of_sums(statistics, functools.partial(bleu_from_sums, order=order, smooth=False))
        return Score(metric, of, f"BLEU-{order}, closest reference length, not smoothed, {how}")

    return [one(metric, order) for metric, order in zip(BLEUS, (4, 1, 2, 3), strict=True)]


def _variety(words: AllWords, how: str) -> list[Score]:
    """Scores of how varied the captions are.

    Each of the c occurrences of a caption, or of a word, counts 1 / c. Sums over the examples then
    count every caption or word once, and the scores are sums that bootstrapping can reweigh.
    """

    def count_distinct() -> np.ndarray:
        captions = [tuple(text) for text in words()[0]]
        counts = Counter(captions)
        return np.array([1 / counts[text] for text in captions])

    @functools.cache
    def count_shared_words() -> np.ndarray:
        captions, references = words()
        reference_words = [[word for text in several for word in text] for several in references]
        in_references = Counter(word for text in reference_words for word in text)
        shared_words = [[word for word in text if word in in_references] for text in captions]
        in_captions = Counter(word for text in shared_words for word in text)
        return np.array(
            [
                (
                    sum(1 / in_captions[word] for word in shared),
                    sum(1 / in_references[word] for word in all_words),
                )
                for shared, all_words in zip(shared_words, reference_words, strict=True)
            ]
        )

    def share(sums: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            # In a resample the references may have fewer words than the captions.
            return np.minimum(sums[:, 0] / sums[:, 1], 1)

    return [
        Score(
            DISTINCT_CAPTIONS,
            _mean_score(count_distinct),
            f"number of different captions by number of captions, {how}",
        ),
        Score(
            VOCABULARY_USED,
            score_of_sums(count_shared_words, share),
            f"share of the references' vocabulary that captions use, {how}",
        ),
    ]


def _mean_score(values: Callable[[], np.ndarray]) -> ScoreFunction:
    """The mean of one value an example (N,), which are computed when first needed."""
    computed = functools.cache(values)
    return lambda weights: ratio(computed(), np.ones(len(computed())))(weights)


def _regroup(flat: Sequence[Words], like: Sequence[Sequence[str]]) -> list[list[Words]]:
    """A flat list in groups of the sizes of `like`."""
    rest = iter(flat)
    return [[next(rest) for _ in several] for several in like]
