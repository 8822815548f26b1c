"""Made-up problems of memory: the longest sequence that a network solves.

python main.py task=probe data=copy model=gru
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np

from models.settings import RecurrentSettings, settings
from pipelines.core.contracts import Batch, Codec, FieldCodec, Split
from pipelines.core.errors import UserError
from pipelines.core.scores import Metric, Score
from pipelines.core.sections import Section
from pipelines.core.task import (
    Change,
    Diagnosable,
    ExportedFunction,
    RecurrentStack,
    Task,
    TeacherForced,
    Trained,
)
from pipelines.core.types import Arrays, Example, Nest, Tensors
from pipelines.data.codecs.numbers import AnswerCodec, SequenceCodec
from pipelines.evaluate.metrics.probe import PROBE

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@settings
class Probe(Task, Diagnosable):
    """Settings of probing; there are none: the problem is the data's."""

    name: Literal["probe"]

    columns: ClassVar[tuple[str, ...]] = ("sequence", "answer")
    input_columns: ClassVar[tuple[str, ...]] = ("sequence",)
    metrics: ClassVar[tuple[Metric, ...]] = PROBE
    dedupe_by: ClassVar[tuple[str, ...]] = ("sequence",)
    intended_use: ClassVar[str] = "Shows how far back a network remembers, on made-up sequences."
    example_input: ClassVar[Example] = {"sequence": "3 1 4 1 5"}

    def codec(self) -> Mapping[str, FieldCodec]:
        return {"sequence": SequenceCodec("sequence"), "answer": AnswerCodec("answer")}

    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model:
        from models.prober import build_prober

        fields = codec.spec.fields
        return build_prober(
            model,
            width=cast(int, fields["sequence"].shape[-1]),
            answers=cast(int, fields["answer"].shape[0]),
            outputs=codec.spec.sizes.get("answer", 1),
            seed=seed,
        )

    def batch(self, columns: Arrays, codec: Codec) -> Batch:
        """Inputs sequence (B, T, D) and sequence_length (B,); targets and weights (B, K)."""
        answers = columns["answer"]
        inputs = {name: columns[name] for name in ("sequence", "sequence_length")}
        if (inputs["sequence_length"] < answers.shape[1]).any():
            raise UserError(
                f"a sequence must be at least as long as its {answers.shape[1]} answers, which "
                "come after its last steps"
            )
        return Batch(inputs, answers, np.ones(answers.shape, np.float32))

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        """(B, K): cross-entropy in nats of symbols' logits (B, K, C), or squared errors."""
        import tensorflow as tf

        if targets.dtype.is_integer:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, outputs)
        return tf.square(outputs[..., 0] - targets)

    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        """Probabilities (B, K, C) of symbols, or numbers (B, K)."""
        import tensorflow as tf

        outputs = trained.model(inputs, training=False)
        if "answer" in trained.codec.spec.sizes:
            return {"probabilities": tf.nn.softmax(outputs)}
        return {"numbers": outputs[..., 0]}

    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        from pipelines.evaluate.metrics.probe import probe_scores

        return probe_scores(predictions, split.column("answer"), split.lengths()[:, 0])

    def baselines(self, train: Split, test: Split) -> Mapping[str, Arrays]:
        """The best constant."""
        answers, count = train.column("answer"), len(test)
        if answers.dtype.kind in "iu":
            classes = int(answers.max()) + 1
            shares = [np.bincount(column, minlength=classes) for column in answers.T]
            guess = {"probabilities": np.tile(np.stack(shares) / len(answers), (count, 1, 1))}
        else:
            guess = {"numbers": np.tile(answers.mean(0), (count, 1))}
        return {"best constant": guess}

    def decode_predictions(self, predictions: Tensors, codec: Codec) -> dict[str, tf.Tensor]:
        """The most probable symbols, or the numbers, (B, K)."""
        import tensorflow as tf

        if "numbers" in predictions:
            return {"answer": predictions["numbers"]}
        return {"answer": tf.argmax(predictions["probabilities"], -1, output_type=tf.int32)}

    def numeric_functions(self, trained: Trained) -> dict[str, ExportedFunction]:
        from pipelines.graphs.prediction import predict_function

        return {"answer": predict_function(trained)}

    def limitations(self, codec: Codec) -> list[str]:
        return ["It was trained on made-up sequences, to be measured; it is of no other use."]

    def recurrent_stacks(self, model: keras.Model) -> dict[str, RecurrentStack]:
        return {"encoder": RecurrentStack(model.get_layer("encoder"), "sequence", 0)}

    def teacher_forced(
        self, model: keras.Model, batch: Batch, change: Change | None = None
    ) -> TeacherForced:
        """Answers (B, K): log-odds of the right symbol, or the number."""
        from models.cross_entropy import log_odds

        outputs = model(batch.inputs, training=False)
        losses = self.losses(outputs, batch.targets)
        symbols = batch.targets.dtype.is_integer
        return TeacherForced(
            losses, log_odds(outputs, batch.targets) if symbols else outputs[..., 0]
        )

    def report_sections(self, trained: Trained, predictions: Arrays, split: Split) -> list[Section]:
        """Errors by length."""
        from pipelines.evaluate.metrics.probe import example_errors, guessing_error, ladder_figure

        answers = split.column("answer")
        errors = example_errors(predictions, answers)
        return [ladder_figure(errors, split.lengths()[:, 0], guessing_error(answers))]
