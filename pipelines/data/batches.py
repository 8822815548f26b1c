"""Which examples make a batch, and batches assembled ahead of the training loop.

A plan is a pure function of lengths, budget, seed and epoch: a resumed run, or another process,
finds the same batches in the same order.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.core.contracts import Codec, Split
from pipelines.core.task import Task

JITTER = 0.04
"""Lengths are varied by up to this share before sorting, so that neighbours differ by epoch."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Batches in order: plan[k] are the rows of batch k.

    order   (N,) every row once; a batch is a slice of it.
    bounds  (batches, 2) int64: where in `order` batch k starts and stops.
    """

    order: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.bounds)

    def __getitem__(self, k: int) -> np.ndarray:
        start, stop = self.bounds[k]
        return self.order[start:stop]


def plan(
    lengths: np.ndarray,
    *,
    tokens: int,
    seed: int | None,
    epoch: int = 0,
    maximum_examples: int | None = None,
    by_length: bool = True,
) -> Plan:
    """Batches of examples of similar length, each as large as the budget allows.

    lengths (N, F). A batch has at most `tokens` positions, padding included: rows times the sum
    over fields of the longest; a single longer example is a batch of its own. Every row occurs
    once. With a seed, batches differ from epoch to epoch and come in random order; without, the
    longest come first. by_length: False mixes lengths.
    """
    lengths = np.asarray(lengths)
    count = len(lengths)
    limit = count if maximum_examples is None else maximum_examples
    if tokens < 1 or (count and limit < 1):
        raise ValueError(f"a batch must hold something: tokens {tokens}, examples {limit}")
    random = None if seed is None else np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    order = _by_length(lengths if by_length else lengths[:, :0], tokens, limit, random)
    stops = _fill(lengths, order, tokens, limit)
    bounds = np.stack([np.concatenate([[0], stops[:-1]]), stops], axis=1) if count else stops
    bounds = bounds.reshape(-1, 2).astype(np.int64)
    if random is not None:
        bounds = bounds[random.permutation(len(bounds))]
    return Plan(order, bounds)


def costs_of(task: Task, codec: Codec, split: Split) -> np.ndarray:
    """(N, F): what each sequence of an example costs in a batch's budget; `plan` takes it.

    That is its length, unless the task says that a position of the field costs more or less than
    1, such as the bytes of a frame.
    """
    lengths, costs = split.lengths(), task.costs(codec.spec)
    if not costs:
        return lengths
    names = [name for name, field in codec.spec.fields.items() if field.is_sequence]
    return np.ceil(lengths * [costs.get(name, 1.0) for name in names]).astype(np.int64)


def curriculum_mask(lengths: np.ndarray, epoch: int, curriculum: int) -> np.ndarray:
    """Rows of lengths (N, F) that an epoch has: all of them from epoch `curriculum` on.

    Before, those no longer, over all fields, than the shortest (epoch + 1) / (curriculum + 1).
    """
    count = len(lengths)
    if epoch >= curriculum or not count:
        return np.arange(count)
    total = np.asarray(lengths).sum(axis=1)
    share = (epoch + 1) / (curriculum + 1)
    longest = np.sort(total)[max(1, int(np.ceil(share * count))) - 1]
    return np.flatnonzero(total <= longest)


def padding_share(lengths: np.ndarray, plan: Plan) -> float:
    """Padded positions / all positions of the plan's batches, over all fields; 0 without fields."""
    lengths = np.asarray(lengths)
    if not lengths.size:
        return 0.0
    bounds = plan.bounds[np.argsort(plan.bounds[:, 0])]
    rows = bounds[:, 1] - bounds[:, 0]
    positions = 0
    for f in range(lengths.shape[1]):
        positions += int(rows @ np.maximum.reduceat(lengths[plan.order, f], bounds[:, 0]))
    return 1 - int(lengths.sum(dtype=np.int64)) / positions if positions else 0.0


