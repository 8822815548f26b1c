"""Recurrent layers: one cell, one direction, over whole sequences or one position at a time.

The weights are those of Keras' own layers, in their layout. Where there is a GPU Keras' fused
cuDNN layer runs; elsewhere the loops of models/recurrence.py, which also go into exported
graphs (`portable`). Masks are always explicit and sequences padded at the end, with at least
one real position.
"""

from typing import Any

import keras
import tensorflow as tf

from models import recurrence
from models.dropout import Dropout
from models.padding import Padding, at, padding_of, reverse
from models.seeds import stream

_register = keras.saving.register_keras_serializable(package="recurrent")

State = tuple[tf.Tensor, ...]  # (h,), or (h, c) for lstm, each (B, W)


def swap(x: tf.Tensor) -> tf.Tensor:
    """(B, T, N) <-> (T, B, N)."""
    return tf.transpose(x, [1, 0, 2])


class Recurrent(keras.layers.Layer):
    """One recurrent layer in one direction; subclasses are final.

    units      W, the width of the state.
    reverse    reads each sequence from its last real position to its first; outputs keep
               their positions.
    recurrent_dropout  share of the state dropped where it meets the recurrent matrix: one
               mask a sequence, the same for every step and every gate.
    portable   never uses cuDNN; set it before a graph is traced for export.
    """

    fused = True  # Keras' own layer has a cuDNN form
    keras_layer: type
    watch: Any = None  # what runs the steps while someone looks inside; see models/inspection.py

    def __init__(
        self,
        units: int,
        *,
        reverse: bool = False,
        recurrent_dropout: float = 0.0,
        portable: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.reverse, self.portable = units, reverse, portable
        self.recurrent_dropout, self.seed = recurrent_dropout, seed
        # Keras' layer drops nothing, but keeps a seed, which would be another one each time.
        self.rnn = self.keras_layer(
            units, **self._weights(), seed=stream(seed, "rnn"), dtype=self.dtype_policy, name="rnn"
        )
        self.drop = Dropout(
            recurrent_dropout, seed=stream(seed, "recurrent_dropout"), name="recurrent_dropout"
        )

    def _weights(self) -> dict[str, Any]:
        """Arguments of the Keras layer: initial weights from named seeds, everything returned."""
        glorot = keras.initializers.GlorotUniform(seed=stream(self.seed, "kernel"))
        orthogonal = keras.initializers.Orthogonal(seed=stream(self.seed, "recurrent_kernel"))
        return {
            "kernel_initializer": glorot,
            "recurrent_initializer": orthogonal,
            "return_sequences": True,
            "return_state": True,
        }

    def build(self, input_shape: Any) -> None:
        self.rnn.build(input_shape)
        self.drop.build((None, self.units))
        self.built = True

    def compute_mask(self, *_: Any) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None = None,
        initial_state: State | None = None,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, State]:
        """From x (B, T, D), mask (B, T) bool or None: y (B, T, W), 0 on padding; final state."""
        x = swap(tf.convert_to_tensor(x))
        padding = padding_of(x, None if mask is None else tf.transpose(mask))
        y, state = self.scan(x, padding, initial_state, training=training)
        return swap(y), state

    def scan(
        self,
        x: tf.Tensor,
        padding: Padding,
        initial_state: State | None = None,
        *,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, State]:
        """The same, time-major: x (T, B, D) -> y (T, B, W), state at the last real position."""
        if self.watch is not None:
            return self.watch.scan(x, padding, initial_state)
        training = bool(training)
        x = tf.cast(x, self.compute_dtype)
        if initial_state is None:
            initial_state = self.start(tf.shape(x)[1])
        if self.reverse:
            x = reverse(x, padding.backward, training=training)
        dropping = training and self.recurrent_dropout > 0
        gpu = self.fused and not self.portable and tf.config.list_logical_devices("GPU")
        if gpu and not dropping:
            y, state = self._scan_fused(x, padding, initial_state)
        else:
            like = initial_state[0]
            drop = tf.cast(self.drop.factors(tf.shape(like)), like.dtype) if dropping else None
            y, state = self._scan_loop(x, padding, initial_state, drop, training)
        if self.reverse:
            y = reverse(y, padding.backward, training=training)
        return y, state

    def start(self, batch: tf.Tensor | int) -> State:
        """State before the first step: zeros, one (B, W) for each part."""
        parts = 2 if isinstance(self, LSTM) else 1
        return tuple(tf.zeros([batch, self.units], self.compute_dtype) for _ in range(parts))

    def step(self, x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """One position: x (B, D), state -> h (B, W), state. Nothing is dropped."""
        if self.watch is not None:
            return self.watch.step(x, state)
        return self.advance(x, state)

    def advance(self, x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """The same, watched or not."""
        h, state = self.rnn.cell(x, list(state), training=False)
        return h, tuple(state)

    def _scan_fused(
        self, x: tf.Tensor, padding: Padding, initial_state: State
    ) -> tuple[tf.Tensor, State]:
        mask = None if padding.keep is None else tf.transpose(padding.keep[..., 0])
        y, *state = self.rnn(swap(x), initial_state=list(initial_state), mask=mask)
        y = swap(y)
        if padding.keep is not None:
            y = tf.where(padding.keep, y, tf.zeros([], y.dtype))
        return y, tuple(state)

    def _scan_loop(
        self,
        x: tf.Tensor,
        padding: Padding,
        initial_state: State,
        drop: tf.Tensor | None,
        training: bool,
    ) -> tuple[tf.Tensor, State]:
        raise NotImplementedError

    def _tensors(self) -> list[tf.Tensor]:
        """kernel, recurrent kernel and bias in the compute type."""
        cell = self.rnn.cell
        weights = cell.kernel, cell.recurrent_kernel, cell.bias
        return [tf.cast(weight, self.compute_dtype) for weight in weights]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "reverse": self.reverse,
            "recurrent_dropout": self.recurrent_dropout,
            "portable": self.portable,
            "seed": self.seed,
        }


def _project(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, gates: int) -> list[tf.Tensor]:
    """All positions' x (T, B, D) K + b at once -> for each gate (T, B, W).

    One product a gate, since splitting one result and joining its gradient costs more.
    """
    rows = tf.reshape(x, [-1, x.shape[-1]])
    parts = zip(tf.split(kernel, gates, -1), tf.split(bias, gates), strict=True)
    shape = [tf.shape(x)[0], tf.shape(x)[1], kernel.shape[-1] // gates]
    return [tf.reshape(tf.nn.bias_add(tf.matmul(rows, k), b), shape) for k, b in parts]


@_register
class SimpleRNN(Recurrent):
    """h = f(x K + h U + b) (Elman 1990). relu starts from U = I (Le, Jaitly & Hinton 2015)."""

    fused = False
    keras_layer = keras.layers.SimpleRNN

    def __init__(self, units: int, *, activation: str = "tanh", **kwargs: Any) -> None:
        self.activation = activation
        super().__init__(units, **kwargs)

    def _weights(self) -> dict[str, Any]:
        weights = super()._weights() | {"activation": self.activation}
        if self.activation == "relu":
            weights["recurrent_initializer"] = keras.initializers.Identity()
        return weights

    def _scan_loop(
        self,
        x: tf.Tensor,
        padding: Padding,
        initial_state: State,
        drop: tf.Tensor | None,
        training: bool,
    ) -> tuple[tf.Tensor, State]:
        kernel, recurrent, bias = self._tensors()
        (x,) = _project(x, kernel, bias, 1)
        y = recurrence.simple_rnn(
            x, initial_state[0], recurrent, self.activation, padding.keep, drop, training=training
        )
        return y, (at(y, padding.last),)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.activation}


@_register
class GRU(Recurrent):
    """Gated recurrent unit, reset gate after the matrix product, as in cuDNN (Cho et al. 2014)."""

    keras_layer = keras.layers.GRU

    def _scan_loop(
        self,
        x: tf.Tensor,
        padding: Padding,
        initial_state: State,
        drop: tf.Tensor | None,
        training: bool,
    ) -> tuple[tf.Tensor, State]:
        kernel, recurrent, bias = self._tensors()
        # What the recurrent product adds to z and r whatever the state can join the input's bias.
        added, inner = tf.split(bias[1], [2 * self.units, self.units])
        bias = bias[0] + tf.pad(added, [[0, self.units]])
        x = _project(x, kernel, bias, 3)
        y = recurrence.gru(
            x, initial_state[0], recurrent, inner, padding.keep, drop, training=training
        )
        return y, (at(y, padding.last),)


@_register
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997); forget bias starts at 1."""

    keras_layer = keras.layers.LSTM

    def _scan_loop(
        self,
        x: tf.Tensor,
        padding: Padding,
        initial_state: State,
        drop: tf.Tensor | None,
        training: bool,
    ) -> tuple[tf.Tensor, State]:
        kernel, recurrent, bias = self._tensors()
        x = _project(x, kernel, bias, 4)
        state, carry = initial_state
        y, carry = recurrence.lstm(
            x, state, carry, recurrent, padding.last, padding.keep, drop, training=training
        )
        return y, (at(y, padding.last), carry)
