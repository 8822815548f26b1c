"""A recurrent network over sequences of numbers with outputs at its last steps only."""

import keras
import tensorflow as tf

from models.recurrent import Encoder
from models.seeds import stream
from models.settings import RecurrentSettings
from models.tensors import static_size

_register = keras.saving.register_keras_serializable(package="recurrent")


@_register
class LastStates(keras.layers.Layer):
    """The last `count` outputs of each sequence; a backward direction's final one for all.

    From y (B, T, N), lengths (B,), each at least `count`: (B, count, N).
    """

    def __init__(self, count: int, *, bidirectional: bool, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.count, self.bidirectional = count, bidirectional

    def call(self, y: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        positions = tf.maximum(lengths[:, tf.newaxis] - self.count + tf.range(self.count), 0)
        last = tf.gather(y, positions, batch_dims=1)
        if not self.bidirectional:
            return last
        half = static_size(y) // 2
        first = tf.repeat(y[:, :1, half:], self.count, axis=1)
        return tf.concat([last[..., :half], first], -1)

    def compute_mask(self, *_: object) -> None:
        """Masks are explicit: none travels with a tensor."""

    def get_config(self) -> dict[str, object]:
        own = {"count": self.count, "bidirectional": self.bidirectional}
        return {**super().get_config(), **own}


@_register
class SequenceMask(keras.layers.Layer):
    """Which steps are real: x (B, T, D), lengths (B,) int32 -> (B, T) bool."""

    def call(self, x: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        return tf.sequence_mask(lengths, tf.shape(x)[1])


def build_prober(
    recurrent: RecurrentSettings, *, width: int, answers: int, outputs: int, seed: int
) -> keras.Model:
    """{"sequence": (B, T, width), "sequence_length": (B,)} -> (B, answers, outputs) float32."""
    sequence = keras.Input((None, width), dtype="float32", name="sequence")
    length = keras.Input((), dtype="int32", name="sequence_length")
    mask = SequenceMask(name="mask")(sequence, length)
    encoder = Encoder(recurrent, seed=stream(seed, "encoder"), name="encoder")
    y, _ = encoder(sequence, mask=mask)
    last = LastStates(answers, bidirectional=recurrent.bidirectional, name="last")(y, length)
    initial = keras.initializers.GlorotUniform(seed=stream(seed, "output"))
    dense = keras.layers.Dense(outputs, kernel_initializer=initial, dtype="float32", name="output")
    inputs = {"sequence": sequence, "sequence_length": length}
    return keras.Model(inputs, dense(last), name="prober")
