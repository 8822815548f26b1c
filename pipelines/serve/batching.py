"""Adaptive batching: requests that come while the model is busy are answered together.

A recurrent model takes hardly longer for 64 rows than for one, so the busier the server the larger
its batches; who comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pipelines.serve.errors import RequestError

log = logging.getLogger(__name__)

Columns = Mapping[str, np.ndarray]
Ask = Callable[[str, Columns], Awaitable[dict[str, np.ndarray]]]


@dataclass(eq=False)
class Waiting:
    """A request in the queue. columns: by input's name, (rows, ...)."""

    signature: str
    columns: Columns
    rows: int
    answer: asyncio.Future[Columns] = field(default_factory=asyncio.Future)


class Batcher:
    """A queue before a model that answers one batch at a time.

    batch_rows  a batch holds no more rows than so many, unless one request alone does.
    batch_timeout  seconds that the model, once free, waits for as many requests as its last batch had.
    observe     is told the rows of each batch.
    """

    def __init__(
        self, ask: Ask, *, batch_rows: int, batch_timeout: float, observe: Callable[[int], None]
    ):
        self._ask = ask
        self._batch_rows = batch_rows
        self._batch_timeout = batch_timeout
        self._observe = observe
        self._groups: dict[Hashable, deque[Waiting]] = {}
        self._arrival = asyncio.Event()
        self._last_batch = 1
        self._task = asyncio.create_task(self._work())

    async def answer(
        self, signature: str, columns: Columns, *, rows: int, together: bool
    ) -> Columns:
        """The outputs for these columns. Raises RequestError.

        together  the signature's first axis is that of independent rows.
        """
        request = Waiting(signature, columns, rows)
        shapes = tuple(values.shape[1:] for values in columns.values())
        key = (signature, *columns, *shapes) if together else request
        self._groups.setdefault(key, deque()).append(request)
        self._arrival.set()
        return await request.answer

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _work(self) -> None:
        while True:
            batch = await self._next_batch()
            self._last_batch = len(batch)
            await self._answer(batch)

    async def _next_batch(self) -> list[Waiting]:
        """Of the group that waits longest. Groups stand in the order in which their turn comes."""
        while not self._groups:
            await self._arrived()
        key, group = next(iter(self._groups.items()))
        loop = asyncio.get_running_loop()
        patience = loop.time() + self._batch_timeout
        wanted = min(self._last_batch, self._batch_rows)
        while len(group) < wanted and await self._arrived(patience):
            pass
        batch, rows = [group.popleft()], 0
        rows = batch[0].rows
        while group and rows + group[0].rows <= self._batch_rows:
            batch.append(group.popleft())
            rows += batch[-1].rows
        del self._groups[key]
        if group:
            self._groups[key] = group
        return batch

    async def _arrived(self, until: float | None = None) -> bool:
        """Waits for the next request; false if there was none until that time of the loop's."""
        self._arrival.clear()
        try:
            async with asyncio.timeout_at(until):
                await self._arrival.wait()
        except TimeoutError:
            return False
        return True

    async def _answer(self, batch: list[Waiting]) -> None:
        """Answers each request, or tells it why not."""
        batch = [request for request in batch if not request.answer.done()]  # others gave up
        if not batch:
            return
        rows = [request.rows for request in batch]
        self._observe(sum(rows))
        columns = batch[0].columns
        if len(batch) > 1:
            columns = {n: np.concatenate([r.columns[n] for r in batch]) for n in columns}
        try:
            outputs = await self._ask(batch[0].signature, columns)
            if len(batch) > 1 and any(len(values) != sum(rows) for values in outputs.values()):
                raise RequestError(500, f"the model must answer {sum(rows)} rows with as many")
        except RequestError as failure:
            if failure.status == 400 and len(batch) > 1:  # the bad one must not spoil the others
                await self._answer(batch[: len(batch) // 2])
                await self._answer(batch[len(batch) // 2 :])
            else:
                _tell(batch, failure)
        except asyncio.CancelledError:
            _tell(batch, RequestError(503, "the server is shutting down"))
            raise
        except Exception:
            log.exception("A defect: a batch of %d requests is given up.", len(batch))
            _tell(batch, RequestError(500, "a defect of the server: its log has the details"))
        else:
            ends = np.cumsum(rows)
            for request, end in zip(batch, ends, strict=True):
                if not request.answer.done():
                    part = outputs if len(batch) == 1 else _rows(outputs, end - request.rows, end)
                    request.answer.set_result(part)


def _rows(outputs: Columns, start: int, end: int) -> Columns:
    return {name: values[start:end] for name, values in outputs.items()}


def _tell(batch: list[Waiting], failure: RequestError) -> None:
    for request in batch:
        if not request.answer.done():
            request.answer.set_exception(failure)
