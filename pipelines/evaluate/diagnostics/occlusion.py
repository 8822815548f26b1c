"""What changes when something is taken away: a step that was read, attention, or the state.

With the model's ordinary graph, on the same sample as `look`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.inspection import record_steps
from pipelines.core.contracts import Batch
from pipelines.core.task import Change, Diagnosable, RecurrentStack, Trained
from pipelines.evaluate.diagnostics.sample import Sample, diagnosable, tensors
from pipelines.graphs.tracing import batch_signature

DISTANCES = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987)
"""Steps back at which one is taken away."""


class Taken(NamedTuple):
    """distances (D,), and (B, D) how much an answer moves when the step so far back is blank: the
    absolute change of its log-odds, or of the number that is estimated; NaN where there is none.
    """

    distances: np.ndarray
    moved: np.ndarray


def occlusion(trained: Trained, sample: Sample, reader: RecurrentStack) -> Taken:
    """Steps are taken away one at a time, back from the last, or from each place of the sample."""
    task, model = diagnosable(trained.task), trained.model
    answer = tf.function(
        lambda batch: task.teacher_forced(model, batch).answers,
        input_signature=[batch_signature(trained.codec.spec, sample.batch)],
        autograph=False,
    )
    given = np.asarray(sample.batch.inputs[reader.field])
    steps = given.shape[1]
    distances = np.array([d for d in DISTANCES if d < steps])
    # Of what was read before, all answers together say how much a step counts.
    columns = list(sample.places.T) if reader.in_step else [_ends(sample.batch, reader)]
    moved = []
    whole = answer(sample.batch).numpy()
    for place in columns:
        row = np.full((len(place), len(distances)), np.nan)
        for number, distance in enumerate(distances):
            found = place - distance
            there = np.flatnonzero(found >= 0)
            changed = given.copy()
            changed[there, found[there]] = reader.blank
            inputs = {**sample.batch.inputs, reader.field: changed}
            said = answer(sample.batch._replace(inputs=inputs)).numpy()
            row[there, number] = _difference(said, whole, sample, place, reader)[there]
        moved.append(row)
    return Taken(distances, np.concatenate(moved))


def _ends(batch: Batch, reader: RecurrentStack) -> np.ndarray:
    """The last step of each sequence."""
    return np.asarray(batch.inputs[f"{reader.field}_length"]) - 1


def _difference(
    said: np.ndarray, whole: np.ndarray, sample: Sample, place: np.ndarray, reader: RecurrentStack
) -> np.ndarray:
    """(B,) how far answers moved: the one at `place`, the only one, or the mean over places."""
    change = np.abs(said - whole)
    if change.ndim == 1:
        return change
    if reader.in_step:
        return np.take_along_axis(change, place[:, None], axis=1)[:, 0]
    if not sample.places.shape[1]:
        return change.mean(1)
    return np.take_along_axis(change, sample.places, axis=1).mean(1)


class Paths(NamedTuple):
    """Of a model that writes: by which way what was read comes into what is written.

    attention (B, P)  share of the influence of what was read that comes through attention; the rest
                      comes through the state that writing begins with. Influence is the sum over
                      what was read of ‖∂y/∂x‖, with the other way held still.
    written (P,)      mean number of tokens written by then.
    nats      nats a token of the reference that are lost without either: with what is attended to,
              or the first state, set to 0; "neither" is both.
    """

    attention: np.ndarray
    written: np.ndarray
    nats: Mapping[str, float]


def _stopped(nest: Any) -> Any:
    return tf.nest.map_structure(tf.stop_gradient, nest)


def _zeroed(nest: Any) -> Any:
    return tf.nest.map_structure(lambda x: tf.zeros_like(x) if x.dtype.is_floating else x, nest)


WITHOUT: Mapping[str, Change] = {
    "attention": lambda memory, state: (_zeroed(memory), state),
    "state": lambda memory, state: (memory, _zeroed(state)),
    "both": lambda memory, state: (_zeroed(memory), _zeroed(state)),
}


def paths(trained: Trained, sample: Sample) -> Paths:
    """For a task whose model attends to its input."""
    task, model = diagnosable(trained.task), trained.model
    only = {
        "attention": lambda memory, state: (memory, _stopped(state)),
        "state": lambda memory, state: (_stopped(memory), state),
    }
    norms = {name: _origin_norms(task, model, sample, change) for name, change in only.items()}
    total = norms["attention"] + norms["state"]
    share = np.where(total > 0, norms["attention"] / np.where(total > 0, total, 1), np.nan)
    return Paths(share, sample.places.mean(0), _nats_lost(trained, sample))


def _origin_norms(
    task: Diagnosable, model: keras.Model, sample: Sample, change: Change
) -> np.ndarray:
    """(B, P): sum over what was read of ‖∂ answer / ∂ x‖, by the way that `change` leaves open."""
    batch = tensors(sample.batch)
    readers = {name: one for name, one in task.recurrent_stacks(model).items() if not one.in_step}
    with (
        tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
        record_steps({name: one.stack for name, one in readers.items()}, tape) as watches,
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
    task, model = diagnosable(trained.task), trained.model
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
