"""Mapped files: read whole, and yet not held."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from pipelines.data import arrow
from pipelines.data.arrow import ArrowFile, ArrowWriter, RawFile

ROWS, BATCHES = 250_000, 80


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 MB of numbers, a row each."""
    path = tmp_path_factory.mktemp("arrow") / "numbers.arrow"
    with ArrowWriter(path) as file:
        for k in range(BATCHES):
            numbers = np.arange(k * ROWS, (k + 1) * ROWS, dtype=np.int64)
            file.write(pa.RecordBatch.from_pydict({"number": numbers}))
    return path


def count_mapped() -> int:
    """Bytes of files that count as this process's memory."""
    return psutil.Process().memory_info().shared


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system lets go of no pages")
def test_a_file_that_was_read_whole_is_not_held_whole(path: Path) -> None:
    file, before = ArrowFile(path), count_mapped()
    total = most = 0
    for batch in file.take(np.arange(len(file)), ["number"]):
        total += int(np.sum(batch.column(0).to_numpy()))
        most = max(most, count_mapped() - before)
    assert total == len(file) * (len(file) - 1) // 2
    assert path.stat().st_size > 2 * arrow.MOST_RESIDENT
    assert most < 1.5 * arrow.MOST_RESIDENT


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system lets go of no pages")
def test_rows_read_here_and_there_are_not_held(path: Path) -> None:
    file, before = RawFile(path, None), count_mapped()
    most = 0
    for row in range(0, len(file), 2000):
        assert file.at(row) == {"number": row}
        most = max(most, count_mapped() - before)
    assert most < 1.5 * arrow.MOST_RESIDENT


def test_what_was_let_go_of_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "MOST_RESIDENT", 0)
    file = ArrowFile(path)
    rows = np.array([0, 1, 2 * ROWS + 3, BATCHES * ROWS - 1])
    for _ in range(2):
        batches = list(file.take(rows, ["number"]))
        assert np.concatenate([b.column(0).to_numpy() for b in batches]).tolist() == rows.tolist()
