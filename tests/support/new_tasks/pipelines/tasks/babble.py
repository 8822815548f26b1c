"""A made-up task: a text goes on, letter by letter; nothing is read before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pipelines.tasks._new import FIRST_ID, LETTERS, build_stepwise, text_codec

from models.settings import RecurrentSettings, settings
from pipelines.core.contracts import Batch, Codec, FieldCodec, Split
from pipelines.core.scores import Score, by_name
from pipelines.core.task import Decodes, Task, Trained
from pipelines.core.types import Arrays, Tensors
from pipelines.data.codecs.text import TextCodec
from pipelines.evaluate.metrics.generation import PERPLEXITY, TOKEN_ACCURACY, likelihoods

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

LONGER = 4
"""Letters that are added."""


@settings
class Babble(Task, Decodes):
    """It has no settings."""

    name: Literal["babble"]

    columns: ClassVar[tuple[str, ...]] = ("text",)
    input_columns: ClassVar[tuple[str, ...]] = ("text",)
    metrics: ClassVar = (TOKEN_ACCURACY, PERPLEXITY)

    def codec(self) -> Mapping[str, FieldCodec]:
        return {"letters": TextCodec("text", LETTERS)}

    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model:
        size = codec.spec.sizes["letters"]
        return build_stepwise(model, "letters", size, size, seed)

    def batch(self, columns: Arrays, codec: Codec) -> Batch:
        letters, length = columns["letters"], columns["letters_length"]
        inputs = {"letters": letters, "letters_length": length}
        targets = np.pad(letters, [(0, 0), (0, 1)])[:, 1:]
        return Batch(inputs, targets, (targets > 0).astype(np.float32))

    def losses(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, outputs)

    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        import tensorflow as tf

        letters, length = inputs["letters"], inputs["letters_length"]
        for _ in range(LONGER):
            letters = tf.pad(letters, [[0, 0], [0, 1]])
            model_inputs = {"letters": letters, "letters_length": length}
            logits = trained.model(model_inputs, training=False)
            last = tf.gather(logits, length - 1, batch_dims=1)
            best = FIRST_ID + tf.argmax(last[:, FIRST_ID:], 1, output_type=tf.int32)
            letters += tf.one_hot(length, tf.shape(letters)[1], dtype=tf.int32) * best[:, None]
            length += 1
        return {"text": text_codec(trained.codec, "letters").text(letters)}

    def measure_targets(self, model: keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
        import tensorflow as tf

        logits = model({name: batch.inputs[name] for name in ("letters", "letters_length")})
        real = tf.cast(batch.targets > 0, tf.float32)
        nats = self.losses(logits, batch.targets) * real
        best = tf.argmax(logits, -1, output_type=tf.int32)
        right = tf.cast(best == tf.cast(batch.targets, tf.int32), tf.float32) * real
        sums = {"log_likelihood": -nats, "tokens": real, "tokens_right": right}
        return {name: tf.reduce_sum(value, 1) for name, value in sums.items()}

    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        return by_name(likelihoods(predictions))

    def to_json(self, answer: dict[str, Any]) -> dict[str, Any]:
        return answer
