"""The batches of training: planned by length, augmented, and shared out to the workers.

What comes next is a pure function of (seed, epoch, batch), so a resumed run sees the same batches.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from models.seeds import stream
from pipelines.core.contracts import Batch
from pipelines.data.batches import Plan, assemble, costs_of, curriculum_mask, padding_share, plan
from pipelines.distributed.workers import with_zero_weights
from pipelines.train.job import TrainingJob


class TrainBatches:
    """A training split's batches, epoch by epoch, accumulation_steps of them for each step."""

    def __init__(self, job: TrainingJob):
        self.task, self.codec, self.split = job.task, job.codec, job.splits["train"]
        self.settings, self.workers = job.settings, job.workers
        self.order_seed = stream(job.seed, "order")
        self.augment_seed = stream(job.seed, "augment")
        self.lengths = self.split.lengths()
        self.costs = costs_of(self.task, self.codec, self.split)
        self.steps_per_epoch = self._steps(self.settings.curriculum)

    def total_steps(self) -> int:
        """Training steps in all. Epochs may differ by a step, so it is not exact."""
        settings = self.settings
        full = max(0, settings.epochs - settings.curriculum) * self.steps_per_epoch
        partial = range(min(settings.curriculum, settings.epochs))
        expected = full + sum(self._steps(epoch) for epoch in partial)
        return min(expected, settings.max_steps or expected)

    def _steps(self, epoch: int) -> int:
        return math.ceil(len(self.plan(epoch)) / self.settings.accumulation_steps)

    def plan(self, epoch: int) -> Plan:
        """The examples of each batch of the epoch; during a curriculum, of the admitted."""
        if epoch >= self.settings.curriculum:
            return self._plan(self.costs, epoch)
        rows = curriculum_mask(self.lengths, epoch, self.settings.curriculum)
        of_rows = self._plan(self.costs[rows], epoch)
        return Plan(rows[of_rows.order], of_rows.bounds)

    def _plan(self, costs: np.ndarray, epoch: int) -> Plan:
        return plan(
            costs,
            tokens=self.settings.batch_tokens,
            maximum_examples=self.settings.batch_examples,
            by_length=self.settings.bucket_by_length,
            seed=self.order_seed,
            epoch=epoch,
        )

    def groups(self, order: Plan, epoch: int, first: int) -> Iterator[list[Batch]]:
        """The batches of each training step, from batch number `first` of the epoch's plan."""
        group: list[Batch] = []
        make = self._make_batch(epoch, first)
        with contextlib.closing(assemble(self.split, order, make=make, start=first)) as batches:
            for count, batch in enumerate(batches, start=first + 1):
                group.append(batch)
                if len(group) == self.settings.accumulation_steps or count == len(order):
                    yield group
                    group = []

    def _make_batch(self, epoch: int, first: int) -> Callable[[dict[str, np.ndarray]], Batch]:
        """A function that makes the epoch's batches from number `first`, one after the other."""
        numbers = itertools.count(first)

        def make(columns: dict[str, np.ndarray]) -> Batch:
            random = np.random.default_rng([self.augment_seed, epoch, next(numbers)])
            # Whole batches are augmented, so that random numbers don't depend on the workers.
            columns = self.task.augment(columns, self.codec, random)
            columns, counts = self.workers.shard(columns)
            batch = self.task.batch(columns, self.codec)
            return batch if counts else with_zero_weights(batch)

        return make

    def padding_share(self) -> float:
        """Share of positions that are padding, in an epoch with all examples."""
        return padding_share(self.lengths, self.plan(self.settings.curriculum))
