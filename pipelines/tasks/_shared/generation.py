"""What tasks share that write text from what they read: a translation, a caption."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

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
from pipelines.core.task import (
    Change,
    Decodes,
    Diagnosable,
    Explains,
    ExportedFunction,
    Objective,
    RecurrentStack,
    Signature,
    Task,
    TeacherForced,
    Trained,
)
from pipelines.core.types import JsonObject, Tensors
from pipelines.data.codecs.text import BEGIN, UNKNOWN, TextCodec
from pipelines.evaluate.metrics.translation import BleuTokenizer, check_tokenizer

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from models.attention import Memory
    from models.token_decoder import DecoderState
    from pipelines.graphs.generation import InputFacts

EXPLAINED = 6
"""Answers whose attention the report draws."""

EXPLAINING = ("tokens", "source_tokens", "attention")
"""What `predict` adds in detail."""


@settings
class GenerationTask(Task, Decodes, Explains, Diagnosable):
    """Settings of writing.

    embedding, decoder  of the words that are written.
    bleu_tokenize    how scores find words: 13a, or zh, ja-mecab or char where there are no spaces
                     between them.
    label_smoothing  share of a target spread over the vocabulary (Szegedy et al. 2016).
    sampling         how often the decoder reads its own words in training.
    adversarial      how far word vectors are moved in adversarial training, those of an input and
                     those of what was written before each, as a share of a vector's length
                     (tasks/_shared/adversarial.py); 0: not at all.
    """

    embedding: EmbeddingSettings
    decoder: DecoderSettings
    bleu_tokenize: BleuTokenizer
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    sampling: ScheduledSampling
    adversarial: Annotated[float, Field(ge=0)]

    answer_name: ClassVar[str]
    """What a predicted text is called."""
    previous_tokens_field: ClassVar[str]
    """Of a Batch's inputs, the tokens before each of its targets."""

    def check(self, decode: SearchSettings) -> None:
        if self.embedding.vectors is not None:
            raise UserError("task.embedding.vectors goes with task=sentiment; leave it null")
        if self.adversarial and self.sampling.schedule != "none":
            raise UserError(
                "task.adversarial moves the vectors of reference tokens: it goes with "
                "task.sampling.schedule=none"
            )
        if self.decoder.tied and not self.embedding.trainable:
            raise UserError("task.embedding.trainable=false needs task.decoder.tied=false")
        check_tokenizer(self.bleu_tokenize)

    def objective(self, train: Split, codec: Codec) -> Objective:
        if not self.adversarial:
            return self
        from pipelines.tasks._shared.adversarial import Adversarial

        return Adversarial(self, self.adversarial, time_major=False)

    @abstractmethod
    def target_codec(self, codec: Codec) -> TextCodec:
        """The codec of what is written."""

    @abstractmethod
    def input_facts(self, trained: Trained, inputs: Tensors) -> InputFacts:
        """Graph code: what a search goes by, of the inputs."""

    @abstractmethod
    def encode_inputs(self, model: keras.Model, fields: Tensors) -> tuple[Memory, DecoderState]:
        """Graph code: from the fields that are given to the decoder's memory and first state."""

    @abstractmethod
    def model_inputs(self, inputs: Tensors) -> dict[str, tf.Tensor]:
        """A Batch's inputs by the names that the model gives them."""

    def decoder_inputs(
        self, model: keras.Model, inputs: Tensors
    ) -> tuple[Memory, DecoderState, tf.Tensor]:
        """Graph code: the decoder's memory, its first state, and the tokens before each target."""
        return *self.encode_inputs(model, inputs), inputs[self.previous_tokens_field]

    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        """The answer (B,) as text and its score (B,): log-probability, as `decode` ranks by it.

        With several answers also all of them, and scores (B, A), the best first. In detail also
        tokens (B, T) as text and the attention (B, T, S) that each paid to the places of the input.
        """
        from pipelines.graphs.generation import Writer, write

        memory, state = self.encode_inputs(trained.model, inputs)
        written = write(
            Writer(trained.model.decoder, self.target_codec(trained.codec)),
            (memory, state),
            trained.decode,
            self.input_facts(trained, inputs),
            detail=detail,
        )
        names = {"text": self.answer_name, "texts": f"{self.answer_name}s"}
        return {names.get(name, name): value for name, value in written.items()}

    def measure_targets(self, model: keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
        """Of the reference: log-likelihood in nats, tokens with the end marker, tokens right."""
        from models.cross_entropy import token_measures

        readouts = model.readouts(self.model_inputs(batch.inputs))
        return token_measures(readouts, model.decoder.output_weights(), batch.targets)

    def recurrent_stacks(self, model: keras.Model) -> dict[str, RecurrentStack]:
        """The decoder; subclasses add their encoder."""
        return {
            "decoder": RecurrentStack(
                model.decoder.rnn, self.previous_tokens_field, UNKNOWN, in_step=True
            )
        }

    def attends(self, model: keras.Model) -> bool:
        return model.decoder.attention is not None

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

    def signatures(self, trained: Trained) -> dict[str, Signature]:
        """greedy, if `decode` is not; and encode, step and text to write word by word."""
        from pipelines.graphs.generation import Writer, stepwise
        from pipelines.graphs.prediction import answer_graph, encode_inputs, input_specs

        model, decode = trained.model, trained.decode
        inputs = input_specs(trained)

        def read(raw: Tensors) -> tuple[Memory, DecoderState]:
            return self.encode_inputs(model, encode_inputs(trained, raw))

        offered = stepwise(Writer(model.decoder, self.target_codec(trained.codec)), read, inputs)
        quick = decode.to_greedy()
        if quick != decode:
            answer = answer_graph(replace(trained, decode=quick))
            offered["greedy"] = Signature(lambda **columns: answer(columns), inputs)
        return offered

    def explain(self, trained: Trained) -> Signature:
        """All answers that `decode` finds, with what each token of the best attended to."""
        from pipelines.graphs.prediction import answer_graph, input_specs

        best = answer_graph(replace(trained, decode=trained.decode.return_all_hypotheses()))

        def explain(**columns: tf.Tensor) -> dict[str, tf.Tensor]:
            return {**best(columns), **self.attended_inputs(trained.model, columns)}

        return Signature(explain, input_specs(trained))

    def attended_inputs(self, model: keras.Model, columns: Tensors) -> dict[str, tf.Tensor]:
        """Graph code: from raw columns (B,), the positions that attention goes to, where they are
        not "source_tokens".
        """
        return {}

    def numeric_functions(self, trained: Trained) -> dict[str, ExportedFunction]:
        """The encode and step of `signatures`, from fields."""
        import tensorflow as tf

        from pipelines.graphs.generation import Writer, stepwise
        from pipelines.graphs.prediction import field_specs

        model, inputs = trained.model, field_specs(trained)

        def read(fields: Tensors) -> tuple[Memory, DecoderState]:
            return self.encode_inputs(model, fields)

        parts = stepwise(Writer(model.decoder, self.target_codec(trained.codec)), read, inputs)
        encode, step = parts["encode"], parts["step"]

        def first_step(batch: Tensors) -> dict[str, tf.Tensor]:
            """Two hypotheses, of which one is at the beginning."""
            read = encode.run(**{name: batch[name] for name in inputs})
            states = {name: tf.repeat(x, 2, 1) for name, x in read.items() if "state" in name}
            return {**read, **states, "ids": tf.constant([[BEGIN, UNKNOWN]])}

        return {
            "encode": ExportedFunction(*encode, lambda batch: batch),
            "step": ExportedFunction(*step, first_step),
        }

    def to_json(self, answer: JsonObject) -> JsonObject:
        """Without what explains it."""
        return {name: value for name, value in answer.items() if name not in EXPLAINING}

    def predict_in_detail(
        self, trained: Trained, split: Split, rows: np.ndarray
    ) -> dict[str, np.ndarray]:
        """What `predict` says of the rows in detail."""
        import tensorflow as tf

        from pipelines.graphs.prediction import gather_batch, prediction_inputs

        batch = gather_batch(trained, split, rows)
        given = prediction_inputs(trained, batch.inputs)
        inputs = {name: tf.convert_to_tensor(value) for name, value in given.items()}
        found = self.predict(trained, inputs, detail=True)
        return {name: np.asarray(value) for name, value in found.items()}
