"""The sample of examples for diagnostics, and an inspection of a model on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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

MIN_EXAMPLES, MAX_EXAMPLES = 8, 64
"""Limits of the number of examples."""

MAX_STATE_NUMBERS = 4_000_000
"""Most numbers in the states of all steps of the sample."""

MAX_LOGITS = 16_000_000
"""Most numbers in the logits of all output tokens of the sample."""

PLACES = 3
"""Answers of an output sequence that are inspected, spread evenly over it."""

MAX_JACOBIANS = 256
"""Most steps of a layer whose Jacobian is measured."""


def require_diagnosable(task: Task) -> Diagnosable:
    """The task, typed as Diagnosable; TypeError if it isn't."""
    if not isinstance(task, Diagnosable):
        raise TypeError(f"diagnostics need a task that is Diagnosable; task={task.name} isn't")
    return task


class Sample(NamedTuple):
    """Examples of a split, and which of their answers are inspected.

    batch   the examples.
    places  (B, P) positions of the inspected answers in the output sequence; (B, 0) if an example
            has a single answer, after its last step.
    """

    batch: Batch
    places: np.ndarray


def draw_sample(trained: Trained, split: Split, *, most: int = MAX_EXAMPLES) -> Sample:
    """Examples spread evenly over the split; fewer if sequences are long and layers wide."""
    task, codec = trained.task, trained.codec
    readers = require_diagnosable(task).recurrent_stacks(trained.model)
    lengths = split.lengths()
    longest = int(lengths.max(initial=1))
    widths = sum(
        layer.units for reader in readers.values() for ways in reader.stack.layers for layer in ways
    )
    most = min(most, MAX_STATE_NUMBERS // max(1, longest * widths))
    in_step = [reader for reader in readers.values() if reader.in_step]
    if in_step:
        most = min(most, MAX_LOGITS // (longest * max(codec.spec.sizes.values(), default=1)))
    count = max(MIN_EXAMPLES, most)
    rows = np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).astype(int))
    batch = task.batch(split.gather(rows), codec)
    if not in_step:
        return Sample(batch, np.zeros((len(batch.weights), 0), int))
    counted = (np.asarray(batch.weights) > 0).sum(1)
    shares = np.linspace(0, 1, PLACES + 1)[1:]
    places = np.ceil(shares * counted[:, None]).astype(int) - 1
    return Sample(batch, np.maximum(places, 0))


def to_tensors(batch: Batch) -> Batch:
    inputs = {name: tf.convert_to_tensor(value) for name, value in batch.inputs.items()}
    return Batch(inputs, *(tf.convert_to_tensor(value) for value in batch[1:]))


class Layer(NamedTuple):
    """Measurements of one layer in one direction.

    Rows are examples. Column k is k steps back from the last step, in the order in which the layer
    reads; it is NaN before the beginning of a sequence.

    loss_gradient  (B, K) ‖∂L/∂s‖ of the state k steps before the last, by the example's loss L.
    gradient_flow  (B, K) share of the last state's gradient that arrives k steps earlier through
                   the layer's own recurrence; 1 at k = 0. NaN if that gradient is 0.
    gain           (n,) largest singular value of ∂s_t/∂s_{t-1}, at steps drawn from the sample.
    saturated      share of activations in the flat part of their function.
    dead           share of units that are saturated at every step.
    gates          by name, the shares of values above OPEN and below SHUT.
    """

    name: str
    reverse: bool
    cell: str
    loss_gradient: np.ndarray
    gradient_flow: np.ndarray
    gain: np.ndarray
    saturated: float
    dead: float
    gates: Mapping[str, tuple[float, float]]


class Influence(NamedTuple):
    """How much an answer y depends on the input x, k steps back from its end: (B, K), else NaN.

    answer  ‖∂y/∂x‖ by all paths.
    state   by direction, ‖∂y/∂x‖ through the last layer's final state alone: without paths from
            single steps, such as a mean, a maximum or attention.
    """

    answer: np.ndarray
    state: Mapping[str, np.ndarray]


class Inspection(NamedTuple):
    """Measurements by recurrent stack: of its layers, and the influence of its input."""

    layers: Mapping[str, Sequence[Layer]]
    influence: Mapping[str, Influence]


