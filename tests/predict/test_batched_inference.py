"""Streams of rows: order, padding, memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.contracts import FileBytes
from pipelines.predict.batched_inference import (
    BATCH_COST,
    BATCH_ROWS,
    NUMBER_COST,
    WINDOW_BYTES,
    Row,
    RowError,
    batch_by_cost,
    predict_in_order,
    read_windows,
)

TEXTS = ["ccc", "a", "dddd", "bb", "a", "eeeee", "bb"]


def rows(texts: list[str]) -> list[Row]:
    return [{"text": text} for text in texts]


def text(row: Row) -> str:
    return f"error {row.reason}" if isinstance(row, RowError) else row["text"]


def texts(batch: list[Row]) -> list[str]:
    return [text(row) for row in batch]


@given(st.lists(st.one_of(st.text(max_size=30), st.none())), st.integers(1, 9))
def test_predictions_come_in_the_order_of_the_rows(
    given: list[str | None], window_rows: int
) -> None:
    stream = [RowError(str(i)) if t is None else {"text": t} for i, t in enumerate(given)]
    found = list(predict_in_order(stream, texts, window_rows=window_rows))
    assert [prediction for window in found for prediction in window] == [
        text(row) for row in stream
    ]
    assert all(len(window) == window_rows for window in found[:-1])


def test_rows_of_similar_length_are_one_batch_and_errors_another() -> None:
    batches: list[list[str]] = []
    lock = threading.Lock()

    def predict(batch: list[Row]) -> list[str]:
        with lock:
            batches.append(texts(batch))
        return texts(batch)

    long = "x" * (BATCH_COST // 2)
    stream: list[Row] = [*rows([long, "b", long, "a"]), RowError("f"), *rows([long])]
    (window,) = predict_in_order(stream, predict)
    assert sorted(batches, key=lambda batch: (len(batch[0]), len(batch))) == [
        ["b", "a"],
        ["error f"],
        [long],
        [long, long],
    ]
    assert window == [long, "b", long, "a", "error f", long]


@given(st.lists(st.integers(0, 2 * BATCH_COST), max_size=2000))
def test_a_batch_holds_all_rows_once_and_no_more_than_memory_allows(lengths: list[int]) -> None:
    batches = batch_by_cost(lengths)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) <= BATCH_ROWS
        assert len(batch) == 1 or len(batch) * longest <= BATCH_COST
        assert len({lengths[place] == 0 for place in batch}) == 1


def test_short_texts_are_padded_by_less_than_a_twentieth() -> None:
    lengths = [10 + (37 * i) % 91 for i in range(8192)]
    padded = sum(
        len(batch) * max(lengths[place] for place in batch) for batch in batch_by_cost(lengths)
    )
    assert sum(lengths) / padded > 0.95


def test_no_more_rows_are_read_than_are_being_predicted() -> None:
    read = 0

    def stream() -> Iterator[Row]:
        nonlocal read
        for _ in range(1_000):
            read += 1
            yield {"text": "a"}

    found = predict_in_order(stream(), texts, window_rows=10)
    for count in range(1, 20):
        next(found)
        assert read <= 10 * (count + 20)
    found.close()
    assert read < 1_000


def test_a_window_of_large_rows_ends_early() -> None:
    half = "x" * (WINDOW_BYTES // 2)
    stream: list[Row] = [
        *rows([half, half, "a", half, "b"]),
        {"text": FileBytes(b"x" * WINDOW_BYTES, "n")},
    ]
    assert [len(window) for window in read_windows(stream)] == [2, 4]


def test_rows_are_batched_by_the_length_of_their_lists_and_series() -> None:
    batches: list[list[int]] = []

    def predict(batch: list[Row]) -> list[int]:
        batches.append([row["x"] for row in batch if not isinstance(row, RowError)])
        return [0] * len(batch)

    steps = BATCH_COST // NUMBER_COST
    long = [np.zeros((steps, 1), np.float32), ["word"] * steps, [[0.0]] * steps]
    stream: list[Row] = [{"x": i, "values": values} for i, values in enumerate([*long, [1.0], "a"])]
    list(predict_in_order(stream, predict))
    assert sorted(batches) == [[0], [1], [2], [4, 3]]


def test_a_window_ends_early_also_for_series() -> None:
    series = np.zeros((WINDOW_BYTES // 8, 1), np.float32)
    stream: list[Row] = [{"x": series}, {"x": series.copy()}, {"x": [0.0]}]
    assert [len(window) for window in read_windows(stream)] == [2, 1]
