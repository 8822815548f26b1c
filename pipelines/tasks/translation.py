"""Sequence to sequence: a sentence and its translation. Any text-to-text task of this form.

python main.py task=translation model=gru
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from models.settings import Limits, RecurrentSettings, SearchSettings, settings
from pipelines.core.contracts import Batch, Codec, FieldCodec, Split
from pipelines.core.errors import UserError
from pipelines.core.scores import Metric, Score
from pipelines.core.sections import Figure, Section
from pipelines.core.task import RecurrentStack, Trained
from pipelines.core.types import Arrays, Example, JsonObject, Nest, Tensors
from pipelines.data.codecs.subword_tokenizer import SPACE
from pipelines.data.codecs.text import PAD, SPECIAL, UNKNOWN, TextCodec, TextSettings
from pipelines.data.pair_filter import PairCleaning
from pipelines.evaluate.metrics.translation import TRANSLATION
from pipelines.tasks._shared.generation import EXPLAINED, GenerationTask

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from models.attention import Memory
    from models.token_decoder import DecoderState
    from pipelines.graphs.generation import InputFacts


@settings
class Translation(GenerationTask):
    """Settings of translation.

    text, target_text  how the source and the target become tokens.
    vocabulary         separate: one a side; joint: one for both, with one embedding.
    subword_sampling   in training words are cut into other pieces each time: for unigram pieces by
                       probability to this power (Kudo 2018), for bpe leaving out merges with this
                       probability (Provilkov et al. 2020).
    """

    name: Literal["translation"]
    text: TextSettings
    target_text: TextSettings
    vocabulary: Literal["separate", "joint"]
    cleaning: PairCleaning
    subword_sampling: Annotated[float, Field(gt=0, lt=1)] | None

    columns: ClassVar[tuple[str, ...]] = ("source", "target")
    input_columns: ClassVar[tuple[str, ...]] = ("source",)
    answer_name: ClassVar[str] = "translation"
    previous_tokens_field: ClassVar[str] = "target_before"
    metrics: ClassVar[tuple[Metric, ...]] = TRANSLATION
    dedupe_by: ClassVar[tuple[str, ...]] = ("source", "target")
    group_by: ClassVar[tuple[str, ...]] = ("source", "target")
    intended_use: ClassVar[str] = "Translates sentences as those pairs do that it was trained on."
    example_input: ClassVar[Example] = {"source": "…"}

    def check(self, decode: SearchSettings) -> None:
        super().check(decode)
        if self.vocabulary == "joint" and self.text != self.target_text:
            raise UserError(
                "task.vocabulary=joint needs task.text and task.target_text alike: change both"
            )
        kinds = {self.text.tokens, self.target_text.tokens}
        if self.subword_sampling is not None and kinds != {"sentencepiece"}:
            raise UserError("task.subword_sampling goes with task.text.tokens=sentencepiece")

    def codec(self) -> Mapping[str, FieldCodec]:
        if self.vocabulary == "joint":
            source = TextCodec("source", self.text, markers=True, enclose=False, also=("target",))
            target = TextCodec("target", self.target_text, markers=True, like=source)
            return {"source_tokens": source, "target_tokens": target}
        return {
            "source_tokens": TextCodec("source", self.text),
            "target_tokens": TextCodec("target", self.target_text, markers=True),
        }

    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model:
        from models.encoder_decoder import EncoderDecoder

        sizes = codec.spec.sizes
        return EncoderDecoder(
            model,
            self.embedding,
            self.decoder,
            vocabulary_sizes=(sizes["source_tokens"], sizes["target_tokens"]),
            shared=self.vocabulary == "joint",
            seed=seed,
            name="encoder_decoder",
        )

    def augment(
        self, columns: dict[str, np.ndarray], codec: Codec, random: np.random.Generator
    ) -> dict[str, np.ndarray]:
        alpha = self.subword_sampling
        if alpha is None:
            return columns
        made = dict(columns)
        for name, part in zip(("source_tokens", "target_tokens"), _parts(codec), strict=True):
            length = f"{name}_length"
            made[name], made[length] = part.resegment(columns[name], columns[length], alpha, random)
        return made

    def batch(self, columns: Arrays, codec: Codec) -> Batch:
        """Targets and weights (B, T): each token after the begin marker, with the end marker.

        Inputs source_tokens (B, S), source_tokens_length (B,), and target_before (B, T): the token
        before each of the targets.
        """
        target = columns["target_tokens"]
        inputs = {name: columns[name] for name in ("source_tokens", "source_tokens_length")}
        inputs["target_before"] = target[:, :-1]
        targets = target[:, 1:]
        return Batch(inputs, targets, (targets != PAD).astype(np.float32))

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        from models.scheduled_sampling import mix_in_predictions

        target = mix_in_predictions(model, self.model_inputs(inputs), self.sampling, step)
        return model.readouts(target, training=True), model.decoder.output_weights()

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of the target tokens: (B, T) nats, 0 on padding."""
        from models.cross_entropy import token_losses

        readouts, projection, *_ = outputs
        return token_losses(readouts, projection, targets, self.label_smoothing)

    def target_codec(self, codec: Codec) -> TextCodec:
        return _parts(codec)[1]

    def encode_inputs(self, model: keras.Model, fields: Tensors) -> tuple[Memory, DecoderState]:
        return model.encode(fields["source_tokens"], fields["source_tokens_length"])

    def model_inputs(self, inputs: Tensors) -> dict[str, tf.Tensor]:
        return {
            "source": inputs["source_tokens"],
            "source_length": inputs["source_tokens_length"],
            "target": inputs["target_before"],
        }

    def recurrent_stacks(self, model: keras.Model) -> dict[str, RecurrentStack]:
        return {
            "encoder": RecurrentStack(model.encoder, "source_tokens", UNKNOWN),
            **super().recurrent_stacks(model),
        }

    def raw_inputs(self, decode: SearchSettings) -> tuple[str, ...]:
        return ("source",) if isinstance(decode, Limits) and decode.replace_unknown else ()

    def input_facts(self, trained: Trained, inputs: Tensors) -> InputFacts:
        from pipelines.graphs.generation import InputFacts, sample_ids

        tokens, source = inputs["source_tokens"], _parts(trained.codec)[0]
        replaces = bool(self.raw_inputs(trained.decode))
        return InputFacts(
            length=inputs["source_tokens_length"],
            sample_ids=sample_ids(tokens),
            replacements=source.tokenize(inputs["source"]).to_tensor("") if replaces else None,
        )

    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        """In detail also source_tokens (B, S) as text."""
        predicted = super().predict(trained, inputs, detail=detail)
        if detail:
            source = _parts(trained.codec)[0]
            predicted["source_tokens"] = source.tokens(inputs["source_tokens"])
        return predicted

    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        from pipelines.evaluate.metrics.translation import translation_scores

        return translation_scores(
            list(predictions["translation"]),
            [[target] for target in _texts(split, "target")],
            tokenize=self.bleu_tokenize,
            # A model of lower-cased text can't be right or wrong about case.
            lowercase=self.target_text.lowercase,
            measured=predictions,
        )

    def baselines(self, train: Split, test: Split) -> Mapping[str, Arrays]:
        from pipelines.evaluate.baselines.translation import translation_baselines

        return translation_baselines(train, test, source="source", target="target")

    def limitations(self, codec: Codec) -> list[str]:
        return [
            "It translates from the one language of its training sources into the other, and what "
            "it makes of a third is not to be trusted.",
            "It was trained on sentences: give it a longer text sentence by sentence.",
            "What it writes may read well and be wrong: where that matters a person has to check.",
            self.text.limit,
        ]

    def to_json(self, answer: JsonObject) -> JsonObject:
        """Without what explains it, and with a warning where little can have been understood."""
        brief = super().to_json(answer)
        words = [token for token in answer.get("source_tokens", ()) if token.strip(SPACE)]
        unknown = words.count(SPECIAL[UNKNOWN])
        if 2 * unknown >= max(1, len(words)):
            brief["warning"] = (
                f"{unknown} of {len(words)} tokens of the source are unknown: is it in the "
                "language that was learnt?"
            )
        return brief

    def report_sections(self, trained: Trained, predictions: Arrays, split: Split) -> list[Section]:
        """Translations from good to bad, typical mistakes, and what the decoder attended to."""
        from pipelines.evaluate.sections.translation import WrittenTexts, text_sections

        references = [[target] for target in _texts(split, "target")]
        translations = list(predictions["translation"])
        written = WrittenTexts(translations, references, _texts(split, "source"))
        sections = text_sections(written, lowercase=self.target_text.lowercase)
        return [*sections, *self._attention(trained, split)]

    def _attention(self, trained: Trained, split: Split) -> list[Figure]:
        if self.decoder.attention == "none":
            return []
        from pipelines.evaluate.sections.attention import attention_figures, rows_of_typical_length

        rows = rows_of_typical_length(split.lengths()[:, 0], EXPLAINED)
        found = self.predict_in_detail(trained, split, rows)
        sources, targets = found["source_tokens"].tolist(), found["tokens"].tolist()
        return attention_figures(sources, targets, list(found["attention"]))


def _texts(split: Split, column: str) -> list[str]:
    return [text for texts in split.raw(column) for text in texts]


def _parts(codec: Codec) -> tuple[TextCodec, TextCodec]:
    """What `Translation.codec` made."""
    return (
        cast(TextCodec, codec.fields["source_tokens"]),
        cast(TextCodec, codec.fields["target_tokens"]),
    )
