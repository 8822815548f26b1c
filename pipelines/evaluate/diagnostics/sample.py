"""The examples that are looked into, and one look at them with one set of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.inspection import (
    OPEN,
    SHUT,
    StepRecorder,
    backpropagate_from,
    backpropagate_through_time,
    gate_values,
    is_saturated,
    record_steps,
    state_gradients,
    step_gain,
)
from pipelines.core.contracts import Batch, Split
from pipelines.core.task import Diagnosable, Task, Trained

FEWEST, MOST = 8, 64
"""Examples that are looked into."""

STATES = 4_000_000
"""Numbers in the states of all their steps, above which there are fewer of them."""

LOGITS = 16_000_000
"""Likewise, of the numbers in the logits of all tokens that are written."""

PLACES = 3
"""Answers of a written sequence that are looked into, spread evenly over it."""

GAINS = 256
"""Steps of a layer whose Jacobian is measured."""


def diagnosable(task: Task) -> Diagnosable:
    """The task as one whose layers can be looked into; TypeError if it isn't one."""
    if not isinstance(task, Diagnosable):
        raise TypeError(f"diagnostics are of tasks that are Diagnosable; task={task.name} isn't")
    return task


class Sample(NamedTuple):
    """batch  of examples spread over the split; places (B, P): the steps after which those of its
    answers come that are looked into, or (B, 0) if there is one answer, after the last step.
    """

    batch: Batch
    places: np.ndarray


def sample_of(trained: Trained, split: Split, *, most: int = MOST) -> Sample:
    """Spread evenly over the split; fewer where sequences are long and layers wide."""
    task, codec = trained.task, trained.codec
    readers = diagnosable(task).recurrent_stacks(trained.model)
    lengths = split.lengths()
    longest = int(lengths.max(initial=1))
    widths = sum(
        layer.units for one in readers.values() for ways in one.stack.layers for layer in ways
    )
    most = min(most, STATES // max(1, longest * widths))
    in_step = [one for one in readers.values() if one.in_step]
    if in_step:
        most = min(most, LOGITS // (longest * max(codec.spec.sizes.values(), default=1)))
    count = max(FEWEST, most)
    rows = np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).astype(int))
    batch = task.batch(split.gather(rows), codec)
    if not in_step:
        return Sample(batch, np.zeros((len(batch.weights), 0), int))
    counted = (np.asarray(batch.weights) > 0).sum(1)
    shares = np.linspace(0, 1, PLACES + 1)[1:]
    places = np.ceil(shares * counted[:, None]).astype(int) - 1
    return Sample(batch, np.maximum(places, 0))


def tensors(batch: Batch) -> Batch:
    inputs = {name: tf.convert_to_tensor(value) for name, value in batch.inputs.items()}
    return Batch(inputs, *(tf.convert_to_tensor(value) for value in batch[1:]))


class Layer(NamedTuple):
    """One layer in one direction, looked into. Distances k = 0, 1, ... are steps back from where
    its sequence ends, in the order it reads; NaN beyond the beginning. Rows are examples.

    told      (B, K) ‖∂L/∂s‖ of the state k steps before the last: what the example's loss tells it.
    arriving  (B, K) of the gradient that the loss gives the last state, the share that arrives k
              steps earlier through the layer's own recurrence; 1 at k = 0. NaN if it gives none.
    gain      (n,) largest singular value of ∂s_t/∂s_{t-1}, at steps drawn from the sample.
    saturated share of activations in the flat part; dead: of units that are so at every step.
    gates     by name, the shares of values above OPEN and below SHUT.
    """

    name: str
    reverse: bool
    cell: str
    told: np.ndarray
    arriving: np.ndarray
    gain: np.ndarray
    saturated: float
    dead: float
    gates: Mapping[str, tuple[float, float]]


class Influence(NamedTuple):
    """How much an answer depends on what was read k steps before its end: (B, K), NaN beyond.

    answer  ‖∂y/∂x‖. state: of it, what comes through the last layer's state at the end alone, by
    direction: whatever else looks at single steps (a mean, a maximum, attention) is left out.
    """

    answer: np.ndarray
    state: Mapping[str, np.ndarray]


class Look(NamedTuple):
    """layers by reader; influence by reader."""

    layers: Mapping[str, Sequence[Layer]]
    influence: Mapping[str, Influence]


def look(task: Diagnosable, model: keras.Model, sample: Sample, *, influence: bool = True) -> Look:
    """What goes on in the model on the sample. Changes no weight and draws no random number."""
    readers = task.recurrent_stacks(model)
    batch = tensors(sample.batch)
    stacks = {name: one.stack for name, one in readers.items()}
    with (
        tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
        record_steps(stacks, tape) as watches,
    ):
        inside = task.teacher_forced(model, batch)
        loss = tf.reduce_sum(inside.losses * tf.cast(batch.weights, inside.losses.dtype))
        answers = _chosen(inside.answers, sample.places)
        together = tf.add_n(answers)
    for name, one in readers.items():
        for watch in [watch for ways in watches[name] for watch in ways if one.in_step]:
            watch.known_lengths = sample.places[:, -1] + 1
    layers = {
        name: [_layer(loss, watch) for ways in watches[name] for watch in ways] for name in readers
    }
    found = {}
    if influence:
        for name, one in readers.items():
            # Where reading ends is the same for all that is answered afterwards.
            ends = (watches[name][0][0].lengths() - 1)[:, None]
            which, places = (answers, sample.places) if one.in_step else ([together], ends)
            found[name] = _influence(which, watches[name], places)
    return Look(layers, found)


