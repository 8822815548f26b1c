"""Handling of requests, which the API and the page share, with all its limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipelines.serve.errors import RequestError
from pipelines.serve.predict_request import (
    Columns,
    PredictRequest,
    RequestLimits,
    parse_request,
)
from pipelines.serve.served_models import ServedModels, ServedVersion

T = TypeVar("T")

LARGE_BYTES = 50_000
"""From this size on, work is done in a thread, so that the event loop can serve others."""


async def handle_predict(
    models: ServedModels,
    name: str,
    version: str | None,
    *,
    read_body: Callable[[], Awaitable[bytes]],
    render: Callable[[PredictRequest, Columns], T],
) -> T:
    """The response that `render` makes of the outputs for a body. Raises RequestError.

    version  as in the URL; None for the current one.
    """
    served = models[name].version(version)
    metrics, start, status = models.metrics, time.perf_counter(), 500
    metrics.open.labels(name).inc()
    try:
        with served.in_use():
            response = await _predict(models, served, read_body, render)
            status = 200
            return response
    except RequestError as error:
        status = error.status
        raise
    finally:
        metrics.open.labels(name).dec()
        metrics.requests.labels(name, status).inc()
        metrics.seconds.labels(name).observe(time.perf_counter() - start)


async def _predict(
    models: ServedModels,
    version: ServedVersion,
    read_body: Callable[[], Awaitable[bytes]],
    render: Callable[[PredictRequest, Columns], T],
) -> T:
    settings = models.settings
    if version.open_requests > settings.max_queue:
        raise RequestError(503, f"{settings.max_queue} requests are in the queue: try again later")
    limits = RequestLimits(settings.max_rows, settings.max_pixels)
    body = None
    try:
        async with asyncio.timeout(settings.timeout):
            content = body = await read_body()
            request = await in_thread_if_large(
                len(content), lambda: parse_request(content, version.signatures, limits)
            )
            outputs = await version.predict(request)
        size = sum(values.nbytes for values in outputs.values())
        return await in_thread_if_large(size, lambda: render(request, outputs))
    except TimeoutError:
        late, status = ("the request's body", 408) if body is None else ("the prediction", 504)
        raise RequestError(status, f"{late} took longer than {settings.timeout:g} s") from None


def too_large(limit: int) -> RequestError:
    return RequestError(413, f"the body must have no more than {limit:,} bytes")


async def in_thread_if_large(size: int, work: Callable[[], T]) -> T:
    """The result of the work, done in a thread if the bytes are too many to be quick."""
    return work() if size < LARGE_BYTES else await asyncio.to_thread(work)
