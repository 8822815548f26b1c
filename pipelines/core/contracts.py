"""What the parts promise each other. Free of TensorFlow, so that a configuration is checked fast.

Raw data comes from a Source as Examples, a Codec turns them into numbers, a Split holds the numbers
on disk, and a Task (pipelines/tasks) says what to do with them. Stages are written against these
types only; they know neither text nor classes.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pipelines.core.errors import UserError, one_line
from pipelines.core.files import naming, sync
from pipelines.core.saved_files import DamagedError, read_json, reading
from pipelines.core.types import Example, JsonObject, Nest, RawColumn, Value

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import tensorflow as tf


class FileBytes(bytes):
    """A file's bytes; `name` is what is shown in their place."""

    name: str

    def __new__(cls, content: bytes, name: str) -> FileBytes:
        made = super().__new__(cls, content)
        made.name = name
        return made


@dataclass(frozen=True)
class FieldSpec:
    """One encoded value, without the batch axis. A leading None in `shape` is time.

    A field with time reaches the model as two arrays: `name` (B, T, ...), right-padded with 0, and
    `name_length` (B,) int32, at least 1.
    """

    shape: tuple[int | None, ...]
    dtype: str

    @property
    def is_sequence(self) -> bool:
        return bool(self.shape) and self.shape[0] is None

    @property
    def example(self) -> Value:
        """A value of this kind, to be shown."""
        value: Value = "..." if self.dtype == "string" else 0 if "int" in self.dtype else 0.5
        for size in reversed(self.shape):
            value = [value] * min(size or 2, 3)
        return value


@dataclass(frozen=True)
class Spec:
    """Facts about the encoded data. They flow forward; nothing writes them into the configuration.

    fields  what a Codec makes of an example.
    sizes   by field: size of its vocabulary or number of its classes, where it has one.
    """

    fields: Mapping[str, FieldSpec]
    sizes: Mapping[str, int]


class Windows(NamedTuple):
    """Examples that are stretches of longer sequences, which are not copied.

    row, start, stop  (M,) int: example i is positions start[i] to stop[i] of the sequence of
                      row[i], at least one.
    fields            names of the sequence fields that are cut so; others stay whole.
    """

    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    fields: tuple[str, ...]


class Batch(NamedTuple):
    """One step's worth. Weights have the losses' shape and are 0 on padding and only there."""

    inputs: dict[str, Nest]
    targets: Nest
    weights: Nest


@dataclass(frozen=True)
class Provenance:
    """Where data comes from and on what terms it may be used; the report prints it."""

    name: str
    origin: str
    licence: str
    citation: str


@dataclass
class RowIssues:
    """Rows that could not be read: all are counted, the first few are kept to be shown.

    tolerated  so many of them say nothing against the others: no limit applies to them.
    """

    kept: int = 20
    count: int = 0
    tolerated: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)

    def add(self, where: str, reason: str, *, tolerated: bool = False) -> None:
        """`where` is file and line, as in "reviews.csv:17"; `reason` is short, without values."""
        self.count += 1
        self.tolerated += tolerated
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if len(self.first) < self.kept:
            self.first.append(one_line(f"{where}: {reason}"))


class Source(ABC):
    """Where examples come from. Subclasses are settings, in pipelines/data/sources/<format>.py.

    A source reads; it does not divide, clean or remove duplicates: `prepare` does, for all alike.
    """

    columns: ClassVar[tuple[str, ...]]
    """Names of an example's columns; a task names those that it reads."""
    reads_folders: ClassVar[bool] = False
    """Whether `read_inputs` takes a folder, too."""

    @abstractmethod
    def check(self) -> None:
        """Raises UserError for what is seen without reading all (a missing file or column)."""

    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """("all",) if we divide the data; else "train" and any of "validation" and "test"."""

    @abstractmethod
    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        """The part's examples, finite, always in the same order. Bad rows are added to `issues`."""

    def read_with(self, part: str, issues: RowIssues, extra: Sequence[str]) -> Iterator[Example]:
        """As `read`, with further columns of the data by their own names, for its division."""
        raise NotImplementedError

    def further_columns(self) -> tuple[str, ...]:
        """Columns of the data that `read_with` could give besides `columns`; fast."""
        return ()

    def check_extra(self, names: Sequence[str]) -> None:
        """Raises UserError unless the data has these further columns; fast."""
        raise UserError(
            f"prepare.group_by and prepare.time_column must name columns of the data; "
            f"{self.provenance().name} has {', '.join(self.columns)}; received {', '.join(names)}"
        )

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when, and only when, the examples may have changed."""

    @abstractmethod
    def provenance(self) -> Provenance: ...

    def files_in(self) -> Path | None:
        """The folder with the files that FileBytes name, which then needn't be stored again."""
        return None

    def read_inputs(
        self, path: Path, fields: Mapping[str, FieldSpec], issues: RowIssues
    ) -> Iterator[Example]:
        """Columns of a file to predict for, of the form of this source's own files.

        fields  what the columns hold, by name.
        """
        raise UserError(f"{self.provenance().name} reads no files to predict for: received {path}")

    def count_inputs(self, path: Path) -> int | None:
        """About how many rows `read_inputs` reads; None if only reading tells."""
        return None

    def parse_input(self, text: str, fields: Mapping[str, FieldSpec]) -> Example:
        """The columns of what is no file: a text, or a line of standard input.

        fields  what the columns hold, by name. One column of text is the text itself; anything
                else is a JSON object with the columns. UserError if they can't be had from it.
        """
        if list(fields.values()) == [FieldSpec((), "string")]:
            return dict.fromkeys(fields, text)
        return parse_object(text, fields)


