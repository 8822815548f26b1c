"""A made-up task: a tag for every word of a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pipelines.tasks._new import FIRST_ID, WORD_LISTS, build_stepwise, text_codec

from models.settings import RecurrentSettings, settings
from pipelines.core.contracts import Batch, Codec, FieldCodec, Split
from pipelines.core.scores import Metric, Score, by_name
from pipelines.core.task import Change, Diagnosable, RecurrentStack, Task, TeacherForced, Trained
from pipelines.core.types import Arrays, Tensors
from pipelines.data.codecs.text import TextCodec
from pipelines.evaluate.metrics.generation import ratio

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

WORD_ERRORS = Metric("word_errors", "wrong tags", higher_is_better=False, scale=1)


@settings
class Tags(Task, Diagnosable):
    """It has no settings."""

    name: Literal["tags"]

    columns: ClassVar[tuple[str, ...]] = ("words", "tags")
    input_columns: ClassVar[tuple[str, ...]] = ("words",)
    metrics: ClassVar[tuple[Metric, ...]] = (WORD_ERRORS,)
    example_input: ClassVar[Mapping[str, Any]] = {"words": ["red", "cup"]}

    def codec(self) -> Mapping[str, FieldCodec]:
        return {name: TextCodec(name, WORD_LISTS) for name in self.columns}

    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model:
        sizes = codec.spec.sizes
        return build_stepwise(model, "words", sizes["words"], sizes["tags"], seed)

    def batch(self, columns: Arrays, codec: Codec) -> Batch:
        inputs = {name: columns[name] for name in ("words", "words_length")}
        real = np.arange(columns["tags"].shape[1]) < columns["tags_length"][:, None]
        return Batch(inputs, columns["tags"], real.astype(np.float32))

    def losses(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, outputs)

    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        import tensorflow as tf

        logits = trained.model(inputs, training=False)[..., FIRST_ID:]
        ids = FIRST_ID + tf.argmax(logits, -1, output_type=tf.int32)
        real = tf.sequence_mask(inputs["words_length"], tf.shape(ids)[1])
        return {"ids": tf.where(real, ids, 0)}

    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        columns = split.gather(np.arange(len(split)))
        said, real = predictions["ids"], columns["tags"] > 0
        wrong = ((said != columns["tags"]) & real).sum(1)
        signature = "share of words whose tag is wrong"
        return by_name([Score(WORD_ERRORS, ratio(wrong, real.sum(1)), signature)])

    def baselines(self, train: Split, test: Split) -> Mapping[str, Arrays]:
        counts = np.bincount(train.gather(np.arange(len(train)))["tags"].ravel())
        often = FIRST_ID + int(counts[FIRST_ID:].argmax())
        shape = test.gather(np.arange(len(test)))["tags"].shape
        return {"most frequent tag": {"ids": np.full(shape, often)}}

    def decode_predictions(self, predictions: Tensors, codec: Codec) -> dict[str, Any]:
        return {"tags": text_codec(codec, "tags").tokens(predictions["ids"])}

    def to_json(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {"tags": [tag for tag in answer["tags"] if tag]}

    def recurrent_stacks(self, model: keras.Model) -> dict[str, RecurrentStack]:
        return {"encoder": RecurrentStack(model.get_layer("encoder"), "words", 0, in_step=True)}

    def teacher_forced(
        self, model: keras.Model, batch: Batch, change: Change | None = None
    ) -> TeacherForced:
        from models.cross_entropy import log_odds

        outputs = model(batch.inputs, training=False)
        return TeacherForced(self.losses(outputs, batch.targets), log_odds(outputs, batch.targets))
