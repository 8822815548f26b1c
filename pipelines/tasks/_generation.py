"""What tasks share that write text from what they read: a translation, a caption."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from models.settings import (
    DecoderSettings,
    EmbeddingSettings,
    ScheduledSampling,
    SearchSettings,
    settings,
)
from pipelines.core.contracts import Batch, Codec, Split
from pipelines.core.errors import UserError
from pipelines.core.task import Change, Core, RecurrentStack, Signature, Task, TeacherForced
from pipelines.data.codecs.text import BEGIN, UNKNOWN, TextCodec
from pipelines.evaluate.metrics.translation import BleuTokenizer, check_tokenizer

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

EXPLAINED = 6
"""Answers whose attention the report draws."""

EXPLAINING = ("tokens", "source_tokens", "attention")
"""What `predict` adds in detail."""


@settings
class GenerationTask(Task):
    """Settings of writing.

    embedding, decoder  of the words that are written.
    bleu_tokenize    how scores find words: 13a, or zh, ja-mecab or char where there are no spaces
                     between them.
    label_smoothing  share of a target spread over the vocabulary (Szegedy et al. 2016).
    sampling         how often the decoder reads its own words in training.
    """

    embedding: EmbeddingSettings
    decoder: DecoderSettings
    bleu_tokenize: BleuTokenizer
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    sampling: ScheduledSampling

    decodes: ClassVar[bool] = True
    stratify_by: ClassVar[str | None] = None

    def check(self, decode: SearchSettings) -> None:
        if self.embedding.vectors is not None:
            raise UserError("task.embedding.vectors goes with task=sentiment; leave it null")
        if self.decoder.tied and not self.embedding.trainable:
            raise UserError("task.embedding.trainable=false needs task.decoder.tied=false")
        check_tokenizer(self.bleu_tokenize)

    @abstractmethod
    def target_codec(self, codec: Codec) -> TextCodec:
        """The codec of what is written."""

    @abstractmethod
    def encode_inputs(self, model: keras.Model, fields: Mapping[str, tf.Tensor]) -> Any:
        """Graph code: from the fields that are given to the decoder's memory and first state."""

    @abstractmethod
    def decoder_inputs(
        self, model: keras.Model, inputs: Mapping[str, Any]
    ) -> tuple[Any, Any, tf.Tensor]:
        """Graph code: the decoder's memory, its first state, and the tokens before each target."""

    @property
    @abstractmethod
    def previous_tokens_field(self) -> str:
        """The field of those tokens among a Batch's inputs."""

    def recurrent_stacks(self, model: keras.Model) -> dict[str, RecurrentStack]:
        """The decoder; subclasses add what reads before it writes."""
        return {
            "decoder": RecurrentStack(
                model.decoder.rnn, self.previous_tokens_field, UNKNOWN, in_step=True
            )
        }

    def teacher_forced(
        self, model: keras.Model, batch: Batch, change: Change | None = None
    ) -> TeacherForced:
        """Answers (B, T): of each token of the reference, given all before it."""
        from models.cross_entropy import log_odds

        memory, state, target = self.decoder_inputs(model, batch.inputs)
        if change is not None:
            memory, state = change(memory, state)
        readouts, attention = model.decoder.call_with_attention(
            target, target != 0, state, memory, training=False
        )
        outputs = (readouts, model.decoder.output_weights(), attention)
        odds = log_odds(model.decoder.logits(readouts), batch.targets)
        return TeacherForced(self.losses(outputs, batch.targets), odds)

    def signatures(
        self, model: keras.Model, codec: Codec, decode: SearchSettings
    ) -> dict[str, Signature]:
        """greedy, if `decode` is not; explain, with all answers that `decode` finds; and encode,
        step and text to write word by word.
        """
        import tensorflow as tf

        from pipelines.graphs.generation import stepwise
        from pipelines.graphs.prediction import answerer
        from pipelines.graphs.tracing import padded

        inputs = {name: tf.TensorSpec([None], tf.string) for name in self.input_columns}

        def read(raw: Mapping[str, Any]) -> Any:
            return self.encode_inputs(model, padded(codec.encode(raw)))

        offered = stepwise(model.decoder, self.target_codec(codec), read, inputs)
        quick = decode.quick()
        if quick != decode:
            answer = answerer(self, model, codec, quick)
            offered["greedy"] = Signature(lambda **columns: answer(columns), inputs)
        best = answerer(self, model, codec, decode.full())

        def explain(**columns: tf.Tensor) -> dict[str, tf.Tensor]:
            return {**best(columns), **self.attended_inputs(model, columns)}

        offered["explain"] = Signature(explain, inputs)
        return offered

    def attended_inputs(
        self, model: keras.Model, columns: Mapping[str, Any]
    ) -> dict[str, tf.Tensor]:
        """Graph code: what of the raw columns (B,) the places are that attention goes to, beside
        "source_tokens".
        """
        return {}

    def numeric_functions(
        self, model: keras.Model, codec: Codec, decode: SearchSettings
    ) -> dict[str, Core]:
        """The encode and step of `signatures`, from fields."""
        import tensorflow as tf

        from pipelines.graphs.generation import stepwise
        from pipelines.graphs.prediction import given_specs

        inputs = given_specs(self, codec)

        def read(fields: Mapping[str, Any]) -> Any:
            return self.encode_inputs(model, fields)

        parts = stepwise(model.decoder, self.target_codec(codec), read, inputs)
        encode, step = parts["encode"], parts["step"]

        def begun(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            """Two hypotheses, of which one is at the beginning."""
            read = encode.run(**{name: batch[name] for name in inputs})
            states = {name: tf.repeat(x, 2, 1) for name, x in read.items() if "state" in name}
            return {**read, **states, "ids": tf.constant([[BEGIN, UNKNOWN]])}

        return {
            "encode": Core(*encode, given=lambda batch: batch),
            "step": Core(*step, given=begun),
        }

    def decode_predictions(self, predictions: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
        return dict(predictions)

    def to_json(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Without what explains it."""
        return {name: value for name, value in answer.items() if name not in EXPLAINING}

    def predict_in_detail(
        self,
        model: keras.Model,
        split: Split,
        rows: np.ndarray,
        codec: Codec,
        decode: SearchSettings,
    ) -> dict[str, Any]:
        """What `predict` says of the rows in detail, as numpy arrays."""
        import tensorflow as tf

        from pipelines.graphs.prediction import given_inputs, raw_columns

        batch = self.batch(split.gather(rows), codec)
        batch.inputs.update(raw_columns(split.examples(rows.tolist()), self.raw_inputs(decode)))
        given = given_inputs(self, codec, batch.inputs)
        inputs = {name: tf.convert_to_tensor(value) for name, value in given.items()}
        found = self.predict(model, codec, inputs, decode, detail=True)
        return {name: np.asarray(value) for name, value in found.items()}
