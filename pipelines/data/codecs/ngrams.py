"""The n-grams that a text holds, as a set of ids."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.settings import NgramSettings
from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.saved_files import typed
from pipelines.core.types import JsonObject, RawColumn, Value
from pipelines.data.codecs.key_search import find_ids
from pipelines.data.codecs.restoring import check_same_settings
from pipelines.data.codecs.text import TextCodec
from pipelines.data.codecs.tokenizers import raw_texts
from pipelines.runs.parallel import map_in_order

if TYPE_CHECKING:
    import tensorflow as tf
    from scipy import sparse

NONE = 0
"""The id of no n-gram: padding, and the only one of a text without known n-grams."""

FACTOR = 0x2545F4914F6CDD1D
"""The odd multiplier of the generator xorshift64* (Vigna 2016)."""

BUFFER, MOST_COUNTED = 4_000_000, 16_000_000
"""Keys that are counted at once, and different ones that are kept while counting."""


@dataclass(frozen=True)
class _State:
    keys: str


class NgramCodec(FieldCodec):
    """Ids in rising order, each n-gram of a text once: from 1, the most frequent first.

    An n-gram is 1 to `order` neighbouring tokens of the whole text, however long: the text codec's
    max_tokens doesn't apply. It is known by a 64-bit key made of the tokens' ids; of a million
    n-grams two share a key once in thirty million vocabularies.

    text  codec of the same column, which must be fitted, or restored, first.
    """

    def __init__(self, column: str, settings: NgramSettings, text: TextCodec):
        self.column, self.settings, self.text = column, settings, text
        self.raw = text.raw
        self._keys: np.ndarray | None = None

    # Counting

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        """Keeps the n-grams that the most training texts hold.

        Of more than MOST_COUNTED different ones those seen once so far are forgotten (lossy
        counting, Manku & Motwani 2002), so memory has a bound.
        """
        counts = _KeyCounts()
        for keys in map_in_order(self._numpy_keys(), batches):
            counts.add(keys)
        self._set_keys(counts.most_frequent(self.settings.limit, self.settings.minimum_count))

    def _numpy_keys(self) -> Callable[[Sequence[Value]], np.ndarray]:
        import tensorflow as tf

        @tf.function(input_signature=[raw_texts(self.raw)], autograph=False)
        def keys(values: RawColumn) -> tuple[tf.Tensor, tf.Tensor]:
            return self._keys_and_rows(values)

        def run(values: Sequence[Value]) -> np.ndarray:
            """The keys of a batch, each as often as there are texts with it."""
            made, rows = (part.numpy() for part in keys(self.text.as_tensor(values)))
            order = np.lexsort((made, rows))
            made, rows = made[order], rows[order]
            new = np.ones(len(made), bool)
            new[1:] = (made[1:] != made[:-1]) | (rows[1:] != rows[:-1])
            return made[new]

        return run

    def _set_keys(self, keys: np.ndarray | None) -> None:
        self._keys = keys
        for name in ("_sorted_keys", "_table"):
            self.__dict__.pop(name, None)

    @cached_property
    def _sorted_keys(self) -> tuple[np.ndarray, np.ndarray]:
        """The keys in ascending order, and the id of each."""
        if self._keys is None:
            raise ValueError("n-grams must be learnt or restored first: call fit or load")
        # One key that none has, so that there is always something to search in.
        keys = np.append(self._keys, np.iinfo(np.int64).max)
        ids = np.append(np.arange(1, len(keys)), NONE).astype(np.int32)
        order = np.argsort(keys, kind="stable")
        return keys[order], ids[order]

    @cached_property
    def _table(self) -> tuple[tf.Variable, tf.Variable]:
        """As _sorted_keys. Variables, so that a SavedModel holds them once, not in every graph."""
        import tensorflow as tf

        with tf.init_scope():
            keys, ids = (tf.Variable(part, trainable=False) for part in self._sorted_keys)
        return keys, ids

    # Graph code

    def _keys_and_rows(self, values: RawColumn) -> tuple[tf.Tensor, tf.Tensor]:
        """Keys (N,) int64 of all n-grams of a batch, and the row (N,) int64 of each."""
        import tensorflow as tf

        ids = self.text.all_ids(values)
        rows = ids.value_rowids()
        parts = ngram_keys(ids.flat_values, self.settings.order)
        found = [(parts[0], rows)]
        for size, keys in enumerate(parts[1:], start=2):
            whole = rows[size - 1 :] == rows[: 1 - size]
            found.append((tf.boolean_mask(keys, whole), tf.boolean_mask(rows[size - 1 :], whole)))
        return tf.concat([keys for keys, _ in found], 0), tf.concat([row for _, row in found], 0)

    def encode(self, values: RawColumn) -> tf.RaggedTensor:
        """(B,) text, or ragged (B, T) words, to (B, G) int32 ids."""
        import tensorflow as tf

        keys, rows = self._keys_and_rows(values)
        ids = tf.cast(self.look_up(keys), tf.int64)
        count = tf.cast(self.size, tf.int64)
        batch = values.nrows() if isinstance(values, tf.RaggedTensor) else tf.size(values, tf.int64)
        # A row and an id as one number: sorted and without repetitions. Every text has NONE, so
        # that no row is empty.
        places = tf.concat([rows * count + ids, tf.range(batch) * count], 0)
        places = tf.sort(tf.unique(places)[0])
        made = tf.RaggedTensor.from_value_rowids(
            tf.cast(places % count, tf.int32), places // count, batch, validate=False
        )
        return _drop_needless_none(made)

    def look_up(self, keys: tf.Tensor) -> tf.Tensor:
        """Keys (...) int64 to ids (...) int32, NONE where unknown."""
        import tensorflow as tf

        sorted_keys, ids = (tf.convert_to_tensor(part) for part in self._table)
        found = find_ids(tf.reshape(keys, [-1]), sorted_keys, ids, missing=NONE)
        return tf.reshape(found, tf.shape(keys))

    def ids_by_position(self, tokens: tf.Tensor) -> list[tf.Tensor]:
        """Of token ids (B, T), 0 padding: by size n the ids (B, T - n + 1) of the n-grams that
        start at each position, NONE where padding is in them. As many as T allows.
        """
        import tensorflow as tf

        batch, length = tf.shape(tokens)[0], tf.shape(tokens)[1]
        made = []
        order = self.settings.order
        flat = tf.pad(tf.reshape(tokens, [-1]), [[0, order - 1]])
        for size, keys in enumerate(ngram_keys(flat, order), start=1):
            # Laid end to end, so the last n-grams of a row reach into the next: they are cut off.
            ids = self.look_up(keys[: batch * length])
            ids = tf.reshape(ids, [batch, length])[:, : tf.maximum(length - size + 1, 0)]
            made.append(tf.where(tokens[:, size - 1 :] != 0, ids, NONE))
        return made

    def ids_at_end(self, tokens: tf.Tensor) -> tf.Tensor:
        """The ids (B, order) of the n-grams that end with the last of these tokens (B, order).

        NONE where there is none; tokens are 0 where there are fewer.
        """
        import tensorflow as tf

        ids = self.ids_by_position(tokens)
        pairs = enumerate(ids, start=1)
        return tf.stack([tf.where(tokens[:, -n] != 0, found[:, -1], NONE) for n, found in pairs], 1)

    # What was learnt

    def decode(self, numbers: np.ndarray) -> Value:
        """The ids themselves: the order of the text is lost."""
        return np.asarray(numbers).tolist()

    @property
    def field(self) -> FieldSpec:
        return FieldSpec((None,), "int32")

    @property
    def size(self) -> int:
        """Known n-grams, and NONE."""
        return len(self._sorted_keys[0])

    @property
    def resources(self) -> list[object]:
        return [*self.text.resources, *self._table]

    @property
    def operators(self) -> tuple[str, ...]:
        return self.text.operators

    def state(self) -> JsonObject:
        keys = np.zeros(0, np.int64) if self._keys is None else self._keys
        packed = base64.b64encode(keys.astype("<i8").tobytes()).decode()
        return {**self._constructor_arguments(), "keys": packed}

    def _constructor_arguments(self) -> JsonObject:
        return {"column": self.column, "settings": dataclasses.asdict(self.settings)}

    def restore(self, state: JsonObject) -> None:
        """UserError if the state was learnt with other settings."""
        check_same_settings("n-grams learnt", state, self._constructor_arguments())
        packed = base64.b64decode(typed(_State, state).keys, validate=True)
        self._set_keys(np.frombuffer(packed, "<i8").astype(np.int64))

    def summary(self) -> JsonObject:
        return {"ngrams": self.size - 1, "order": self.settings.order}


def ngram_keys(ids: tf.Tensor, order: int) -> list[tf.Tensor]:
    """Graph code: keys (N - n + 1,) int64 of all n-grams of token ids (N,), for n = 1 to order.

    The key of a longer n-gram is that of its beginning, times FACTOR, plus its last token's id.
    """
    import tensorflow as tf

    ids = tf.cast(ids, tf.int64) + 1
    keys = [ids * FACTOR]
    for size in range(2, order + 1):
        keys.append((keys[-1][:-1] + ids[size - 1 :] * size) * FACTOR)
    return keys


def _drop_needless_none(ragged: tf.RaggedTensor) -> tf.RaggedTensor:
    """Rows whose first id is NONE without it, where there are others."""
    import tensorflow as tf

    starts = tf.gather(ragged.row_starts(), ragged.value_rowids())
    first = tf.range(tf.size(starts, tf.int64)) == starts
    lengths = tf.gather(ragged.row_lengths(), ragged.value_rowids())
    keep = ~(first & (lengths > 1))
    return tf.ragged.boolean_mask(ragged, ragged.with_flat_values(keep))


class _KeyCounts:
    """How often keys occur, in bounded memory."""

    def __init__(self) -> None:
        self.keys, self.counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._waiting: list[np.ndarray] = []
        self._buffered = 0

    def add(self, keys: np.ndarray) -> None:
        self._waiting.append(keys)
        self._buffered += len(keys)
        if self._buffered > BUFFER:
            self._merge()

    def _merge(self) -> None:
        keys, counts = np.unique(
            np.concatenate([np.zeros(0, np.int64), *self._waiting]), return_counts=True
        )
        self._waiting, self._buffered = [], 0
        both = np.concatenate([self.keys, keys])
        self.keys, where = np.unique(both, return_inverse=True)
        weights = np.concatenate([self.counts, counts])
        self.counts = np.bincount(where, weights, len(self.keys)).astype(np.int64)
        if len(self.keys) > MOST_COUNTED:
            often = self.counts > 1
            self.keys, self.counts = self.keys[often], self.counts[often]

    def most_frequent(self, limit: int, minimum: int) -> np.ndarray:
        """At most `limit` keys with that count, the most frequent first; ties by key."""
        self._merge()
        enough = self.counts >= minimum
        keys, counts = self.keys[enough], self.counts[enough]
        return keys[np.lexsort((keys, -counts))[:limit]]


def ngram_matrix(batches: Iterable[np.ndarray], size: int) -> sparse.csr_matrix:
    """(N, size): 1 where a text has an n-gram, from padded ids (B, G); NONE and ids from `size` on
    are left out.
    """
    from scipy import sparse

    columns, counts = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
    for ids in batches:
        real = (ids != NONE) & (ids < size)
        columns.append(ids[real])
        counts.append(real.sum(1))
    flat, starts = np.concatenate(columns), np.cumsum(np.concatenate(counts))
    ones = np.ones(len(flat), np.float32)
    return sparse.csr_matrix((ones, flat, starts), shape=(len(starts) - 1, size))
