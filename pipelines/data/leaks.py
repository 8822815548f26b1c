"""What makes scores better than they will be on new data, as far as it shows in a sample.

Each finding is one plain sentence: what was found, how strong it is, and what removes it. Only a
sample of bounded size is looked at: about a second's work, whatever the size of the data.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.errors import shown
from pipelines.core.types import JsonObject, Value
from pipelines.data.arrow import RawFile
from pipelines.data.codecs.tokens import UNSPACED
from pipelines.data.near_duplicates import nearly_repeated
from pipelines.data.rare_words import RareWordCollector, RareWords

if TYPE_CHECKING:
    from scipy import sparse

SAMPLE_ROWS, SAMPLE_BYTES = 60_000, 4_000_000
"""Of the data that is looked at, at most, in stretches of neighbouring rows."""

STRETCHES = 16

LEAST_ROWS = 100
"""Of a sample, and of its held-out part: of fewer nothing is said."""

NEAR = 10
"""Rows that are at most so far apart are neighbours."""

SHARED = 2
"""Rare words that two rows have in common to be counted."""

NEAR_SHARE, NEAR_RATIO = 0.03, 5.0
"""Share of held-out rows with such neighbours in train, and how much more often than far rows."""

REPEATED_SHARE, REPEATED_ROWS = 0.01, 5
"""Of held-out rows, those that nearly repeat a training row."""

GIVEN_AWAY = 0.9
"""F1 of a label by one word, or by a border between lengths."""

MOST_LABELS = 50


@dataclass(frozen=True)
class Leak:
    """What was found, how strong it is as a share of 1, and a sentence on it."""

    kind: Literal["neighbours", "near_duplicates", "column", "word", "length"]
    strength: float
    sentence: str

    def facts(self) -> JsonObject:
        return {**asdict(self), "strength": round(float(self.strength), 4)}


@dataclass(frozen=True, eq=False)
class Sample:
    """Stretches of neighbouring rows.

    columns  (n,) texts each. row, stretch, split, stratum (n,): the row in the raw file, which
             stretch it is of, and as of division.Division and division.RowKeys.
    share    of all rows.
    """

    columns: Sequence[pa.Array]
    row: np.ndarray
    stretch: np.ndarray
    split: np.ndarray
    stratum: np.ndarray
    share: float

    @classmethod
    def of(
        cls, raw: RawFile, names: Sequence[str], split: np.ndarray, strata: np.ndarray
    ) -> Sample:
        """Stretches that lie evenly over the rows that are used."""
        used = np.flatnonzero(split >= 0)
        size = sum(batch.column(name).nbytes for batch in raw.batches[:4] for name in names)
        rows = sum(batch.num_rows for batch in raw.batches[:4])
        wanted = min(SAMPLE_ROWS, int(SAMPLE_BYTES * rows / max(size, 1)), len(used))
        length = -(-wanted // STRETCHES)
        starts = np.linspace(0, len(used) - length, STRETCHES).astype(np.int64)
        place = np.unique(starts[:, None] + np.arange(length))
        row = used[place]
        batches = list(raw.take(row, names))
        columns = [pa.concat_arrays([batch.column(name) for batch in batches]) for name in names]
        # Stretches that touch are one.
        stretch = np.cumsum(np.diff(place, prepend=0) > 1)
        return cls(columns, row, stretch, split[row], strata[row], len(row) / len(used))

    @property
    def training(self) -> np.ndarray:
        return self.split == 0


def find_leaks(
    raw: RawFile,
    names: Sequence[str],
    split: np.ndarray,
    strata: np.ndarray,
    labels: Sequence[Value],
) -> list[Leak]:
    """What the texts in the columns `names` say.

    split, strata (N,): as of division.Division and division.RowKeys. labels: what the strata are;
    of none or one, nothing is said about what gives a label away.
    """
    if not names:
        return []
    sample = Sample.of(raw, names, split, strata)
    held_out = np.count_nonzero(~sample.training)
    found: list[Leak | None] = []
    if len(sample.row) >= LEAST_ROWS and min(held_out, np.count_nonzero(sample.training)):
        found += [_neighbours(sample), _near_duplicates(sample)]
    if len(sample.row) >= LEAST_ROWS and 2 <= len(labels) <= MOST_LABELS:
        found += [_telling_word(sample, labels), _telling_length(sample, labels)]
    return [leak for leak in found if leak is not None]


def _neighbours(sample: Sample) -> Leak | None:
    """Held-out rows whose neighbours in train share rare words with them, as far rows don't."""
    collector = RareWordCollector()
    collector.add(sample.columns)
    has = _incidence(collector.finish())
    order = np.lexsort((sample.row, sample.stratum))
    has, split = has[order], sample.split[order]
    place = np.stack([sample.stratum[order], sample.stretch[order]])
    near = _partners(has, split, range(1, NEAR + 1), place)
    far = sum(_far_partners(has[part], split[part]) for part in _by_stratum(place[0]))
    held_out = np.count_nonzero(split > 0)
    share, chance = near / held_out, max(far, 1) / held_out
    if near < REPEATED_ROWS or share < NEAR_SHARE or share < NEAR_RATIO * chance:
        return None
    return Leak(
        "neighbours",
        share,
        f"{share:.0%} of the validation and test rows share rare words with a training row that "
        f"is within {NEAR} rows of the same label, {share / chance:.0f} times as many as with rows "
        "farther away, so that neighbours are about the same thing and scores flatter: "
        "prepare.division=related keeps such rows in one split",
    )