def parse_object(text: str, fields: Mapping[str, FieldSpec]) -> Example:
    """Columns by name from a JSON object; UserError if it is none, or one is lacking."""
    try:
        values = json.loads(text)
        return {name: values[name] for name in fields}
    except (ValueError, KeyError, TypeError, RecursionError):
        example = json.dumps({name: field.example for name, field in fields.items()})
        raise UserError(f"an input must be a JSON object such as {example}") from None


class Filter(ABC):
    """Keeps examples out. Subclasses are settings.

    Asked of examples that may be trained on; those of a given validation or test part stay.
    """

    @abstractmethod
    def reject(self, example: Example) -> str | None:
        """Why the example is kept out, in a few words without values; None if it stays."""


class FieldCodec(ABC):
    """Raw values of one column <-> numbers of one field. Fitted on training examples only.

    Parts are in pipelines/data/codecs/: text, labels, images.
    """

    column: str
    """The raw column it reads."""
    raw: FieldSpec = FieldSpec((), "string")
    """What that column holds: by default a text, or the bytes of a file."""

    @property
    def learns_from(self) -> tuple[str, ...]:
        """Columns whose training values `fit` is given: its own, or several with one vocabulary."""
        return (self.column,)

    @abstractmethod
    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        """Learns from training values, in batches that are read once, in order."""

    @abstractmethod
    def encode(self, values: RawColumn) -> tf.Tensor | tf.RaggedTensor:
        """Graph code: raw values (B, ...) to numbers (B, ...); both ragged where they have time.

        The only implementation: prepare, predict and the SavedModel all run it.
        """

    def check(self, raw: Sequence[Value], encoded: np.ndarray) -> None:  # noqa: B027 - optional
        """Raises UserError if a value can't be encoded, such as a label unknown in training.

        Called by prepare with the whole column of non-sequence fields, batch by batch.
        """

    @abstractmethod
    def decode(self, numbers: np.ndarray) -> Value:
        """One example's numbers back to a raw value."""

    @property
    def resources(self) -> list[object]:
        """TensorFlow objects that `encode` uses, such as tables; a SavedModel owns them."""
        return []

    @property
    def operators(self) -> tuple[str, ...]:
        """Modules that must be imported where a graph of `encode` is loaded, besides TensorFlow."""
        return ()

    @property
    @abstractmethod
    def field(self) -> FieldSpec: ...

    @property
    @abstractmethod
    def size(self) -> int | None:
        """Vocabulary size or number of classes, special entries included; else None."""

    @abstractmethod
    def state(self) -> JsonObject:
        """What `fit` learned, as JSON-able values (bytes base64-encoded); see `restore`."""

    @abstractmethod
    def restore(self, state: JsonObject) -> None: ...

    @abstractmethod
    def summary(self) -> JsonObject:
        """Facts for the report, such as {"vocabulary": 20000, "unknown_share": 0.013}."""


class Split(ABC):
    """The encoded examples of one split, memory-mapped. Made by prepare."""

    name: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def lengths(self) -> np.ndarray:
        """(N, F) int32: the length of each of the F sequence fields, in the order of the Spec."""

    @abstractmethod
    def gather(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The rows' fields, padded to their longest, with `<name>_length` for sequences."""

    @abstractmethod
    def column(self, name: str) -> np.ndarray:
        """All values of a field without time, (N, ...)."""

    @abstractmethod
    def examples(self, rows: Sequence[int]) -> list[Example]:
        """The rows as they were read, before encoding."""

    @abstractmethod
    def raw(self, column: str) -> Iterator[list[Value]]:
        """All raw values of a column, in order, in batches."""


MOST_STATE = 1 << 30
"""Bytes of a field's saved state, which may hold a network's weights."""


class Codec:
    """All that was fitted on data: one FieldCodec a field, saved with the model."""

    def __init__(self, fields: Mapping[str, FieldCodec]):
        self.fields = dict(fields)

    @property
    def spec(self) -> Spec:
        return Spec(
            fields={name: codec.field for name, codec in self.fields.items()},
            sizes={
                name: codec.size for name, codec in self.fields.items() if codec.size is not None
            },
        )

    def raw_fields(self, columns: Sequence[str]) -> dict[str, FieldSpec]:
        """What each of the raw columns holds."""
        raw = {part.column: part.raw for part in self.fields.values()}
        return {name: raw.get(name, FieldSpec((), "string")) for name in columns}

    def encode(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Graph code: the fields whose raw column is present."""
        return {
            name: codec.encode(raw[codec.column])
            for name, codec in self.fields.items()
            if codec.column in raw
        }

    def save(self, directory: Path) -> None:
        """Writes the directory, which must not be there yet, whole or not at all."""
        temporary = directory.with_name(f".{os.getpid()}.{directory.name}")
        temporary.mkdir(parents=True)
        for name, codec in self.fields.items():
            text = json.dumps(codec.state(), ensure_ascii=False)
            path = temporary / f"{name}.json"
            with naming(path):
                path.write_text(text, encoding="utf-8")
            sync(path)
        sync(temporary)
        os.replace(temporary, directory)

    def load(self, directory: Path) -> Codec:
        """Restores the fields, given unfitted codecs of the same settings. UserError if damaged."""
        for name, codec in self.fields.items():
            path = directory / f"{name}.json"
            try:
                with reading(path, "start a new run"):
                    codec.restore(read_json(path, "start a new run", most=MOST_STATE))
            except FileNotFoundError:
                raise DamagedError(f"{path} is missing: start a new run") from None
        return self
