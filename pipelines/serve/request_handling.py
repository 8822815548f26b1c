"""From a request to an answer: the way that the API and the page share, with all its limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipelines.serve.batching import Columns
from pipelines.serve.errors import RequestError
from pipelines.serve.served_models import Models, Version
from pipelines.serve.signatures import Question, parse

T = TypeVar("T")

LARGE = 50_000
"""Bytes from which work is done beside the event loop, so that others can go on."""


async def answered(
    models: Models,
    name: str,
    version: str | None,
    *,
    body: Callable[[], Awaitable[bytes]],
    write: Callable[[Question, Columns], T],
) -> T:
    """What `write` makes of the answer to a body in the API's form. Raises RequestError.

    version  as the URL has it; None for the one that is served.
    """
    chosen = models[name].version(version)
    counts, start, code = models.metrics, time.perf_counter(), 500
    counts.open.labels(name).inc()
    try:
        with chosen.in_use():
            written = await _answered(models, chosen, body, write)
            code = 200
            return written
    except RequestError as failure:
        code = failure.status
        raise
    finally:
        counts.open.labels(name).dec()
        counts.requests.labels(name, code).inc()
        counts.seconds.labels(name).observe(time.perf_counter() - start)


async def _answered(
    models: Models,
    version: Version,
    body: Callable[[], Awaitable[bytes]],
    write: Callable[[Question, Columns], T],
) -> T:
    settings = models.settings
    if version.open_requests > settings.max_queue:
        raise RequestError(503, f"{settings.max_queue} requests are waiting already: come again")
    try:
        late = "the request's body"
        async with asyncio.timeout(settings.timeout):
            asked = await body()
            late = "the answer"
            limits = {"max_rows": settings.max_rows, "max_pixels": settings.max_pixels}
            question = await _aside(len(asked), lambda: parse(asked, version.signatures, **limits))
            outputs = await version.answer(question)
        size = sum(values.nbytes for values in outputs.values())
        return await _aside(size, lambda: write(question, outputs))
    except TimeoutError:
        code = 408 if late == "the request's body" else 504
        raise RequestError(code, f"{late} took longer than {settings.timeout:g} s") from None


def too_large(limit: int) -> RequestError:
    return RequestError(413, f"the body must have no more than {limit:,} bytes")


async def _aside(size: int, work: Callable[[], T]) -> T:
    """Done here, or in a thread if it is large."""
    return work() if size < LARGE else await asyncio.to_thread(work)
