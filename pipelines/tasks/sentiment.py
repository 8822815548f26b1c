"""Many-to-one: a text and one of two or more labels. Any text classification, sentiment by default.

python main.py task=sentiment model=gru
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from models.settings import (
    EmbeddingSettings,
    Few,
    NgramSettings,
    Pooling,
    RecurrentSettings,
    SearchSettings,
    settings,
)
from pipelines.core.contracts import Batch, Codec, FieldCodec, Spec, Split
from pipelines.core.errors import UserError, shown
from pipelines.core.saved_files import reading
from pipelines.core.sections import Section
from pipelines.core.task import (
    Explains,
    ExportedFunction,
    Objective,
    RecurrentStack,
    Signature,
    Streams,
    Trained,
)
from pipelines.core.types import Arrays, Example, Nest, Tensors
from pipelines.data.codecs.labels import LabelCodec
from pipelines.data.codecs.ngrams import NgramCodec
from pipelines.data.codecs.text import UNKNOWN, TextCodec, TextSettings
from pipelines.data.codecs.word_vectors import (
    CORPUS,
    check_vectors,
    vectors_for,
    vectors_of_layer,
)
from pipelines.runs.directory import Run, load_model
from pipelines.tasks._shared.one_label import OneLabelTask

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@settings
class Sentiment(OneLabelTask, Streams, Explains):
    """Settings of text classification; see OneLabelTask for the others.

    adversarial  how far a text's word vectors are moved in adversarial training, as a share of a
             vector's length (tasks/_shared/adversarial.py); 0: not at all.
    ensemble  recurrent networks that learn with seeds of their own; their logits are averaged
             (Hansen & Salamon 1990, "Neural Network Ensembles").
    ngrams   a linear classifier of n-grams, whose logits are mixed with the recurrent network's.
             It is trained first and by itself; how much each counts is estimated on validation.
    start    null, or the directory of a run on other data with the same model: what it learnt is
             where this one starts (Howard & Ruder 2018, "ULMFiT").
    """

    name: Literal["sentiment"]
    text: TextSettings
    embedding: EmbeddingSettings
    adversarial: Annotated[float, Field(ge=0)]
    ensemble: Few
    ngrams: NgramSettings
    start: str | None
    pooling: Pooling

    columns: ClassVar[tuple[str, ...]] = ("text", "label")
    input_columns: ClassVar[tuple[str, ...]] = ("text",)
    dedupe_by: ClassVar[tuple[str, ...]] = ("text",)
    intended_use: ClassVar[str] = (
        "Gives a text one of the labels that it was trained on, and the probability of each."
    )
    example_input: ClassVar[Example] = {"text": "I liked it."}

    def check(self, decode: SearchSettings) -> None:
        check_vectors(self.embedding.vectors)
        if self.embedding.vectors == CORPUS and not self.embedding.trainable:
            raise UserError(
                "task.embedding.vectors=corpus are vectors to start from, which learn on: set "
                "task.embedding.trainable=true"
            )
        if self.start is None:
            return
        if self.embedding.vectors is not None:
            raise UserError(
                "task.start brings its word vectors along: leave task.embedding.vectors out"
            )
        if not Run(self.start).model.is_file():
            raise UserError(
                "task.start must be null or the directory of a trained run; there is no model in "
                f"{shown(self.start)}"
            )

    @property
    def _given_vectors(self) -> str | None:
        """Where vectors come from that are there before training; the corpus has none yet."""
        vectors = self.embedding.vectors
        return self.start or (None if vectors == CORPUS else vectors)

    def codec(self) -> Mapping[str, FieldCodec]:
        text = TextCodec("text", self.text, vectors=self._given_vectors)
        fields = {"tokens": text, "label": LabelCodec("label")}
        if self.ngrams.order:
            fields["ngrams"] = NgramCodec("text", self.ngrams, text)
        return fields

    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model:
        from models.classifier import build_classifier
        from models.embedding import VocabularySpec
        from models.heads import HeadSettings
        from models.ngrams import NgramSpec

        sizes = codec.spec.sizes
        vectors = vectors_for(_text(codec).vocabulary, self._given_vectors)
        classifier = build_classifier(
            model,
            self.embedding,
            HeadSettings(self.pooling, sizes["label"], self.dropout),
            VocabularySpec(
                sizes["tokens"],
                vectors.matrix if vectors else None,
                vectors.known if vectors else None,
            ),
            ensemble=self.ensemble,
            ngrams=NgramSpec(self.ngrams, sizes["ngrams"]) if self.ngrams.order else None,
            seed=seed,
        )
        if self.start is not None:
            self._transfer(classifier, Run(self.start), codec)
        return classifier

    def initialize(self, model: keras.Model, train: Split, codec: Codec, seed: int) -> None:
        """Word vectors of the training texts, and the n-grams' weights; takes seconds."""
        from models.classifier import networks_of
        from pipelines.tasks._shared.first_weights import (
            read_column,
            start_from_corpus,
            train_ngrams,
        )

        if self.embedding.vectors == CORPUS:
            layers = [network.embedding for network in networks_of(model)]
            start_from_corpus(layers, train, "tokens", scale=self.embedding.scale, seed=seed)
        if self.ngrams.order:
            ids, labels = read_column(train, "ngrams"), train.column("label")
            weights = self.weights(labels, codec)
            train_ngrams(model.get_layer("ngram_logits"), ids, labels, weights, seed=seed)

    def objective(self, train: Split, codec: Codec) -> Objective:
        if not self.adversarial:
            return self
        from pipelines.tasks._shared.adversarial import Adversarial

        return Adversarial(self, self.adversarial, time_major=True)

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        """Logits (B, C) of each recurrent network: none leaves to another, or to the n-grams, what
        it may learn as well.
        """
        from models.classifier import logits_of_networks

        return logits_of_networks(model, inputs, training=True)

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        """Of one network's logits (B, C), or the mean over those of several."""
        import tensorflow as tf

        of_one, networks = super().losses, tf.nest.flatten(outputs)
        return tf.add_n([of_one(logits, targets) for logits in networks]) / len(networks)

    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        """Probabilities (B, C) and, with n-grams, part_logits (B, 2, C) that they are mixed of."""
        import tensorflow as tf

        from models.classifier import logits_of_parts

        parts = logits_of_parts(trained.model, inputs)
        if not self.ngrams.order:
            return {"probabilities": tf.nn.softmax(parts[0])}
        mixed = trained.model.get_layer("mix")(parts)
        return {"probabilities": tf.nn.softmax(mixed), "part_logits": tf.stack(parts, 1)}

    def calibrate(self, model: keras.Model, predictions: Arrays, split: Split) -> Arrays:
        if not self.ngrams.order:
            return predictions
        from models.ngram_training import to_probabilities

        mix, logits = model.get_layer("mix"), np.moveaxis(predictions["part_logits"], 1, 0)
        mix.fit(logits, split.column("label"))
        mixed = np.tensordot(mix.shares.numpy(), logits, 1)
        return {**predictions, "probabilities": to_probabilities(mixed)}

    def parts(self, predictions: Arrays) -> Mapping[str, Arrays]:
        if not self.ngrams.order:
            return {}
        from models.ngram_training import to_probabilities

        logits = np.moveaxis(predictions["part_logits"], 1, 0)
        network = "networks" if self.ensemble > 1 else "network"
        names = (f"the recurrent {network} alone", "the n-grams alone")
        return {
            n: {"probabilities": to_probabilities(x)} for n, x in zip(names, logits, strict=True)
        }

    def costs(self, spec: Spec) -> Mapping[str, float]:
        """To look up an n-gram's weight costs next to nothing."""
        return {"ngrams": 0.0} if self.ngrams.order else {}

    def _transfer(self, classifier: keras.Model, run: Run, codec: Codec) -> None:
        """All weights, word vectors by word; the output layer's only if it is of the same labels.

        build_embedding has given all networks the vectors of the run's first one, and its width.
        """
        from models.classifier import copy_weights, networks_of

        theirs = self.labels(Codec({"label": LabelCodec("label")}).load(run.codec))
        source, words = load_model(run), _text(codec).vocabulary
        with reading(run.model, "task.start needs a whole run of this task"):
            sources = networks_of(source)
            if not sources:
                raise ValueError("it is no classifier of texts")
        try:
            same = theirs.names == self.labels(codec).names
            copy_weights(classifier, source, head=same)
            for number, network in enumerate(networks_of(classifier)):
                of = sources[number % len(sources)].embedding
                network.embedding.assign_vectors(*vectors_of_layer(words, run, of))
        except ValueError as error:
            raise UserError(
                f"task.start={run.directory}: {error}; take the model and pooling it was made with"
            ) from None

    def batch(self, columns: Arrays, codec: Codec) -> Batch:
        """Inputs tokens (B, T), tokens_length (B,), ngrams (B, G); targets (B,); weights (B,)."""
        names = ["tokens", "tokens_length", *(["ngrams"] if self.ngrams.order else [])]
        inputs = {name: columns[name] for name in names}
        return Batch(inputs, columns["label"], self.weights(columns["label"], codec))

    def baselines(self, train: Split, test: Split) -> Mapping[str, Arrays]:
        from pipelines.evaluate.baselines.classification import bag_of_words_baselines

        return bag_of_words_baselines(train, test, text="text", label="label")

    def limitations(self, codec: Codec) -> list[str]:
        language = "It may give any label to a text in a language that it has not seen."
        return [*super().limitations(codec), language, self.text.limit]

    def numeric_functions(self, trained: Trained) -> dict[str, ExportedFunction]:
        """From a whole text's tokens to probabilities."""
        from pipelines.graphs.prediction import predict_function

        whole = predict_function(trained)

        def classify(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            probabilities = whole.run(**inputs)["probabilities"]
            return {"probabilities": probabilities}

        # Of n-grams the model needs no lengths: padding has no weight.
        specs = {name: spec for name, spec in whole.inputs.items() if name in trained.model.input}
        return {"classify": whole._replace(run=classify, inputs=specs)}

    def stream(self, trained: Trained) -> ExportedFunction | None:
        """One token more, unless a backward direction would have to read all of them anew."""
        from pipelines.graphs.streaming import stream_tokens

        codec = trained.codec.fields.get("ngrams")
        find = codec.ids_at_end if isinstance(codec, NgramCodec) else None
        return stream_tokens(trained.model, find)

    def signatures(self, trained: Trained) -> dict[str, Signature]:
        """Text to the ids that are read (tokenize)."""
        from pipelines.graphs.prediction import encode_inputs, input_specs

        def tokenize(**text: tf.Tensor) -> dict[str, tf.Tensor]:
            fields = encode_inputs(trained, text)
            return {name: fields[name] for name in trained.model.input}

        return {"tokenize": Signature(tokenize, input_specs(trained))}

    def explain(self, trained: Trained) -> Signature:
        """The answer, with the tokens (B, T) and how much each speaks for it, (B, T) in [-1, 1]."""
        import tensorflow as tf

        from pipelines.graphs.prediction import encode_inputs, input_specs

        def explain(**text: tf.Tensor) -> dict[str, tf.Tensor]:
            fields = encode_inputs(trained, text)
            logits, weights = self.attribute(trained, fields)
            probabilities: Tensors = {"probabilities": tf.nn.softmax(logits)}
            return {
                **self.decode_predictions(probabilities, trained.codec),
                "tokens": _text(trained.codec).tokens(fields["tokens"]),
                "weights": weights,
            }

        return Signature(explain, input_specs(trained))

    def attribute(self, trained: Trained, fields: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        """Graph code: logits (B, C), and how much each token (B, T) speaks for the answer, by
        gradient times input and by what its n-grams add; the largest of a text is 1 or -1.
        """
        import tensorflow as tf

        from models.attribution import (
            gradient_times_input,
            ngram_attribution,
            normalize_by_largest,
        )
        from models.classifier import networks_of

        model, codec = trained.model, trained.codec.fields.get("ngrams")
        layers = [network.embedding.name for network in networks_of(model)]
        logits, weights = gradient_times_input(model, fields, layers)
        if isinstance(codec, NgramCodec):
            ids = codec.ids_by_position(tf.convert_to_tensor(fields["tokens"]))
            share = tf.convert_to_tensor(model.get_layer("mix").shares)[1]
            predicted = tf.argmax(logits, -1)
            weights += ngram_attribution(model.get_layer("ngram_logits"), ids, share, predicted)
        return logits, normalize_by_largest(weights)

    def recurrent_stacks(self, model: keras.Model) -> dict[str, RecurrentStack]:
        """That of the first network, where there are several."""
        return {"encoder": RecurrentStack(model.get_layer("encoder"), "tokens", UNKNOWN)}

    def report_sections(self, trained: Trained, predictions: Arrays, split: Split) -> list[Section]:
        """What the classifier gets wrong, and which words decided a few examples."""
        from pipelines.evaluate.sections import classification

        labels, probabilities = split.column("label"), predictions["probabilities"]
        names = self.labels(trained.codec).names
        sections = classification.classification_sections(
            probabilities, labels, names, examples=split.examples, column="text"
        )
        rows = classification.rows_from_sure_to_unsure(probabilities)
        batch = self.batch(split.gather(rows), trained.codec)
        gap = "" if self.text.tokens == "character" else " "
        tokens = [f"{token}{gap}" for token in _text(trained.codec).vocabulary]
        answers = classification.Answers(probabilities[rows], labels[rows], names)
        weights = self.attribute(trained, batch.inputs)[1].numpy()
        words = classification.words_that_mattered(weights, batch.inputs, tokens, answers)
        return [*sections, words]


def _text(codec: Codec) -> TextCodec:
    """What `Sentiment.codec` made."""
    return cast(TextCodec, codec.fields["tokens"])
