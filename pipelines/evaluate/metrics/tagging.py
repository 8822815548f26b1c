"""Scores of tags: of words, and of the entities that tags in BIO mark.

An entity is right if its first word, its last word and its type are (Tjong Kim Sang & De Meulder
2003). Two rules are about tags that no scheme allows, such as an I-PER after an O: conlleval takes
it for a beginning, strict scores as seqeval's mode="strict" take it for nothing. What a model here
answers is always allowed, so that they differ only where the data breaks its scheme.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipelines.core.scores import Metric, Score, by_name
from pipelines.data.codecs.tag_schemes import Entity, entities
from pipelines.evaluate.metrics.generation import ScoreFunction, ratio, score_of_sums

ACCURACY = Metric("accuracy", "accuracy of words", scale=1)
KNOWN = Metric("accuracy_known", "accuracy of known words", scale=1)
UNKNOWN = Metric("accuracy_unknown", "accuracy of unknown words", scale=1)
SENTENCES = Metric("sentence_accuracy", "sentences without a mistake", scale=1)
F1 = Metric("entity_f1", "entity F1", scale=1)
PRECISION = Metric("entity_precision", "entity precision", scale=1)
RECALL = Metric("entity_recall", "entity recall", scale=1)
STRICT_F1 = Metric("entity_f1_strict", "entity F1, strict", scale=1)
MACRO_F1 = Metric("entity_f1_macro", "entity F1, mean of types", scale=1)
PARTIAL_F1 = Metric("entity_f1_partial", "entity F1, overlaps half right", scale=1)

ENTITIES = (F1, PRECISION, RECALL, STRICT_F1, MACRO_F1, PARTIAL_F1)
WORDS = (ACCURACY, KNOWN, UNKNOWN, SENTENCES)


def tagging_scores(
    predicted: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    unknown: Sequence[np.ndarray] | None = None,
    *,
    of_entities: bool,
) -> dict[str, Score]:
    """Scores by name, in the order of ENTITIES and WORDS.

    predicted, references  the tags of N sentences, of the same lengths; entities in BIO.
    unknown                of each sentence (T,) bool: words that training didn't have.
    of_entities            whether tags mark entities.
    """
    scores = _entity_scores(predicted, references) if of_entities else []
    pairs = list(zip(predicted, references, strict=True))
    right = [
        np.array([one == other for one, other in zip(*pair, strict=True)], bool) for pair in pairs
    ]
    sizes = np.array([len(one) for one in right], float)
    hits = np.array([one.sum() for one in right], float)
    scores.append(Score(ACCURACY, ratio(hits, sizes), "share of words whose tag is right"))
    if unknown is not None:
        for metric, wanted in ((KNOWN, False), (UNKNOWN, True)):
            here = [np.asarray(one, bool) == wanted for one in unknown]
            numbers = np.array([one.sum() for one in here], float)
            found = np.array([(a & b).sum() for a, b in zip(right, here, strict=True)], float)
            kind = "no" if wanted else "the"
            signature = f"the same of words that {kind} training vocabulary has"
            scores.append(Score(metric, ratio(found, numbers), signature))
    whole = np.array([one.all() for one in right], float)
    signature = "share of sentences whose tags are all right"
    scores.append(Score(SENTENCES, ratio(whole, np.ones(len(whole))), signature))
    return by_name(scores)


class EntityCounts:
    """Of N sentences, numbers of entities (N, types) that are there, answered, and right.

    types    in alphabetical order.
    partial  (N,): of the answered ones of the right type that only overlap.
    """

    def __init__(
        self,
        predicted: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]],
        *,
        strict: bool = False,
    ):
        pairs = [
            (entities(one, strict=strict), entities(other, strict=strict))
            for one, other in zip(predicted, references, strict=True)
        ]
        self.types = sorted({entity.type for pair in pairs for part in pair for entity in part})
        place = {kind: number for number, kind in enumerate(self.types)}
        shape = (len(pairs), len(self.types))
        self.there, self.answered, self.right = (np.zeros(shape) for _ in range(3))
        self.partial = np.zeros(len(pairs))
        for row, (answered, there) in enumerate(pairs):
            same = Counter(answered) & Counter(there)
            for counts, found in (
                (self.there, there), (self.answered, answered), (self.right, same.elements())
            ):  # fmt: skip
                for entity in found:
                    counts[row, place[entity.type]] += 1
            rest = [entity for entity in there if entity not in same]
            self.partial[row] = sum(
                any(_overlap(one, other) for other in rest) for one in answered if one not in same
            )


def _overlap(one: Entity, other: Entity) -> bool:
    return one.type == other.type and one.start < other.stop and other.start < one.stop


def f1(right: np.ndarray, there: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """2 right / (there + answered), of arrays; NaN where nothing is there nor answered."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(there + answered > 0, 2 * right / (there + answered), np.nan)


def _entity_scores(
    predicted: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> list[Score]:
    counts = EntityCounts(predicted, references)
    strict = EntityCounts(predicted, references, strict=True)
    right, there, answered = (part.sum(1) for part in (counts.right, counts.there, counts.answered))
    by_rule = "first and last word and type are right, micro average over types, "
    conlleval = by_rule + "an I- that continues nothing begins an entity (conlleval)"
    return [
        Score(F1, _f1_of(counts), f"F1 of entities: {conlleval}"),
        Score(PRECISION, ratio(right, answered), f"share of answered entities: {conlleval}"),
        Score(RECALL, ratio(right, there), f"share of entities that are there: {conlleval}"),
        Score(
            STRICT_F1,
            _f1_of(strict),
            f"F1 of entities: {by_rule}an I- that continues nothing counts as none (seqeval, "
            "strict)",
        ),
        Score(MACRO_F1, _macro_f1(counts), "F1 of entities of each type, mean over types"),
        Score(
            PARTIAL_F1,
            _partial_f1(counts),
            "F1 of entities, where an answer that overlaps one of its type counts half (SemEval "
            "2013, task 9.1, partial)",
        ),
    ]


def _f1_of(counts: EntityCounts) -> ScoreFunction:
    sums = np.stack([part.sum(1) for part in (counts.right, counts.there, counts.answered)], 1)
    return score_of_sums(lambda: sums, lambda totals: f1(*totals.T))


def _macro_f1(counts: EntityCounts) -> ScoreFunction:
    kinds = len(counts.types)
    sums = np.concatenate([counts.right, counts.there, counts.answered], 1)

    def mean(totals: np.ndarray) -> np.ndarray:
        parts = (totals[:, place * kinds : (place + 1) * kinds] for place in range(3))
        values = f1(*parts)
        present = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            means: np.ndarray = np.where(present, values, 0).sum(1) / present.sum(1)
        return means

    return score_of_sums(lambda: sums, mean)


def _partial_f1(counts: EntityCounts) -> ScoreFunction:
    right = counts.right.sum(1) + counts.partial / 2
    sums = np.stack([right, counts.there.sum(1), counts.answered.sum(1)], 1)
    return score_of_sums(lambda: sums, lambda totals: f1(*totals.T))
