"""Stage 1: raw examples become numbers on disk, once for all runs with the same settings.

Read once → divide → fit the codec on train → encode all in one pass → publish in one rename.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.contracts import Codec, Example, FieldCodec, Filter, RowIssues, Source, Split
from pipelines.core.errors import UserError
from pipelines.core.settings import PrepareSettings
from pipelines.data import arrow, cache, division, encoding, fingerprints, splits
from pipelines.runs.progress import Bar

Progress = Callable[[str, int | None, str], AbstractContextManager[Any]]
"""Like Bar: of title, total and unit, makes something that is told `advance(how many more)`."""

MOST_STRATA, FEW = 10_000, 10
"""More values than this are no strata but a column taken by mistake, as are more than FEW where
most occur only once."""

EVERY = 1000
"""Rows between two advances of the bar, which costs more than reading a row."""


@dataclass(frozen=True)
class Prepared:
    """splits by name, "train" first; report: JSON-able facts about rows, splits and codec.

    content  digest of the encoded data. reused: nothing had to be read or encoded.
    """

    splits: Mapping[str, Split]
    codec: Codec
    report: Mapping[str, Any]
    content: str
    directory: Path
    reused: bool


@dataclass(frozen=True)
class _Rows:
    """What reading found: (N,) arrays, and the strata's values by number."""

    hashes: np.ndarray
    strata: np.ndarray
    given: np.ndarray
    values: Sequence[Any]
    ties: np.ndarray | None


def prepare(
    source: Source,
    task_codec: Mapping[str, FieldCodec],
    *,
    reads: Sequence[str],
    identity: Sequence[str],
    stratify: str | None,
    settings: PrepareSettings,
    together: Sequence[str] = (),
    cleaning: Filter | None = None,
    progress: Progress = Bar,
) -> Prepared:
    """Takes what an earlier call with the same data, settings and code made, or makes it.

    `task_codec` are unfitted codecs by field; afterwards they are fitted. UserError if rows can't
    be read, a split is empty, a codec can't be fitted, or the cache can't be written.
    """
    decisive = {"cleaning": None if cleaning is None else dataclasses.asdict(cleaning)}  # type: ignore[call-overload]
    decisive |= {k: v for k, v in dataclasses.asdict(settings).items() if k != "cache_dir"}
    columns = [list(reads), list(identity), stratify, list(together)]
    fingerprint = fingerprints.fingerprint(source, task_codec, columns, decisive)
    directory = Path(settings.cache_dir).expanduser() / fingerprint
    codec = Codec(task_codec)
    meta = cache.read_meta(directory)
    reused = meta is not None
    if meta is None:
        with cache.locked(directory):
            # Another process may have made it while we waited.
            meta = cache.read_meta(directory)
            reused = meta is not None
            if meta is None:
                with cache.atomic_directory(directory) as temporary:
                    work = _Preparation(
                        source,
                        codec,
                        stratify=stratify,
                        together=together,
                        settings=settings,
                        cleaning=cleaning,
                        progress=progress,
                        directory=temporary,
                    )
                    work.run(reads, identity)
                meta = cache.read_meta(directory)
    if meta is None:
        raise UserError(f"the cache {directory} vanished while it was written; try again")
    codec.load(directory / "codec")
    opened = splits.open_splits(directory, meta["splits"], codec.spec, source.files_in())
    return Prepared(opened, codec, meta["report"], meta["content"], directory, reused)


