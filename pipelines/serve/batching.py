"""Adaptive batching: requests that arrive while the model is busy become one batch.

A recurrent model takes hardly longer for 64 rows than for one. So the busier the server, the larger
its batches; a request that arrives alone waits for no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

import numpy as np

from pipelines.serve.errors import InternalError, RequestError
from pipelines.serve.predict_request import Columns, PredictRequest, fits_in_batch, merge_columns

log = logging.getLogger(__name__)

PredictFunction = Callable[[str, Columns], Awaitable[Columns]]
"""Runs a signature by name: its inputs -> its outputs. Raises RequestError."""


@dataclass(eq=False)
class QueuedRequest:
    """A request in the queue, and the future that its outputs are put into."""

    request: PredictRequest
    outputs: asyncio.Future[Columns] = field(default_factory=asyncio.Future)


class Batcher:
    """A queue before a model that predicts one batch at a time.

    batch_rows     most rows in a batch; a single request may have more.
    batch_timeout  seconds that an idle model waits for as many requests as its last batch had.
    observe        called with the number of rows of each batch.
    """

    def __init__(
        self,
        predict: PredictFunction,
        *,
        batch_rows: int,
        batch_timeout: float,
        observe: Callable[[int], None],
    ):
        self._predict = predict
        self._batch_rows = batch_rows
        self._batch_timeout = batch_timeout
        self._observe = observe
        self._groups: dict[Hashable, deque[QueuedRequest]] = {}
        self._arrival = asyncio.Event()
        self._last_batch_size = 1
        self._task = asyncio.create_task(self._run())

    async def predict(self, request: PredictRequest) -> Columns:
        """The outputs for a request. Raises RequestError."""
        queued = QueuedRequest(request)
        self._groups.setdefault(request.batch_key, deque()).append(queued)
        self._arrival.set()
        return await queued.outputs

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            batch = await self._next_batch()
            self._last_batch_size = len(batch)
            await self._predict_batch(batch)

    async def _next_batch(self) -> list[QueuedRequest]:
        """A batch of the group that has waited longest.

        The dictionary keeps groups in the order of their turns: a group from which a batch was
        taken goes to the end, so that no kind of request can hold up the others.
        """
        while not self._groups:
            await self._wait_for_arrival()
        key, group = next(iter(self._groups.items()))
        deadline = asyncio.get_running_loop().time() + self._batch_timeout
        # As many clients as waited for the last batch are likely to send again at once.
        expected = min(self._last_batch_size, self._batch_rows)
        while len(group) < expected and await self._wait_for_arrival(deadline):
            pass
        batch = [group.popleft()]
        rows = batch[0].request.rows
        while group and rows + group[0].request.rows <= self._batch_rows:
            if not fits_in_batch([queued.request for queued in (*batch, group[0])]):
                break
            batch.append(group.popleft())
            rows += batch[-1].request.rows
        del self._groups[key]
        if group:
            self._groups[key] = group
        return batch

    async def _wait_for_arrival(self, deadline: float | None = None) -> bool:
        """Waits for the next request; false if none arrived before the deadline."""
        self._arrival.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._arrival.wait()
        except TimeoutError:
            return False
        return True

    async def _predict_batch(self, batch: list[QueuedRequest]) -> None:
        """Gives each request of the batch its outputs or its error."""
        batch = [queued for queued in batch if not queued.outputs.done()]  # some timed out
        if not batch:
            return
        requests = [queued.request for queued in batch]
        rows = sum(request.rows for request in requests)
        self._observe(rows)
        try:
            outputs = await self._predict(requests[0].signature.name, merge_columns(requests))
            if len(batch) > 1 and any(len(values) != rows for values in outputs.values()):
                raise RequestError(500, f"the model must return {rows} rows for {rows} rows")
        except RequestError as error:
            if error.status == 400 and len(batch) > 1:
                # One invalid request must not fail the others: halves find it.
                await self._predict_batch(batch[: len(batch) // 2])
                await self._predict_batch(batch[len(batch) // 2 :])
            else:
                _fail(batch, error)
        except asyncio.CancelledError:
            _fail(batch, RequestError(503, "the server is shutting down"))
            raise
        except Exception:
            log.exception("A defect: a batch of %d requests has failed.", len(batch))
            _fail(batch, InternalError())
        else:
            _distribute(batch, outputs)


def _distribute(batch: list[QueuedRequest], outputs: Columns) -> None:
    """Gives each request its rows of the outputs. Those of a single request may have no rows."""
    if len(batch) == 1 and not batch[0].outputs.done():
        batch[0].outputs.set_result(outputs)
    ends = np.cumsum([queued.request.rows for queued in batch])
    for queued, end in zip(batch, ends, strict=True):
        if queued.outputs.done():
            continue
        start = end - queued.request.rows
        queued.outputs.set_result({name: values[start:end] for name, values in outputs.items()})


def _fail(batch: list[QueuedRequest], error: RequestError) -> None:
    for queued in batch:
        if not queued.outputs.done():
            queued.outputs.set_exception(error)