def _incidence(rare: RareWords) -> sparse.csr_matrix:
    from scipy import sparse

    ones = np.ones(len(rare.row), np.int8)
    return sparse.csr_matrix((ones, (rare.row, rare.word)), (rare.rows, rare.words))


def _by_stratum(sorted_strata: np.ndarray) -> list[slice]:
    """The rows of each stratum, of strata in rising order."""
    starts = [*np.flatnonzero(np.diff(sorted_strata, prepend=-1)), len(sorted_strata)]
    return [slice(start, stop) for start, stop in itertools.pairwise(starts)]


def _far_partners(has: sparse.csr_matrix, split: np.ndarray) -> int:
    """As `_partners`, of rows of one stratum that are half of it apart: by chance alone."""
    half = len(split) // 2
    return _partners(has, split, range(half, min(half + NEAR, len(split))), None)


def _partners(
    has: sparse.csr_matrix, split: np.ndarray, distances: range, place: np.ndarray | None
) -> int:
    """Held-out rows with a training row at one of the distances that shares words with them.

    place (2, n): only rows of the same place count.
    """
    found = np.zeros(len(split), bool)
    for distance in distances:
        one, other = np.arange(len(split) - distance), np.arange(distance, len(split))
        if place is not None:
            same = (place[:, one] == place[:, other]).all(axis=0)
            one, other = one[same], other[same]
        crossing = (split[one] == 0) != (split[other] == 0)
        one, other = one[crossing], other[crossing]
        shared = np.asarray(has[one].multiply(has[other]).sum(axis=1)).ravel() >= SHARED
        found[one[shared]] = found[other[shared]] = True
    return int(np.count_nonzero(found & (split > 0)))


def _near_duplicates(sample: Sample) -> Leak | None:
    repeated = np.count_nonzero(nearly_repeated(sample.columns, sample.training))
    held_out = np.count_nonzero(~sample.training)
    if repeated < REPEATED_ROWS or repeated / held_out / sample.share < REPEATED_SHARE:
        return None
    seen = "" if sample.share > 0.99 else f" of a sample of {sample.share:.1%} of the rows"
    return Leak(
        "near_duplicates",
        repeated / held_out,
        f"{repeated:,} of {held_out:,} validation and test rows{seen} nearly repeat a training "
        "row, which a model can know by heart: prepare.division=related keeps such rows in one "
        "split",
    )


