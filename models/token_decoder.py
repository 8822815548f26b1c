"""Writes a sequence of tokens from a memory: a recurrent decoder with attention and output layer.

The same for a translation, whose memory is a sentence, and a caption, whose memory is a picture.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple, Self

import keras
import tensorflow as tf

from models.attention import Attention, Memory
from models.dropout import Dropout
from models.embedding import Embedding
from models.recurrent import Decoder, States
from models.seeds import stream
from models.settings import DecoderSettings, RecurrentSettings

_register = keras.saving.register_keras_serializable(package="recurrent")


class Written(NamedTuple):
    """What a decoder has at a position.

    recurrent  states of its layers. fed (N, R): the readout, which input feeding reads next; of
               no width without it.
    """

    recurrent: States
    fed: tf.Tensor


class Projection(NamedTuple):
    """The output layer: logits are readout · kernelᵀ + bias, kernel (V, R), bias (V,)."""

    kernel: tf.Tensor
    bias: tf.Tensor


@_register
class TokenDecoder(keras.layers.Layer):
    """Next-token scores at each position, from the tokens before it and what it attends to.

    The readout is tanh(C [context; state]) (Luong et al. 2015, eq. 5), without attention
    tanh(C state); logits are its products with the output layer's rows.

    `call` takes a whole sequence, `step` one position; they agree. The embedding belongs to who
    made it, and is given, so that it can be shared. The decoder reads forward whatever the
    direction of `recurrent`.
    """

    def __init__(
        self,
        settings: DecoderSettings,
        recurrent: RecurrentSettings,
        embedding: Embedding,
        *,
        memory_width: int,
        state_widths: Sequence[Sequence[int]] | None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """memory_width  N of the values that are attended to.
        state_widths  of what `start` is given, for each layer and part; see `start`.
        """
        super().__init__(**kwargs)
        self.settings, self.recurrent, self.seed = settings, recurrent, seed
        self.memory_width = memory_width
        self.width = settings.width or memory_width
        self.embedding = embedding
        tied = embedding.width if settings.tied else None
        embedding.read_whole |= settings.tied
        if tied and settings.readout not in (None, tied):
            raise ValueError(
                f"a tied output layer reads vectors as wide as the embedding, {tied}; got "
                f"readout={settings.readout}. Leave it null, or use tied=false."
            )
        self.readout_width = tied or settings.readout or self.width
        forward = replace(recurrent, width=self.width, bidirectional=False)
        self.rnn = Decoder(
            forward, seed=stream(seed, "rnn"), dtype=self.dtype_policy, name="recurrent"
        )
        self.attention = None
        if settings.attention != "none":
            self.attention = Attention(
                settings.attention,
                self.width,
                seed=stream(seed, "attention"),
                dtype=self.dtype_policy,
                name="attention",
            )
        self.state_widths = state_widths
        self.bridge = [
            self._dense(f"bridge_{layer}_{part}", "tanh" if part == 0 else None)
            for layer, widths in enumerate(state_widths or [])
            for part in range(len(widths))
        ]
        self.combine = self._dense("combine", "tanh", self.readout_width)
        self.drop = Dropout(settings.dropout, seed=stream(seed, "drop"), name="drop")

    def _dense(self, name: str, activation: str | None, width: int | None = None) -> Any:
        initial = keras.initializers.GlorotUniform(seed=stream(self.seed, name))
        return keras.layers.Dense(
            width or self.width,
            activation,
            kernel_initializer=initial,
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape: Any = None) -> None:
        fed = self.readout_width if self.settings.input_feeding else 0
        self.rnn.build((None, None, self.embedding.width + fed))
        context = 0
        if self.attention is not None:
            context = self.memory_width
            self.attention.build(((None, None, self.width), (None, None, context)))
        self.combine.build((None, None, context + self.width))
        self.drop.build((None, None, self.readout_width))
        widths = [width for parts in self.state_widths or [] for width in parts]
        for dense, width in zip(self.bridge, widths, strict=True):
            dense.build((None, width))
        size = self.embedding.vocabulary_size
        if not self.settings.tied:
            self.kernel = self.add_weight(
                (size, self.readout_width),
                keras.initializers.GlorotUniform(seed=stream(self.seed, "kernel")),
                name="kernel",
            )
        self.bias = self.add_weight((size,), "zeros", name="bias")
        self.built = True

    def compute_mask(self, *_: Any) -> None:
        """Masks are explicit: none travels with a tensor."""

    # What is made once for a memory

    def remember(self, values: tf.Tensor, mask: tf.Tensor) -> Memory:
        """The memory of values (B, S, N), mask (B, S) bool; of no use without attention."""
        return {} if self.attention is None else self.attention.remember(values, mask)

    def start(self, given: Sequence[Sequence[tf.Tensor]] | tf.Tensor) -> Written:
        """Before the first position: zeros for a batch size, or bridged from given vectors.

        given  for each layer (h,) or for lstm (h, c), each (B, state_widths[layer][part]).
        """
        if self.state_widths is None:
            state = self.rnn.start(given)
            batch = given
        else:
            flat = [part for layer in given for part in layer]
            bridged = iter([dense(part) for dense, part in zip(self.bridge, flat, strict=True)])
            state = self.rnn.start(tuple(tuple(next(bridged) for _ in layer) for layer in given))
            batch = tf.shape(flat[0])[0]
        fed = self.readout_width if self.settings.input_feeding else 0
        return Written(state, tf.zeros([batch, fed], self.compute_dtype))

    # Over a whole sequence

    def call(
        self,
        ids: tf.Tensor,
        mask: tf.Tensor,
        state: Written,
        memory: Memory,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Readouts (B, T, R) after each of the tokens ids (B, T) int32, mask (B, T) bool.

        Only the masked positions' own inputs are zeroed: what stands behind a sequence's end is
        computed and means nothing.
        """
        return self.attended(ids, mask, state, memory, training=training)[0]

    def attended(
        self,
        ids: tf.Tensor,
        mask: tf.Tensor,
        state: Written,
        memory: Memory,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `call`, and what each position attended to, (B, T, S), or (B, T, 0) if to nothing."""
        x = self.embedding(ids, mask, training=training)
        if self.settings.input_feeding:
            return self._fed(x, state, memory, training)
        y, _ = self.rnn(x, state.recurrent, training=training)
        return self._read(y, memory, training)

    def _read(
        self, y: tf.Tensor, memory: Memory, training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """From outputs y (B, T, W): readouts (B, T, R), attention (B, T, S) or (B, T, 0)."""
        if self.attention is None:
            return self.drop(self.combine(y), training=training), y[..., :0]
        context, weights = self.attention(y, memory)
        readout = self.combine(tf.concat([context, y], -1))
        return self.drop(readout, training=training), weights

    def _fed(
        self, x: tf.Tensor, state: Written, memory: Memory, training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Position by position: each reads the readout before it."""
        length = tf.shape(x)[1]
        inputs = tf.TensorArray(x.dtype, length).unstack(tf.transpose(x, [1, 0, 2]))
        readouts = tf.TensorArray(x.dtype, length, element_shape=[None, self.readout_width])
        attention = tf.TensorArray(x.dtype, length, element_shape=[None, None])

        def body(t: tf.Tensor, states: States, fed: tf.Tensor, kept: Any, seen: Any) -> Any:
            y, states = self.rnn.step(tf.concat([inputs.read(t), fed], -1), states)
            readout, weights = self._read(y[:, tf.newaxis], memory, training)
            kept, seen = kept.write(t, readout[:, 0]), seen.write(t, weights[:, 0])
            return t + 1, states, readout[:, 0], kept, seen

        start = (tf.constant(0), state.recurrent, state.fed, readouts, attention)
        *_, kept, seen = tf.while_loop(lambda t, *_: t < length, body, start)
        return tf.transpose(kept.stack(), [1, 0, 2]), tf.transpose(seen.stack(), [1, 0, 2])

    # One position

    def step(
        self, ids: tf.Tensor, state: Written, memory: Memory
    ) -> tuple[tf.Tensor, Written, tf.Tensor]:
        """One position of K hypotheses a row, without dropout: logits, state, attention.

        ids (B, K); leaves of state (B, K, ...), of memory (B, ...): it is not repeated K times.
        Returns logits (B, K, V) float32, the state, and attention (B, K, S) or (B, K, 0).
        """
        batch, beams = tf.shape(ids)[0], tf.shape(ids)[1]

        def joined(x: tf.Tensor) -> tf.Tensor:
            return tf.reshape(x, [-1, x.shape[-1]])

        def apart(x: tf.Tensor) -> tf.Tensor:
            return tf.reshape(x, [batch, beams, x.shape[-1]])

        x = joined(self.embedding(ids, tf.ones_like(ids, tf.bool)))
        if self.settings.input_feeding:
            x = tf.concat([x, joined(state.fed)], -1)
        y, states = self.rnn.step(x, tf.nest.map_structure(joined, state.recurrent))
        readout, weights = self._read(apart(y), memory, False)
        fed = readout if self.settings.input_feeding else state.fed
        written = Written(tf.nest.map_structure(apart, states), fed)
        return self.logits(readout), written, weights

    # The output layer

    def projection(self) -> Projection:
        """In float32, whatever the compute type: softmax and losses need the range."""
        kernel = self.embedding.matrix if self.settings.tied else self.kernel
        return Projection(tf.convert_to_tensor(kernel), tf.convert_to_tensor(self.bias))

    def logits(self, readout: tf.Tensor) -> tf.Tensor:
        """From readouts (..., R): (..., V) float32."""
        kernel, bias = self.projection()
        rows = tf.cast(tf.reshape(readout, [-1, self.readout_width]), tf.float32)
        values = tf.nn.bias_add(tf.matmul(rows, kernel, transpose_b=True), bias)
        return tf.reshape(values, tf.concat([tf.shape(readout)[:-1], tf.shape(bias)], 0))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "settings": asdict(self.settings),
            "recurrent": asdict(self.recurrent),
            "embedding": keras.saving.serialize_keras_object(self.embedding),
            "memory_width": self.memory_width,
            "state_widths": self.state_widths,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        made = config | {
            "settings": DecoderSettings(**config["settings"]),
            "recurrent": RecurrentSettings(**config["recurrent"]),
            "embedding": keras.saving.deserialize_keras_object(config["embedding"]),
        }
        return cls(**made)
