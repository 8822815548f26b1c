"""Scores of texts against one or several references each, as in translation and captioning.

BLEU (Papineni et al. 2002), chrF++ (Popović 2017) and TER (Snover et al. 2006) agree with sacreBLEU
(Post 2018), which counts the statistics of each text. Sums of statistics over a resample are a
matrix product, and the functions here turn such sums into scores, for all resamples together.
Statistics are computed when a score is first needed.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal

import numpy as np

from pipelines.core.errors import UserError
from pipelines.core.scores import Metric, Score, by_name
from pipelines.evaluate.metrics.generation import (
    EXACT_MATCH,
    PERPLEXITY,
    TOKEN_ACCURACY,
    Statistics,
    as_texts,
    exact_match,
    likelihoods,
    score_of_sums,
)
from pipelines.evaluate.metrics.ter import count_edits

log = logging.getLogger(__name__)

BLEU = Metric("bleu", "BLEU", scale=100)
CHRF = Metric("chrf", "chrF++", scale=100, costly=True)
TER = Metric("ter", "TER", higher_is_better=False, scale=100, costly=True)
TRANSLATION = (BLEU, CHRF, TER, EXACT_MATCH, TOKEN_ACCURACY, PERPLEXITY)
"""The most important first."""

BleuTokenizer = Literal["13a", "intl", "char", "zh", "ja-mecab"]
"""sacreBLEU's: 13a (as WMT does) and intl for words between spaces, zh for Chinese, ja-mecab for
Japanese, char for any other script without spaces."""

EXTRAS = {"ja-mecab": ("japanese", ("MeCab", "ipadic"))}
"""By tokenizer, the extra of this project that it needs, and the modules that this brings."""

MAX_TER_CELLS = 10_000_000
"""TER takes about a minute for this sum, over all texts, of the product of the two lengths."""

ORDER = 4
"""The longest n-grams of BLEU."""

WORDS, CHARACTERS, BETA = 2, 6, 2
"""The longest n-grams of chrF++, in words and in characters, and the weight of recall."""


def check_tokenizer(tokenize: BleuTokenizer, setting: str = "task.bleu_tokenize") -> None:
    """Raises UserError if BLEU's tokenizer needs a package that isn't installed. Fast."""
    extra, modules = EXTRAS.get(tokenize, ("", ()))
    if any(importlib.util.find_spec(module) is None for module in modules):
        raise UserError(
            f"{setting}={tokenize} needs more packages: pip install '.[{extra}]', or use char"
        )


def translation_scores(
    hypotheses: Sequence[str | bytes],
    references: Sequence[Sequence[str | bytes]],
    *,
    tokenize: BleuTokenizer = "13a",
    lowercase: bool = False,
    measured: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Score]:
    """Scores by name, in the order of TRANSLATION.

    references  one or several for each of the N texts.
    measured    arrays for `likelihoods`; without them there is no perplexity or token accuracy.
    """
    texts, right = as_texts(hypotheses), [as_texts(several) for several in references]
    bleu, chrf, ter = _metrics(tokenize, lowercase)
    statistics: list[tuple[Metric, Any, Statistics, Callable[[np.ndarray], np.ndarray]]] = [
        (BLEU, bleu, lambda: _bleu_statistics(tokenize, lowercase, texts, right), bleu_from_sums),
        (CHRF, chrf, lambda: _chrf_statistics(chrf, texts, right), _chrf_from_sums),
        (TER, ter, lambda: _ter_statistics(ter, texts, right), _ter_from_sums),
    ]
    scores = [
        Score(
            metric,
            score_of_sums(functools.cache(compute), from_sums),
            _signature(library_metric, right),
        )
        for metric, library_metric, compute, from_sums in statistics
    ]
    scores.append(exact_match(texts, right, lowercase))
    return by_name([*scores, *likelihoods(measured or {})])


def sentence_chrf(
    hypotheses: Sequence[str | bytes],
    references: Sequence[Sequence[str | bytes]],
    *,
    lowercase: bool = False,
) -> np.ndarray:
    """chrF++ of each text by itself (N,), 0 to 100."""
    texts, right = as_texts(hypotheses), [as_texts(several) for several in references]
    _, metric, _ = _metrics("13a", lowercase)
    return _chrf_from_sums(_chrf_statistics(metric, texts, right))


def bleu_statistics(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Statistics for `bleu_from_sums`: (N, 10) of N texts with a space between words.

    Columns are the lengths of text and closest reference in words, then for n = 1 to ORDER the
    matching n-grams, then all n-grams of the text.
    """
    return _bleu_statistics("none", False, texts, references)


