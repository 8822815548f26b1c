"""Training: batches of a plan, evaluations, the best weights, and going on where it stopped.

What comes next is a pure function of (seed, epoch, batch), and everything that isn't is in the
checkpoint: a run that was killed and resumed ends with the weights of one that wasn't.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import math
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from models.seeds import stream
from pipelines.core.contracts import Batch, Codec, Split
from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.settings import MOST_KEPT, TrainSettings
from pipelines.core.task import Task
from pipelines.data.batches import Plan, admitted, assemble, padding_share, plan
from pipelines.distributed.workers import ALONE, Workers, with_zero_weights
from pipelines.evaluate.evaluation import predict_split
from pipelines.runs import checkpoint
from pipelines.runs.directory import Run
from pipelines.runs.progress import Bar
from pipelines.runs.signals import Interruption, Stopped
from pipelines.runs.tensorboard import Curves
from pipelines.train.best_weights import BestWeights
from pipelines.train.state import State
from pipelines.train.update import Averaged, Learner

log = logging.getLogger(__name__)


def train(
    task: Task,
    model: keras.Model,
    splits: Mapping[str, Split],
    codec: Codec,
    *,
    settings: TrainSettings,
    predict: Any,
    evaluation_tokens: int,
    seed: int,
    run: Run,
    workers: Workers = ALONE,
) -> tuple[State, dict[str, Any]]:
    """Fits the model and leaves it with its best weights, which are saved as model.keras too.

    predict(batch) gives predictions, as in `evaluate`. Goes on from the run's last checkpoint.
    Returns where it ended, and throughput and padding for metrics.json. Raises Stopped when a
    signal asked to stop; UserError when the loss is no longer finite.

    Of several workers only the chief evaluates and writes; a signal that one gets stops all.
    """
    training = _Training(
        task, model, splits, codec, settings, predict, evaluation_tokens, seed, run, workers
    )
    training.resume()
    with Interruption() as interruption:
        while not training.state.finished:
            training.epoch(interruption)
    if workers.is_chief:
        training.best.leave(training.state, training.scores)
    return training.state, training.facts()


class _Training:
    """The parts of `train` that share what it was given."""

    def __init__(
        self,
        task: Task,
        model: keras.Model,
        splits: Mapping[str, Split],
        codec: Codec,
        settings: TrainSettings,
        predict: Any,
        evaluation_tokens: int,
        seed: int,
        run: Run,
        workers: Workers,
    ):
        self.workers = workers
        self.task = task.training_task(splits["train"], codec)
        self.model, self.splits, self.codec = model, splits, codec
        self.settings = settings
        self.predict, self.evaluation_tokens, self.run = predict, evaluation_tokens, run
        self.order_seed, self.augment_seed = stream(seed, "order"), stream(seed, "augment")
        self.lengths = splits["train"].lengths()
        self.state = State()
        self.steps_per_epoch = self._steps(settings.curriculum)
        # Epochs differ by a batch or so; the schedule's end need not be exact.
        whole = max(0, settings.epochs - settings.curriculum) * self.steps_per_epoch
        begun = range(min(settings.curriculum, settings.epochs))
        expected = whole + sum(self._steps(epoch) for epoch in begun)
        total = min(expected, settings.max_steps or expected)
        self.learner = Learner(self.task, model, codec, settings, total, workers)
        self.best = BestWeights(model, settings, run)
        self.curves = Curves(run.tensorboard) if settings.tensorboard and workers.is_chief else None
        self.clock = time.perf_counter()
        self.saved_at = self.clock

    def _steps(self, epoch: int) -> int:
        """Updates of an epoch."""
        return math.ceil(len(self.plan(epoch)) / self.settings.accumulation_steps)

    def plan(self, epoch: int) -> Plan:
        how: dict[str, Any] = {
            "tokens": self.settings.batch_tokens,
            "maximum_examples": self.settings.batch_examples,
            "by_length": self.settings.bucket_by_length,
            "seed": self.order_seed,
            "epoch": epoch,
        }
        if epoch >= self.settings.curriculum:
            return plan(self.lengths, **how)
        rows = admitted(self.lengths, epoch, self.settings.curriculum)
        made = plan(self.lengths[rows], **how)
        return Plan(rows[made.order], made.bounds)

    def resume(self) -> None:
        """Goes on from the newest checkpoint that is whole, if there is any."""
        saved = self.workers.told(self._saved() if self.workers.is_chief else None)
        self.learner.share()
        self.learner.weights.restored()
        if saved is None:
            return
        self.state = State(**saved)
        if self.curves is not None:
            self.curves.start_over(self.state.history)
        # The settings may have changed since: more epochs, or more patience.
        self.state.finished = self._is_finished()
        if not self.state.finished:
            log.info("Going on at epoch %d, update %d.", self.state.epoch + 1, self.state.step)

    def _saved(self) -> dict[str, Any] | None:
        """The state of that checkpoint, whose variables are assigned."""
        ages = [age for age in range(MOST_KEPT) if self.run.checkpoint(age).exists()]
        for age in ages:
            try:
                return checkpoint.restore(self.run.checkpoint(age), self.learner.state_variables())
            except checkpoint.DamagedError as error:
                if age == ages[-1]:
                    raise
                log.warning("%s. Going on from the checkpoint before.", error)
        return None

    def epoch(self, interruption: Interruption) -> None:
        """From the state's batch to the epoch's end, with the evaluations that fall due."""
        state, settings = self.state, self.settings
        order = self.plan(state.epoch)
        title = f"epoch {state.epoch + 1}/{settings.epochs}"
        with Bar(
            title, len(order), "batches", done=state.batch, shows=self.workers.is_chief
        ) as bar:
            for batches in self._updates(order, state.batch):
                self.workers.ask(interruption.requested)
                rate = self.learner.update(batches, state.step)
                state.step += 1
                state.batch += len(batches)
                state.clipped += self.learner.clipped()
                state.counted += 1
                bar.advance(len(batches), loss=self._finite_loss(), learning_rate=rate)
                last = state.batch >= len(order) or state.step == settings.max_steps
                due = settings.evaluate_every and state.step % settings.evaluate_every == 0
                if last or due:
                    if self.workers.is_chief:
                        self._evaluate(order, rate)
                    self._agree()
                if last or state.finished:
                    break
                if (number := self.workers.asked(interruption.requested)) is not None:
                    self.save()
                    raise self._stopped(number)
                if time.perf_counter() - self.saved_at > settings.checkpoint_seconds:
                    self.save()
        if state.batch >= len(order):
            state.epoch, state.batch = state.epoch + 1, 0
        state.finished = self._is_finished()
        self.save()
        number = self.workers.asked(interruption.requested)
        if number is not None and not state.finished:
            raise self._stopped(number)

    def _updates(self, order: Plan, first: int) -> Iterator[list[Batch]]:
        pending: list[Batch] = []
        make = self._augmented(self.state.epoch, first)
        ahead = assemble(self.splits["train"], order, make=make, start=first)
        with contextlib.closing(ahead) as batches:
            for count, batch in enumerate(batches, start=first + 1):
                pending.append(batch)
                if len(pending) == self.settings.accumulation_steps or count == len(order):
                    yield pending
                    pending = []

    def _augmented(self, epoch: int, first: int) -> Callable[[dict[str, np.ndarray]], Batch]:
        """Makes the epoch's batches from number `first`, one after the other."""
        numbers = itertools.count(first)

        def make(columns: dict[str, np.ndarray]) -> Batch:
            random = np.random.default_rng([self.augment_seed, epoch, next(numbers)])
            # Whole batches are augmented, so that random numbers don't depend on the workers.
            columns = self.task.augment(columns, self.codec, random)
            columns, counts = self.workers.part(columns)
            batch = self.task.batch(columns, self.codec)
            return batch if counts else with_zero_weights(batch)

        return make

    def _finite_loss(self) -> float:
        loss = self.learner.mean_loss()
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at update {self.state.step}: lower train.learning_rate or set "
                "train.clip_norm, and start a new run"
            )
        return loss

    def _evaluate(self, order: Plan, rate: float) -> None:
        """Scores on validation, with the averaged weights; keeps them if they are the best."""
        state, settings = self.state, self.settings
        trained_seconds = time.perf_counter() - self.clock
        state.seconds += trained_seconds
        with Averaged(self.learner):
            scores = self.scores()
            name = self.best.offer(scores, state)
        row = {
            "epoch": round(state.epoch + state.batch / len(order), 4),
            "step": state.step,
            "train.loss": self.learner.mean_loss(),
            **{
                f"validation.{key}": value
                for key, (value, _) in scores.items()
                if math.isfinite(value)
            },
            "learning_rate": rate,
            "gradient_norm": self.learner.gradient_norm(),
            "clipped": state.clipped / max(1, state.counted),
            "seconds": round(state.seconds, 3),
        }
        self._record(row)
        state.clipped = state.counted = 0
        self.learner.reset()
        self.clock = time.perf_counter()
        if settings.patience is not None and state.stale >= settings.patience:
            log.info("No better %s for %d evaluations: stopping.", name, state.stale)

    def _agree(self) -> None:
        """On what the chief's evaluation means for what comes next."""
        self.state.stale = self.workers.told(self.state.stale)
        self.state.finished = self._is_finished()
        if not self.workers.is_chief:
            self.learner.reset()

    def _is_finished(self) -> bool:
        state, settings = self.state, self.settings
        impatient = settings.patience is not None and state.stale >= settings.patience
        enough = settings.max_steps is not None and state.step >= settings.max_steps
        return impatient or enough or state.epoch >= settings.epochs

    def scores(self) -> dict[str, tuple[float, bool]]:
        """Of the model as it is, on validation: values, and whether higher ones are better."""
        split = self.splits["validation"]
        predictions = predict_split(
            self.predict, split, self.task, self.codec, tokens=self.evaluation_tokens
        ).outputs
        ones = np.ones((1, len(split)))
        scores = self.task.score(predictions, split)
        return {
            name: (float(score.of(ones)[0]), score.higher_is_better)
            for name, score in scores.items()
            if not score.costly or name == self.settings.monitor
        }

    def _record(self, row: dict[str, Any]) -> None:
        self.state.history.append(row)
        with atomic_write(self.run.history) as temporary:
            lines = [json.dumps(entry) for entry in self.state.history]
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if self.curves is not None:
            self.curves.add(row)
        shown = ", ".join(
            f"{key.partition('.')[2] or key} {value:.4f}"
            for key, value in row.items()
            if key.startswith("validation.")
        )
        log.info("update %d: train loss %.4f; validation %s", row["step"], row["train.loss"], shown)

    def save(self) -> None:
        """The state as of now, beside older ones. The clock stands still meanwhile."""
        if not self.workers.is_chief:
            return
        now = time.perf_counter()
        self.state.seconds += now - self.clock
        for age in reversed(range(1, self.settings.checkpoints)):
            if (newer := self.run.checkpoint(age - 1)).exists():
                os.replace(newer, self.run.checkpoint(age))
        checkpoint.save(
            self.run.last, self.learner.state_variables(), dataclasses.asdict(self.state)
        )
        self.clock = self.saved_at = time.perf_counter()
        self.state.saving += self.clock - now

    def _stopped(self, number: int) -> Stopped:
        told = (
            f"Stopped at update {self.state.step}; everything is saved. "
            f"To go on: python main.py mode=train run={shlex.quote(str(self.run.directory))}"
        )
        return Stopped(told, number)

    def facts(self) -> dict[str, Any]:
        """Of a whole epoch's plan: positions that are padding, and what a second covers."""
        share = padding_share(self.lengths, self.plan(self.settings.curriculum))
        epochs = self.state.step / self.steps_per_epoch
        seconds = max(self.state.seconds, 1e-9)
        return {
            "padding": {"train": share},
            "saving": {"share_of_training": self.state.saving / seconds},
            "throughput": {
                "train.examples_per_second": len(self.lengths) * epochs / seconds,
                "train.tokens_per_second": float(self.lengths.sum()) * epochs / seconds,
            },
        }
