"""What happens inside recurrent layers: states and gradients at each step, gates, step Jacobians.

While a layer is watched its own `step` runs in a loop, eagerly, and every state is kept, so that a
tape can say what depends on it. Slow, for a sample: nothing of it is there when nobody watches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from models.layers import GRU, LSTM, Recurrent, SimpleRNN, State
from models.padding import Padding, reverse

OPEN, SHUT = 0.9, 0.1
"""Of a gate's value: beyond these it is open or shut (Karpathy et al. 2015, section 4.2)."""

FLAT = 0.1
"""An activation is saturated where its derivative is below this share of its peak."""


class Watch:
    """Runs one layer step by step and keeps what it sees.

    source  what the layer was given, (T, B, D), in the order of positions; None where the layer was
            called position by position, from outside.
    inputs, states  of each step, in the order of steps: (B, D), and a state's parts (B, W).
    initial  the state before the first step. keep (T, B, 1) or None, as of Padding, by steps too:
            sequences are padded at the end whichever way they are read.
    known   (B,) lengths, where whoever looks knows them and the layer was told of no padding.
    """

    def __init__(self, layer: Recurrent, tape: tf.GradientTape):
        self.layer, self.tape = layer, tape
        self.source: tf.Tensor | None = None
        self.inputs: list[tf.Tensor] = []
        self.states: list[State] = []
        self.initial: State = ()
        self.keep: tf.Tensor | None = None
        self.known: np.ndarray | None = None

    def scan(self, x: tf.Tensor, padding: Padding, initial: State | None) -> tuple[Any, State]:
        """As Recurrent.scan."""
        self.source, self.keep = x, padding.keep
        self.tape.watch(x)
        self.inputs, self.states = [], []
        x = tf.cast(x, self.layer.compute_dtype)
        if self.layer.reverse:
            x = reverse(x, padding.backward, training=True)
        state = self.layer.start(tf.shape(x)[1]) if initial is None else initial
        outputs = []
        for t, at in enumerate(tf.unstack(x)):
            h, state = self._advance(at, state, None if self.keep is None else self.keep[t])
            outputs.append(h)
        y = tf.stack(outputs)
        if self.layer.reverse:
            y = reverse(y, padding.backward, training=True)
        return y, state

    def step(self, x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """As Recurrent.step."""
        return self._advance(x, state, None)

    def _advance(
        self, x: tf.Tensor, state: State, keep: tf.Tensor | None
    ) -> tuple[tf.Tensor, State]:
        if not self.states:
            self.initial = tuple(state)
            self.tape.watch([x, *state])
        _, new = self.layer.advance(x, state)
        if keep is not None:
            new = tuple(tf.where(keep, one, old) for one, old in zip(new, state, strict=True))
        # Each part a tensor of its own: lstm's h is made of its c, and would count twice.
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
        batch = int(self.states[0][0].shape[0])
        if self.known is not None:
            return self.known
        if self.keep is None:
            return np.full(batch, len(self.states))
        return self.keep.numpy()[..., 0].sum(0).astype(int)

    def real(self) -> np.ndarray:
        """(T, B) bool: which steps are."""
        return np.arange(len(self.states))[:, None] < self.lengths()

    def before(self) -> State:
        """The state before each step, its parts (T, B, W)."""
        befores = [self.initial, *self.states[:-1]]
        return tuple(tf.stack(parts) for parts in zip(*befores, strict=True))


@contextmanager
def watching(
    stacks: Mapping[str, Any], tape: tf.GradientTape
) -> Iterator[dict[str, list[list[Watch]]]]:
    """While it is entered the layers of these stacks are watched: by stack, layer and direction.

    What they compute is what they compute otherwise, to rounding, without dropout. The tape is told
    of what they read; it needs watch no variable.
    """
    watches = {
        name: [[Watch(layer, tape) for layer in layers] for layers in stack.layers]
        for name, stack in stacks.items()
    }
    every = [watch for layers in watches.values() for ways in layers for watch in ways]
    for watch in every:
        watch.layer.watch = watch
    try:
        yield watches
    finally:
        for watch in every:
            watch.layer.watch = None


def state_gradients(
    target: tf.Tensor, watch: Watch, sources: Sequence[tf.Tensor] = ()
) -> tuple[np.ndarray, list[Any]]:
    """(T, B, P): of the summed target with respect to each step's state, its parts side by side.

    Everything that leads from the state to the target counts. Also those of other sources, or None.
    """
    states, others = watch.tape.gradient(target, (watch.states, list(sources)))
    return _joined(states, watch), others


def pulled_back(watch: Watch, seeds: np.ndarray, place: np.ndarray, sources: Any) -> Any:
    """Gradients with respect to `sources` of (state at `place`) · seed: what comes by it alone.

    seeds (T, B, P) as of state_gradients, of which those at the steps place (B,) count. Gives for
    each source its gradient or None.
    """
    steps, batch, _ = seeds.shape
    at_place = np.arange(steps)[:, None, None] == np.asarray(place).reshape(1, batch, 1)
    chosen = np.where(at_place, seeds, 0).astype(seeds.dtype)
    targets, outputs = [], []
    for state, seed in zip(watch.states, chosen, strict=True):
        start = 0
        for part in state:
            width = part.shape[-1]
            targets.append(part)
            outputs.append(tf.cast(seed[:, start : start + width], part.dtype))
            start += width
    return watch.tape.gradient(targets, sources, output_gradients=outputs)


def through_time(watch: Watch, seeds: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(T, B, P): how a gradient given to the state at `place` arrives at the states before.

    As of pulled_back, by the layer's own recurrence: J_{t+1}ᵀ ⋯ J_placeᵀ seed (Pascanu et al. 2013,
    eq. 5).
    """
    return _joined(pulled_back(watch, seeds, place, watch.states), watch)


def _joined(gradients: Sequence[Any], watch: Watch) -> np.ndarray:
    """Gradients of states as one array; what leads nowhere gives 0."""
    rows = []
    for state, found in zip(watch.states, gradients, strict=True):
        parts = [
            tf.zeros_like(part) if one is None else tf.convert_to_tensor(one)
            for part, one in zip(state, found, strict=True)
        ]
        rows.append(tf.concat(parts, -1))
    return tf.cast(tf.stack(rows), tf.float32).numpy()


class Gain(NamedTuple):
    """value (N,): the largest singular value; change (N,): of the last iteration, relative."""

    value: np.ndarray
    change: np.ndarray


def step_gain(
    layer: Recurrent,
    x: tf.Tensor,
    state: State,
    *,
    iterations: int = 60,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Gain:
    """The largest singular value of ∂s_t/∂s_{t-1}, at x (N, D) and s_{t-1}, its parts (N, W).

    s is all of a state: (h, c) for lstm. Power iteration on JᵀJ, with a product with J (forward
    mode) and one with Jᵀ (reverse mode) through one step; J itself is never made. A step of row n
    depends on row n alone, so all N iterate at once. It comes from below.
    """
    random = np.random.default_rng(seed)
    vector = [random.standard_normal(part.shape).astype(np.float32) for part in state]
    vector = _unit([tf.cast(part, one.dtype) for part, one in zip(vector, state, strict=True)])[1]
    value = np.zeros(int(state[0].shape[0]))
    change = np.ones_like(value)
    apply = tf.function(
        lambda *parts: _jacobian_products(layer, x, state, list(parts)), autograph=False
    )
    for _ in range(iterations):
        forward, back = apply(*vector)
        new = _norm(forward).numpy().astype(float)
        change = np.abs(new - value) / np.maximum(new, 1e-30)
        value = new
        if change.max(initial=0) < tolerance:
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
        with tf.autodiff.ForwardAccumulator(parts, vector) as forward:
            _, new = layer.advance(x, tuple(parts))
        product = [_or_zeros(forward.jvp(part), part) for part in new]
    back = tape.gradient(list(new), parts, output_gradients=product)
    return product, [_or_zeros(one, part) for one, part in zip(back, parts, strict=True)]


def _or_zeros(value: tf.Tensor | None, like: tf.Tensor) -> tf.Tensor:
    return tf.zeros_like(like) if value is None else value


def _norm(parts: list[tf.Tensor]) -> tf.Tensor:
    return tf.sqrt(tf.add_n([tf.reduce_sum(part * part, -1) for part in parts]))


def _unit(parts: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
    norm = _norm(parts)
    scale = tf.where(norm > 0, 1 / tf.maximum(norm, 1e-30), 0)[:, tf.newaxis]
    return norm, [part * scale for part in parts]


def gate_values(layer: Recurrent, x: tf.Tensor, h: tf.Tensor) -> dict[str, tf.Tensor]:
    """Each gate's values (N, W) at x (N, D) and the h (N, W) before; none of a simple RNN.

    gru: update z, which keeps the state where it is 1, and reset r. lstm: input, forget, output.
    """
    names = {GRU: ("update", "reset"), LSTM: ("input", "forget", "", "output")}.get(type(layer), ())
    if not names:
        return {}
    cell = layer.rnn.cell
    weights = [tf.cast(one, x.dtype) for one in (cell.kernel, cell.recurrent_kernel, cell.bias)]
    kernel, recurrent, bias = weights
    bias = bias if isinstance(layer, LSTM) else bias[0] + bias[1]
    given = tf.matmul(x, kernel) + tf.matmul(h, recurrent) + bias
    gates = tf.split(tf.sigmoid(given), given.shape[-1] // layer.units, -1)
    return {name: gate for name, gate in zip(names, gates, strict=False) if name}


def saturated(layer: Recurrent, h: np.ndarray) -> np.ndarray:
    """Which activations h (..., W) learn next to nothing: the slope is below FLAT of its peak.

    Of lstm and gru, h is as good as the tanh's value where the gates let it through.
    """
    activation = layer.activation if isinstance(layer, SimpleRNN) else "tanh"
    slope = {
        "tanh": lambda y: 1 - y * y,
        "sigmoid": lambda y: 4 * y * (1 - y),
        "relu": lambda y: (y > 0).astype(float),
    }[activation]
    return slope(h) < FLAT
