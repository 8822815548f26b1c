"""What the report shows of a tagger."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from pipelines.core.sections import Figure, Passages, Table
from pipelines.evaluate.sections.tagging import (
    TaggedSentences,
    confusion_of_tags,
    sentences_from_right_to_wrong,
    suspects_table,
    tagging_sections,
)

TAGGED = TaggedSentences(
    words=[["Ada", "ran"], ["Grace", "saw", "Rome"]],
    references=[["B-PER", "O"], ["B-PER", "O", "B-LOC"]],
    predicted=[["B-PER", "O"], ["B-LOC", "I-LOC", "B-LOC"]],
    probability=[np.array([1.0, 0.9, 0]), np.array([0.95, 0.6, 0.8])],
)


def test_types_are_confused_wherever_their_entities_begin() -> None:
    counts, names = confusion_of_tags(TAGGED, of_entities=True)
    assert names == ["O", "PER", "LOC"]
    assert counts.tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 1]]


def test_labels_are_confused_as_they_are() -> None:
    _, names = confusion_of_tags(TAGGED, of_entities=False)
    assert names == ["B-PER", "O", "B-LOC", "I-LOC"]


def test_what_the_model_is_sure_of_may_be_wrong_in_the_data() -> None:
    assert list(suspects_table(TAGGED).rows) == [("»Grace« saw Rome", "B-PER", "B-LOC", "0.950")]


@pytest.mark.parametrize("of_entities", [True, False])
def test_all_sections_are_drawn(of_entities: bool) -> None:
    sections = tagging_sections(TAGGED, of_entities=of_entities)
    kinds = {type(section) for section in sections}
    assert kinds == {Figure, Table, Passages}
    figure = Canvas()
    for section in sections:
        if isinstance(section, Figure):
            section.draw(figure.add_subplot())


def test_wrong_words_are_told_with_the_tag_in_the_data() -> None:
    (passages,) = (
        section
        for section in tagging_sections(TAGGED, of_entities=True)
        if isinstance(section, Passages)
    )
    # No tag is that of more than half of the words, so that all are told.
    assert passages.items[0].parts == [("Ada/B-PER ", 0.35), ("ran/O ", 0.35)]
    assert passages.items[1].about == "2 of 3 words are wrong"
    assert passages.items[1].parts[0] == ("Grace/B-LOC [B-PER] ", -0.9)


def test_the_tag_of_most_words_goes_without_saying() -> None:
    tagged = TaggedSentences(
        [["Ada", "ran", "far", "."]], [["B-PER", "O", "O", "O"]], [["O", "O", "B-LOC", "O"]],
        [np.ones(4)],
    )  # fmt: skip
    assert sentences_from_right_to_wrong(tagged).items[0].parts == [
        ("Ada [B-PER] ", -0.9), ("ran ", 0.0), ("far/B-LOC [O] ", -0.9), (". ", 0.0),
    ]  # fmt: skip
