"""A recurrent decoder of token sequences, with attention to a memory and an output layer.

It is the same for a translation, whose memory is a sentence, and a caption, whose memory is an
image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf

from models.attention import Attention, Memory
from models.dropout import Dropout
from models.embedding import Embedding
from models.recurrent import Decoder, States
from models.seeds import stream
from models.serialization import FromConfig
from models.settings import DecoderSettings, RecurrentSettings

_register = keras.saving.register_keras_serializable(package="recurrent")


class DecoderState(NamedTuple):
    """A decoder's state at a position.

    recurrent   the states of its layers.
    input_feed  (N, R), the last readout, which input feeding reads next; (N, 0) without it.
    """

    recurrent: States
    input_feed: tf.Tensor


class OutputWeights(NamedTuple):
    """The output layer: logits are readout · kernelᵀ + bias, kernel (V, R), bias (V,)."""

    kernel: tf.Tensor
    bias: tf.Tensor


@_register
class TokenDecoder(FromConfig, keras.layers.Layer):
    """Logits of the next token at each position, from the tokens before it and the memory.

    The readout is tanh(C [context; state]) (Luong et al. 2015, eq. 5), without attention
    tanh(C state); logits are its products with the rows of the output layer.

    `call` takes a whole sequence, `step` one position; they agree. The embedding is made by the
    caller, so that it can be shared. The decoder reads forward whatever the direction of
    `recurrent`.
    """

    config_types: ClassVar[Mapping[str, type]] = {
        "settings": DecoderSettings,
        "recurrent": RecurrentSettings,
        "embedding": keras.layers.Layer,
    }

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
        """memory_width: N, of the values that are attended to.

        state_widths: of the initial states, for each layer and part; see `start`.
        """
        super().__init__(**kwargs)
        self.settings, self.recurrent, self.seed = settings, recurrent, seed
        self.memory_width = memory_width
        self.width = settings.width or memory_width
        self.embedding = embedding
        tied = embedding.width if settings.tied else None
        if tied and settings.readout not in (None, tied):
            raise ValueError(
                f"a tied output layer reads vectors as wide as the embedding, {tied}; got "
                f"readout={settings.readout}. Leave it null, or use tied=false."
            )
        self.readout_width = tied or settings.readout or self.width
        self.feed_width = self.readout_width if settings.input_feeding else 0
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

    def _dense(
        self, name: str, activation: str | None, width: int | None = None
    ) -> keras.layers.Dense:
        initial = keras.initializers.GlorotUniform(seed=stream(self.seed, name))
        return keras.layers.Dense(
            width or self.width,
            activation,
            kernel_initializer=initial,
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape: object = None) -> None:
        """Makes the weights; all shapes are known before."""
        self.rnn.build((None, None, self.embedding.width + self.feed_width))
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

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    # Computed once for a memory

    def precompute_keys(self, values: tf.Tensor, mask: tf.Tensor) -> Memory:
        """The memory of values (B, S, N), mask (B, S) bool; empty without attention."""
        return {} if self.attention is None else self.attention.precompute_keys(values, mask)

    def start(self, initial: States | tf.Tensor | int) -> DecoderState:
        """The state before the first position: zeros for a batch size, or from initial vectors.

        Those are, for each layer, (h,) or for lstm (h, c), each (B, state_widths[layer][part]); a
        dense layer, the bridge, brings each to the decoder's width.
        """
        if self.state_widths is None or isinstance(initial, tf.Tensor | int):
            state = self.rnn.start(initial)
        else:
            flat = [part for layer in initial for part in layer]
            states = iter([dense(part) for dense, part in zip(self.bridge, flat, strict=True)])
            state = self.rnn.start(tuple(tuple(next(states) for _ in layer) for layer in initial))
        batch = tf.shape(state[0][0])[0]
        return DecoderState(state, tf.zeros([batch, self.feed_width], self.compute_dtype))

    # Over a whole sequence

    def call(
        self,
        ids: tf.Tensor,
        mask: tf.Tensor,
        state: DecoderState,
        memory: Memory,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Readouts (B, T, R) after each of the tokens ids (B, T) int32, mask (B, T) bool.

        Only the inputs of masked positions are zeroed: readouts after a sequence's end are computed
        too, and mean nothing.
        """
        return self.call_with_attention(ids, mask, state, memory, training=training)[0]

    def call_with_attention(
        self,
        ids: tf.Tensor,
        mask: tf.Tensor,
        state: DecoderState,
        memory: Memory,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Like `call`, with attention weights (B, T, S), or (B, T, 0) without attention."""
        x = self.embedding(ids, mask, training=training)
        if self.settings.input_feeding:
            return self._feed_inputs(x, state, memory, training)
        y, _ = self.rnn(x, state.recurrent, training=training)
        return self._readout(y, memory, training)

    def _readout(
        self, y: tf.Tensor, memory: Memory, training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Outputs y (B, T, W) -> readouts (B, T, R), attention (B, T, S) or (B, T, 0)."""
        if self.attention is None:
            return self.drop(self.combine(y), training=training), y[..., :0]
        context, weights = self.attention(y, memory)
        readout = self.combine(tf.concat([context, y], -1))
        return self.drop(readout, training=training), weights

    def _feed_inputs(
        self, x: tf.Tensor, state: DecoderState, memory: Memory, training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Position by position, since each reads the readout before it; as call_with_attention."""
        length = tf.shape(x)[1]
        inputs = tf.TensorArray(x.dtype, length).unstack(tf.transpose(x, [1, 0, 2]))
        readouts = tf.TensorArray(x.dtype, length, element_shape=[None, self.readout_width])
        attention = tf.TensorArray(x.dtype, length, element_shape=[None, None])

        def body(
            t: tf.Tensor,
            states: States,
            feed: tf.Tensor,
            readouts: tf.TensorArray,
            attention: tf.TensorArray,
        ) -> tuple[tf.Tensor, States, tf.Tensor, tf.TensorArray, tf.TensorArray]:
            y, states = self.rnn.step(tf.concat([inputs.read(t), feed], -1), states)
            readout, weights = self._readout(y[:, tf.newaxis], memory, training)
            readouts = readouts.write(t, readout[:, 0])
            attention = attention.write(t, weights[:, 0])
            return t + 1, states, readout[:, 0], readouts, attention

        start = (tf.constant(0), state.recurrent, state.input_feed, readouts, attention)
        *_, readouts, attention = tf.while_loop(lambda t, *_: t < length, body, start)
        return tf.transpose(readouts.stack(), [1, 0, 2]), tf.transpose(attention.stack(), [1, 0, 2])

    # One position

    def step(
        self, ids: tf.Tensor, state: DecoderState, memory: Memory
    ) -> tuple[tf.Tensor, DecoderState, tf.Tensor]:
        """One position of K hypotheses for each input, without dropout: logits, state, attention.

        ids (B, K); leaves of state (B, K, ...), of memory (B, ...): it is not repeated K times.
        Returns logits (B, K, V) float32, the state, and attention (B, K, S) or (B, K, 0).
        """
        batch, beams = tf.shape(ids)[0], tf.shape(ids)[1]

        def merge_beams(x: tf.Tensor) -> tf.Tensor:
            return tf.reshape(x, [-1, x.shape[-1]])

        def split_beams(x: tf.Tensor) -> tf.Tensor:
            return tf.reshape(x, [batch, beams, x.shape[-1]])

        x = merge_beams(self.embedding(ids, tf.ones_like(ids, tf.bool)))
        if self.settings.input_feeding:
            x = tf.concat([x, merge_beams(state.input_feed)], -1)
        y, states = self.rnn.step(x, tf.nest.map_structure(merge_beams, state.recurrent))
        # The K hypotheses attend as K positions of one input do, so the memory is read once.
        readout, weights = self._readout(split_beams(y), memory, False)
        feed = readout if self.settings.input_feeding else state.input_feed
        return (
            self.logits(readout),
            DecoderState(tf.nest.map_structure(split_beams, states), feed),
            weights,
        )

    # The output layer

    def output_weights(self) -> OutputWeights:
        """The output layer's weights in float32: softmax and losses need the range."""
        kernel = self.embedding.matrix if self.settings.tied else self.kernel
        return OutputWeights(tf.convert_to_tensor(kernel), tf.convert_to_tensor(self.bias))

    def logits(self, readout: tf.Tensor) -> tf.Tensor:
        """Readouts (..., R) -> logits (..., V) float32."""
        kernel, bias = self.output_weights()
        rows = tf.cast(tf.reshape(readout, [-1, self.readout_width]), tf.float32)
        values = tf.nn.bias_add(tf.matmul(rows, kernel, transpose_b=True), bias)
        return tf.reshape(values, tf.concat([tf.shape(readout)[:-1], tf.shape(bias)], 0))

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            "settings": asdict(self.settings),
            "recurrent": asdict(self.recurrent),
            "embedding": keras.saving.serialize_keras_object(self.embedding),
            "memory_width": self.memory_width,
            "state_widths": self.state_widths,
            "seed": self.seed,
        }