def inspect_model(
    task: Diagnosable, model: keras.Model, sample: Sample, *, influence: bool = True
) -> Inspection:
    """Inspects the model on the sample. Changes no weight and draws no random number."""
    readers = task.recurrent_stacks(model)
    batch = to_tensors(sample.batch)
    stacks = {name: reader.stack for name, reader in readers.items()}
    with (
        tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
        record_steps(stacks, tape) as watches,
    ):
        inside = task.teacher_forced(model, batch)
        loss = tf.reduce_sum(inside.losses * tf.cast(batch.weights, inside.losses.dtype))
        answers = _select_answers(inside.answers, sample.places)
        together = tf.add_n(answers)
    for name, reader in readers.items():
        for watch in [watch for ways in watches[name] for watch in ways if reader.in_step]:
            watch.known_lengths = sample.places[:, -1] + 1
    layers = {
        name: [_layer(loss, watch) for ways in watches[name] for watch in ways] for name in readers
    }
    found = {}
    if influence:
        for name, reader in readers.items():
            # A stack that has read all before the first answer has one end for all answers.
            ends = (watches[name][0][0].lengths() - 1)[:, None]
            which, places = (answers, sample.places) if reader.in_step else ([together], ends)
            found[name] = _influence(which, watches[name], places)
    return Inspection(layers, found)


def _select_answers(answers: tf.Tensor, places: np.ndarray) -> list[tf.Tensor]:
    """The inspected answers, each (B,)."""
    if not places.shape[1]:
        return [answers]
    return [tf.gather(answers, place, batch_dims=1) for place in places.T]


def reverse_in_time(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Values (T, B) by step to (B, T) by steps back from `place` (B,); NaN before the beginning."""
    steps = len(values)
    index = np.asarray(place)[:, None] - np.arange(steps)
    rows = np.arange(values.shape[1])[:, None]
    return np.where(index >= 0, values[np.maximum(index, 0), rows], np.nan)


def _layer(loss: tf.Tensor, watch: StepRecorder) -> Layer:
    last = watch.lengths() - 1
    loss_gradient, _ = state_gradients(loss, watch)
    gradient_flow = reverse_in_time(
        _norms(backpropagate_through_time(watch, loss_gradient, last)), last
    )
    start = gradient_flow[:, :1]
    gradient_flow = np.where(start > 0, gradient_flow / np.where(start > 0, start, 1), np.nan)
    real, states = watch.step_mask(), tf.stack([state[0] for state in watch.states])
    flat = is_saturated(watch.layer, tf.cast(states, tf.float32).numpy())
    gain, gates = _at_steps(watch)
    return Layer(
        name=watch.name,
        reverse=watch.layer.reverse,
        cell=type(watch.layer).__name__,
        loss_gradient=reverse_in_time(_norms(loss_gradient), last),
        gradient_flow=gradient_flow,
        gain=gain,
        saturated=float(flat[real].mean()),
        dead=float(flat[real].all(0).mean()),
        gates=gates,
    )


def _at_steps(watch: StepRecorder) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """Largest singular values, and shares of open and shut of each gate, at steps of the sample."""
    steps = np.argwhere(watch.step_mask())
    steps = steps[
        np.unique(np.linspace(0, len(steps) - 1, min(MAX_JACOBIANS, len(steps))).astype(int))
    ]
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
    """answers: P times (B,); places (B, P): the steps after which they come."""
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


def _sources(watches: Sequence[StepRecorder]) -> list[tf.Tensor]:
    """The input of the first layer: one tensor, or one for each step if it was called by step."""
    source = watches[0].source
    return watches[0].inputs if source is None else [source]


def _source_norms(gradients: Sequence[tf.Tensor | None]) -> np.ndarray:
    """Norms (T, B) of gradients with respect to `_sources`; None counts as 0."""
    shape = next(gradient.shape for gradient in gradients if gradient is not None)
    whole = [
        np.zeros(shape, np.float32) if gradient is None else gradient.numpy()
        for gradient in gradients
    ]
    values = whole[0] if len(shape) == 3 else np.stack(whole)
    return _norms(values)


def _by_distance(norms: np.ndarray, place: np.ndarray, *, both: bool, reverse: bool) -> np.ndarray:
    """Norms (T, B) by position, as (B, T) by distance from the end of reading.

    reverse  the layer reads backwards, so its end is position 0.
    both     two layers read in both directions. The distance is that to the nearer end, and norms
             at the same distance from the two ends are summed.
    """
    ahead = reverse_in_time(norms, place)
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