def _by_length(
    lengths: np.ndarray, tokens: int, limit: int, random: np.random.Generator | None
) -> np.ndarray:
    """(N,) rows such that neighbours are alike in every field, longest first.

    Sort-tile-recursive (Leutenegger et al. 1997): the first field is cut into strips, each strip
    into strips by the next field, and so on; the last field is sorted.
    """
    count, fields = lengths.shape
    kind = np.int32 if count < 2**31 else np.int64
    if fields == 0:
        return (random.permutation(count) if random else np.arange(count)).astype(kind)
    batches = max(1, int(lengths.sum(dtype=np.int64)) // tokens, count // max(limit, 1))
    strip = np.zeros(count, np.int32)
    strips = 1
    for f in range(fields - 1):
        strip_count = max(1, round(2 * (batches / strips) ** (1 / (fields - f))))
        strip = strip * strip_count + _strips(lengths[:, f], strip_count, random)
        strips *= strip_count
    last = lengths[:, -1].astype(np.float32)
    if random is not None:
        last *= 1 + JITTER * (random.random(count, np.float32) - 0.5)
        last += random.random(count, np.float32)
    # Strips lie end to end on one axis, every other one backwards, so that a batch which spans two
    # strips holds examples of similar length.
    span = np.float32(last.max() + 1) if count else np.float32(1)
    key = np.where(strip % 2 == 1, last, span - last)
    if strips > 1:
        key = key + strip * np.float64(span)
    return np.argsort(key, kind="quicksort" if random else "stable").astype(kind)


def _strips(lengths: np.ndarray, strips: int, random: np.random.Generator | None) -> np.ndarray:
    """(N,) int32 in [0, strips): of about equal numbers of rows, 0 the longest.

    Equal lengths share a strip: a cut between them would put two lengths into most batches.
    """
    counts = np.bincount(lengths)
    longer = np.cumsum(counts[::-1])[::-1] - counts
    offset = random.random() if random is not None else 0.5
    of_length = (longer * (strips / max(len(lengths), 1)) + offset).astype(np.int32)
    return np.minimum(of_length, strips - 1)[lengths]


def _fill(lengths: np.ndarray, order: np.ndarray, tokens: int, limit: int) -> np.ndarray:
    """(batches,) where each batch stops in `order`, every one filled as far as it goes."""
    ordered = lengths[order]
    single = np.maximum(ordered.sum(axis=1), 1)
    count, start = len(order), 0
    stops = []
    while start < count:
        # The longest is at least the first, so no batch can have more rows than this.
        most = min(limit, max(1, tokens // int(single[start])), count - start)
        window = ordered[start : start + most]
        if most * max(int(window.max(axis=0).sum()), 1) > tokens and most > 1:
            longest = np.maximum.accumulate(window, axis=0).sum(axis=1, dtype=np.int64)
            cost = np.maximum(longest, 1) * np.arange(1, most + 1)
            most = max(1, int(np.searchsorted(cost, tokens, side="right")))
        start += most
        stops.append(start)
    return np.asarray(stops, np.int64)


def assemble(
    split: Split,
    plan: Plan,
    *,
    make: Callable[[dict[str, np.ndarray]], Any] | None = None,
    start: int = 0,
    ahead: int = 8,
) -> Generator[Any, None, None]:
    """The plan's batches from number `start`, made in a thread that is `ahead` batches ahead.

    Yields make(columns) of the split's padded columns. What `make` or the split raises, is raised
    here. The thread ends when the iterator is exhausted, closed or dropped.
    """
    ready: queue.Queue[tuple[Any, BaseException | None] | None] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(item: tuple[Any, BaseException | None] | None) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                break
            except queue.Full:
                continue

    def work() -> None:
        try:
            for k in range(start, len(plan)):
                if stop.is_set():
                    return
                columns = split.gather(plan[k])
                put((make(columns) if make else columns, None))
            put(None)
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            batch, error = item
            if error is not None:
                raise error
            yield batch
    finally:
        stop.set()
        thread.join()
