"""What tasks share that give a whole sequence one of several labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from models.settings import Rate, settings
from pipelines.core.contracts import Batch, Codec, Split
from pipelines.core.scores import Metric, Score
from pipelines.core.task import Change, Diagnosable, Task, TeacherForced, Trained
from pipelines.core.types import Arrays, JsonObject, Nest, Tensors
from pipelines.data.codecs.labels import LabelCodec
from pipelines.evaluate.metrics.classification import CLASSIFICATION

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SHOWN = 20
"""Labels that the model card names."""


@settings
class OneLabelTask(Task, Diagnosable):
    """Settings of a classifier. The column "label" holds the label, the field "label" its number.

    dropout          before the output layer.
    label_smoothing  share of the target spread over all classes (Szegedy et al. 2016).
    class_weights    balanced: an example counts by the inverse of its class's frequency.
    """

    dropout: Rate
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["none", "balanced"]

    metrics: ClassVar[tuple[Metric, ...]] = CLASSIFICATION
    stratify_by: ClassVar[str | None] = "label"

    def labels(self, codec: Codec) -> LabelCodec:
        return cast(LabelCodec, codec.fields["label"])

    def weights(self, labels: np.ndarray, codec: Codec) -> np.ndarray:
        """How much each example (B,) counts in training."""
        if self.class_weights == "none":
            return np.ones(len(labels), np.float32)
        counts = np.asarray(self.labels(codec).counts)
        return (counts.sum() / (len(counts) * counts))[labels].astype(np.float32)

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of logits (B, C) with labels (B,): (B,) nats."""
        import tensorflow as tf

        classes = outputs.shape[-1]
        smoothed = tf.one_hot(
            targets,
            classes,
            on_value=1 - self.label_smoothing + self.label_smoothing / classes,
            off_value=self.label_smoothing / classes,
        )
        return tf.nn.softmax_cross_entropy_with_logits(smoothed, outputs)

    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        """Probabilities (B, C)."""
        import tensorflow as tf

        return {"probabilities": tf.nn.softmax(trained.model(inputs, training=False))}

    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        from pipelines.evaluate.metrics.classification import classification_scores

        return classification_scores(predictions["probabilities"], split.column("label"))

    def decode_predictions(self, predictions: Tensors, codec: Codec) -> dict[str, tf.Tensor]:
        """The most probable label as a word, and all probabilities in the order of the labels."""
        import tensorflow as tf

        names, probabilities = tf.constant(self.labels(codec).names), predictions["probabilities"]
        return {
            "label": tf.gather(names, tf.argmax(probabilities, axis=-1)),
            "probabilities": probabilities,
            "labels": tf.broadcast_to(names, tf.shape(probabilities)),
        }

    def to_json(self, answer: JsonObject) -> JsonObject:
        pairs = zip(answer["labels"], answer["probabilities"], strict=True)
        return {"label": answer["label"], "probabilities": dict(pairs)}

    def limitations(self, codec: Codec) -> list[str]:
        names = self.labels(codec).names
        shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        return [
            f"It knows {len(names)} labels ({shown}) and gives one of them to every input, also to "
            "one that none fits."
        ]

    def teacher_forced(
        self, model: keras.Model, batch: Batch, change: Change | None = None
    ) -> TeacherForced:
        """Answers (B,): the log-odds of the label that the data gives."""
        import tensorflow as tf

        from models.cross_entropy import log_odds

        logits = model(batch.inputs, training=False)
        odds = log_odds(logits, tf.cast(batch.targets, tf.int32))
        return TeacherForced(self.losses(logits, batch.targets), odds)

    def baselines(self, train: Split, test: Split) -> Mapping[str, Arrays]:
        from pipelines.evaluate.baselines.classification import majority_class

        labels = train.column("label")
        shares = majority_class(labels, int(labels.max()) + 1, len(test))
        return {"majority class": {"probabilities": shares}}
