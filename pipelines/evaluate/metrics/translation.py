"""Scores of texts against one or several reference texts each, as in translation and captioning.

BLEU (Papineni et al. 2002), chrF++ (Popović 2017) and TER (Snover et al. 2006) are sacreBLEU's
(Post 2018): the statistics of each text are, their sum over a resample is a matrix product, and
what makes a score of such sums is here, for all resamples at once. Statistics are made when they
are first asked for.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Mapping, Sequence
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
    weighted,
)
from pipelines.evaluate.metrics.ter import edits

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

MOST_CELLS = 10_000_000
"""Products of lengths in words, summed over the texts, for which TER takes about a minute."""

ORDER = 4
WORDS, CHARACTERS, BETA = 2, 6, 2


def check_tokenizer(tokenize: BleuTokenizer, setting: str = "task.bleu_tokenize") -> None:
    """Raises UserError if BLEU's tokenizer needs what isn't installed. Fast."""
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
    """By name, in the order of TRANSLATION.

    references  one or several for each of the N texts.
    measured    what was found with the references at hand, as `texts.likelihoods` needs it. Where
                it is lacking, so are perplexity and token accuracy.
    """
    texts, right = as_texts(hypotheses), [as_texts(given) for given in references]
    bleu, chrf, ter = _metrics(tokenize, lowercase)
    streams = list(zip_longest(*right))
    scores = [
        Score(BLEU, weighted(_statistics(bleu, texts, streams), bleu_of), _signature(bleu, right)),
        Score(
            CHRF,
            weighted(_statistics(chrf, texts, streams), _chrf),
            _signature(chrf, right),
        ),
        Score(
            TER,
            weighted(functools.cache(lambda: _edits(ter, texts, right)), _ter),
            _signature(ter, right),
        ),
        exact_match(texts, right, lowercase),
    ]
    return by_name([*scores, *likelihoods(measured or {})])


def sentence_chrf(
    hypotheses: Sequence[str | bytes],
    references: Sequence[Sequence[str | bytes]],
    *,
    lowercase: bool = False,
) -> np.ndarray:
    """chrF++ of each text alone (N,), 0 to 100."""
    texts, right = as_texts(hypotheses), [as_texts(given) for given in references]
    _, metric, _ = _metrics("13a", lowercase)
    return _chrf(_statistics(metric, texts, list(zip_longest(*right)))())


def bleu_statistics(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """What `bleu_of` needs the sums of, of N texts whose words stand between spaces: (N, 10)."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize="none", max_ngram_order=ORDER, force=True)
    return _statistics(metric, texts, list(zip_longest(*references)))()


def _metrics(tokenize: BleuTokenizer, lowercase: bool) -> tuple[Any, Any, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    # Without spaces a sentence would be one word to TER.
    spaceless = tokenize not in ("13a", "intl")
    return (
        # Forced: no warning at every evaluation that a reference looks tokenised.
        BLEU(tokenize=tokenize, lowercase=lowercase, max_ngram_order=ORDER, force=True),
        CHRF(char_order=CHARACTERS, word_order=WORDS, beta=BETA, lowercase=lowercase),
        TER(normalized=spaceless, asian_support=spaceless),
    )


def _signature(metric: Any, references: Sequence[Sequence[str]]) -> str:
    """As sacreBLEU says it: "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"."""
    counts = {len(given) for given in references}
    metric.num_refs = counts.pop() if len(counts) == 1 else -1
    return str(metric.get_signature())


def _statistics(
    metric: Any, texts: Sequence[str], streams: Sequence[Sequence[str | None]]
) -> Statistics:
    """What sacreBLEU adds up over texts, (N, ...); made once, when it is first asked for."""

    @functools.cache
    def made() -> np.ndarray:
        return np.array(metric._extract_corpus_statistics(texts, streams), float)

    return made


def _edits(metric: Any, texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """The least edits to any reference, and the mean length of the references (N, 2).

    NaN throughout where that would take very long.
    """
    split = functools.partial(_words, metric)
    said = [split(text) for text in texts]
    right = [[split(text) for text in given] for given in references]
    cells = sum(len(a) * len(b) for a, given in zip(said, right, strict=True) for b in given)
    if cells > MOST_CELLS:
        log.info("ter is left out: with texts this many and this long it would take very long")
        return np.full((len(texts), 2), np.nan)
    return np.array(
        [
            (min(edits(a, b) for b in given), np.mean([len(b) for b in given]))
            for a, given in zip(said, right, strict=True)
        ]
    )


def _words(metric: Any, text: str) -> list[str]:
    return metric._preprocess_segment(text).split()


def bleu_of(sums: np.ndarray, order: int = ORDER, *, smooth: bool = True) -> np.ndarray:
    """(R, 2 + 8) lengths, matches and totals to BLEU (R,); as sacrebleu's BLEU.compute_bleu.

    order   the longest n-grams that count.
    smooth  orders without a match as mteval-v13a does ("exp"); otherwise such texts score 0.
    """
    said, right = sums[:, 0], sums[:, 1]
    matches, totals = sums[:, 2 : 2 + order], sums[:, 2 + ORDER : 2 + ORDER + order]
    halvings = np.cumsum((matches == 0) & (totals > 0), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = np.where(matches > 0, matches, 0.5**halvings) / totals
        brevity = np.exp(np.minimum(0, 1 - right / said))
        score = 100 * brevity * np.exp(np.log(precisions).mean(1))
    matched = (matches > 0).any(1) if smooth else (matches > 0).all(1)
    return np.where(matched & (totals > 0).all(1) & (said > 0), score, 0.0)


def _chrf(sums: np.ndarray) -> np.ndarray:
    """(R, 3 x orders) said, right and common n-grams to chrF (R,); as sacrebleu's CHRF.

    Precision and recall are means over the orders that both sides have.
    """
    said, right, common = (sums[:, part::3] for part in range(3))
    used = (said > 0) & (right > 0)
    orders = np.maximum(used.sum(1), 1)
    precision = (used * common / np.maximum(said, 1)).sum(1) / orders
    recall = (used * common / np.maximum(right, 1)).sum(1) / orders
    weighed = BETA**2 * precision + recall
    return 100 * (1 + BETA**2) * precision * recall / np.where(weighed > 0, weighed, 1)


def _ter(sums: np.ndarray) -> np.ndarray:
    """(R, 2) edits and lengths of references to TER (R,); as sacrebleu's TER."""
    made, right = sums[:, 0], sums[:, 1]
    return 100 * np.where(right > 0, made / np.where(right > 0, right, 1), np.sign(made))
