"""How answers change without a part of the model's input: a step, attention, or the state.

These measurements run the model's ordinary graph on the same sample as `inspect_model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.inspection import record_steps
from pipelines.core.contracts import Batch
from pipelines.core.task import Change, Diagnosable, RecurrentStack, Trained
from pipelines.core.types import Nest
from pipelines.evaluate.diagnostics.sample import Sample, require_diagnosable, to_tensors
from pipelines.graphs.tracing import batch_signature

DISTANCES = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987)
"""Distances, in steps back from the answer, at which a step is occluded."""


class Occlusion(NamedTuple):
    """The change of answers when a single step of the input is blank.

    distances  (D,) steps back from the answer.
    change     (B, D) absolute change of an answer's log-odds, or of the estimated number; NaN where
               the sequence has no such step.
    """

    distances: np.ndarray
    change: np.ndarray


def occlude_steps(trained: Trained, sample: Sample, reader: RecurrentStack) -> Occlusion:
    """Blanks one step at a time, counted back from the last one or from the sample's places."""
    task, model = require_diagnosable(trained.task), trained.model
    answer = tf.function(
        lambda batch: task.teacher_forced(model, batch).answers,
        input_signature=[batch_signature(trained.codec.spec, sample.batch)],
        autograph=False,
    )
    values = np.asarray(sample.batch.inputs[reader.field])
    steps = values.shape[1]
    distances = np.array([d for d in DISTANCES if d < steps])
    # A stack that has read all before the first answer has one last step for all answers.
    columns = list(sample.places.T) if reader.in_step else [_last_steps(sample.batch, reader)]
    change = []
    whole = answer(sample.batch).numpy()
    for place in columns:
        row = np.full((len(place), len(distances)), np.nan)
        for number, distance in enumerate(distances):
            found = place - distance
            there = np.flatnonzero(found >= 0)
            changed = values.copy()
            changed[there, found[there]] = reader.blank
            inputs = {**sample.batch.inputs, reader.field: changed}
            changed_answers = answer(sample.batch._replace(inputs=inputs)).numpy()
            moved = _answer_change(changed_answers, whole, sample, place, reader)
            row[there, number] = moved[there]
        change.append(row)
    return Occlusion(distances, np.concatenate(change))


def _last_steps(batch: Batch, reader: RecurrentStack) -> np.ndarray:
    """The last step of each sequence."""
    return np.asarray(batch.inputs[f"{reader.field}_length"]) - 1


def _answer_change(
    changed_answers: np.ndarray,
    whole: np.ndarray,
    sample: Sample,
    place: np.ndarray,
    reader: RecurrentStack,
) -> np.ndarray:
    """(B,) the change of the answer at `place`, of the only one, or of the mean over all places."""
    change = np.abs(changed_answers - whole)
    if change.ndim == 1:
        return change
    if reader.in_step:
        return np.take_along_axis(change, place[:, None], axis=1)[:, 0]
    if not sample.places.shape[1]:
        return change.mean(1)
    return np.take_along_axis(change, sample.places, axis=1).mean(1)


class Paths(NamedTuple):
    """The two paths from the input of an encoder-decoder to its output: attention and the state.

    attention  (B, P) share of the input's influence that comes through attention; the rest comes
               through the decoder's first state. Influence is the sum over the input of ‖∂y/∂x‖,
               without gradients through the other path.
    written    (P,) mean number of tokens generated before the answer.
    nats       nats a reference token by which the loss rises when the attended memory, the first
               state, or both are set to 0.
    """

    attention: np.ndarray
    written: np.ndarray
    nats: Mapping[str, float]


def _stop_gradients(nest: Nest) -> Nest:
    return tf.nest.map_structure(tf.stop_gradient, nest)


def _zero(nest: Nest) -> Nest:
    return tf.nest.map_structure(lambda x: tf.zeros_like(x) if x.dtype.is_floating else x, nest)


WITHOUT: Mapping[str, Change] = {
    "attention": lambda memory, state: (_zero(memory), state),
    "state": lambda memory, state: (memory, _zero(state)),
    "both": lambda memory, state: (_zero(memory), _zero(state)),
}


def compare_paths(trained: Trained, sample: Sample) -> Paths:
    """Compares the paths of a task whose model attends to its input."""
    task, model = require_diagnosable(trained.task), trained.model
    only = {
        "attention": lambda memory, state: (memory, _stop_gradients(state)),
        "state": lambda memory, state: (_stop_gradients(memory), state),
    }
    norms = {name: _origin_norms(task, model, sample, change) for name, change in only.items()}
    total = norms["attention"] + norms["state"]
    share = np.where(total > 0, norms["attention"] / np.where(total > 0, total, 1), np.nan)
    return Paths(share, sample.places.mean(0), _nats_lost(trained, sample))


def _origin_norms(
    task: Diagnosable, model: keras.Model, sample: Sample, change: Change
) -> np.ndarray:
    """(B, P): the sum over the input of ‖∂ answer / ∂ x‖, through the path that `change` leaves."""
    batch = to_tensors(sample.batch)
    readers = {
        name: reader for name, reader in task.recurrent_stacks(model).items() if not reader.in_step
    }
    with (
        tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
        record_steps({name: reader.stack for name, reader in readers.items()}, tape) as watches,
    ):
        origin = None
        if task.image_field is not None:
            origin = tf.cast(batch.inputs[task.image_field], tf.float32)
            tape.watch(origin)
            batch.inputs[task.image_field] = origin
        answers = task.teacher_forced(model, batch, change).answers
        chosen = [tf.gather(answers, place, batch_dims=1) for place in sample.places.T]
    if origin is None:
        origin = next(iter(watches.values()))[0][0].source
    columns = []
    for answer in chosen:
        gradient = tape.gradient(answer, origin, unconnected_gradients="zero").numpy()
        norms = np.linalg.norm(gradient, axis=-1)
        if task.image_field is None:
            columns.append(norms.sum(0))
        else:
            columns.append(norms.reshape(len(norms), -1).sum(1))
    return np.stack(columns, axis=1)


def _nats_lost(trained: Trained, sample: Sample) -> dict[str, float]:
    task, model = require_diagnosable(trained.task), trained.model
    signature = [batch_signature(trained.codec.spec, sample.batch)]

    def mean_loss(change: Change | None) -> float:
        graph = tf.function(
            lambda batch: task.teacher_forced(model, batch, change).losses,
            input_signature=signature,
            autograph=False,
        )
        weights = np.asarray(sample.batch.weights)
        return float((graph(sample.batch).numpy() * weights).sum() / weights.sum())

    whole = mean_loss(None)
    return {name: mean_loss(change) - whole for name, change in WITHOUT.items()}
