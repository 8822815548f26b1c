"""Image captioning: a network that looks at a picture, a recurrent one that tells what is on it.

python main.py task=captioning model=gru
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from models.settings import (
    Limits,
    RecurrentSettings,
    SearchSettings,
    VisionSettings,
    settings,
    smallest_side,
)
from pipelines.core.contracts import Batch, Codec, FieldCodec, Split
from pipelines.core.errors import UserError
from pipelines.core.sections import Figure, Section
from pipelines.core.task import Score, Task
from pipelines.data.augmentation import AugmentationSettings, augmented, mirrored
from pipelines.data.codecs.captions import CaptionsCodec, caption_lines
from pipelines.data.codecs.features import FeatureCodec
from pipelines.data.codecs.images import ImageCodec, ImageSettings
from pipelines.data.codecs.text import BEGIN, PAD, TextCodec, TextSettings
from pipelines.evaluate.metrics.captioning import CAPTION_SCORES, caption_scores
from pipelines.evaluate.metrics.meteor import check_stemmer
from pipelines.tasks._generation import EXPLAINED, GenerationTask

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from pipelines.evaluate.sections.captioning import Look

CHUNK = 256
"""Pictures that are read at once."""


@settings
class Captioning(GenerationTask):
    """Settings of captioning.

    image         what the model sees of a picture.
    augmentation  how pictures differ each time in training; a frozen network's features, which are
                  made once, don't.
    pooling       how the grid becomes the vector that the decoder starts from.
    stemmer       how METEOR finds stems: the language of the captions, as Snowball names it, or
                  null.
    attention_regularization  how much it costs, in nats, when a place doesn't get attention 1 in
                  all, squared and summed over places (Xu et al. 2015, eq. 14).
    self_critical_from  the update from which CIDEr-D is what is learnt (Rennie et al. 2017), no
                  longer the references' words; null: never.
    """

    name: Literal["captioning"]
    image: ImageSettings
    augmentation: AugmentationSettings
    vision: VisionSettings
    pooling: Literal["mean", "max", "mean_max", "attention"]
    text: TextSettings
    stemmer: str | None
    attention_regularization: Annotated[float, Field(ge=0)]
    self_critical_from: Annotated[int, Field(ge=0)] | None

    columns: ClassVar[tuple[str, ...]] = ("image", "captions")
    input_columns: ClassVar[tuple[str, ...]] = ("image",)
    scores: ClassVar[tuple[str, ...]] = CAPTION_SCORES
    dedupe_by: ClassVar[tuple[str, ...]] = ("image",)
    image_field: ClassVar[str | None] = "image"
    intended_use: ClassVar[str] = "Says in a few words what a picture shows."
    example_input: ClassVar[Mapping[str, str]] = {"image": "the bytes of a picture's file"}

    def check(self, decode: SearchSettings) -> None:
        super().check(decode)
        self._check_vision()
        if self.attention_regularization and self.decoder.attention == "none":
            raise UserError("task.attention_regularization needs task.decoder.attention")
        if isinstance(decode, Limits) and decode.replace_unknown:
            raise UserError(
                "decode.replace_unknown needs words to take; there are none in pictures: use false"
            )
        check_stemmer(self.stemmer)

    def _check_vision(self) -> None:
        vision = self.vision
        if self.image.size < (smallest := smallest_side(vision.network)):
            raise UserError(
                f"task.image.size must be at least {smallest} for task.vision.network="
                f"{vision.network}; received {self.image.size}"
            )
        if vision.network == "residual" and vision.train_from != 0:
            raise UserError("task.vision.network=residual learns from the start: train_from=0")
        if vision.network == "residual" and vision.weights is not None:
            raise UserError("task.vision.weights are of a network of keras.applications: name it")
        if vision.weights is None and vision.train_from != 0:
            raise UserError("task.vision.train_from goes with task.vision.weights; else it is 0")
        if vision.weights not in (None, "imagenet") and not Path(str(vision.weights)).is_file():
            raise UserError(f"task.vision.weights: there is no file {vision.weights}")

    def codec(self) -> Mapping[str, FieldCodec]:
        image = ImageCodec("image", self.image)
        if self.vision.frozen:
            image = FeatureCodec("image", self.image, self.vision)
        return {"image": image, "caption_tokens": CaptionsCodec("captions", self.text)}

    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model:
        from models.captioner import Captioner

        try:
            made = Captioner(
                model,
                self.vision,
                self.embedding,
                self.decoder,
                image_shape=cast(Any, codec.spec.fields["image"].shape),
                vocabulary_size=codec.spec.sizes["caption_tokens"],
                pooling=self.pooling,
                seed=seed,
                name="captioner",
            )
            made.vision.load_pretrained(self.vision.weights)
        except ValueError as error:
            raise UserError(f"task: {error}") from None
        return made

    def training_task(self, train: Split, codec: Codec) -> Task:
        if self.self_critical_from is None:
            return self
        from pipelines.tasks._self_critical import Rewards, SelfCritical, keys

        known: list[bytes] = []
        for start in range(0, len(train), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(train)))
            ids, owner = captions_of(train.gather(rows)["caption_tokens"])
            known += keys(ids[:, 1:], owner)
        rewards = Rewards(references_of(train), known, self.bleu_tokenize)
        return cast(Task, SelfCritical(self, self.self_critical_from, _text(codec), rewards))

    def augment(
        self, columns: dict[str, np.ndarray], codec: Codec, random: np.random.Generator
    ) -> dict[str, np.ndarray]:
        if self.vision.frozen:
            return columns
        pictures = augmented(columns["image"], self.augmentation, random)
        if self.augmentation.mirror:
            ids, owner = captions_of(columns["caption_tokens"])
            texts = [text.decode() for text in _text(codec).text(ids).numpy()]
            of_picture = [""] * len(pictures)
            for text, picture in zip(texts, owner, strict=True):
                of_picture[picture] += f" {text}"
            pictures = mirrored(pictures, of_picture, self.augmentation.mirror_unless, random)
        return {**columns, "image": pictures}

    def batch(self, columns: Mapping[str, np.ndarray], codec: Codec) -> Batch:
        """Targets and weights (N, T): each token after the begin marker, with the end marker.

        Inputs image (B, ...), caption_before (N, T): the token before each of the targets, and
        owner (N,) int32: which of the B pictures each of the N captions is of.
        """
        ids, owner = captions_of(columns["caption_tokens"])
        inputs = {"image": columns["image"], "caption_before": ids[:, :-1], "owner": owner}
        targets = ids[:, 1:]
        return Batch(inputs, targets, (targets != PAD).astype(np.float32))

    def outputs(self, model: keras.Model, inputs: Mapping[str, Any], step: tf.Tensor) -> Any:
        from models.scheduled_sampling import mix_in_predictions

        given = mix_in_predictions(model, _named(inputs), self.sampling, step)
        readouts, attention = model.readouts_and_attention(given, True, self.learns(step))
        return readouts, model.decoder.output_weights(), attention

    def learns(self, step: tf.Tensor) -> tf.Tensor | None:
        """Whether the network that looks gets a gradient at that update; None: at each."""
        return step >= self.vision.train_from if self.vision.train_from else None

    def losses(self, outputs: Any, targets: Any) -> tf.Tensor:
        """Cross-entropy of the captions' tokens: (N, T) nats, 0 on padding.

        What attention's distribution costs is with the first token of a caption.
        """
        import tensorflow as tf

        from models.cross_entropy import token_losses

        readouts, projection, attention = outputs
        losses = token_losses(readouts, projection, targets, self.label_smoothing)
        if self.attention_regularization:
            real = tf.cast(targets != PAD, tf.float32)[..., tf.newaxis]
            received = tf.reduce_sum(tf.cast(attention, tf.float32) * real, 1)
            cost = self.attention_regularization * tf.reduce_sum((1 - received) ** 2, 1)
            losses = tf.concat([losses[:, :1] + cost[:, tf.newaxis], losses[:, 1:]], 1)
        return losses

    def target_codec(self, codec: Codec) -> TextCodec:
        return _text(codec)

    def encode_inputs(self, model: keras.Model, fields: Mapping[str, tf.Tensor]) -> Any:
        return model.encode(fields["image"])

    @property
    def previous_tokens_field(self) -> str:
        return "caption_before"

    def decoder_inputs(
        self, model: keras.Model, inputs: Mapping[str, Any]
    ) -> tuple[Any, Any, tf.Tensor]:
        """Of each caption, that of its picture."""
        import tensorflow as tf

        read = model.encode(inputs["image"])
        memory, state = tf.nest.map_structure(lambda x: tf.gather(x, inputs["owner"]), read)
        return memory, state, inputs[self.previous_tokens_field]

    def predict(
        self,
        model: keras.Model,
        codec: Codec,
        inputs: Mapping[str, Any],
        decode: SearchSettings,
        *,
        detail: bool = False,
    ) -> dict[str, tf.Tensor]:
        """Caption (B,) as text and its score (B,): log-probability, as `decode` ranks by it.

        With several answers also captions and scores (B, A), the best first. In detail also tokens
        (B, T) as text and the attention (B, T, P) that each paid to the places, row by row.
        """
        import tensorflow as tf

        from pipelines.graphs.generation import numbers_of, write

        pictures = inputs["image"]
        memory, state = self.encode_inputs(model, inputs)
        flat = tf.reshape(tf.cast(pictures, tf.float32) * 256, [tf.shape(pictures)[0], -1])
        written = write(
            model.decoder,
            memory,
            state,
            _text(codec),
            decode,
            source_length=tf.fill(tf.shape(pictures)[:1], model.vision.positions),
            detail=detail,
            numbers=numbers_of(tf.cast(flat, tf.int64)),
        )
        names = {"text": "caption", "texts": "captions"}
        return {names.get(name, name): value for name, value in written.items()}

    def attended_inputs(
        self, model: keras.Model, columns: Mapping[str, Any]
    ) -> dict[str, tf.Tensor]:
        """Pictures as the model sees them, seen_bytes (B,), files of PNG, and grid (B, 2): how many
        rows and columns of places each has.
        """
        import tensorflow as tf

        pictures = ImageCodec("image", self.image).encode(columns["image"])
        files = tf.map_fn(tf.io.encode_png, pictures, fn_output_signature=tf.string)
        grid = tf.constant([model.vision.grid[:2]], tf.int32)
        return {"seen_bytes": files, "grid": tf.repeat(grid, tf.shape(files)[0], 0)}

    def measure_targets(self, model: keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
        """Of all captions of a picture: log-likelihood in nats, tokens with ends, tokens right."""
        import tensorflow as tf

        from models.cross_entropy import token_measures

        readouts = model.readouts(_named(batch.inputs))
        measured = token_measures(readouts, model.decoder.output_weights(), batch.targets)
        owner, pictures = batch.inputs["owner"], tf.shape(batch.inputs["image"])[0]
        return {
            name: tf.math.unsorted_segment_sum(value, owner, pictures)
            for name, value in measured.items()
        }

    def score(self, predictions: Mapping[str, np.ndarray], split: Split) -> dict[str, Score]:
        return caption_scores(
            list(predictions["caption"]),
            references_of(split),
            tokenize=self.bleu_tokenize,
            # Beside lower-cased captions, case says nothing.
            lowercase=self.text.lowercase,
            stemmer=self.stemmer,
            measured=predictions if "log_likelihood" in predictions else None,
        )

    def baselines(self, train: Split, test: Split) -> Mapping[str, Mapping[str, np.ndarray]]:
        from pipelines.evaluate.baselines.captioning import caption_baselines

        return caption_baselines(train, test, image="image", captions="captions")

    def limitations(self, codec: Codec) -> list[str]:
        return [
            "It has words only for what its training captions name, and gives every picture a "
            "caption, also one of what it has never seen.",
            f"It sees a picture at {self.image.size} × {self.image.size} pixels: what is small "
            "beside the whole is lost.",
        ]

    def report_sections(
        self,
        model: keras.Model,
        predictions: Mapping[str, np.ndarray],
        split: Split,
        codec: Codec,
        decode: SearchSettings,
    ) -> list[Section]:
        """Pictures with captions, good and bad, typical mistakes, and where the decoder looked."""
        from pipelines.evaluate.sections.captioning import picture_sections, pictures_of

        look = pictures_of(split, ImageCodec("image", self.image))
        sections = picture_sections(
            list(predictions["caption"]),
            references_of(split),
            look,
            tokenize=self.bleu_tokenize,
            lowercase=self.text.lowercase,
        )
        return [*sections, *self._attention(model, split, codec, decode, look)]

    def _attention(
        self, model: keras.Model, split: Split, codec: Codec, decode: SearchSettings, look: Look
    ) -> list[Figure]:
        """Of a few examples, spread over the split."""
        if self.decoder.attention == "none":
            return []
        from pipelines.evaluate.sections.captioning import Looked, picture_attention_figures

        rows = np.unique(np.linspace(0, len(split) - 1, EXPLAINED).astype(int))
        found = self.predict_in_detail(model, split, rows, codec, decode)
        parts = (look(rows), found["tokens"], found["attention"])
        examples = [Looked(*example) for example in zip(*parts, strict=True)]
        return picture_attention_figures(examples, model.vision.grid[:2])


def captions_of(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From all captions of each picture, one after the other, (B, L), to one caption a row.

    Returns ids (N, T), padded, and owner (N,) int32: whose caption each is, in rising order.
    """
    owner, starts = np.nonzero(tokens == BEGIN)
    lengths = np.count_nonzero(tokens, axis=1)[owner]
    last = np.append(owner[1:] != owner[:-1], True)
    stops = np.where(last, lengths, np.append(starts[1:], 0))
    places = starts[:, None] + np.arange((stops - starts).max(initial=2))
    real = places < stops[:, None]
    ids = np.where(real, tokens[owner[:, None], np.where(real, places, 0)], PAD)
    return ids, owner.astype(np.int32)


def references_of(split: Split) -> list[list[str]]:
    """All captions of each picture."""
    return [caption_lines(text) for texts in split.raw("captions") for text in texts]


def _named(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What Captioner calls them."""
    return {
        "image": inputs["image"],
        "owner": inputs["owner"],
        "target": inputs["caption_before"],
    }


def _text(codec: Codec) -> TextCodec:
    return cast(CaptionsCodec, codec.fields["caption_tokens"]).text
