"""Image captioning: a network that sees an image, and a recurrent one that says what it shows.

python main.py task=captioning model=gru
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from models.settings import (
    Limits,
    RecurrentSettings,
    SearchSettings,
    VisionSettings,
    Whole,
    settings,
)
from pipelines.core.contracts import Batch, Codec, FieldCodec, Split
from pipelines.core.errors import UserError
from pipelines.core.scores import Metric, Score
from pipelines.core.sections import Figure, Section
from pipelines.core.task import Objective, Trained
from pipelines.core.types import Arrays, Example, Nest, Tensors
from pipelines.data.augmentation import AugmentationSettings, augment_images, mirror_images
from pipelines.data.codecs.captions import CaptionsCodec, caption_references, caption_rows
from pipelines.data.codecs.features import FeatureCodec, check_vision
from pipelines.data.codecs.images import ImageCodec, ImageSettings
from pipelines.data.codecs.text import PAD, TextCodec, TextSettings
from pipelines.evaluate.metrics.captioning import CAPTIONING, WordRules, caption_scores
from pipelines.evaluate.metrics.meteor import check_stemmer
from pipelines.tasks._shared.generation import EXPLAINED, GenerationTask

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from models.attention import Memory
    from models.token_decoder import DecoderState
    from pipelines.evaluate.sections.captioning import ReadImages
    from pipelines.graphs.generation import InputFacts


@settings
class Captioning(GenerationTask):
    """Settings of captioning.

    image         what the model sees of an image.
    augmentation  how images differ each time in training; a frozen network's features, which are
                  made once, don't.
    pooling       how the grid becomes the vector that the decoder starts from.
    stemmer       how METEOR finds stems: the language of the captions, as Snowball names it, or
                  null.
    attention_regularization  how much it costs, in nats, when a place doesn't get attention 1 in
                  all, squared and summed over places (Xu et al. 2015, eq. 14).
    self_critical_from  the training step from which CIDEr-D is maximized (Rennie et al. 2017), not
                  the references' likelihood any more; null: never.
    """

    name: Literal["captioning"]
    image: ImageSettings
    augmentation: AugmentationSettings
    vision: VisionSettings
    pooling: Literal["mean", "max", "mean_max", "attention"]
    text: TextSettings
    stemmer: str | None
    attention_regularization: Annotated[float, Field(ge=0)]
    self_critical_from: Whole | None

    columns: ClassVar[tuple[str, ...]] = ("image", "captions")
    input_columns: ClassVar[tuple[str, ...]] = ("image",)
    answer_name: ClassVar[str] = "caption"
    previous_tokens_field: ClassVar[str] = "caption_before"
    metrics: ClassVar[tuple[Metric, ...]] = CAPTIONING
    dedupe_by: ClassVar[tuple[str, ...]] = ("image",)
    image_field: ClassVar[str | None] = "image"
    intended_use: ClassVar[str] = "Says in a few words what an image shows."
    example_input: ClassVar[Example] = {"image": "the bytes of an image file"}

    def check(self, decode: SearchSettings) -> None:
        super().check(decode)
        check_vision(self.vision, self.image.size)
        if self.attention_regularization and self.decoder.attention == "none":
            raise UserError("task.attention_regularization needs task.decoder.attention")
        if self.adversarial and self.self_critical_from is not None:
            raise UserError(
                "task.adversarial moves the vectors of reference captions: it goes with "
                "task.self_critical_from=null"
            )
        if isinstance(decode, Limits) and decode.replace_unknown:
            raise UserError(
                "decode.replace_unknown needs words to take; there are none in images: use false"
            )
        check_stemmer(self.stemmer)

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
                image_shape=cast(tuple[int, int, int], codec.spec.fields["image"].shape),
                vocabulary_size=codec.spec.sizes["caption_tokens"],
                pooling=self.pooling,
                seed=seed,
                name="captioner",
            )
            made.vision.load_pretrained(self.vision.weights)
        except ValueError as error:
            raise UserError(f"task: {error}") from None
        return made

    def objective(self, train: Split, codec: Codec) -> Objective:
        if self.self_critical_from is None:
            return super().objective(train, codec)
        from pipelines.tasks._shared.self_critical import SelfCritical, build_rewards

        rewards = build_rewards(train, "caption_tokens", "captions", self.bleu_tokenize)
        return SelfCritical(self, self.self_critical_from, _captions(codec).text, rewards)

    def augment(
        self, columns: dict[str, np.ndarray], codec: Codec, random: np.random.Generator
    ) -> dict[str, np.ndarray]:
        if self.vision.frozen:
            return columns
        images = augment_images(columns["image"], self.augmentation, random)
        if self.augmentation.mirror:
            captions = _captions(codec).texts(columns["caption_tokens"])
            images = mirror_images(images, captions, self.augmentation.mirror_unless, random)
        return {**columns, "image": images}

    def batch(self, columns: Arrays, codec: Codec) -> Batch:
        """Targets and weights (N, T): each token after the begin marker, with the end marker.

        Inputs image (B, ...), caption_before (N, T): the token before each of the targets, and
        owner (N,) int32: which of the B images each of the N captions is of.
        """
        ids, owner = caption_rows(columns["caption_tokens"])
        inputs = {"image": columns["image"], "caption_before": ids[:, :-1], "owner": owner}
        targets = ids[:, 1:]
        return Batch(inputs, targets, (targets != PAD).astype(np.float32))

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        from models.scheduled_sampling import mix_in_predictions

        mixed = mix_in_predictions(model, self.model_inputs(inputs), self.sampling, step)
        readouts, attention = model.readouts_and_attention(mixed, True, self.vision_trainable(step))
        return readouts, model.decoder.output_weights(), attention

    def vision_trainable(self, step: tf.Tensor) -> tf.Tensor | None:
        """Whether the vision network gets a gradient at that training step; None: at each."""
        return step >= self.vision.train_from if self.vision.train_from else None

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of the captions' tokens: (N, T) nats, 0 on padding.

        What attention's distribution costs is with the first token of a caption.
        """
        import tensorflow as tf

        from models.attention import doubly_stochastic_penalty
        from models.cross_entropy import token_losses

        readouts, projection, attention = outputs
        losses = token_losses(readouts, projection, targets, self.label_smoothing)
        if self.attention_regularization:
            penalties = doubly_stochastic_penalty(attention, targets != PAD)
            costs = self.attention_regularization * penalties[:, tf.newaxis]
            losses = tf.concat([losses[:, :1] + costs, losses[:, 1:]], 1)
        return losses

    def target_codec(self, codec: Codec) -> TextCodec:
        return _captions(codec).text

    def encode_inputs(self, model: keras.Model, fields: Tensors) -> tuple[Memory, DecoderState]:
        return model.encode(fields["image"])

    def model_inputs(self, inputs: Tensors) -> dict[str, tf.Tensor]:
        return {
            "image": inputs["image"],
            "owner": inputs["owner"],
            "target": inputs["caption_before"],
        }

    def decoder_inputs(
        self, model: keras.Model, inputs: Tensors
    ) -> tuple[Memory, DecoderState, tf.Tensor]:
        """Of each caption, that of its image."""
        import tensorflow as tf

        read = model.encode(inputs["image"])
        memory, state = tf.nest.map_structure(lambda x: tf.gather(x, inputs["owner"]), read)
        return memory, state, inputs[self.previous_tokens_field]

    def input_facts(self, trained: Trained, inputs: Tensors) -> InputFacts:
        import tensorflow as tf

        from pipelines.graphs.generation import InputFacts, sample_ids

        images = inputs["image"]
        flat = tf.reshape(tf.cast(images, tf.float32) * 256, [tf.shape(images)[0], -1])
        return InputFacts(
            length=tf.fill(tf.shape(images)[:1], trained.model.vision.positions),
            sample_ids=sample_ids(tf.cast(flat, tf.int64)),
        )

    def attended_inputs(self, model: keras.Model, columns: Tensors) -> dict[str, tf.Tensor]:
        """Images as the model sees them, seen_bytes (B,), files of PNG, and grid (B, 2): how many
        rows and columns of places each has.
        """
        import tensorflow as tf

        images = ImageCodec("image", self.image).encode(columns["image"])
        files = tf.map_fn(tf.io.encode_png, images, fn_output_signature=tf.string)
        grid = tf.constant([model.vision.grid[:2]], tf.int32)
        return {"seen_bytes": files, "grid": tf.repeat(grid, tf.shape(files)[0], 0)}

    def measure_targets(self, model: keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
        """Of all captions of an image: log-likelihood in nats, tokens with ends, tokens right."""
        import tensorflow as tf

        measured = super().measure_targets(model, batch)
        owner, images = batch.inputs["owner"], tf.shape(batch.inputs["image"])[0]
        return {
            name: tf.math.unsorted_segment_sum(value, owner, images)
            for name, value in measured.items()
        }

    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        return caption_scores(
            list(predictions["caption"]),
            caption_references(split, "captions"),
            # A model of lower-cased captions can't be right or wrong about case.
            WordRules(self.bleu_tokenize, self.text.lowercase, self.stemmer),
            measured=predictions,
        )

    def baselines(self, train: Split, test: Split) -> Mapping[str, Arrays]:
        from pipelines.evaluate.baselines.captioning import caption_baselines

        return caption_baselines(train, test, image="image", captions="captions")

    def limitations(self, codec: Codec) -> list[str]:
        return [
            "It has words only for what its training captions name, and gives every image a "
            "caption, also one of what it has never seen.",
            f"It sees an image at {self.image.size} × {self.image.size} pixels: what is small "
            "compared with the whole is lost.",
        ]

    def report_sections(self, trained: Trained, predictions: Arrays, split: Split) -> list[Section]:
        """Images with captions, good and bad, typical mistakes, and where the decoder looked."""
        from pipelines.evaluate.sections.captioning import image_reader, image_sections

        look = image_reader(split, ImageCodec("image", self.image))
        sections = image_sections(
            list(predictions["caption"]),
            caption_references(split, "captions"),
            look,
            tokenize=self.bleu_tokenize,
            lowercase=self.text.lowercase,
        )
        return [*sections, *self._attention(trained, split, look)]

    def _attention(self, trained: Trained, split: Split, look: ReadImages) -> list[Figure]:
        if self.decoder.attention == "none":
            return []
        from pipelines.evaluate.sections.captioning import AttendedImage, image_attention_figures

        # Of a few examples, spread over the split.
        rows = np.unique(np.linspace(0, len(split) - 1, EXPLAINED).astype(int))
        found = self.predict_in_detail(trained, split, rows)
        examples = map(AttendedImage, look(rows), found["tokens"], found["attention"])
        return image_attention_figures(list(examples), trained.model.vision.grid[:2])


def _captions(codec: Codec) -> CaptionsCodec:
    """What `Captioning.codec` made."""
    return cast(CaptionsCodec, codec.fields["caption_tokens"])