class _Preparation:
    """One making of the cache; `run` is the table of contents."""

    def __init__(
        self,
        source: Source,
        codec: Codec,
        *,
        stratify: str | None,
        together: Sequence[str],
        settings: PrepareSettings,
        cleaning: Filter | None,
        progress: Progress,
        directory: Path,
    ):
        self.source = source
        self.codec = codec
        self.stratify = stratify
        self.together = together
        self.settings = settings
        self.cleaning = cleaning
        self.rejected: dict[str, int] = {}
        self.progress = progress
        self.directory = directory
        self.name = source.provenance().name

    def run(self, reads: Sequence[str], identity: Sequence[str]) -> None:
        issues = RowIssues()
        rows = self._read(reads, identity, issues)
        self._check_rows(issues, rows)
        divided = self._divide(rows)
        raw = arrow.RawFile(self.directory / "raw.arrow", self.source.files_in())
        self._fit(raw, divided.split)
        self._encode(raw, divided.split)
        self.codec.save(self.directory / "codec")
        names = [name for part, name in enumerate(division.PARTS) if np.any(divided.split == part)]
        report = self._report(issues, rows, divided)
        cache.write_meta(self.directory, {"splits": names, "report": report})

    def _read(self, reads: Sequence[str], identity: Sequence[str], issues: RowIssues) -> _Rows:
        hashes, strata, given = array("Q"), array("i"), array("b")
        numbers: dict[Any, int] = {}
        ties = [array("Q") for _ in self.together]
        needed = [*reads, *identity, *self.together, *filter(None, [self.stratify])]
        columns = tuple(dict.fromkeys(needed))
        with (
            arrow.ArrowWriter(self.directory / "raw.arrow") as file,
            self.progress(f"read {self.name}", None, "rows") as bar,
        ):
            raw = arrow.RawWriter(file, columns, kept=self.source.files_in() is not None)
            for part in self.source.parts():
                place = 0 if part == "all" else division.PARTS.index(part)
                for example in self._kept(part, issues):
                    raw.add(example)
                    hashes.append(division.content_hash([example[name] for name in identity]))
                    for tie, name in zip(ties, self.together, strict=True):
                        tie.append(division.content_hash([example[name]]))
                    stratum = example[self.stratify] if self.stratify else None
                    strata.append(numbers.setdefault(stratum, len(numbers)))
                    given.append(place)
                    if len(hashes) % EVERY == 0:
                        bar.advance(EVERY)
                    if len(numbers) > MOST_STRATA:
                        raise self._no_strata(list(numbers), len(hashes))
            raw.flush()
            bar.advance(len(hashes) % EVERY)
        # Numbered by value, not by first occurrence: the order of rows must not matter.
        values = sorted(numbers, key=lambda value: (type(value).__name__, value))
        rank = np.empty(len(values), np.int32)
        rank[[numbers[value] for value in values]] = np.arange(len(values))
        ranked = rank[np.frombuffer(strata, np.int32)] if len(strata) else np.zeros(0, np.int32)
        return _Rows(
            np.frombuffer(hashes, np.uint64),
            ranked,
            np.frombuffer(given, np.int8),
            values,
            np.stack([np.frombuffer(tie, np.uint64) for tie in ties]) if ties else None,
        )

    def _kept(self, part: str, issues: RowIssues) -> Iterator[Example]:
        examples = self.source.read(part, issues)
        if self.cleaning is None or part not in ("all", "train"):
            yield from examples
            return
        for example in examples:
            reason = self.cleaning.reject(example)
            if reason is None:
                yield example
            else:
                self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def _no_strata(self, values: Sequence[Any], rows: int) -> UserError:
        shown = ", ".join(repr(value) for value in values[:5])
        return UserError(
            f"column {self.stratify!r} of {self.name} has {len(values):,} different values among "
            f"{rows:,} rows ({shown}, ...): is it the right label column? Numbers to be estimated "
            "are no classes"
        )

    def _check_rows(self, issues: RowIssues, rows: _Rows) -> None:
        total = issues.count + len(rows.hashes) + sum(self.rejected.values())
        if total == 0:
            raise UserError(f"{self.name} has no rows")
        if not len(rows.hashes) and self.rejected:
            why = ", ".join(f"{count:,} {reason}" for reason, count in self.rejected.items())
            raise UserError(f"cleaning leaves no rows of {self.name}: {why}; see task.cleaning")
        allowed = self.settings.bad_rows
        bad = issues.count - issues.tolerated
        total -= issues.tolerated
        if bad > allowed * total:
            first = "; ".join(issues.first[:3]) + ("; …" if issues.count > 3 else "")
            raise UserError(
                f"{bad:,} of {total:,} rows of {self.name} can't be read "
                f"({bad / total:.1%}, allowed {allowed:.1%}): {first}. "
                "Mend them or raise prepare.bad_rows"
            )
        if len(rows.values) > max(FEW, len(rows.hashes) / 2):
            raise self._no_strata(rows.values, len(rows.hashes))
        if self.stratify is not None and len(rows.values) < 2:
            raise UserError(
                f"column {self.stratify!r} of {self.name} holds only {rows.values[0]!r}: at least "
                "two different values are needed; is it the right label column?"
            )

    def _divide(self, rows: _Rows) -> division.Division:
        given = set(self.source.parts()) - {"all"}
        shares = {"validation": self.settings.validation, "test": self.settings.test}
        divided = division.divide(
            rows.hashes,
            rows.strata,
            rows.given,
            shares=shares,
            limit=self.settings.limit,
            seed=self.settings.division_seed,
            ties=rows.ties,
        )
        wanted = ["train"] + [n for n in shares if n in given or shares[n] > 0]
        kept = f", and train keeps one of each {self.stratify}" if self.stratify else ""
        for name in wanted:
            if not np.any(divided.split == division.PARTS.index(name)):
                raise UserError(
                    f"the {name} split is empty: {self.name} has {len(rows.hashes):,} rows, "
                    f"{np.count_nonzero(divided.split >= 0):,} of them used and different{kept}; "
                    "give more rows, or change prepare.validation, prepare.test or prepare.limit"
                )
        return divided

    def _fit(self, raw: arrow.RawFile, split: np.ndarray) -> None:
        rows = int(np.count_nonzero(split == 0))
        for name, codec in self.codec.fields.items():
            if not codec.learns_from:
                codec.fit([])
                continue
            with self.progress(f"fit {name}", rows, "rows") as bar:
                codec.fit(encoding.training_values(raw, split, codec.learns_from, bar.advance))

    def _encode(self, raw: arrow.RawFile, split: np.ndarray) -> None:
        with self.progress("encode", int(np.count_nonzero(split >= 0)), "rows") as bar:
            encoding.encode(raw, split, self.codec, self.directory, bar.advance)

    def _report(self, issues: RowIssues, rows: _Rows, divided: division.Division) -> dict[str, Any]:
        sizes, strata = {}, {}
        for part, name in enumerate(division.PARTS):
            here = divided.split == part
            if here.any():
                sizes[name] = int(np.count_nonzero(here))
                counts = np.bincount(rows.strata[here], minlength=len(rows.values))
                strata[name] = {str(v): int(n) for v, n in zip(rows.values, counts, strict=True)}
        return {
            "source": dataclasses.asdict(self.source.provenance()),
            "rows": len(rows.hashes) + issues.count + sum(self.rejected.values()),
            "bad rows": issues.count,
            "bad row reasons": issues.reasons,
            "bad row examples": issues.first,
            "rejected": self.rejected,
            "duplicates": divided.duplicates,
            "conflicts": divided.conflicts,
            "overlaps": dict(divided.overlaps),
            "duplicates kept": divided.kept_duplicates,
            "left out by limit": divided.limited,
            "splits": sizes,
            "strata": strata if self.stratify else {},
            "codec": {name: codec.summary() for name, codec in self.codec.fields.items()},
        }
