"""A made-up task: the symbols that frames stand for, aligned by CTC (Graves et al. 2006)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pipelines.tasks._new import FIRST_ID, LETTERS, build_stepwise, text_codec

from models.settings import RecurrentSettings, settings
from pipelines.core.contracts import Batch, Codec, FieldCodec, Split
from pipelines.core.scores import Score, by_name
from pipelines.core.task import Task, Trained
from pipelines.core.types import Arrays, Tensors
from pipelines.data.codecs.series import SeriesCodec
from pipelines.data.codecs.text import TextCodec
from pipelines.evaluate.metrics.generation import EXACT_MATCH, exact_match

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@settings
class Align(Task):
    """It has no settings. Id 0 is the blank between symbols."""

    name: Literal["align"]

    columns: ClassVar[tuple[str, ...]] = ("frames", "symbols")
    input_columns: ClassVar[tuple[str, ...]] = ("frames",)
    metrics: ClassVar = (EXACT_MATCH,)

    def codec(self) -> Mapping[str, FieldCodec]:
        return {"frames": SeriesCodec("frames"), "symbols": TextCodec("symbols", LETTERS)}

    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model:
        return build_stepwise(model, "frames", 0, codec.spec.sizes["symbols"], seed)

    def batch(self, columns: Arrays, codec: Codec) -> Batch:
        """A weight an example: the loss is of all alignments together."""
        inputs = {name: columns[name] for name in ("frames", "frames_length")}
        return Batch(inputs, columns["symbols"], np.ones(len(columns["symbols"]), np.float32))

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Any:
        return model(inputs, training=True), inputs["frames_length"]

    def losses(self, outputs: Any, targets: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        logits, length = outputs
        count = tf.math.count_nonzero(targets, 1, dtype=tf.int32)
        return tf.nn.ctc_loss(targets, logits, count, length, False, blank_index=0)

    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        """The best symbol of each frame, without repetitions and blanks."""
        import tensorflow as tf

        ids = tf.argmax(trained.model(inputs, training=False), -1, output_type=tf.int32)
        before = tf.pad(ids, [[0, 0], [1, 0]])[:, :-1]
        real = tf.sequence_mask(inputs["frames_length"], tf.shape(ids)[1])
        keep = tf.where(real & (ids != before) & (ids >= FIRST_ID), ids, 0)
        return {"symbols": text_codec(trained.codec, "symbols").text(keep), "alignment": keep}

    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        right = [[text] for texts in split.raw("symbols") for text in texts]
        return by_name([exact_match([s.decode() for s in predictions["symbols"]], right, False)])
