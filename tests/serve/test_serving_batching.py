"""The queue before a model: which requests become one batch, and that no client notices."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.serve import predict_request
from pipelines.serve.batching import Batcher
from pipelines.serve.errors import RequestError
from pipelines.serve.predict_request import Columns, PredictRequest
from pipelines.serve.signatures import Signature, TensorInfo

FLOATS = TensorInfo("DT_FLOAT", (None, None))
ROWS = Signature("s", {"x": FLOATS}, {"y": FLOATS})
WHOLE = Signature("s", {"x": FLOATS}, {"mean": TensorInfo("DT_FLOAT", ())})
"""Its output has no rows, so no two requests can be one batch."""

LENGTHS = TensorInfo("DT_INT32", (None,))
SEQUENCES = Signature("s", {"x": FLOATS, "x_length": LENGTHS}, {"y": FLOATS})


def request(x: np.ndarray, signature: Signature = ROWS) -> PredictRequest:
    return PredictRequest(signature, {"x": x}, len(x))


def predict_all(requests: list[PredictRequest], **options: Any) -> tuple[list, list[Columns]]:
    """Outputs for requests that arrive at once, or the errors; and the columns of the batches.

    The model doubles x, and calls negative values invalid.
    """
    batches: list[Columns] = []

    async def predict(signature: str, columns: Columns) -> Columns:
        batches.append(columns)
        await asyncio.sleep(0.01)
        if (columns["x"] < 0).any():
            raise RequestError(400, "negative")
        return {"y": 2 * columns["x"]}

    async def run() -> list:
        given = {"batch_rows": 4, "batch_timeout": 0.0, "observe": lambda rows: None, **options}
        batcher = Batcher(predict, **given)
        outputs = await asyncio.gather(*map(batcher.predict, requests), return_exceptions=True)
        await batcher.close()
        return outputs

    return asyncio.run(run()), batches


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 2), st.booleans()), max_size=9),
    st.integers(1, 5),
)
def test_each_request_gets_its_own_outputs(
    shapes: list[tuple[int, int, bool]], batch_rows: int
) -> None:
    requests = [
        request(np.full(shape, n), ROWS if batchable else WHOLE)
        for n, (*shape, batchable) in enumerate(shapes)
    ]
    outputs, batches = predict_all(requests, batch_rows=batch_rows)
    for one, output in zip(requests, outputs, strict=True):
        np.testing.assert_array_equal(output["y"], 2 * one.columns["x"])
    sizes = [len(columns["x"]) for columns in batches]
    assert sum(sizes) == sum(one.rows for one in requests)
    largest = max((one.rows for one in requests), default=0)
    assert all(size <= max(batch_rows, largest) for size in sizes)


def test_outputs_without_rows_are_those_of_one_request() -> None:
    async def predict(signature: str, columns: Columns) -> Columns:
        return {"mean": columns["x"].mean()}

    async def run() -> list[Columns]:
        batcher = Batcher(predict, batch_rows=8, batch_timeout=0, observe=lambda rows: None)
        requests = [request(np.full([2, 1], value), WHOLE) for value in (1.0, 2.0)]
        outputs = await asyncio.gather(*map(batcher.predict, requests))
        await batcher.close()
        return outputs

    assert [output["mean"] for output in asyncio.run(run())] == [1, 2]


def test_requests_that_arrive_while_the_model_is_busy_are_batched() -> None:
    _, batches = predict_all([request(np.ones([1, 1]))] * 9)
    assert [len(columns["x"]) for columns in batches] == [4, 4, 1]


def sequences(*lengths: int) -> PredictRequest:
    """Rows of so many ones, padded with 0."""
    x = np.array([[1.0] * n + [0.0] * (max(lengths) - n) for n in lengths])
    columns = {"x": x, "x_length": np.array(lengths, np.int32)}
    return PredictRequest(SEQUENCES, columns, len(lengths))


def test_sequences_of_different_lengths_are_padded_to_one_batch() -> None:
    requests = [sequences(1), sequences(2, 4), sequences(3)]
    outputs, (columns,) = predict_all(requests)
    assert columns["x_length"].tolist() == [1, 2, 4, 3]
    assert columns["x"].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert [output["y"].sum() for output in outputs] == [2, 12, 6]


def test_a_long_sequence_is_not_batched_where_padding_would_take_all_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predict_request, "MAX_PADDED_VALUES", 20)
    _, batches = predict_all([sequences(10), sequences(10), sequences(10)])
    assert [columns["x"].shape for columns in batches] == [(2, 10), (1, 10)]


def test_an_idle_model_waits_for_as_many_requests_as_last_time() -> None:
    batches: list[int] = []

    async def predict(signature: str, columns: Columns) -> Columns:
        batches.append(len(columns["x"]))
        return columns

    async def run() -> float:
        batcher = Batcher(predict, batch_rows=8, batch_timeout=0.2, observe=lambda rows: None)

        async def send(delay: float) -> None:
            await asyncio.sleep(delay)
            await batcher.predict(request(np.ones([1, 1])))

        await asyncio.gather(send(0), send(0), send(0))
        await asyncio.gather(send(0), send(0.05))
        start = time.perf_counter()
        await send(0)
        waited = time.perf_counter() - start
        await send(0)
        assert time.perf_counter() - start < waited + 0.1
        await batcher.close()
        return waited

    assert asyncio.run(run()) >= 0.19
    assert batches == [3, 2, 1, 1]


def test_an_invalid_request_fails_no_other() -> None:
    requests = [request(np.full([1, 1], value)) for value in (1, 2, -3, 4, 5)]
    outputs, _ = predict_all(requests, batch_rows=8)
    assert [getattr(output, "status", 200) for output in outputs] == [200, 200, 400, 200, 200]
    np.testing.assert_array_equal(outputs[3]["y"], [[8]])
