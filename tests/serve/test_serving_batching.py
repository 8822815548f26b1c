"""The queue before a model: who is answered together, and that nobody notices."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.serve.batching import Batcher
from pipelines.serve.errors import RequestError


def go(requests: list[tuple[np.ndarray, bool]], **options: Any) -> tuple[list, list]:
    """Answers to requests that come at once, or the errors; and the shapes of the batches.

    The model doubles x, and refuses what is negative.
    """
    asked: list[tuple[int, ...]] = []

    async def ask(signature: str, columns: Any) -> dict[str, np.ndarray]:
        asked.append(columns["x"].shape)
        await asyncio.sleep(0.01)
        if (columns["x"] < 0).any():
            raise RequestError(400, "negative")
        return {"y": 2 * columns["x"]}

    async def all_at_once() -> list:
        given = {"batch_rows": 4, "batch_timeout": 0.0, "observe": lambda rows: None, **options}
        batcher = Batcher(ask, **given)
        answers = await asyncio.gather(
            *(batcher.answer("s", {"x": x}, rows=len(x), together=t) for x, t in requests),
            return_exceptions=True,
        )
        await batcher.close()
        return answers

    return asyncio.run(all_at_once()), asked


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 2), st.booleans()), max_size=9),
    st.integers(1, 5),
)
def test_everyone_gets_the_answer_to_his_own(
    shapes: list[tuple[int, int, bool]], batch_rows: int
) -> None:
    requests = [(np.full(shape, n), t) for n, (*shape, t) in enumerate(shapes)]
    answers, asked = go(requests, batch_rows=batch_rows)
    for (x, _), answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], 2 * x)
    assert sum(rows for rows, _ in asked) == sum(len(x) for x, _ in requests)
    largest = max((rows for rows, *_ in shapes), default=0)
    assert all(rows <= max(batch_rows, largest) for rows, _ in asked)


def test_who_comes_while_the_model_is_busy_is_answered_together() -> None:
    _, asked = go([(np.ones([1, 1]), True)] * 9)
    assert [rows for rows, _ in asked] == [4, 4, 1]


def test_a_free_model_waits_for_as_many_as_came_last_time() -> None:
    asked: list[int] = []

    async def ask(signature: str, columns: Any) -> Any:
        asked.append(len(columns["x"]))
        return columns

    async def run() -> float:
        batcher = Batcher(ask, batch_rows=8, batch_timeout=0.2, observe=lambda rows: None)

        async def one(delay: float) -> None:
            await asyncio.sleep(delay)
            await batcher.answer("s", {"x": np.ones([1])}, rows=1, together=True)

        await asyncio.gather(one(0), one(0), one(0))
        await asyncio.gather(one(0), one(0.05))
        start = time.perf_counter()
        await one(0)
        waited = time.perf_counter() - start
        await one(0)
        assert time.perf_counter() - start < waited + 0.1
        await batcher.close()
        return waited

    assert asyncio.run(run()) >= 0.19
    assert asked == [3, 2, 1, 1]


def test_a_bad_request_spoils_no_other() -> None:
    requests = [(np.full([1, 1], value), True) for value in (1, 2, -3, 4, 5)]
    answers, _ = go(requests, batch_rows=8)
    assert [getattr(answer, "status", 200) for answer in answers] == [200, 200, 400, 200, 200]
    np.testing.assert_array_equal(answers[3]["y"], [[8]])
