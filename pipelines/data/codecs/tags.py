"""Tags of words <-> numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import NonNegativeInt

from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.errors import UserError, shown
from pipelines.core.saved_files import typed
from pipelines.core.types import JsonObject, RawColumn, Value
from pipelines.data.codecs.restoring import check_same_settings
from pipelines.data.codecs.tag_schemes import (
    OUTSIDE,
    allowed_tags,
    detect_scheme,
    is_entity_tag,
    split_tag,
)

if TYPE_CHECKING:
    import tensorflow as tf

MOST_TAGS = 2000
"""A column with more different values hardly holds tags."""

SEPARATOR = "\t"
"""Between the tags of a sentence that are kept as one text."""

UNKNOWN_TAG = 0
"""Also of padding; the tags of the training data are numbered from 1."""


@dataclass(frozen=True)
class _State:
    column: str
    scheme: str
    names: list[str]
    counts: list[NonNegativeInt]
    has_entities: bool


class TagCodec(FieldCodec):
    """Lists of tags, one for each word. Entities come in BIO and are learnt in `scheme`.

    bioes tells single words and last words from others, which a model learns better (Ratinov & Roth
    2009). An I- that continues nothing begins an entity, so that what is learnt is allowed.
    """

    raw = FieldSpec((None,), "string")

    def __init__(self, column: str, scheme: Literal["bio", "bioes"]):
        self.column, self.scheme = column, scheme
        self.names: tuple[str, ...] = ()
        self.counts: tuple[int, ...] = ()
        self._has_entities = False

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        """UserError unless there are at least 2 tags, and not more than MOST_TAGS."""
        import tensorflow as tf

        counts: Counter[tuple[str, str]] = Counter()
        plain: set[str] = set()
        for batch in batches:
            for tags in batch:
                plain.update(tags)
            values = tf.ragged.constant([list(tags) for tags in batch], tf.string, ragged_rank=1)
            made = self._to_scheme(values).flat_values.numpy().tolist()
            raw = values.flat_values.numpy().tolist()
            pairs = zip(raw, made, strict=True)
            counts.update((one.decode(), other.decode()) for one, other in pairs)
            if len(plain) > MOST_TAGS:
                break
        self._has_entities = detect_scheme([sorted(plain)]) != "none"
        learnt: Counter[str] = Counter()
        for (one, other), number in counts.items():
            learnt[other if self._has_entities else one] += number
        self._check(learnt)
        # The commonest first, of which most of a text is; the same data gives the same numbers.
        self.names = tuple(sorted(learnt, key=lambda tag: (-learnt[tag], tag)))
        self.counts = tuple(learnt[name] for name in self.names)

    def _check(self, tags: Counter[str]) -> None:
        examples = ", ".join(shown(tag) for tag in list(tags)[:5])
        if len(tags) < 2:
            raise UserError(
                f"a tagger needs at least two tags; column {self.column!r} has only "
                f"{examples or 'none'}: is it the right column?"
            )
        if spoilt := [tag for tag in tags if SEPARATOR in tag]:
            raise UserError(
                f"column {self.column!r}: a tag must have no tab in it; {shown(spoilt[0])} has one"
            )
        if len(tags) > MOST_TAGS:
            raise UserError(
                f"column {self.column!r} has more than {MOST_TAGS:,} different tags ({examples}, "
                "...): is it the right column?"
            )

    def encode(self, values: RawColumn) -> tf.RaggedTensor:
        """Ragged (B, T) text to (B, T) int32.

        A tag that training lacks is UNKNOWN_TAG: it can't be answered, and counts as wrong.
        """
        import tensorflow as tf

        if self._has_entities:
            values = self._to_scheme(values)
        flat = values.flat_values
        # Comparing with each tag needs no table, which a SavedModel would have to track.
        same = tf.equal(flat[:, None], tf.constant(self.names)[None, :])
        found = tf.argmax(same, axis=1, output_type=tf.int32) + 1
        return values.with_flat_values(tf.where(tf.reduce_any(same, axis=1), found, UNKNOWN_TAG))

    def _to_scheme(self, values: tf.RaggedTensor) -> tf.RaggedTensor:
        """BIO to the scheme that is learnt."""
        import tensorflow as tf

        flat = values.flat_values
        letter, kind = tf.strings.substr(flat, 0, 1), tf.strings.regex_replace(flat, "^.-", "")
        first = tf.scatter_nd(
            tf.boolean_mask(values.row_starts(), values.row_lengths() > 0)[:, None],
            tf.ones([tf.math.count_nonzero(values.row_lengths())], tf.int32),
            tf.shape(flat, tf.int64),
        )
        outside = letter == OUTSIDE
        # Of the word before; what rolls round to the first of a row doesn't count.
        same = (tf.roll(kind, 1, 0) == kind) & ~tf.roll(outside, 1, 0) & (first == 0)
        continues = (letter == "I") & same
        goes_on = tf.roll(continues, -1, 0) & (tf.roll(first, -1, 0) == 0)
        if self.scheme == "bio":
            letters = tf.where(continues, "I", "B")
        else:
            inside = tf.where(goes_on, "I", "E")
            letters = tf.where(continues, inside, tf.where(goes_on, "B", "S"))
        made = tf.strings.join([letters, kind], "-")
        return values.with_flat_values(tf.where(outside, OUTSIDE, made))

    @property
    def has_entities(self) -> bool:
        """Whether tags say where entities begin and end; otherwise each stands for itself."""
        return self._has_entities

    @property
    def bio_names(self) -> tuple[str, ...]:
        """The tags in BIO, by number less 1; plain ones as they are."""
        if not self._has_entities:
            return self.names
        letters = {"S": "B", "E": "I"}
        parts = [(name, *split_tag(name)) for name in self.names]
        return tuple(
            name if letter == OUTSIDE else f"{letters.get(letter, letter)}-{kind}"
            for name, letter, kind in parts
        )

    @property
    def allowed(
        self,
    ) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[int, ...]]:
        """As models' AllowedTags."""
        return allowed_tags(self.names if self._has_entities else [""] * len(self.names))

    @property
    def borders(self) -> tuple[np.ndarray, np.ndarray]:
        """Tags that begin an entity (K,) bool; which (column) continue one after which (row)."""
        parts = [split_tag(name) for name in self.names]
        begins = np.array([letter in ("B", "S") for letter, _ in parts])
        continues = [
            [letter in ("B", "I") and other in ("I", "E") and kind == same for other, same in parts]
            for letter, kind in parts
        ]
        return begins, np.array(continues)

    def text(self, numbers: tf.Tensor) -> tf.Tensor:
        """Graph code: (B, T) numbers, 0 behind the end, to (B,) tags in BIO with SEPARATOR."""
        import tensorflow as tf

        names = tf.gather(tf.constant(["", *self.bio_names]), numbers)
        real = tf.ragged.boolean_mask(names, numbers != UNKNOWN_TAG)
        return tf.strings.reduce_join(real, axis=1, separator=SEPARATOR)

    def decode(self, numbers: np.ndarray) -> list[str]:
        names = ("", *self.bio_names)
        return [names[number] for number in np.asarray(numbers).tolist()]

    @property
    def field(self) -> FieldSpec:
        return FieldSpec((None,), "int32")

    @property
    def size(self) -> int:
        """Tags, and UNKNOWN_TAG."""
        return len(self.names) + 1

    def state(self) -> JsonObject:
        return {
            "column": self.column,
            "scheme": self.scheme,
            "names": list(self.names),
            "counts": list(self.counts),
            "has_entities": self._has_entities,
        }

    def restore(self, state: JsonObject) -> None:
        """UserError if the state was learnt with another scheme."""
        saved = typed(_State, state)
        check_same_settings("tags learnt", state, {"scheme": self.scheme})
        if not 2 <= len(saved.names) == len(set(saved.names)) == len(saved.counts):
            raise ValueError("each tag must be there once, with its count")
        if saved.has_entities and not all(map(is_entity_tag, saved.names)):
            raise ValueError("a tag of entities must be O, or a letter, a hyphen and a type")
        self.names, self.counts = tuple(saved.names), tuple(saved.counts)
        self._has_entities = saved.has_entities

    def summary(self) -> JsonObject:
        """classes: training words by tag."""
        return {"classes": dict(zip(self.names, self.counts, strict=True))}
