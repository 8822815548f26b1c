"""Recurrent layers: one cell, one direction, over whole sequences or position by position.

The weights are those of Keras' own layers, in their layout. Where there is a GPU, Keras' fused
cuDNN layer runs; elsewhere the loops of models/recurrence.py do, which also go into exported
graphs (`portable`). Masks are always explicit, and sequences are padded at the end, with at least
one real position.
"""

from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from models import recurrence
from models.dropout import Dropout
from models.hooks import Hooks
from models.padding import Padding, gather_last, make_padding, reverse_sequences
from models.seeds import stream
from models.tensors import static_size

_register = keras.saving.register_keras_serializable(package="recurrent")

State = tuple[tf.Tensor, ...]  # (h,), or (h, c) for lstm, each (B, W)


class StepHook(Protocol):
    """Runs a layer's steps in its place, as to look at its states; see models/inspection.py."""

    def scan(
        self, x: tf.Tensor, padding: Padding, initial_state: State | None
    ) -> tuple[tf.Tensor, State]:
        """As Recurrent.scan."""
        ...

    def step(self, x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """As Recurrent.step."""
        ...


step_hooks: Hooks[StepHook] = Hooks("step_hooks")


def transpose_time(x: tf.Tensor) -> tf.Tensor:
    """(B, T, N) <-> (T, B, N)."""
    return tf.transpose(x, [1, 0, 2])


class Scan(NamedTuple):
    """The inputs of a layer's loop over a sequence.

    x (T, B, D) in the order of steps; initial_state's parts (B, W); recurrent_dropout (B, W), by
    which the state is multiplied where it meets the recurrent matrix, or None.
    """

    x: tf.Tensor
    padding: Padding
    initial_state: State
    recurrent_dropout: tf.Tensor | None
    training: bool


class Recurrent(keras.layers.Layer):
    """One recurrent layer in one direction; subclasses are final.

    units      W, the width of the state.
    reverse    reads each sequence from its last real position to its first; outputs keep
               their positions.
    recurrent_dropout  share of the state that is dropped where it meets the recurrent matrix: one
               mask per sequence, the same for every step and every gate.
    portable   never uses cuDNN; must be set before a graph is traced for export.
    """

    has_cudnn = True  # whether Keras' own layer has a cuDNN form
    keras_layer: type

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
        # Keras' layer drops nothing here, but has a seed of its own, which would be random.
        self.rnn = self.keras_layer(
            units,
            **self._layer_options(),
            seed=stream(seed, "rnn"),
            dtype=self.dtype_policy,
            name="rnn",
        )
        self.drop = Dropout(
            recurrent_dropout, seed=stream(seed, "recurrent_dropout"), name="recurrent_dropout"
        )

    def _layer_options(self) -> dict[str, object]:
        """Arguments of the Keras layer: initial weights from named seeds, everything returned."""
        glorot = keras.initializers.GlorotUniform(seed=stream(self.seed, "kernel"))
        orthogonal = keras.initializers.Orthogonal(seed=stream(self.seed, "recurrent_kernel"))
        return {
            "kernel_initializer": glorot,
            "recurrent_initializer": orthogonal,
            "return_sequences": True,
            "return_state": True,
        }

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs (B, T, D)."""
        self.rnn.build(input_shape)
        self.drop.build((None, self.units))
        self.built = True

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None = None,
        initial_state: State | None = None,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, State]:
        """X (B, T, D), mask (B, T) bool or None -> y (B, T, W), 0 on padding; final state."""
        x = transpose_time(tf.convert_to_tensor(x))
        padding = make_padding(x, None if mask is None else tf.transpose(mask))
        y, state = self.scan(x, padding, initial_state, training=training)
        return transpose_time(y), state

    def scan(
        self,
        x: tf.Tensor,
        padding: Padding,
        initial_state: State | None = None,
        *,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, State]:
        """`call`, time-major: x (T, B, D) -> y (T, B, W), state at the last real position."""
        hook = step_hooks.of(self)
        if hook is not None:
            return hook.scan(x, padding, initial_state)
        training = bool(training)
        x = tf.cast(x, self.compute_dtype)
        if initial_state is None:
            initial_state = self.initial_state(tf.shape(x)[1])
        if self.reverse:
            x = reverse_sequences(x, padding.reversed, training=training)
        drops = training and self.recurrent_dropout > 0
        on_gpu = self.has_cudnn and not self.portable and tf.config.list_logical_devices("GPU")
        # cuDNN knows no dropout of the state.
        if on_gpu and not drops:
            y, state = self._scan_cudnn(x, padding, initial_state)
        else:
            h = initial_state[0]
            mask = tf.cast(self.drop.sample_mask(tf.shape(h)), h.dtype) if drops else None
            y, state = self._scan_loop(Scan(x, padding, initial_state, mask, training))
        if self.reverse:
            y = reverse_sequences(y, padding.reversed, training=training)
        return y, state

    def initial_state(self, batch: tf.Tensor | int) -> State:
        """The state before the first step: zeros, (B, W) for each part."""
        parts = 2 if isinstance(self, LSTM) else 1
        return tuple(tf.zeros([batch, self.units], self.compute_dtype) for _ in range(parts))

    def step(self, x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """One position: x (B, D), state -> h (B, W), state. Nothing is dropped."""
        hook = step_hooks.of(self)
        return self.cell_step(x, state) if hook is None else hook.step(x, state)

    def cell_step(self, x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """`step`, without any hook."""
        h, state = self.rnn.cell(x, list(state), training=False)
        return h, tuple(state)

    def _scan_cudnn(
        self, x: tf.Tensor, padding: Padding, initial_state: State
    ) -> tuple[tf.Tensor, State]:
        mask = None if padding.keep is None else tf.transpose(padding.keep[..., 0])
        y, *state = self.rnn(transpose_time(x), initial_state=list(initial_state), mask=mask)
        y = transpose_time(y)
        if padding.keep is not None:
            y = tf.where(padding.keep, y, tf.zeros([], y.dtype))
        return y, tuple(state)

    def _scan_loop(self, scan: Scan) -> tuple[tf.Tensor, State]:
        """The loop of models/recurrence.py: outputs (T, B, W), state at the last real position."""
        raise NotImplementedError

    def _cell_weights(self) -> list[tf.Tensor]:
        """Kernel, recurrent kernel and bias in the compute type."""
        cell = self.rnn.cell
        weights = cell.kernel, cell.recurrent_kernel, cell.bias
        return [tf.cast(weight, self.compute_dtype) for weight in weights]

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            "units": self.units,
            "reverse": self.reverse,
            "recurrent_dropout": self.recurrent_dropout,
            "portable": self.portable,
            "seed": self.seed,
        }


def _project(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, gates: int) -> list[tf.Tensor]:
    """X K + b for all positions together: x (T, B, D) -> (T, B, W) for each gate.

    Each gate has its own product: to split one result, and to join its gradient, costs more.
    """
    rows = tf.reshape(x, [-1, static_size(x)])
    parts = zip(tf.split(kernel, gates, -1), tf.split(bias, gates), strict=True)
    shape = tf.stack([tf.shape(x)[0], tf.shape(x)[1], static_size(kernel) // gates])
    return [tf.reshape(tf.nn.bias_add(tf.matmul(rows, k), b), shape) for k, b in parts]


@_register
class SimpleRNN(Recurrent):
    """h = f(x K + h U + b) (Elman 1990). relu starts from U = I (Le, Jaitly & Hinton 2015)."""

    has_cudnn = False
    keras_layer = keras.layers.SimpleRNN

    def __init__(self, units: int, *, activation: str = "tanh", **kwargs: Any) -> None:
        self.activation = activation
        super().__init__(units, **kwargs)

    def _layer_options(self) -> dict[str, object]:
        options = super()._layer_options() | {"activation": self.activation}
        if self.activation == "relu":
            options["recurrent_initializer"] = keras.initializers.Identity()
        return options

    def _scan_loop(self, scan: Scan) -> tuple[tf.Tensor, State]:
        kernel, recurrent, bias = self._cell_weights()
        (x,) = _project(scan.x, kernel, bias, 1)
        y = recurrence.simple_rnn(
            x,
            scan.initial_state[0],
            recurrent,
            self.activation,
            scan.padding.keep,
            scan.recurrent_dropout,
            training=scan.training,
        )
        return y, (gather_last(y, scan.padding.last),)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "activation": self.activation}


@_register
class GRU(Recurrent):
    """Gated recurrent unit, reset gate after the matrix product, as in cuDNN (Cho et al. 2014)."""

    keras_layer = keras.layers.GRU

    def _scan_loop(self, scan: Scan) -> tuple[tf.Tensor, State]:
        kernel, recurrent, bias = self._cell_weights()
        # Keras' GRU has a bias for the input and one for the recurrent product. For z and r the
        # two are simply added, so they join here; for c the reset gate stands between them.
        of_gates, of_candidate = tf.split(bias[1], [2 * self.units, self.units])
        bias = bias[0] + tf.pad(of_gates, [[0, self.units]])
        y = recurrence.gru(
            _project(scan.x, kernel, bias, 3),
            scan.initial_state[0],
            recurrent,
            of_candidate,
            scan.padding.keep,
            scan.recurrent_dropout,
            training=scan.training,
        )
        return y, (gather_last(y, scan.padding.last),)


@_register
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997); forget bias starts at 1."""

    keras_layer = keras.layers.LSTM

    def _scan_loop(self, scan: Scan) -> tuple[tf.Tensor, State]:
        kernel, recurrent, bias = self._cell_weights()
        h, c = scan.initial_state
        y, c = recurrence.lstm(
            _project(scan.x, kernel, bias, 4),
            h,
            c,
            recurrent,
            scan.padding.last,
            scan.padding.keep,
            scan.recurrent_dropout,
            training=scan.training,
        )
        return y, (gather_last(y, scan.padding.last), c)
