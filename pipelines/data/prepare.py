"""Stage 1: raw examples become numbers on disk, once for all runs with the same settings.

Read once → divide → fit the codec on train → encode all in one pass → publish in one rename.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipelines.core.contracts import Codec, RowIssues, Source, Split
from pipelines.core.errors import UserError
from pipelines.core.settings import PrepareSettings
from pipelines.core.task import Task
from pipelines.core.types import Example, JsonObject, Value
from pipelines.data import (
    arrow,
    cache,
    division,
    encoding,
    fingerprints,
    groups,
    keys,
    leaks,
    related,
    row_checks,
    splits,
    unused_columns,
    windows,
)
from pipelines.runs.progress import Bar

Progress = Callable[[str, int | None, str], AbstractContextManager[Bar]]
"""Like Bar: of title, total and unit, makes something to call `advance(how many more)` on."""

EVERY = 1000
"""Rows between two advances of the bar, which costs more than reading a row."""


@dataclass(frozen=True)
class Prepared:
    """splits by name, "train" first; report: JSON-able facts about rows, splits and codec.

    content  digest of the encoded data. reused: nothing had to be read or encoded.
    """

    splits: Mapping[str, Split]
    codec: Codec
    report: JsonObject
    content: str
    directory: Path
    reused: bool


def prepare(
    source: Source, task: Task, settings: PrepareSettings, progress: Progress = Bar
) -> Prepared:
    """The prepared data, from the cache if the data, settings and code are unchanged.

    UserError if rows can't be read, a split is empty, a codec can't be fitted, or the cache can't
    be written.
    """
    codec = Codec(task.codec())
    directory = Path(settings.cache_dir).expanduser() / _fingerprint(source, task, codec, settings)
    meta = cache.read_meta(directory)
    reused = meta is not None
    if meta is None:
        with cache.lock_directory(directory):
            # Another process may have made it while we waited.
            meta = cache.read_meta(directory)
            reused = meta is not None
            if meta is None:
                with cache.atomic_directory(directory) as temporary:
                    _Preparation(_Job(source, task, codec, settings), progress, temporary).run()
                meta = cache.read_meta(directory)
    if meta is None:
        raise UserError(f"the cache {directory} vanished while it was written; try again")
    codec.load(directory / "codec")
    by_row = splits.open_splits(directory, meta["splits"], codec.spec, source.files_in())
    if _divides_in_time(task, settings):
        examples = _divide_sequences(by_row["train"], task, codec, settings)
    else:
        examples = {
            name: windows.apply_windows(split, task, codec.spec) for name, split in by_row.items()
        }
    sizes = {name: len(split) for name, split in examples.items()}
    if empty := [name for name, size in sizes.items() if not size]:
        raise UserError(
            f"the {empty[0]} split has no example: its sequences are shorter than what "
            f"task={task.name} cuts out of them; give longer ones"
        )
    report = {**meta["report"], "splits": sizes}
    return Prepared(examples, codec, report, meta["content"], directory, reused)


def _divides_in_time(task: Task, settings: PrepareSettings) -> bool:
    """Whether sequences are divided, not rows."""
    return task.divides_sequences and settings.division == "time"


def _divide_sequences(
    whole: splits.ArrowSplit, task: Task, codec: Codec, settings: PrepareSettings
) -> dict[str, Split]:
    """All splits over the same rows: each has its part of every sequence."""
    lengths = whole.lengths()[:, 0]
    parts = windows.split_in_time(lengths, settings.validation, settings.test)
    return {
        name: windows.apply_windows(whole.with_name(name), task, codec.spec, part)
        for name, part in parts.items()
    }


def _fingerprint(source: Source, task: Task, codec: Codec, settings: PrepareSettings) -> str:
    cleaning = task.cleaning
    decisive = {"cleaning": None if cleaning is None else dataclasses.asdict(cleaning)}  # type: ignore[call-overload]
    decisive |= {k: v for k, v in dataclasses.asdict(settings).items() if k != "cache_dir"}
    columns = [list(task.columns), list(task.dedupe_by), task.stratify_by, list(task.group_by)]
    decisive["within"] = _divides_in_time(task, settings)
    return fingerprints.fingerprint(source, codec.fields, columns, decisive)


@dataclass(frozen=True)
class _Job:
    """The source, task and settings of a preparation; the codec isn't fitted yet."""

    source: Source
    task: Task
    codec: Codec
    settings: PrepareSettings


@dataclass
class _Rows:
    """Keys of the rows that were read: see division.RowKeys. `values` are the strata by rank."""

    hashes: array[int] = field(default_factory=lambda: array("Q"))
    strata: array[int] = field(default_factory=lambda: array("i"))
    given: array[int] = field(default_factory=lambda: array("b"))
    times: array[float] = field(default_factory=lambda: array("d"))
    ties: list[array[int]] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)