def _metrics(tokenize: BleuTokenizer, lowercase: bool) -> tuple[Any, Any, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    # Otherwise TER would take a sentence without spaces for one word.
    spaceless = tokenize not in ("13a", "intl")
    return (
        # `force` suppresses the warning about references that look tokenised.
        BLEU(tokenize=tokenize, lowercase=lowercase, max_ngram_order=ORDER, force=True),
        CHRF(char_order=CHARACTERS, word_order=WORDS, beta=BETA, lowercase=lowercase),
        TER(normalized=spaceless, asian_support=spaceless),
    )


def _signature(metric: Any, references: Sequence[Sequence[str]]) -> str:
    """SacreBLEU's signature: "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"."""
    counts = {len(several) for several in references}
    metric.num_refs = counts.pop() if len(counts) == 1 else -1
    return str(metric.get_signature())


def _bleu_statistics(
    tokenize: str, lowercase: bool, texts: Sequence[str], references: Sequence[Sequence[str]]
) -> np.ndarray:
    """(N, 10), as `bleu_statistics` says."""
    from sacrebleu.metrics.bleu import BLEU

    # With effective_order it doesn't warn of BLEU on single sentences; counts stay the same.
    metric = BLEU(
        tokenize=tokenize,
        lowercase=lowercase,
        max_ngram_order=ORDER,
        force=True,
        effective_order=True,
    )
    scores = (
        metric.sentence_score(text, several)
        for text, several in zip(texts, references, strict=True)
    )
    rows = [(score.sys_len, score.ref_len, *score.counts, *score.totals) for score in scores]
    return np.array(rows, float).reshape(-1, 2 + 2 * ORDER)


def _chrf_statistics(
    metric: Any, texts: Sequence[str], references: Sequence[Sequence[str]]
) -> np.ndarray:
    """(N, 3 x orders): n-grams of the text, of its best reference, and common to both, by order."""
    # A private name, which tests/test_upstream.py guards: chrF's scores don't hold their counts.
    return np.array(metric._extract_corpus_statistics(texts, list(zip_longest(*references))), float)


def _ter_statistics(
    metric: Any, texts: Sequence[str], references: Sequence[Sequence[str]]
) -> np.ndarray:
    """(N, 2): the edits to the closest reference, and the mean length of the references.

    All NaN if the computation would take very long.
    """

    def split(text: str) -> list[str]:
        return metric.tokenizer(text.rstrip()).split()

    pairs = [
        (split(text), [split(reference) for reference in several])
        for text, several in zip(texts, references, strict=True)
    ]
    cells = sum(len(text) * len(reference) for text, several in pairs for reference in several)
    if cells > MAX_TER_CELLS:
        log.info("ter is left out: with so many and so long texts it would take very long")
        return np.full((len(texts), 2), np.nan)
    return np.array(
        [
            (
                min(count_edits(text, reference) for reference in several),
                np.mean([len(reference) for reference in several]),
            )
            for text, several in pairs
        ]
    )


def bleu_from_sums(sums: np.ndarray, order: int = ORDER, *, smooth: bool = True) -> np.ndarray:
    """Sums of `bleu_statistics` (R, 10) to BLEU (R,), 0 to 100, as sacreBLEU computes it.

    order   the longest n-grams that count.
    smooth  whether an order without a match counts as a half, a quarter, ... of one match, as in
            mteval-v13a ("exp"); otherwise the score is 0.
    """
    length, reference_length = sums[:, 0], sums[:, 1]
    matches, totals = sums[:, 2 : 2 + order], sums[:, 2 + ORDER : 2 + ORDER + order]
    halvings = np.cumsum((matches == 0) & (totals > 0), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = np.where(matches > 0, matches, 0.5**halvings) / totals
        brevity = np.exp(np.minimum(0, 1 - reference_length / length))
        score = 100 * brevity * np.exp(np.log(precisions).mean(1))
    equals_a_reference = (matches > 0).any(1) if smooth else (matches > 0).all(1)
    return np.where(equals_a_reference & (totals > 0).all(1) & (length > 0), score, 0.0)


def _chrf_from_sums(sums: np.ndarray) -> np.ndarray:
    """Sums of `_chrf_statistics` to chrF++ (R,), 0 to 100, as sacreBLEU computes it.

    Precision and recall are means over the orders that both sides have.
    """
    text, reference, common = (sums[:, part::3] for part in range(3))
    used = (text > 0) & (reference > 0)
    orders = np.maximum(used.sum(1), 1)
    precision = (used * common / np.maximum(text, 1)).sum(1) / orders
    recall = (used * common / np.maximum(reference, 1)).sum(1) / orders
    denominator = BETA**2 * precision + recall
    return 100 * (1 + BETA**2) * precision * recall / np.where(denominator > 0, denominator, 1)


def _ter_from_sums(sums: np.ndarray) -> np.ndarray:
    """Sums of `_ter_statistics` to TER (R,), in percent, as sacreBLEU computes it."""
    edits, length = sums[:, 0], sums[:, 1]
    return 100 * np.where(length > 0, edits / np.where(length > 0, length, 1), np.sign(edits))
