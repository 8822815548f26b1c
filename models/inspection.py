"""A view into recurrent layers: states and gradients at each step, gates, step Jacobians.

While a layer is recorded its own `step` runs in a loop, eagerly, and every state is kept, so that a
tape can say what depends on it. That is slow, and meant for a sample; a layer that isn't recorded
computes nothing extra.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from models.layers import GRU, LSTM, Recurrent, SimpleRNN, State, step_hooks
from models.padding import Padding, reverse_sequences
from models.recurrent import Decoder, Encoder
from models.tensors import static_size

OPEN, SHUT = 0.9, 0.1
"""A gate is open above the one value and shut below the other (Karpathy et al. 2015, sec. 4.2)."""

FLAT = 0.1
"""An activation is saturated where its derivative is below this share of its peak."""

Gradients: TypeAlias = Any
"""Nested as the sources that they are of; None for a source that the target doesn't depend on."""


class StepRecorder:
    """Runs one layer step by step and records what it sees; a step hook (see models/layers.py).

    source  the layer's input (T, B, D), in the order of positions; None where the layer was called
            position by position, from outside.
    inputs, states  of each step, in the order of steps: (B, D), and a state's parts (B, W).
    initial  the state before the first step.
    keep    (T, B, 1) or None, as in Padding. It holds for steps too: sequences are padded at the
            end whichever way they are read.
    known_lengths  (B,), set by the caller where the layer itself gets no padding.
    """

    def __init__(self, layer: Recurrent, tape: tf.GradientTape):
        self.layer, self.tape = layer, tape
        self.source: tf.Tensor | None = None
        self.inputs: list[tf.Tensor] = []
        self.states: list[State] = []
        self.initial: State = ()
        self.keep: tf.Tensor | None = None
        self.known_lengths: np.ndarray | None = None

    def scan(
        self, x: tf.Tensor, padding: Padding, initial_state: State | None
    ) -> tuple[tf.Tensor, State]:
        """As Recurrent.scan."""
        self.source, self.keep = x, padding.keep
        self.tape.watch(x)
        self.inputs, self.states = [], []
        x = tf.cast(x, self.layer.compute_dtype)
        if self.layer.reverse:
            x = reverse_sequences(x, padding.reversed, training=True)
        state = initial_state
        if state is None:
            state = self.layer.initial_state(tf.shape(x)[1])
        outputs = []
        for t, x_t in enumerate(tf.unstack(x)):
            h, state = self._run_step(x_t, state, None if self.keep is None else self.keep[t])
            outputs.append(h)
        y = tf.stack(outputs)
        if self.layer.reverse:
            y = reverse_sequences(y, padding.reversed, training=True)
        return y, state

    def step(self, x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """As Recurrent.step."""
        return self._run_step(x, state, None)

    def _run_step(
        self, x: tf.Tensor, state: State, keep: tf.Tensor | None
    ) -> tuple[tf.Tensor, State]:
        if not self.states:
            self.initial = tuple(state)
            self.tape.watch([x, *state])
        _, new = self.layer.cell_step(x, state)
        if keep is not None:
            new = tuple(tf.where(keep, value, old) for value, old in zip(new, state, strict=True))
        # Each part becomes a tensor of its own: lstm's h is computed from its c, so a gradient
        # that arrives at h would count for c as well.
        state = tuple(tf.identity(part) for part in new)
        self.inputs.append(x)
        self.states.append(state)
        h = state[0]
        return (h if keep is None else tf.where(keep, h, tf.zeros([], h.dtype))), state

    @property
    def name(self) -> str:
        return self.layer.name

    def lengths(self) -> np.ndarray:
        """(B,) int: real steps of each sequence."""
        batch = static_size(self.states[0][0], 0)
        if self.known_lengths is not None:
            return self.known_lengths
        if self.keep is None:
            return np.full(batch, len(self.states))
        return self.keep.numpy()[..., 0].sum(0).astype(int)

    def step_mask(self) -> np.ndarray:
        """(T, B) bool: which steps are real."""
        return np.arange(len(self.states))[:, None] < self.lengths()

    def previous_states(self) -> State:
        """The state before each step, its parts (T, B, W)."""
        previous = [self.initial, *self.states[:-1]]
        return tuple(tf.stack(parts) for parts in zip(*previous, strict=True))


@contextmanager
def record_steps(
    stacks: Mapping[str, Encoder | Decoder], tape: tf.GradientTape
) -> Iterator[dict[str, list[list[StepRecorder]]]]:
    """While it is entered the layers of these stacks are recorded: by stack, layer and direction.

    Their results are the same up to rounding, without dropout. The tape watches what they read, and
    need watch no variable.
    """
    recorders = {
        name: [[StepRecorder(layer, tape) for layer in layers] for layers in stack.layers]
        for name, stack in stacks.items()
    }
    every = [part for layers in recorders.values() for directions in layers for part in directions]
    with step_hooks.attach((recorder.layer, recorder) for recorder in every):
        yield recorders


def state_gradients(
    target: tf.Tensor, recorder: StepRecorder, sources: Sequence[tf.Tensor] = ()
) -> tuple[np.ndarray, Gradients]:
    """Gradients (T, B, P) of the summed target with respect to each step's state.

    P: the state's parts side by side. Every path from the state to the target counts. Second, the
    gradients with respect to other sources, or None.
    """
    gradients: Gradients = recorder.tape.gradient(target, (recorder.states, list(sources)))
    states, others = gradients
    return _join(states, recorder), others


def backpropagate_from(
    recorder: StepRecorder, seeds: np.ndarray, place: np.ndarray, sources: Gradients
) -> Gradients:
    """Gradients with respect to `sources` of (state at step `place`) · seed, and of nothing else.

    seeds (T, B, P) as from state_gradients, of which those at the steps place (B,) count.
    """
    steps, batch, _ = seeds.shape
    at_place = np.arange(steps)[:, None, None] == np.asarray(place).reshape(1, batch, 1)
    chosen = np.where(at_place, seeds, 0).astype(seeds.dtype)
    targets, outputs = [], []
    for state, seed in zip(recorder.states, chosen, strict=True):
        start = 0
        for part in state:
            width = static_size(part)
            targets.append(part)
            outputs.append(tf.cast(seed[:, start : start + width], part.dtype))
            start += width
    return recorder.tape.gradient(targets, sources, output_gradients=outputs)


def backpropagate_through_time(
    recorder: StepRecorder, seeds: np.ndarray, place: np.ndarray
) -> np.ndarray:
    """(T, B, P): a gradient given to the state at step `place`, as it arrives at earlier states.

    As backpropagate_from, by the layer's own recurrence: J_{t+1}ᵀ ⋯ J_placeᵀ seed (Pascanu et al.
    2013, eq. 5).
    """
    return _join(backpropagate_from(recorder, seeds, place, recorder.states), recorder)


def _join(gradients: Gradients, recorder: StepRecorder) -> np.ndarray:
    """Gradients of states as one array, 0 where the target doesn't depend on a state."""
    rows = []
    for state, found in zip(recorder.states, gradients, strict=True):
        parts = [
            tf.zeros_like(part) if one is None else tf.convert_to_tensor(one)
            for part, one in zip(state, found, strict=True)
        ]
        rows.append(tf.concat(parts, -1))
    return tf.cast(tf.stack(rows), tf.float32).numpy()


class Gain(NamedTuple):
    """value (N,): the largest singular value; change (N,): the last iteration's, relative."""

    value: np.ndarray
    change: np.ndarray


class PowerIteration(NamedTuple):
    """Most iterations; fewer once no value changes by a larger share than the tolerance.

    seed  of the vector that iteration starts with.
    """

    iterations: int = 60
    tolerance: float = 1e-4
    seed: int = 0


ACCURATE = PowerIteration()


def step_gain(layer: Recurrent, x: tf.Tensor, state: State, how: PowerIteration = ACCURATE) -> Gain:
    """The largest singular value of J = ∂s_t/∂s_{t-1}, at x (N, D) and s_{t-1}, its parts (N, W).

    s is the whole state: (h, c) for lstm. By power iteration on JᵀJ, with a product with J (forward
    mode) and one with Jᵀ (reverse mode) through one step; J itself is never computed. A step of row
    n depends on row n alone, so all N iterate together. The value converges from below.
    """
    random = np.random.default_rng(how.seed)
    start = [random.standard_normal(part.shape).astype(np.float32) for part in state]
    vector = _unit([tf.cast(part, x.dtype) for part, x in zip(start, state, strict=True)])[1]
    value = np.zeros(static_size(state[0], 0))
    change = np.ones_like(value)
    apply = tf.function(
        lambda *parts: _jacobian_products(layer, x, state, list(parts)), autograph=False
    )
    for _ in range(how.iterations):
        forward, back = apply(*vector)
        new = _norm(forward).numpy().astype(float)
        change = np.abs(new - value) / np.maximum(new, 1e-30)
        value = new
        if change.max(initial=0) < how.tolerance:
            break
        vector = _unit(back)[1]
    return Gain(value, change)


def _jacobian_products(
    layer: Recurrent, x: tf.Tensor, state: State, vector: list[tf.Tensor]
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """J v, and Jᵀ J v."""
    parts = list(state)
    with tf.GradientTape() as tape:
        tape.watch(parts)
        # A list of each is allowed, whatever the stubs say.
        with tf.autodiff.ForwardAccumulator(parts, vector) as forward:  # type: ignore[arg-type]
            _, new = layer.cell_step(x, tuple(parts))
        product = [_or_zeros(forward.jvp(part), part) for part in new]
    back = tape.gradient(list(new), parts, output_gradients=product)
    return product, [_or_zeros(gradient, part) for gradient, part in zip(back, parts, strict=True)]


def _or_zeros(value: tf.Tensor | tf.IndexedSlices | None, like: tf.Tensor) -> tf.Tensor:
    return tf.zeros_like(like) if value is None else tf.convert_to_tensor(value)


def _norm(parts: list[tf.Tensor]) -> tf.Tensor:
    return tf.sqrt(tf.add_n([tf.reduce_sum(part * part, -1) for part in parts]))


def _unit(parts: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
    norm = _norm(parts)
    scale = tf.where(norm > 0, 1 / tf.maximum(norm, 1e-30), 0)[:, tf.newaxis]
    return norm, [part * scale for part in parts]


def gate_values(layer: Recurrent, x: tf.Tensor, h: tf.Tensor) -> dict[str, tf.Tensor]:
    """Each gate's values (N, W) at x (N, D) and the previous h (N, W); a simple RNN has none.

    gru: update z, which keeps the state where it is 1, and reset r. lstm: input, forget, output.
    """
    names = {GRU: ("update", "reset"), LSTM: ("input", "forget", "", "output")}.get(type(layer), ())
    if not names:
        return {}
    cell = layer.rnn.cell
    weights = [
        tf.cast(weight, x.dtype) for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)
    ]
    kernel, recurrent, bias = weights
    bias = bias if isinstance(layer, LSTM) else bias[0] + bias[1]
    activations = tf.matmul(x, kernel) + tf.matmul(h, recurrent) + bias
    gates = tf.split(tf.sigmoid(activations), activations.shape[-1] // layer.units, -1)
    return {name: gate for name, gate in zip(names, gates, strict=False) if name}


def is_saturated(layer: Recurrent, h: np.ndarray) -> np.ndarray:
    """Whether activations h (..., W) hardly learn: their slope is below FLAT times its peak.

    For lstm and gru, h is close to the tanh's value where the gates let it through.
    """
    activation = layer.activation if isinstance(layer, SimpleRNN) else "tanh"
    slope = {
        "tanh": lambda y: 1 - y * y,
        "sigmoid": lambda y: 4 * y * (1 - y),
        "relu": lambda y: (y > 0).astype(float),
    }[activation]
    return slope(h) < FLAT
