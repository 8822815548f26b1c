"""Encoders and decoders: stacks of recurrent layers, with dropout between them and residuals."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Self

import keras
import tensorflow as tf

from models.dropout import Dropout
from models.layers import GRU, LSTM, Recurrent, SimpleRNN, State, swap
from models.padding import padding_of
from models.seeds import stream
from models.settings import RecurrentSettings

_register = keras.saving.register_keras_serializable(package="recurrent")

States = tuple[State, ...]  # one for each layer


def _layer(settings: RecurrentSettings, **kwargs: Any) -> Recurrent:
    """One layer of the cell that the settings name."""
    kwargs |= {"recurrent_dropout": settings.recurrent_dropout}
    if settings.cell == "simple_rnn":
        return SimpleRNN(settings.width, activation=settings.activation, **kwargs)
    return {"lstm": LSTM, "gru": GRU}[settings.cell](settings.width, **kwargs)


class _Stack(keras.layers.Layer):
    """What encoders and decoders have in common: layers, dropout between them, residuals."""

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
                _layer(
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

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        for layers in self.layers:
            for layer in layers:
                layer.build((None, None, width))
            width = self.output_width
        self.built = True

    def _through(
        self,
        index: int,
        x: tf.Tensor,
        apply: Callable[[list[Recurrent], tf.Tensor], tuple[tf.Tensor, State]],
        training: bool | None = None,
    ) -> tuple[tf.Tensor, State]:
        """Layer `index` with what surrounds it: apply(layers, x) -> (y, state)."""
        if index:
            y, state = apply(self.layers[index], self.drops[index - 1](x, training=training))
            return (x + y if self.settings.residual else y), state
        return apply(self.layers[0], x)

    def unread(self, batch: tf.Tensor | int) -> States:
        """State before the first position, reading forward: zeros, each (B, W)."""
        if self.settings.bidirectional:
            raise ValueError(
                "a state after so many positions takes a stack that reads forward only; "
                "got bidirectional=True. Use the cell without bi_."
            )
        return tuple(layer.start(batch) for (layer,) in self.layers)

    def step(self, x: tf.Tensor, state: States) -> tuple[tf.Tensor, States]:
        """One position of `call`, reading forward without dropout.

        x (B, D), state as of `unread` -> y (B, W), state.
        """
        states = []
        for index, initial in enumerate(state):

            def apply(
                layers: list[Recurrent], x: tf.Tensor, initial: State = initial
            ) -> tuple[tf.Tensor, State]:
                return layers[0].step(x, initial)

            x, final = self._through(index, x, apply)
            states.append(final)
        return x, tuple(states)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "settings": asdict(self.settings),
            "seed": self.seed,
            "portable": self.layers[0][0].portable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**(config | {"settings": RecurrentSettings(**config["settings"])}))


@_register
class Encoder(_Stack):
    """Reads a padded batch; one direction or both, side by side (Schuster & Paliwal 1997)."""

    def compute_mask(self, *_: Any) -> None:
        """Masks are explicit: none travels with a tensor."""

    def call(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None = None,
        training: bool | None = None,
        *,
        time_major: bool = False,
    ) -> tuple[tf.Tensor, States]:
        """From x (B, T, D), mask (B, T) bool or None for no padding: y (B, T, N), state.

        N is output_width: W, or 2W in both directions. y is 0 on padding. state is, for each
        layer, (h,) or for lstm (h, c), each (B, N): the forward direction after the last real
        position, and beside it the backward one after the first.

        time_major: x (T, B, D), mask (T, B) and y (T, B, N), which saves turning them round.
        """
        if not time_major:
            turned = None if mask is None else tf.transpose(mask)
            y, read = self.call(swap(x), turned, training, time_major=True)
            return swap(y), read
        padding, states = padding_of(x, mask), []

        def apply(layers: list[Recurrent], x: tf.Tensor) -> tuple[tf.Tensor, State]:
            results = [layer.scan(x, padding, training=training) for layer in layers]
            y = tf.concat([y for y, _ in results], -1)
            return y, tuple(
                tf.concat(parts, -1) for parts in zip(*(s for _, s in results), strict=True)
            )

        for index in range(len(self.layers)):
            x, state = self._through(index, x, apply, training)
            states.append(state)
        return x, tuple(states)


@_register
class Decoder(_Stack):
    """Goes forward only, over a whole sequence (`call`) or one position at a time (`step`)."""

    def __init__(self, settings: RecurrentSettings, **kwargs: Any) -> None:
        if settings.bidirectional:
            raise ValueError(
                "a decoder reads forward, since what follows is not yet known; "
                "got bidirectional=True. Use the cell without bi_."
            )
        super().__init__(settings, **kwargs)

    def start(self, given: tf.Tensor | int | States) -> States:
        """State before the first step: zeros for a batch size, or given states, checked.

        Given states have for each layer (h,) or for lstm (h, c), each (B, W).
        """
        if not isinstance(given, tuple | list):
            return self.unread(given)
        zeros = self.unread(1)
        if [len(parts) for parts in given] != [len(parts) for parts in zeros]:
            raise ValueError(
                f"a state has {len(zeros[0])} parts for each of {len(zeros)} layers; "
                f"got {[len(parts) for parts in given]} parts."
            )
        return tuple(tuple(parts) for parts in given)

    def call(
        self, x: tf.Tensor, state: States, training: bool | None = None
    ) -> tuple[tf.Tensor, States]:
        """From x (B, T, D), state: y (B, T, W), state after the last position (no padding)."""
        x = swap(x)
        padding, states = padding_of(x, None), []
        for index, initial in enumerate(state):

            def apply(
                layers: list[Recurrent], x: tf.Tensor, initial: State = initial
            ) -> tuple[tf.Tensor, State]:
                return layers[0].scan(x, padding, initial, training=training)

            x, final = self._through(index, x, apply, training)
            states.append(final)
        return swap(x), tuple(states)


def make_portable(model: keras.Model, portable: bool = True) -> None:
    """Keeps cuDNN out of every graph that is traced from the model after this, for export."""
    for layer in model._flatten_layers():
        if isinstance(layer, Recurrent):
            layer.portable = portable
