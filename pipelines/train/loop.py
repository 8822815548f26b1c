"""Training: steps over planned batches, evaluations, the best weights, checkpoints and resuming.

The next batch is a pure function of (seed, epoch, batch), and all else is in the checkpoint: a
resumed run ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import shlex
import time
from typing import NamedTuple

import numpy as np

from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.saved_files import DamagedError
from pipelines.core.settings import MOST_KEPT
from pipelines.core.types import JsonObject
from pipelines.data.batches import Plan
from pipelines.evaluate.evaluation import predict_split
from pipelines.runs import checkpoint
from pipelines.runs.metrics import RunMetrics
from pipelines.runs.progress import Bar
from pipelines.runs.signals import GracefulExit, Interruption
from pipelines.runs.tensorboard import Curves
from pipelines.train.batches import TrainBatches
from pipelines.train.best_weights import BestWeights
from pipelines.train.job import TrainingJob
from pipelines.train.learner import Learner, ema_weights
from pipelines.train.state import TrainingState

log = logging.getLogger(__name__)


class TrainingResult(NamedTuple):
    """The final state of training, and its cost.

    padding     share of an epoch's positions that are padding.
    checkpoint_share  time spent on checkpoints, as a share of the time of training.
    """

    state: TrainingState
    padding: float
    checkpoint_share: float
    examples_per_second: float
    tokens_per_second: float

    def record(self, metrics: RunMetrics) -> None:
        metrics.padding["train"] = self.padding
        metrics.saving["share_of_training"] = self.checkpoint_share
        metrics.throughput["train.examples_per_second"] = self.examples_per_second
        metrics.throughput["train.tokens_per_second"] = self.tokens_per_second


def train(job: TrainingJob) -> TrainingResult:
    """Trains the model and gives it its best weights, which are saved as model.keras too.

    Resumes from the run's last checkpoint. Raises GracefulExit when a signal asked to stop, and
    UserError when the loss is no longer finite.

    Of several workers only the chief evaluates and writes; a signal to one of them stops all.
    """
    loop = _TrainingLoop(job)
    loop.resume()
    with Interruption() as interruption:
        while not loop.state.finished:
            loop.run_epoch(interruption)
    if job.workers.is_chief:
        loop.best.restore_best(loop.state, loop.validation_scores)
    return loop.result()


class _TrainingLoop:
    """The parts of `train`, which share the job and the state."""

    def __init__(self, job: TrainingJob):
        self.task = job.task
        self.job, self.settings, self.run, self.workers = job, job.settings, job.run, job.workers
        self.batches = TrainBatches(job)
        self.state = TrainingState()
        # A task may train by other losses than those it is evaluated by.
        objective = job.task.objective(job.splits["train"], job.codec)
        self.learner = Learner(
            objective, job.model, job.codec, job.settings, self.batches.total_steps(), job.workers
        )
        self.best = BestWeights(job.model, job.settings, job.run)
        shows_curves = job.settings.tensorboard and job.workers.is_chief
        self.curves = Curves(job.run.tensorboard) if shows_curves else None
        self.clock = time.perf_counter()
        self.saved_at = self.clock

    def resume(self) -> None:
        """Restores the newest checkpoint that isn't damaged, if there is one."""
        saved = self.workers.broadcast(self._restore_newest() if self.workers.is_chief else None)
        self.learner.broadcast_state()
        self.learner.weights.after_restore()
        if saved is None:
            return
        self.state = TrainingState.from_checkpoint(saved)
        if self.curves is not None:
            self.curves.start_over(self.state.history)
        # The settings may have changed since: more epochs, or more patience.
        self.state.finished = self._is_finished()
        if not self.state.finished:
            log.info("Going on at epoch %d, step %d.", self.state.epoch + 1, self.state.step)

    def _restore_newest(self) -> JsonObject | None:
        """Restores the variables; returns the checkpoint's state."""
        ages = [age for age in range(MOST_KEPT) if self.run.checkpoint(age).exists()]
        for age in ages:
            try:
                return checkpoint.restore(
                    self.run.checkpoint(age),
                    self.learner.state_variables(),
                    TrainingState.from_checkpoint,
                )
            except DamagedError as error:
                if age == ages[-1]:
                    raise
                log.warning("%s. Going on from the checkpoint before.", error)
        return None

    def run_epoch(self, interruption: Interruption) -> None:
        """Trains from the state's batch to the end of the epoch, with its evaluations."""
        state = self.state
        order = self.batches.plan(state.epoch)
        title = f"epoch {state.epoch + 1}/{self.settings.epochs}"
        with Bar(
            title, len(order), "batches", done=state.batch, shows=self.workers.is_chief
        ) as bar:
            self._run_steps(order, interruption, bar)
        if state.batch >= len(order):
            state.epoch, state.batch = state.epoch + 1, 0
        state.finished = self._is_finished()
        self.save()
        number = self.workers.pending_signal(interruption.requested)
        if number is not None and not state.finished:
            raise self._graceful_exit(number)

    def _run_steps(self, order: Plan, interruption: Interruption, bar: Bar) -> None:
        state, settings = self.state, self.settings
        for batches in self.batches.groups(order, state.epoch, state.batch):
            self.workers.post_signal(interruption.requested)
            rate = self.learner.train_step(batches, state.step)
            state.step += 1
            state.batch += len(batches)
            state.clipped_steps += self.learner.was_clipped()
            state.steps_since_evaluation += 1
            bar.advance(len(batches), loss=self._finite_loss(), learning_rate=rate)
            last = state.batch >= len(order) or state.step == settings.max_steps
            due = settings.evaluate_every and state.step % settings.evaluate_every == 0
            if last or due:
                if self.workers.is_chief:
                    self._evaluate(order, rate)
                self._synchronize()
            if last or state.finished:
                break
            if (number := self.workers.pending_signal(interruption.requested)) is not None:
                self.save()
                raise self._graceful_exit(number)
            if time.perf_counter() - self.saved_at > settings.checkpoint_seconds:
                self.save()

    def _finite_loss(self) -> float:
        loss = self.learner.mean_loss()
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {self.state.step}: lower train.learning_rate or set "
                "train.clip_norm, and start a new run"
            )
        return loss

    def _evaluate(self, order: Plan, rate: float) -> None:
        """Scores the averaged weights on validation; saves them if they are the best so far."""
        state, settings = self.state, self.settings
        state.training_seconds += time.perf_counter() - self.clock
        with ema_weights(self.learner):
            scores = self.validation_scores()
            monitored = self.best.update(scores, state)
        self._record(
            {
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
                "clipped": state.clipped_steps / max(1, state.steps_since_evaluation),
                "seconds": round(state.training_seconds, 3),
            }
        )
        state.clipped_steps = state.steps_since_evaluation = 0
        self.learner.reset()
        self.clock = time.perf_counter()
        evaluations = state.evaluations_without_improvement
        if settings.patience is not None and evaluations >= settings.patience:
            log.info("No better %s for %d evaluations: stopping.", monitored, evaluations)

    def _synchronize(self) -> None:
        """Broadcasts the outcome of an evaluation, which only the chief makes."""
        self.state.evaluations_without_improvement = self.workers.broadcast(
            self.state.evaluations_without_improvement
        )
        self.state.finished = self._is_finished()
        if not self.workers.is_chief:
            self.learner.reset()

    def _is_finished(self) -> bool:
        state, settings = self.state, self.settings
        out_of_patience = (
            settings.patience is not None
            and state.evaluations_without_improvement >= settings.patience
        )
        out_of_steps = settings.max_steps is not None and state.step >= settings.max_steps
        return out_of_patience or out_of_steps or state.epoch >= settings.epochs

    def validation_scores(self) -> dict[str, tuple[float, bool]]:
        """Scores of the model's present weights: values, and whether higher ones are better."""
        job, split = self.job, self.job.splits["validation"]
        outputs = predict_split(job.predict, split, tokens=job.evaluation_tokens).outputs
        predictions = self.task.calibrate(job.model, outputs, split)
        ones = np.ones((1, len(split)))
        scores = self.task.score(predictions, split)
        return {
            name: (float(score.of(ones)[0]), score.metric.higher_is_better)
            for name, score in scores.items()
            if not score.metric.costly or name == self.settings.monitor
        }

    def _record(self, row: JsonObject) -> None:
        self.state.history.append(row)
        with atomic_write(self.run.history) as temporary:
            lines = [json.dumps(entry) for entry in self.state.history]
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if self.curves is not None:
            self.curves.add(row)
        scores = ", ".join(
            f"{key.partition('.')[2] or key} {value:.4f}"
            for key, value in row.items()
            if key.startswith("validation.")
        )
        log.info("step %d: train loss %.4f; validation %s", row["step"], row["train.loss"], scores)

    def save(self) -> None:
        """Writes a checkpoint; older ones move up by one. Its time isn't counted as training."""
        if not self.workers.is_chief:
            return
        now = time.perf_counter()
        self.state.training_seconds += now - self.clock
        for age in reversed(range(1, self.settings.checkpoints)):
            if (newer := self.run.checkpoint(age - 1)).exists():
                os.replace(newer, self.run.checkpoint(age))
        checkpoint.save(
            self.run.last, self.learner.state_variables(), dataclasses.asdict(self.state)
        )
        self.clock = self.saved_at = time.perf_counter()
        self.state.checkpoint_seconds += self.clock - now

    def _graceful_exit(self, number: int) -> GracefulExit:
        message = (
            f"Stopped at step {self.state.step}; everything is saved. "
            f"To go on: python main.py mode=train run={shlex.quote(str(self.run.directory))}"
        )
        return GracefulExit(message, number)

    def result(self) -> TrainingResult:
        lengths = self.batches.lengths
        epochs = self.state.step / self.batches.steps_per_epoch
        seconds = max(self.state.training_seconds, 1e-9)
        return TrainingResult(
            state=self.state,
            padding=self.batches.padding_share(),
            checkpoint_share=self.state.checkpoint_seconds / seconds,
            examples_per_second=len(lengths) * epochs / seconds,
            tokens_per_second=float(lengths.sum()) * epochs / seconds,
        )