def _telling_word(sample: Sample, labels: Sequence[Value]) -> Leak | None:
    """The word that says a label best.

    A word is anything between spaces, and each character of a script that puts none between words.
    """
    texts = pc.binary_join_element_wise(*[_plain(c) for c in sample.columns], " ")
    texts = pc.replace_substring_regex(texts, f"([{UNSPACED}])", r" \1 ")
    words = pc.utf8_split_whitespace(pc.utf8_lower(texts))
    row = np.repeat(np.arange(len(texts)), pc.list_value_length(words).to_numpy())
    encoded = words.flatten().dictionary_encode()
    kinds, word = len(encoded.dictionary), encoded.indices.to_numpy().astype(np.int64)
    sizes = np.bincount(sample.stratum, minlength=len(labels))
    # A word of fewer rows can't tell any label well enough, and most words are of few.
    kept = (np.bincount(word) >= GIVEN_AWAY / 2 * max(NEAR, sizes.min()))[word]
    pairs = np.unique(row[kept] * kinds + word[kept])
    word, stratum = pairs % kinds, sample.stratum[pairs // kinds]
    rows = np.bincount(word, minlength=kinds)
    best: tuple[float, int, int] = (0.0, 0, 0)
    for label, size in enumerate(sizes):
        hits = np.bincount(word[stratum == label], minlength=kinds)
        if _can_be_told(size, sample):
            score = 2 * hits / (rows + size)
            if (top := float(score.max(initial=0.0))) > best[0]:
                best = (top, int(score.argmax()), label)
    score, number, label = best
    if score < GIVEN_AWAY:
        return None
    of_label = sample.stratum == label
    with_word = np.zeros(len(sample.row), bool)
    with_word[pairs[word == number] // kinds] = True
    here, elsewhere = with_word[of_label].mean(), with_word[~of_label].mean()
    name = encoded.dictionary[number].as_py()
    return Leak(
        "word",
        score,
        f"the word {shown(name)} is in {here:.0%} of the texts labelled {shown(labels[label])} and "
        f"in {elsewhere:.0%} of the others, so that it alone gives the label away: if new texts "
        "won't have it, take it out of the file or choose another data.text_column",
    )


def _telling_length(sample: Sample, labels: Sequence[Value]) -> Leak | None:
    """The label that texts below or above some length have."""
    lengths = np.zeros(len(sample.row), np.int64)
    for column in sample.columns:
        lengths += pc.utf8_length(_plain(column)).to_numpy()
    order = np.argsort(lengths, kind="stable")
    ends = np.flatnonzero(np.diff(lengths[order], append=-1))  # where a border may be
    best: tuple[float, int, int, str] = (0.0, 0, 0, "")
    for label, size in enumerate(np.bincount(sample.stratum, minlength=len(labels))):
        if not _can_be_told(size, sample):
            continue
        below = np.cumsum(sample.stratum[order] == label)[ends]
        for side, hits, rows in (
            ("at most", below, ends + 1),
            ("more than", size - below, len(order) - ends - 1),
        ):
            score = 2 * hits / (rows + size)
            if (top := float(score.max())) > best[0]:
                best = (top, int(lengths[order][ends[score.argmax()]]), label, side)
    score, border, label, side = best
    if score < GIVEN_AWAY:
        return None
    return Leak(
        "length",
        score,
        f"texts of {side} {border:,} characters are those labelled {shown(labels[label])} (F1 "
        f"{score:.2f}), so that the length alone gives the label away: if new texts aren't so, cut "
        "all to the length of the shortest with task.text.max_tokens",
    )


def _can_be_told(size: int, sample: Sample) -> bool:
    """Whether a label has enough rows; and not nearly all, which any frequent word would tell."""
    return NEAR <= size <= 0.6 * len(sample.row)


def _plain(column: pa.Array) -> pa.Array:
    return pc.binary_join(column, " ") if pa.types.is_list(column.type) else column
