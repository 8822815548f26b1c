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
from pipelines.core.scores import Metric, Score
from pipelines.core.sections import Passage, Passages, Section
from pipelines.core.task import (
    Arrays,
    Change,
    Diagnosable,
    Explains,
    ExportedFunction,
    RecurrentStack,
    Signature,
    Streams,
    Task,
    TeacherForced,
    Tensors,
    Trained,
)
from pipelines.data.codecs.labels import LabelCodec
from pipelines.data.codecs.text import UNKNOWN, TextCodec, TextSettings
from pipelines.data.codecs.word_vectors import check_vectors, vectors_for
from pipelines.evaluate.metrics.classification import CLASSIFICATION
from pipelines.runs.directory import Run, load_model

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

EXPLAINED = 8
"""Examples whose words the report colours."""

SHOWN = 20
"""Labels that the model card names."""


@settings
class Sentiment(Task, Streams, Explains, Diagnosable):
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
    metrics: ClassVar[tuple[Metric, ...]] = CLASSIFICATION
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

        tokens, labels = _parts(codec)
        vectors = vectors_for(tokens.vocabulary, self._vectors)
        classifier = build_classifier(
            recurrent=model,
            embedding=self.embedding,
            pooling=self.pooling,
            vocabulary_size=codec.spec.sizes["tokens"],
            classes=codec.spec.sizes["label"],
            head_dropout=self.dropout,
            seed=seed,
            vectors=vectors.matrix if vectors else None,
            known=vectors.known if vectors else None,
        )
        if self.start is not None:
            self._start(classifier, Run(self.start), labels)
        return classifier

    def _start(self, classifier: keras.Model, run: Run, labels: LabelCodec) -> None:
        """All weights but the word vectors; the output layer's only if it is of the same labels."""
        from models.classifier import start_from

        theirs = Codec({"label": LabelCodec("label")}).load(run.codec).fields["label"]
        same = cast(LabelCodec, theirs).names == labels.names
        other = load_model(run)
        try:
            start_from(classifier, other, head=same)
        except ValueError as error:
            raise UserError(
                f"task.start={run.directory}: {error}; take the model and pooling it was made with"
            ) from None

    def batch(self, columns: Arrays, codec: Codec) -> Batch:
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
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        """Probabilities (B, C)."""
        import tensorflow as tf

        return {"probabilities": tf.nn.softmax(trained.model(inputs, training=False))}

    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        from pipelines.evaluate.metrics.classification import classification_scores

        return classification_scores(predictions["probabilities"], split.column("label"))

    def baselines(self, train: Split, test: Split) -> Mapping[str, Arrays]:
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

    def numeric_functions(self, trained: Trained) -> dict[str, ExportedFunction]:
        """From a whole text's tokens to probabilities."""
        from pipelines.graphs.prediction import field_specs

        def classify(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.predict(trained, inputs)

        specs = field_specs(trained)
        return {"classify": ExportedFunction(classify, specs, lambda batch: batch, predicts=True)}

    def stream(self, trained: Trained) -> ExportedFunction | None:
        """One token more.

        Not where a backward direction starts at the last token: with each further one it would
        read all of them anew.
        """
        import tensorflow as tf

        from models.classifier import Read, read_token, unread
        from pipelines.graphs.streaming import second, streaming

        model = trained.model
        if model.get_layer("encoder").settings.bidirectional:
            return None

        def step(token: tf.Tensor, read: Read) -> tuple[dict[str, tf.Tensor], Read]:
            logits, read = read_token(model, token, read)
            return {"probabilities": tf.nn.softmax(logits)}, read

        stream = streaming(unread(model, 1), step)
        return ExportedFunction(*stream, lambda batch: second(stream, batch["tokens"]))

    def signatures(self, trained: Trained) -> dict[str, Signature]:
        """Text to the ids that are read (tokenize)."""
        from pipelines.graphs.prediction import encode_inputs, input_specs

        def tokenize(**text: tf.Tensor) -> dict[str, tf.Tensor]:
            return encode_inputs(trained, text)

        return {"tokenize": Signature(tokenize, input_specs(trained))}

    def explain(self, trained: Trained) -> Signature:
        """The answer, with the tokens (B, T) and how much each speaks for it, (B, T) in [-1, 1]."""
        import tensorflow as tf

        from models.attribution import gradient_times_input, relative
        from pipelines.graphs.prediction import encode_inputs, input_specs

        def explain(**text: tf.Tensor) -> dict[str, tf.Tensor]:
            read = encode_inputs(trained, text)
            logits, weights = gradient_times_input(trained.model, read)
            probabilities = {"probabilities": tf.nn.softmax(logits)}
            return {
                **self.decode_predictions(probabilities, trained.codec),
                "tokens": _parts(trained.codec)[0].tokens(read["tokens"]),
                "weights": relative(weights),
            }

        return Signature(explain, input_specs(trained))

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

    def report_sections(self, trained: Trained, predictions: Arrays, split: Split) -> list[Section]:
        """What a classifier gets wrong, and which words decided a few examples."""
        from pipelines.evaluate.sections.classification import classification_sections

        labels, probabilities = split.column("label"), predictions["probabilities"]
        codec = trained.codec
        names = _parts(codec)[1].names
        sections = classification_sections(
            probabilities, labels, names, examples=split.examples, column="text"
        )
        return [*sections, self._words_that_mattered(trained.model, probabilities, split, codec)]

    def _words_that_mattered(
        self, model: keras.Model, probabilities: np.ndarray, split: Split, codec: Codec
    ) -> Passages:
        """A few examples from sure to unsure, the tokens coloured by gradient times input."""
        from models.attribution import gradient_times_input, relative

        order = np.argsort(-probabilities.max(1), kind="stable")
        rows = order[np.linspace(0, len(order) - 1, min(EXPLAINED, len(order))).astype(int)]
        batch = self.batch(split.gather(rows), codec)
        predicted = probabilities[rows].argmax(1)
        weights = relative(gradient_times_input(model, batch.inputs)[1]).numpy()
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
