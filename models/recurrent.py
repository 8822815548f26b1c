"""Encoders and decoders: stacks of recurrent layers, with dropout between them and residuals."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import keras
import tensorflow as tf

from models.dropout import Dropout
from models.layer_tree import flatten_layers
from models.layers import GRU, LSTM, Recurrent, SimpleRNN, State, transpose_time
from models.padding import make_padding
from models.seeds import stream
from models.serialization import FromConfig
from models.settings import RecurrentSettings

_register = keras.saving.register_keras_serializable(package="recurrent")

States = tuple[State, ...]  # one for each layer

RunLayers = Callable[[list[Recurrent], tf.Tensor], tuple[tf.Tensor, State]]
"""Runs one level's layers, one for each direction, on x: outputs and state."""


def _make_layer(settings: RecurrentSettings, **kwargs: Any) -> Recurrent:
    """A layer of the cell that the settings name."""
    kwargs |= {"recurrent_dropout": settings.recurrent_dropout}
    if settings.cell == "simple_rnn":
        return SimpleRNN(settings.width, activation=settings.activation, **kwargs)
    return {"lstm": LSTM, "gru": GRU}[settings.cell](settings.width, **kwargs)


class _Stack(FromConfig, keras.layers.Layer):
    """The base of encoders and decoders: layers, dropout between them, residuals."""

    config_types: ClassVar[Mapping[str, type]] = {"settings": RecurrentSettings}

    def __init__(
        self,
        settings: RecurrentSettings,
        *,
        seed: int = 0,
        portable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.seed = seed
        directions = ("forward", "backward") if settings.bidirectional else ("forward",)
        self.layers = [
            [
                _make_layer(
                    settings,
                    reverse=direction == "backward",
                    portable=portable,
                    seed=stream(seed, f"{index}/{direction}"),
                    dtype=self.dtype_policy,
                    name=f"{direction}_{index}",
                )
                for direction in directions
            ]
            for index in range(settings.layers)
        ]
        self.drops = [
            Dropout(
                settings.dropout, seed=stream(seed, f"{index}/dropout"), name=f"dropout_{index}"
            )
            for index in range(1, settings.layers)
        ]
        self.output_width = settings.width * len(directions)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs (B, T, D)."""
        width = input_shape[-1]
        for layers in self.layers:
            for layer in layers:
                layer.build((None, None, width))
            width = self.output_width
        self.built = True

    def _run_level(
        self, index: int, x: tf.Tensor, run: RunLayers, training: bool | None = None
    ) -> tuple[tf.Tensor, State]:
        """run() on level `index`, with the dropout before it and the residual around it."""
        if index:
            y, state = run(self.layers[index], self.drops[index - 1](x, training=training))
            return (x + y if self.settings.residual else y), state
        return run(self.layers[0], x)

    def initial_state(self, batch: tf.Tensor | int) -> States:
        """The state before the first position: zeros, each (B, W). Forward stacks only."""
        if self.settings.bidirectional:
            raise ValueError(
                "only a stack that reads forward has a state after each position; "
                "got bidirectional=True. Use the cell without bi_."
            )
        return tuple(layer.initial_state(batch) for (layer,) in self.layers)

    def step(self, x: tf.Tensor, state: States) -> tuple[tf.Tensor, States]:
        """One position of `call`, without dropout: x (B, D), state -> y (B, W), state."""
        states = []
        for index, before in enumerate(state):

            def run(
                layers: list[Recurrent], x: tf.Tensor, before: State = before
            ) -> tuple[tf.Tensor, State]:
                return layers[0].step(x, before)

            x, after = self._run_level(index, x, run)
            states.append(after)
        return x, tuple(states)

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            "settings": asdict(self.settings),
            "seed": self.seed,
            "portable": self.layers[0][0].portable,
        }


@_register
class Encoder(_Stack):
    """Reads a padded batch in one direction, or in both, with the outputs side by side.

    Both directions: Schuster & Paliwal 1997.
    """

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None = None,
        training: bool | None = None,
        *,
        time_major: bool = False,
    ) -> tuple[tf.Tensor, States]:
        """X (B, T, D), mask (B, T) bool or None for no padding -> y (B, T, N), state.

        N is output_width: W, or 2W in both directions. y is 0 on padding. state is, for each
        layer, (h,) or for lstm (h, c), each (B, N): the forward direction's after the last real
        position, and next to it the backward one's after the first.

        time_major: x (T, B, D), mask (T, B) and y (T, B, N), which saves the transposes.
        """
        if not time_major:
            transposed = None if mask is None else tf.transpose(mask)
            y, state = self.call(transpose_time(x), transposed, training, time_major=True)
            return transpose_time(y), state
        padding, states = make_padding(x, mask), []

        def run(layers: list[Recurrent], x: tf.Tensor) -> tuple[tf.Tensor, State]:
            results = [layer.scan(x, padding, training=training) for layer in layers]
            y = tf.concat([y for y, _ in results], -1)
            return y, tuple(
                tf.concat(parts, -1) for parts in zip(*(s for _, s in results), strict=True)
            )

        for index in range(len(self.layers)):
            x, final = self._run_level(index, x, run, training)
            states.append(final)
        return x, tuple(states)


@_register
class Decoder(_Stack):
    """Goes forward only, over a whole sequence (`call`) or position by position (`step`)."""

    def __init__(self, settings: RecurrentSettings, **kwargs: Any) -> None:
        if settings.bidirectional:
            raise ValueError(
                "a decoder reads forward, since what follows is not yet known; "
                "got bidirectional=True. Use the cell without bi_."
            )
        super().__init__(settings, **kwargs)

    def start(self, initial: tf.Tensor | int | States) -> States:
        """The state before the first step: zeros for a batch size, or the states given, checked.

        States have for each layer (h,) or for lstm (h, c), each (B, W).
        """
        if not isinstance(initial, tuple | list):
            return self.initial_state(initial)
        zeros = self.initial_state(1)
        if [len(parts) for parts in initial] != [len(parts) for parts in zeros]:
            raise ValueError(
                f"a state has {len(zeros[0])} parts for each of {len(zeros)} layers; "
                f"got {[len(parts) for parts in initial]} parts."
            )
        return tuple(tuple(parts) for parts in initial)

    def call(
        self, x: tf.Tensor, state: States, training: bool | None = None
    ) -> tuple[tf.Tensor, States]:
        """X (B, T, D), state -> y (B, T, W), state after the last position (no padding)."""
        x = transpose_time(x)
        padding, states = make_padding(x, None), []
        for index, before in enumerate(state):

            def run(
                layers: list[Recurrent], x: tf.Tensor, before: State = before
            ) -> tuple[tf.Tensor, State]:
                return layers[0].scan(x, padding, before, training=training)

            x, after = self._run_level(index, x, run, training)
            states.append(after)
        return transpose_time(x), tuple(states)


def make_portable(model: keras.Model, portable: bool = True) -> None:
    """Keeps cuDNN out of every graph that is traced from the model after this, for export."""
    for layer in flatten_layers(model):
        if isinstance(layer, Recurrent):
            layer.portable = portable
