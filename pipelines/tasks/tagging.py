"""Many-to-many, step by step: a tag for every word, such as its part of speech or an entity's.

python main.py task=tagging model=bi_lstm
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np

from models.settings import (
    Count,
    EmbeddingSettings,
    Rate,
    RecurrentSettings,
    SearchSettings,
    SpellingSettings,
    settings,
)
from pipelines.core.contracts import Batch, Codec, FieldCodec, Spec, Split
from pipelines.core.errors import UserError
from pipelines.core.scores import Metric, Score
from pipelines.core.sections import Section
from pipelines.core.task import (
    Change,
    Diagnosable,
    ExportedFunction,
    RecurrentStack,
    Signature,
    Streams,
    Task,
    TeacherForced,
    Trained,
)
from pipelines.core.types import Arrays, Example, JsonObject, Nest, Tensors
from pipelines.data.codecs.spelling import SpellingCodec
from pipelines.data.codecs.tag_schemes import detect_scheme
from pipelines.data.codecs.tags import SEPARATOR, UNKNOWN_TAG, TagCodec
from pipelines.data.codecs.text import UNKNOWN, TextCodec, TextSettings
from pipelines.data.codecs.word_vectors import CORPUS, check_vectors, vectors_for
from pipelines.evaluate.metrics.generation import as_texts
from pipelines.evaluate.metrics.tagging import ENTITIES, WORDS

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

MOST_WORDS = 1_000_000
"""Of a sentence, which is never cut."""


@settings
class Words:
    """How words become numbers.

    vocabulary_size, minimum_count  as of a text's: rarer words are unknown, but for their letters.
    lowercase   for the vocabulary; letters keep their case.
    characters  of a word that its spelling is read by; of a longer one both ends.
    minimum_characters  words of the training texts that a character must be in to be known.
    """

    vocabulary_size: Count
    minimum_count: Count
    lowercase: bool
    characters: Count
    minimum_characters: Count


@settings
class Tagging(Task, Streams, Diagnosable):
    """Settings of tagging.

    words      see there.
    embedding  of words.
    spelling   of their letters.
    dropout    of what the recurrent layers read, and of what they give.
    crf        tags are chosen together, by what follows what (Lafferty et al. 2001); false: each by
               itself. What a scheme of entities forbids is never answered, with or without it.
    scheme     in which entities are learnt; bioes tells ends and single words apart.
    """

    name: Literal["tagging"]
    words: Words
    embedding: EmbeddingSettings
    spelling: SpellingSettings
    dropout: Rate
    crf: bool
    scheme: Literal["bio", "bioes"]

    columns: ClassVar[tuple[str, ...]] = ("tokens", "tags")
    input_columns: ClassVar[tuple[str, ...]] = ("tokens",)
    metrics: ClassVar[tuple[Metric, ...]] = (*ENTITIES, *WORDS)
    dedupe_by: ClassVar[tuple[str, ...]] = ("tokens", "tags")
    intended_use: ClassVar[str] = "Gives each word of a sentence one of the tags it was trained on."
    example_input: ClassVar[Example] = {"tokens": ["Ada", "met", "Grace", "in", "London", "."]}

    def check(self, decode: SearchSettings) -> None:
        check_vectors(self.embedding.vectors)
        if self.embedding.vectors == CORPUS:
            raise UserError(
                "task.embedding.vectors=corpus goes with task=sentiment; give glove, a file or null"
            )

    def codec(self) -> Mapping[str, FieldCodec]:
        words = TextSettings(
            tokens="list",
            vocabulary_size=self.words.vocabulary_size,
            minimum_count=self.words.minimum_count,
            lowercase=self.words.lowercase,
            strip_markup=False,
            punctuation="keep",
            max_tokens=MOST_WORDS,
            truncate="head",
            model_type="unigram",
        )
        return {
            "words": TextCodec("tokens", words, vectors=self.embedding.vectors),
            "spelling": SpellingCodec(
                "tokens",
                most=self.words.characters,
                minimum_count=self.words.minimum_characters,
            ),
            "tags": TagCodec("tags", self.scheme),
        }

    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model:
        from models.embedding import VocabularySpec, build_embedding
        from models.seeds import stream
        from models.tagger import AllowedTags, Tagger

        sizes = codec.spec.sizes
        words = cast(TextCodec, codec.fields["words"])
        found = vectors_for(words.vocabulary, self.embedding.vectors)
        vocabulary = VocabularySpec(
            sizes["words"], found.matrix if found else None, found.known if found else None
        )
        return Tagger(
            model,
            build_embedding(self.embedding, vocabulary, seed=stream(seed, "embedding")),
            self.spelling,
            characters=sizes["spelling"],
            dropout=self.dropout,
            learns_transitions=self.crf,
            allowed=AllowedTags(*_tags(codec).allowed),
            seed=seed,
            name="tagger",
        )

    def batch(self, columns: Arrays, codec: Codec) -> Batch:
        """Inputs words (B, T), spelling (B, T, C) and words_length (B,); targets (B, T), from 0;
        weights (B, T).
        """
        names = ("words", "words_length", "spelling", "spelling_length")
        inputs = {name: columns[name] for name in names}
        tags = columns["tags"]
        return Batch(inputs, tags - 1, (tags != UNKNOWN_TAG).astype(np.float32))

    def costs(self, spec: Spec) -> Mapping[str, float]:
        """A word counts once, though three fields have it."""
        return {"spelling": 0.0, "tags": 0.0}

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        """Scores (T, B, K), lengths (B,), and the chain's potentials, if they are learnt."""
        return _outputs(model, inputs, training=True)

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        """Nats of each word's tag (B, T)."""
        from models.tagger import tag_losses

        scores, lengths, *potentials = outputs
        return tag_losses(scores, targets, lengths, *potentials)

    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        """Tags (B,) as text, one for each word, with SEPARATOR between them.

        probability (B, T): of each word's tag, given all of the sentence. unknown (B, T) int32: 1
        where a word is not in the vocabulary. With entities also entity_probability (B, T): where
        one begins that of all of it, elsewhere 0.
        """
        import tensorflow as tf

        codec = _tags(trained.codec)
        answer = self._tag(trained, inputs)
        numbers = answer.pop("numbers")
        real = numbers != UNKNOWN_TAG
        return {
            "tags": codec.text(numbers),
            **answer,
            "unknown": tf.cast((inputs["words"] == UNKNOWN) & real, tf.int32),
        }

    def _tag(self, trained: Trained, inputs: Tensors) -> dict[str, tf.Tensor]:
        """Numbers (B, T), 0 behind the end, and what `predict` says of probabilities."""
        import tensorflow as tf

        from models.tagger import answer_tags, entity_probabilities

        codec = _tags(trained.codec)
        answer = answer_tags(trained.model, inputs)
        made = {"numbers": answer.tags + 1, "probability": answer.probability}
        real = tf.sequence_mask(inputs["words_length"], tf.shape(inputs["words"])[1])
        made["numbers"] = tf.where(real, made["numbers"], UNKNOWN_TAG)
        if codec.has_entities:
            made["entity_probability"] = entity_probabilities(answer, *codec.borders)
        return made

    def decode_predictions(self, predictions: Tensors, codec: Codec) -> dict[str, tf.Tensor]:
        """Tags (B, T) as text, "" behind the end, and the probabilities; of a stream tag (B,)."""
        import tensorflow as tf

        if "number" in predictions:
            names = tf.constant(["", *_tags(codec).bio_names])
            return {"tag": tf.gather(names, predictions["number"])}
        tags = tf.strings.split(predictions["tags"], SEPARATOR).to_tensor("")
        kept = ("probability", "entity_probability")
        return {"tags": tags, **{name: predictions[name] for name in kept if name in predictions}}

    def to_json(self, answer: JsonObject) -> JsonObject:
        """The tags with their probabilities; or the entities, by words from 0, stop exclusive."""
        from pipelines.data.codecs.tag_schemes import entities

        tags = [tag for tag in answer["tags"] if tag]
        if "entity_probability" not in answer:
            return {"tags": tags, "probability": list(answer["probability"])[: len(tags)]}
        return {
            "tags": tags,
            "entities": [
                {**entity._asdict(), "probability": answer["entity_probability"][entity.start]}
                for entity in entities(tags)
            ],
        }

    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        from pipelines.evaluate.metrics.tagging import tagging_scores

        predicted = [text.split(SEPARATOR) for text in as_texts(predictions["tags"])]
        references = [[str(tag) for tag in tags] for part in split.raw("tags") for tags in part]
        unknown = None
        if "unknown" in predictions:
            flags = zip(predictions["unknown"], references, strict=True)
            unknown = [row[: len(tags)] for row, tags in flags]
        return tagging_scores(
            predicted,
            references,
            unknown,
            of_entities=detect_scheme([*references, *predicted]) != "none",
        )

    def baselines(self, train: Split, test: Split) -> Mapping[str, Arrays]:
        """With the extra `crfsuite` also what one had before neural networks."""
        from pipelines.evaluate.baselines import tagging as baselines

        pairs = list(zip(_rows(train, "tokens"), _rows(train, "tags"), strict=True))
        words = _rows(test, "tokens")
        answers = {"most frequent tag of each word": baselines.most_frequent_tags(pairs, words)}
        if baselines.has_crfsuite():
            answers["CRF on features"] = baselines.crf_on_features(pairs, words)
        return {
            name: {"tags": np.array([SEPARATOR.join(row) for row in rows], object)}
            for name, rows in answers.items()
        }

    def limitations(self, codec: Codec) -> list[str]:
        tags = _tags(codec)
        what = "entities" if tags.has_entities else "tags"
        return [
            f"It knows the {what} of its training texts, and gives no others.",
            "It was trained on sentences that were cut into words as in its training texts: words "
            "that are cut in another way get worse tags.",
        ]

    def numeric_functions(self, trained: Trained) -> dict[str, ExportedFunction]:
        """From words and spelling to numbers of tags, from 1, and their probabilities."""
        from pipelines.graphs.prediction import field_specs

        def tag(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._tag(trained, inputs)

        return {"tag": ExportedFunction(tag, field_specs(trained), lambda batch: batch)}

    def stream(self, trained: Trained) -> ExportedFunction | None:
        """One word more, unless a backward direction would have to read all of them anew."""
        from pipelines.graphs.streaming import stream_tags

        return stream_tags(trained.model, self.words.characters)

    def signatures(self, trained: Trained) -> dict[str, Signature]:
        """Words to the ids that `stream` reads (tokenize): words (B, T), spelling (B, T, C)."""
        from pipelines.graphs.prediction import encode_inputs, input_specs

        def tokenize(**columns: tf.Tensor) -> dict[str, tf.Tensor]:
            fields = encode_inputs(trained, columns)
            return {name: fields[name] for name in ("words", "words_length", "spelling")}

        return {"tokenize": Signature(tokenize, input_specs(trained))}

    def report_sections(self, trained: Trained, predictions: Arrays, split: Split) -> list[Section]:
        """What is taken for what, sentences from right to wrong, and tags that may be wrong."""
        from pipelines.evaluate.sections.tagging import TaggedSentences, tagging_sections

        tagged = TaggedSentences(
            _rows(split, "tokens"),
            _rows(split, "tags"),
            [text.split(SEPARATOR) for text in as_texts(predictions["tags"])],
            list(predictions["probability"]),
        )
        return tagging_sections(tagged, of_entities=_tags(trained.codec).has_entities)

    def recurrent_stacks(self, model: keras.Model) -> dict[str, RecurrentStack]:
        return {"encoder": RecurrentStack(model.encoder, "words", UNKNOWN, in_step=True)}

    def teacher_forced(
        self, model: keras.Model, batch: Batch, change: Change | None = None
    ) -> TeacherForced:
        """Answers (B, T): the log-odds of each word's tag by its own score."""
        import tensorflow as tf

        from models.cross_entropy import log_odds

        outputs = _outputs(model, batch.inputs, training=False)
        losses = self.losses(outputs, batch.targets)
        scores = tf.transpose(outputs[0], [1, 0, 2])
        return TeacherForced(losses, log_odds(scores, tf.maximum(batch.targets, 0)))


def _outputs(model: keras.Model, inputs: Tensors, *, training: bool) -> tuple[Nest, ...]:
    """As `Tagging.outputs`."""
    scores = model.scores(inputs, training=training)
    potentials = [model.chain.potentials] if model.chain.learns_transitions else []
    return (scores, inputs["words_length"], *potentials)


def _tags(codec: Codec) -> TagCodec:
    return cast(TagCodec, codec.fields["tags"])


def _rows(split: Split, column: str) -> list[list[str]]:
    return [row for part in split.raw(column) for row in part]
