"""Many-to-one: a text and one of two or more labels. Any text classification, sentiment by default.

python main.py task=sentiment model=gru
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from models.settings import (
    EmbeddingSettings,
    Pooling,
    Rate,
    RecurrentSettings,
    SearchSettings,
    settings,
)
from pipelines.core.contracts import Batch, Codec, FieldCodec, Split
from pipelines.core.errors import UserError
from pipelines.core.sections import Passage, Passages, Section
from pipelines.core.task import Change, Core, RecurrentStack, Score, Signature, Task, TeacherForced
from pipelines.data.codecs.labels import LabelCodec
from pipelines.data.codecs.text import UNKNOWN, TextCodec, TextSettings
from pipelines.data.codecs.word_vectors import check_vectors, vectors_for
from pipelines.runs.directory import Run, load_model

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

EXPLAINED = 8
"""Examples whose words the report colours."""

SHOWN = 20
"""Labels that the model card names."""


@settings
class Sentiment(Task):
    """Settings of text classification.

    start            null, or the directory of a run on other data with the same model: what it
                     learnt is where this one starts (Howard & Ruder 2018, "ULMFiT").
    dropout          before the output layer.
    label_smoothing  share of the target spread over all classes (Szegedy et al. 2016).
    class_weights    balanced: an example counts by the inverse of its class's frequency.
    """

    name: Literal["sentiment"]
    text: TextSettings
    embedding: EmbeddingSettings
    start: str | None
    pooling: Pooling
    dropout: Rate
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["none", "balanced"]

    columns: ClassVar[tuple[str, ...]] = ("text", "label")
    input_columns: ClassVar[tuple[str, ...]] = ("text",)
    scores: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "loss", "roc_auc", "ece", "brier")
    dedupe_by: ClassVar[tuple[str, ...]] = ("text",)
    stratify_by: ClassVar[str | None] = "label"
    intended_use: ClassVar[str] = (
        "Gives a text one of the labels that it was trained on, and the probability of each."
    )
    example_input: ClassVar[Mapping[str, str]] = {"text": "I liked it."}

    def check(self, decode: SearchSettings) -> None:
        check_vectors(self.embedding.vectors)
        if self.start is not None:
            if self.embedding.vectors is not None:
                raise UserError(
                    "task.start brings its word vectors along: leave task.embedding.vectors out"
                )
            if not Run(self.start).model.is_file():
                raise UserError(
                    "task.start must be null or the directory of a trained run; there is no model "
                    f"in {self.start!r}"
                )

    @property
    def _vectors(self) -> str | None:
        return self.start or self.embedding.vectors

    def codec(self) -> Mapping[str, FieldCodec]:
        text = TextCodec("text", self.text, vectors=self._vectors)
        return {"tokens": text, "label": LabelCodec("label")}

    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model:
        from models.classifier import build_classifier
        from models.embedding import VocabularySpec
        from models.heads import HeadSettings

        tokens, labels = _parts(codec)
        vectors = vectors_for(tokens.vocabulary, self._vectors)
        classifier = build_classifier(
            model,
            self.embedding,
            HeadSettings(self.pooling, codec.spec.sizes["label"], self.dropout),
            VocabularySpec(
                codec.spec.sizes["tokens"],
                vectors.matrix if vectors else None,
                vectors.known if vectors else None,
            ),
            seed=seed,
        )
        if self.start is not None:
            self._start(classifier, Run(self.start), labels)
        return classifier

    def _start(self, classifier: keras.Model, run: Run, labels: LabelCodec) -> None:
        """All weights but the word vectors; the output layer's only if it is of the same labels."""
        from models.classifier import copy_weights

        theirs = Codec({"label": LabelCodec("label")}).load(run.codec).fields["label"]
        same = cast(LabelCodec, theirs).names == labels.names
        other = load_model(run)
        try:
            copy_weights(classifier, other, head=same)
        except ValueError as error:
            raise UserError(
                f"task.start={run.directory}: {error}; take the model and pooling it was made with"
            ) from None

    def batch(self, columns: Mapping[str, np.ndarray], codec: Codec) -> Batch:
        """Inputs tokens (B, T) and tokens_length (B,); targets (B,); weights (B,)."""
        labels = columns["label"]
        inputs = {name: columns[name] for name in ("tokens", "tokens_length")}
        weights = np.ones(len(labels), np.float32)
        if self.class_weights == "balanced":
            counts = np.asarray(_parts(codec)[1].counts)
            weights = (counts.sum() / (len(counts) * counts))[labels].astype(np.float32)
        return Batch(inputs, labels, weights)

    def losses(self, outputs: Any, targets: Any) -> tf.Tensor:
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
        self,
        model: keras.Model,
        codec: Codec,
        inputs: Mapping[str, Any],
        decode: SearchSettings,
        *,
        detail: bool = False,
    ) -> dict[str, tf.Tensor]:
        """Probabilities (B, C)."""
        import tensorflow as tf

        return {"probabilities": tf.nn.softmax(model(inputs, training=False))}

    def score(self, predictions: Mapping[str, np.ndarray], split: Split) -> dict[str, Score]:
        from pipelines.evaluate.metrics.classification import classification_scores

        return classification_scores(predictions["probabilities"], split.column("label"))

    def baselines(self, train: Split, test: Split) -> Mapping[str, Mapping[str, np.ndarray]]:
        from pipelines.evaluate.baselines.classification import bag_of_words_baselines

        return bag_of_words_baselines(train, test, text="text", label="label")

    def decode_predictions(self, predictions: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
        """The most probable label as a word, and all probabilities in the order of the labels."""
        import tensorflow as tf

        _, labels = _parts(codec)
        probabilities = predictions["probabilities"]
        best = tf.argmax(probabilities, axis=-1)
        names = tf.constant(labels.names)
        return {
            "label": tf.gather(names, best),
            "probabilities": probabilities,
            "labels": tf.broadcast_to(names, tf.shape(probabilities)),
        }

    def numeric_functions(
        self, model: keras.Model, codec: Codec, decode: SearchSettings
    ) -> dict[str, Core]:
        """A whole text (classify) and, where the model reads forward only, one token more (stream).

        A backward direction starts at the last token: with each further one all of it is read anew.
        """
        import tensorflow as tf

        from models import classifier
        from pipelines.graphs.streaming import second, streaming

        def classify(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.predict(model, codec, inputs, decode)

        def step(
            token: tf.Tensor, state: classifier.StreamState
        ) -> tuple[dict[str, tf.Tensor], classifier.StreamState]:
            logits, state = classifier.step(model, token, state)
            return {"probabilities": tf.nn.softmax(logits)}, state

        inputs = {
            "tokens": tf.TensorSpec([None, None], tf.int32, name="tokens"),
            "tokens_length": tf.TensorSpec([None], tf.int32, name="tokens_length"),
        }
        cores = {"classify": Core(classify, inputs, lambda batch: batch, predicts=True)}
        if not model.get_layer("encoder").settings.bidirectional:
            stream = streaming(classifier.initial_state(model, 1), step)
            cores["stream"] = Core(*stream, given=lambda batch: second(stream, batch["tokens"]))
        return cores

    def signatures(
        self, model: keras.Model, codec: Codec, decode: SearchSettings
    ) -> dict[str, Signature]:
        """Text to the ids that are read (tokenize), to the answer with the words that mattered
        (explain) and, where it is had, stream with labels.
        """
        import tensorflow as tf

        from models.attribution import gradient_times_input, normalize_by_largest
        from pipelines.graphs.tracing import padded

        def tokenize(text: tf.Tensor) -> dict[str, tf.Tensor]:
            return padded(codec.encode({"text": text}))

        def explain(text: tf.Tensor) -> dict[str, tf.Tensor]:
            read = tokenize(text)
            logits, weights = gradient_times_input(model, read)
            return {
                **self.decode_predictions({"probabilities": tf.nn.softmax(logits)}, codec),
                "tokens": _parts(codec)[0].tokens(read["tokens"]),
                "weights": normalize_by_largest(weights),
            }

        given = {"text": tf.TensorSpec([None], tf.string)}
        offered = {"tokenize": Signature(tokenize, given), "explain": Signature(explain, given)}
        core = self.numeric_functions(model, codec, decode).get("stream")
        if core is not None:

            def stream(**given: tf.Tensor) -> dict[str, tf.Tensor]:
                said = dict(core.run(**given))
                return {**self.decode_predictions(said, codec), **said}

            offered["stream"] = Signature(stream, core.inputs)
        return offered

    def limitations(self, codec: Codec) -> list[str]:
        names = _parts(codec)[1].names
        shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        return [
            f"It knows {len(names)} labels ({shown}) and gives one of them to every text, also to "
            "one that none fits, or that is in a language it has not seen.",
            self.text.limit,
        ]

    def to_json(self, answer: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(answer["labels"], answer["probabilities"], strict=True)
        return {"label": answer["label"], "probabilities": dict(pairs)}

    def recurrent_stacks(self, model: keras.Model) -> dict[str, RecurrentStack]:
        return {"encoder": RecurrentStack(model.get_layer("encoder"), "tokens", UNKNOWN)}

    def teacher_forced(
        self, model: keras.Model, batch: Batch, change: Change | None = None
    ) -> TeacherForced:
        """Answers (B,): of the label that the data gives."""
        import tensorflow as tf

        from models.cross_entropy import log_odds

        logits = model(batch.inputs, training=False)
        return TeacherForced(
            self.losses(logits, batch.targets), log_odds(logits, tf.cast(batch.targets, tf.int32))
        )

    def report_sections(
        self,
        model: keras.Model,
        predictions: Mapping[str, np.ndarray],
        split: Split,
        codec: Codec,
        decode: SearchSettings,
    ) -> list[Section]:
        """What a classifier gets wrong, and which words decided a few examples."""
        from pipelines.evaluate.sections.classification import classification_sections

        labels, probabilities = split.column("label"), predictions["probabilities"]
        names = _parts(codec)[1].names
        sections = classification_sections(
            probabilities, labels, names, examples=split.examples, column="text"
        )
        return [*sections, self._words_that_mattered(model, probabilities, split, codec)]

    def _words_that_mattered(
        self, model: keras.Model, probabilities: np.ndarray, split: Split, codec: Codec
    ) -> Passages:
        """A few examples from sure to unsure, the tokens coloured by gradient times input."""
        from models.attribution import gradient_times_input, normalize_by_largest

        order = np.argsort(-probabilities.max(1), kind="stable")
        rows = order[np.linspace(0, len(order) - 1, min(EXPLAINED, len(order))).astype(int)]
        batch = self.batch(split.gather(rows), codec)
        predicted = probabilities[rows].argmax(1)
        weights = normalize_by_largest(gradient_times_input(model, batch.inputs)[1]).numpy()
        texts, classes = _parts(codec)
        tokens, names = texts.vocabulary, classes.names
        gap = "" if self.text.tokens == "character" else " "
        items = []
        for index, row in enumerate(rows):
            length = int(batch.inputs["tokens_length"][index])
            ids, scaled = batch.inputs["tokens"][index, :length], weights[index, :length]
            said = names[predicted[index]]
            truth = names[batch.targets[index]]
            about = f"{said}, probability {probabilities[row].max():.3f}"
            about += "" if said == truth else f" (the label says {truth})"
            parts = [(f"{tokens[i]}{gap}", float(w)) for i, w in zip(ids, scaled, strict=True)]
            items.append(Passage(about, parts))
        caption = (
            "Tokens as the network reads them, from its surest to its least sure answer. Colour is "
            "gradient times input: what speaks for the predicted class, and what against it."
        )
        return Passages("Words that mattered", items, caption)


def _parts(codec: Codec) -> tuple[TextCodec, LabelCodec]:
    """What `Sentiment.codec` made."""
    return cast(TextCodec, codec.fields["tokens"]), cast(LabelCodec, codec.fields["label"])
