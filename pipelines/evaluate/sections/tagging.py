"""A tagger in the report: what it takes for what, sentences from right to wrong, odd labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipelines.core.formatting import number
from pipelines.core.sections import Passage, Passages, Section, Table
from pipelines.data.codecs.tag_schemes import OUTSIDE, split_tag
from pipelines.evaluate.metrics.tagging import EntityCounts
from pipelines.evaluate.sections.classification import (
    MAX_CLASSES_DRAWN,
    by_class_table,
    confusion_figure,
    confusions_table,
)

EXAMPLES = 10
"""Sentences that are shown."""

MOST_WORDS = 60
"""Of a sentence that are shown."""

SUSPECTS, SURE = 12, 0.9
"""Labels that are shown as perhaps wrong, where another has at least this probability."""

AROUND = 4
"""Words on each side of one that is shown."""


class TaggedSentences(NamedTuple):
    """N sentences: words, the tags of the data and the answered ones, in BIO, and the probability
    of each answered tag.
    """

    words: Sequence[Sequence[str]]
    references: Sequence[Sequence[str]]
    predicted: Sequence[Sequence[str]]
    probability: Sequence[np.ndarray]


def tagging_sections(tagged: TaggedSentences, *, of_entities: bool) -> list[Section]:
    """Scores by type, confusions, sentences from right to wrong, and labels that may be wrong."""
    sections: list[Section] = []
    if of_entities:
        sections.append(by_type_table(EntityCounts(tagged.predicted, tagged.references)))
    counts, names = confusion_of_tags(tagged, of_entities=of_entities)
    if len(names) <= MAX_CLASSES_DRAWN:
        sections.append(confusion_figure(counts, names))
    sections.append(confusions_table(counts, names))
    if not of_entities:
        sections.append(by_class_table(counts, names))
    sections.append(sentences_from_right_to_wrong(tagged))
    suspects = suspects_table(tagged)
    return [*sections, suspects] if suspects.rows else sections


def by_type_table(counts: EntityCounts) -> Table:
    """The most frequent types first."""
    there, answered, right = (
        part.sum(0).astype(int) for part in (counts.there, counts.answered, counts.right)
    )
    rows = [
        (
            counts.types[place],
            int(there[place]),
            _ratio(right[place], answered[place]),
            _ratio(right[place], there[place]),
            _ratio(2 * right[place], there[place] + answered[place]),
        )
        for place in np.argsort(-there, kind="stable")
    ]
    header = ("type", "entities", "precision", "recall", "F1")
    return Table("By type of entity", header, rows)


def confusion_of_tags(
    tagged: TaggedSentences, *, of_entities: bool
) -> tuple[np.ndarray, list[str]]:
    """Counts (C, C) of words, rows the data's, columns answered; names, from frequent to rare.

    Of entities only types count, not where they begin.
    """

    def name(tag: str) -> str:
        return split_tag(tag)[1] if of_entities and tag != OUTSIDE else tag

    pairs: Counter[tuple[str, str]] = Counter()
    for references, predicted in zip(tagged.references, tagged.predicted, strict=True):
        pairs.update((name(a), name(b)) for a, b in zip(references, predicted, strict=True))
    often: Counter[str] = Counter()
    for (reference, answer), count in pairs.items():
        often[reference] += count
        often[answer] += 0
    names = sorted(often, key=lambda one: (-often[one], one))
    place = {one: position for position, one in enumerate(names)}
    counts = np.zeros((len(names), len(names)), int)
    for (reference, answer), count in pairs.items():
        counts[place[reference], place[answer]] = count
    return counts, names


def sentences_from_right_to_wrong(tagged: TaggedSentences) -> Passages:
    """Sentences by falling share of right words, evenly over all; wrong words are marked."""
    usual = _usual_tag(tagged.references)
    right = [
        np.array([one == other for one, other in zip(*pair, strict=True)])
        for pair in zip(tagged.references, tagged.predicted, strict=True)
    ]
    shares = np.array([one.mean() if len(one) else 1.0 for one in right])
    order = np.argsort(-shares, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).astype(int)]
    items = []
    for row in rows.tolist():
        parts = [
            _part(word, reference, answer, usual)
            for word, reference, answer in list(
                zip(tagged.words[row], tagged.references[row], tagged.predicted[row], strict=True)
            )[:MOST_WORDS]
        ]
        wrong = int((~right[row]).sum())
        items.append(Passage(f"{wrong} of {len(right[row])} words are wrong", parts))
    but = f" but {usual}, which most words have" if usual else ""
    caption = f"Each word with its tag{but}; where it is wrong, the data's tag is in brackets."
    title = "Sentences from right to wrong"
    return Passages(title, items, caption, above_zero="is right", below_zero="is wrong")


def _usual_tag(references: Sequence[Sequence[str]]) -> str:
    """The tag of more than half of the words, such as O; "" if there is none."""
    counts = Counter(tag for tags in references for tag in tags)
    tag, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return tag if count > counts.total() / 2 else ""


def _part(word: str, reference: str, answer: str, usual: str) -> tuple[str, float]:
    shown = word if answer == usual else f"{word}/{answer}"
    if reference == answer:
        return f"{shown} ", 0.0 if answer == usual else 0.35
    return f"{shown} [{reference}] ", -0.9


def suspects_table(tagged: TaggedSentences) -> Table:
    """Words whose tag the model is surest that it is another."""
    found = []
    for row, (references, predicted) in enumerate(
        zip(tagged.references, tagged.predicted, strict=True)
    ):
        for place, (reference, answer) in enumerate(zip(references, predicted, strict=True)):
            probability = float(tagged.probability[row][place])
            if reference != answer and probability >= SURE:
                found.append((-probability, row, place))
    rows = [
        (
            _in_context(tagged.words[row], place),
            tagged.references[row][place],
            tagged.predicted[row][place],
            number(-negative),
        )
        for negative, row, place in sorted(found)[:SUSPECTS]
    ]
    caption = (
        f"{len(found):,} words whose tag the model takes for another with a probability of at "
        f"least {SURE}; the surest first. Some of the data's tags may be errors."
    )
    header = ("word", "tag in the data", "answer", "probability")
    return Table("Tags that may be wrong in the data", header, rows, caption)


def _in_context(words: Sequence[str], place: int) -> str:
    before = " ".join(words[max(place - AROUND, 0) : place])
    after = " ".join(words[place + 1 : place + 1 + AROUND])
    left = "… " if place > AROUND else ""
    right = " …" if place + 1 + AROUND < len(words) else ""
    return f"{left}{before} »{words[place]}« {after}{right}".strip()


def _ratio(part: float, whole: float) -> str:
    return number(part / whole) if whole else "–"
