"""Plans and the thread that assembles batches."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.batches import Plan, assemble, padding_share, plan


def log_normal(count: int, middle: float, cap: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(np.log(middle), 0.6, count)
    return np.clip(np.exp(values), 1, cap).astype(np.int32)


def pairs(count: int) -> np.ndarray:
    source = log_normal(count, 13, 60)
    noise = np.random.default_rng(1).normal(0, 0.18, count)
    return np.stack([source, np.maximum(1, source * np.exp(noise)).astype(np.int32)], axis=1)


@given(
    lengths=st.integers(0, 3).flatmap(
        lambda fields: st.lists(
            st.lists(st.integers(1, 40), min_size=fields, max_size=fields), max_size=60
        ).map(lambda rows: np.asarray(rows, np.int32).reshape(len(rows), fields))
    ),
    tokens=st.integers(1, 200),
    seed=st.none() | st.integers(0, 5),
    maximum=st.none() | st.integers(1, 7),
)
def test_every_row_once_within_the_budget(
    lengths: np.ndarray, tokens: int, seed: int | None, maximum: int | None
) -> None:
    made = plan(lengths, tokens=tokens, seed=seed, maximum_examples=maximum)
    batches = [made[k] for k in range(len(made))]
    assert sorted(np.concatenate([*batches, []]).tolist()) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * lengths[rows].max(axis=0).sum() <= tokens
        assert len(rows) <= (maximum or len(lengths))
        assert len(rows) > 0


def test_pure_and_different_by_epoch_and_seed() -> None:
    lengths = log_normal(3000, 50, 200)[:, None]

    def made(seed: int, epoch: int) -> Plan:
        return plan(lengths, tokens=4096, seed=seed, epoch=epoch)

    def contents(p: Plan) -> set[tuple[int, ...]]:
        return {tuple(sorted(p[k].tolist())) for k in range(len(p))}

    first = made(1, 0)
    assert np.array_equal(first.order, made(1, 0).order)
    assert np.array_equal(first.bounds, made(1, 0).bounds)
    for other in (made(1, 1), made(2, 0)):
        assert len(contents(first) & contents(other)) < 0.1 * len(first)
    longest = [lengths[first[k]].max() for k in range(len(first))]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4


def test_without_seed_the_longest_come_first() -> None:
    lengths = np.array([[3], [9], [1], [9], [5]], np.int32)
    made = plan(lengths, tokens=18, seed=None)
    assert [made[k].tolist() for k in range(len(made))] == [[1, 3], [4, 0, 2]]
    assert padding_share(lengths, made) == pytest.approx(1 - 27 / 33)


@pytest.mark.parametrize(
    ("lengths", "options"),
    [
        (log_normal(25_000, 200, 256)[:, None], {"tokens": 16_384, "maximum_examples": 64}),
        (log_normal(25_000, 200, 400)[:, None], {"tokens": 16_384}),
        (pairs(29_000), {"tokens": 16_384, "maximum_examples": 64}),
        (pairs(100_000), {"tokens": 4096}),
    ],
)
def test_little_padding(lengths: np.ndarray, options: dict[str, int]) -> None:
    for epoch in range(2):
        made = plan(lengths, seed=3, epoch=epoch, **options)
        assert padding_share(lengths, made) < 0.05


class Rows:
    """A split whose rows are numbers."""

    def __init__(self, fail_at: int | None = None):
        self.fail_at = fail_at
        self.gathered = 0

    def gather(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        if self.gathered == self.fail_at:
            raise OSError("disk gone")
        self.gathered += 1
        return {"rows": rows}


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "batches"]


def test_batches_in_the_plans_order_from_any() -> None:
    made = plan(log_normal(200, 9, 30)[:, None], tokens=100, seed=1)
    every = [batch.tolist() for batch in assemble(Rows(), made, make=lambda c: c["rows"])]
    assert every == [made[k].tolist() for k in range(len(made))]
    rest = [batch["rows"].tolist() for batch in assemble(Rows(), made, start=7)]
    assert rest == every[7:]
    assert threads() == []


def test_the_thread_waits_and_ends_with_its_consumer() -> None:
    made = plan(np.ones((100, 1), np.int32), tokens=1, seed=1)
    split = Rows()
    batches = assemble(split, made, ahead=3)
    next(batches)
    time.sleep(0.2)
    assert split.gathered <= 5
    batches.close()
    assert threads() == []


def test_errors_reach_the_consumer() -> None:
    made = plan(np.ones((10, 1), np.int32), tokens=1, seed=1)
    batches = assemble(Rows(fail_at=2), made)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(OSError, match="disk gone"):
        next(batches)
    assert threads() == []


def test_mixed_lengths_keep_the_budget_and_every_row_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, (200, 2))
    mixed = plan(lengths, tokens=300, maximum_examples=12, seed=1, by_length=False)
    assert sorted(mixed.order) == list(range(200))
    for k in range(len(mixed)):
        rows = lengths[mixed[k]]
        assert len(rows) <= 12
        assert len(rows) * rows.max(axis=0).sum() <= 300
    similar = plan(lengths, tokens=300, maximum_examples=12, seed=1)
    assert padding_share(lengths, mixed) > padding_share(lengths, similar)