def _chosen(answers: tf.Tensor, places: np.ndarray) -> list[tf.Tensor]:
    """The answers that are looked into, each (B,)."""
    if not places.shape[1]:
        return [answers]
    return [tf.gather(answers, place, batch_dims=1) for place in places.T]


def backwards(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Values (T, B) by step to (B, T) by distance from the step `place` (B,); NaN beyond."""
    steps = len(values)
    index = np.asarray(place)[:, None] - np.arange(steps)
    rows = np.arange(values.shape[1])[:, None]
    return np.where(index >= 0, values[np.maximum(index, 0), rows], np.nan)


def _layer(loss: tf.Tensor, watch: StepRecorder) -> Layer:
    last = watch.lengths() - 1
    told, _ = state_gradients(loss, watch)
    arriving = backwards(_norms(backpropagate_through_time(watch, told, last)), last)
    start = arriving[:, :1]
    arriving = np.where(start > 0, arriving / np.where(start > 0, start, 1), np.nan)
    real, states = watch.step_mask(), tf.stack([state[0] for state in watch.states])
    flat = is_saturated(watch.layer, tf.cast(states, tf.float32).numpy())
    gain, gates = _at_steps(watch)
    return Layer(
        name=watch.name,
        reverse=watch.layer.reverse,
        cell=type(watch.layer).__name__,
        told=backwards(_norms(told), last),
        arriving=arriving,
        gain=gain,
        saturated=float(flat[real].mean()),
        dead=float(flat[real].all(0).mean()),
        gates=gates,
    )


def _at_steps(watch: StepRecorder) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """Largest singular values, and each gate's shares of open and shut, at steps of the sample."""
    steps = np.argwhere(watch.step_mask())
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, min(GAINS, len(steps))).astype(int))]
    x = tf.gather_nd(tf.stack(watch.inputs), steps)
    state = tuple(tf.gather_nd(part, steps) for part in watch.previous_states())
    gain = step_gain(watch.layer, x, state).value
    gates = {
        name: (float((value > OPEN).mean()), float((value < SHUT).mean()))
        for name, value in (
            (name, value.numpy()) for name, value in gate_values(watch.layer, x, state[0]).items()
        )
    }
    return gain, gates


def _influence(
    answers: Sequence[tf.Tensor],
    watches: list[list[StepRecorder]],
    places: np.ndarray,
) -> Influence:
    """Places (B, P): after which steps the answers, P times (B,), come."""
    first, last = watches[0], watches[-1]
    sources = _sources(first)
    of_answer: list[np.ndarray] = []
    of_state: dict[str, list[np.ndarray]] = {watch.name: [] for watch in last}
    for answer, place in zip(answers, places.T, strict=True):
        for watch in last:
            seeds, found = state_gradients(answer, watch, sources)
            through = _source_norms(backpropagate_from(watch, seeds, place, sources))
            of_state[watch.name].append(
                _by_distance(through, place, both=False, reverse=watch.layer.reverse)
            )
        norms = _source_norms(found)
        of_answer.append(_by_distance(norms, place, both=len(first) > 1, reverse=False))
    return Influence(
        np.concatenate(of_answer), {name: np.concatenate(x) for name, x in of_state.items()}
    )


def _sources(watches: Sequence[StepRecorder]) -> Any:
    """What the first layer reads, as a whole, or step by step where it was called so."""
    source = watches[0].source
    return watches[0].inputs if source is None else [source]


def _source_norms(gradients: Sequence[Any]) -> np.ndarray:
    """(T, B) from the gradients of _sources."""
    shape = next(one.shape for one in gradients if one is not None)
    whole = [np.zeros(shape, np.float32) if one is None else one.numpy() for one in gradients]
    values = whole[0] if len(shape) == 3 else np.stack(whole)
    return _norms(values)


def _by_distance(norms: np.ndarray, place: np.ndarray, *, both: bool, reverse: bool) -> np.ndarray:
    """Norms (T, B) by position, as (B, T) by distance from where reading ends.

    reverse  reading ends at position 0. both: at both ends, and the nearer one counts; what is
             equally far from the two is added up.
    """
    ahead = backwards(norms, place)
    if not reverse and not both:
        return ahead
    inside = np.arange(len(norms))[None] <= place[:, None]
    behind = np.where(inside, norms.T, np.nan)
    if reverse:
        return behind
    near = np.arange(len(norms))[None]
    half = place[:, None] / 2
    both_ends = np.nan_to_num(ahead) + np.nan_to_num(behind)
    return np.where(near < half, both_ends, np.where(near == half, np.nan_to_num(ahead), np.nan))


def _norms(values: np.ndarray) -> np.ndarray:
    return np.linalg.norm(values.astype(np.float64), axis=-1)