class _Preparation:
    """One making of the cache; `run` is the table of contents."""

    def __init__(self, job: _Job, progress: Progress, directory: Path):
        self.source, self.task, self.codec = job.source, job.task, job.codec
        self.settings, self.progress, self.directory = job.settings, progress, directory
        self.keys = keys.KeyColumns.of(job.source, job.task, job.settings)
        self.divides_in_time = _divides_in_time(job.task, job.settings)
        self.rejected: dict[str, int] = {}
        self.issues = RowIssues()
        self.name = job.source.provenance().name

    def run(self) -> None:
        rows = self._read()
        count, values = len(rows.hashes), rows.values
        allowed = self.settings.bad_rows
        row_checks.check_rows(self.name, count, self.issues, self.rejected, allowed=allowed)
        row_checks.check_strata(self.name, self.task.stratify_by, values, count)
        raw = arrow.RawFile(self.directory / "raw.arrow", self.source.files_in())
        row_keys = self._row_keys(raw, rows)
        divided = self._divide(row_keys)
        self._fit(raw, divided.split)
        self._encode(raw, divided.split)
        found = self._find_leaks(raw, rows, divided.split)
        self.codec.save(self.directory / "codec")
        names = [name for part, name in enumerate(division.PARTS) if np.any(divided.split == part)]
        report = self._report(rows, divided)
        report |= groups.count_groups(row_keys.groups, divided.split != division.DROPPED)
        report["leaks"] = [leak.facts() for leak in found]
        cache.write_meta(self.directory, {"splits": names, "report": report})

    def _read(self) -> _Rows:
        task, rows = self.task, _Rows(ties=[array("Q") for _ in self.keys.groups])
        ranks: dict[Value, int] = {}
        with (
            arrow.ArrowWriter(self.directory / "raw.arrow") as file,
            self.progress(f"read {self.name}", None, "rows") as bar,
        ):
            kept = self.source.files_in() is not None
            raw = arrow.RawWriter(file, self.keys.columns_to_store(task), kept=kept)
            for part in self.source.parts():
                place = 0 if part == "all" else division.PARTS.index(part)
                for example, time in self._examples(part):
                    raw.add(example)
                    rows.hashes.append(self.keys.identity(example, len(rows.hashes)))
                    for tie, name in zip(rows.ties, self.keys.groups, strict=True):
                        tie.append(division.content_hash([example[name]]))
                    rows.times.append(time)
                    stratum = example[task.stratify_by] if task.stratify_by else None
                    rows.strata.append(ranks.setdefault(stratum, len(ranks)))
                    rows.given.append(place)
                    if len(rows.hashes) % EVERY == 0:
                        bar.advance(EVERY)
                    if len(ranks) > row_checks.MOST_STRATA:
                        raise row_checks.strata_error(
                            self.name, task.stratify_by, list(ranks), len(rows.hashes)
                        )
            raw.flush()
            bar.advance(len(rows.hashes) % EVERY)
        # Numbered by value, not by first occurrence: the order of rows must not matter.
        rows.values = sorted(ranks, key=lambda value: (type(value).__name__, value))
        rank = {ranks[value]: number for number, value in enumerate(rows.values)}
        rows.strata = array("i", map(rank.__getitem__, rows.strata))
        return rows

    def _examples(self, part: str) -> Iterator[tuple[Example, float]]:
        """Usable examples with their times; given validation and test parts stay whole."""
        examples = self.keys.read(part, self.issues)
        cleaning = self.task.cleaning
        if cleaning is None or part not in ("all", "train"):
            yield from examples
            return
        for example, time in examples:
            reason = cleaning.reject(example)
            if reason is None:
                yield example, time
            else:
                self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def _row_keys(self, raw: arrow.RawFile, rows: _Rows) -> division.RowKeys:
        ties: list[array[int] | np.ndarray] = [*rows.ties]
        if self.settings.division == "related":
            strata = np.frombuffer(rows.strata, np.int32)
            ties.append(self._related_rows(raw, strata).astype(np.uint64))
        return self.keys.row_keys(rows.hashes, rows.strata, rows.given, ties, rows.times)

    def _related_rows(self, raw: arrow.RawFile, strata: np.ndarray) -> np.ndarray:
        """(N,) int32, the group of each row."""
        columns = self._texts(raw)
        if not columns:
            raise UserError(
                "prepare.division=related goes with texts, whose rare words say what is related; "
                f"task={self.task.name} reads {', '.join(self.task.input_columns)}: choose another"
            )
        finder = related.RelatedRowFinder()
        with self.progress("find related rows", len(raw), "rows") as bar:
            for batch in raw.take(np.arange(len(raw)), columns):
                finder.add([batch.column(name) for name in columns])
                bar.advance(batch.num_rows)
        return finder.finish(strata)

    def _texts(self, raw: arrow.RawFile) -> list[str]:
        """Columns of the task's input that hold texts."""
        return [name for name in self.task.input_columns if raw.holds_text(name)]

    def _find_leaks(self, raw: arrow.RawFile, rows: _Rows, split: np.ndarray) -> list[leaks.Leak]:
        task, settings = self.task, self.settings
        strata = np.frombuffer(rows.strata, np.int32)
        is_label = task.stratify_by is not None and task.stratify_by not in task.input_columns
        found = leaks.find_leaks(
            raw, self._texts(raw), split, strata, rows.values if is_label else []
        )
        parts = self.source.parts()
        if "all" in parts and settings.division in ("hash", "related"):
            found += unused_columns.find_unused_columns(
                self.source, "all", len(split), self.keys.groups
            )
        return found

    def _divide(self, row_keys: division.RowKeys) -> division.Division:
        given = set(self.source.parts()) - {"all"}
        shares = {"validation": self.settings.validation, "test": self.settings.test}
        if self.divides_in_time:
            shares = dict.fromkeys(shares, 0.0)
        divided = division.divide(
            row_keys,
            shares=shares,
            limit=self.settings.limit,
            seed=self.settings.split_seed,
            keep_duplicates=not self.task.dedupe_by,
        )
        needed = ["train"] + [n for n in shares if n in given or shares[n] > 0]
        if self.divides_in_time:
            needed = ["train"]
        reason = (
            f", and train keeps one of each {self.task.stratify_by}"
            if self.task.stratify_by
            else ""
        )
        for name in needed:
            if not np.any(divided.split == division.PARTS.index(name)):
                raise UserError(
                    f"the {name} split is empty: {self.name} has {len(row_keys.hashes):,} rows, "
                    f"{np.count_nonzero(divided.split >= 0):,} of them used and different{reason}; "
                    f"give more rows, or change {self.keys.describe_settings()}"
                )
        return divided

    def _fit(self, raw: arrow.RawFile, split: np.ndarray) -> None:
        rows = int(np.count_nonzero(split == 0))
        for name, codec in self.codec.fields.items():
            if not codec.learns_from:
                codec.fit([])
                continue
            with self.progress(f"fit {name}", rows, "rows") as bar:
                columns = codec.learns_from
                select = self._training_part if self.divides_in_time else None
                codec.fit(encoding.training_values(raw, split, columns, bar.advance, select))

    def _training_part(self, value: Value) -> Value:
        """The part of a divided sequence that the codec may learn from.

        Otherwise a scaler or a vocabulary would know the future.
        """
        if not isinstance(value, list):
            return value
        settings = self.settings
        parts = windows.split_in_time(np.array([len(value)]), settings.validation, settings.test)
        return value[: int(parts["train"][1][0])]

    def _encode(self, raw: arrow.RawFile, split: np.ndarray) -> None:
        with self.progress("encode", int(np.count_nonzero(split >= 0)), "rows") as bar:
            encoding.encode(raw, split, self.codec, self.directory, bar.advance)

    def _report(self, rows: _Rows, divided: division.Division) -> JsonObject:
        """The form of DataFacts, but for its fingerprint."""
        sizes, strata = {}, {}
        of_row = np.frombuffer(rows.strata, np.int32)
        for part, name in enumerate(division.PARTS):
            here = divided.split == part
            if here.any():
                sizes[name] = int(np.count_nonzero(here))
                counts = np.bincount(of_row[here], minlength=len(rows.values))
                strata[name] = {str(v): int(n) for v, n in zip(rows.values, counts, strict=True)}
        return {
            "source": dataclasses.asdict(self.source.provenance()),
            "rows": len(rows.hashes) + self.issues.count + sum(self.rejected.values()),
            "bad_rows": self.issues.count,
            "bad_row_reasons": self.issues.reasons,
            "bad_row_examples": self.issues.first,
            "rejected": self.rejected,
            "duplicates": divided.duplicates,
            "conflicts": divided.conflicts,
            "overlaps": dict(divided.overlaps),
            "kept_duplicates": divided.kept_duplicates,
            "left_out_by_limit": divided.limited,
            "division": self.keys.describe_division(),
            "splits": sizes,
            "strata": strata if self.task.stratify_by else {},
            "codec": {name: codec.summary() for name, codec in self.codec.fields.items()},
        }
