"""From an image to a token sequence: a convolutional network and a recurrent decoder.

Show and tell (Vinyals et al. 2015) without attention, where the image is the decoder's initial
state; show, attend and tell (Xu et al. 2015) with it.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import keras
import tensorflow as tf

from models.attention import Memory
from models.embedding import VocabularySpec, build_embedding
from models.heads import Pooling
from models.layers import transpose_time
from models.recurrent import Encoder
from models.seeds import stream
from models.serialization import FromConfig
from models.settings import DecoderSettings, EmbeddingSettings, RecurrentSettings, VisionSettings
from models.token_decoder import DecoderState, TokenDecoder
from models.vision import ImageEncoder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_register = keras.saving.register_keras_serializable(package="recurrent")


class _LayerOptions(TypedDict):
    name: str
    seed: int


@_register
class Captioner(FromConfig, keras.Model):
    """Reads images and generates tokens.

    recurrent    cell and layers of the decoder. If it is bidirectional, such a network first reads
                 the grid of the image, row by row; the decoder, which goes forward, attends to its
                 outputs.
    image_shape  (H, W, 3), or the shape of a frozen network's features, (h, w, C).
    pooling      how the grid becomes the vector that the decoder's initial state is made of.
    """

    config_types: ClassVar[Mapping[str, type]] = {
        "recurrent": RecurrentSettings,
        "vision": VisionSettings,
        "embedding": EmbeddingSettings,
        "decoder": DecoderSettings,
        "image_shape": tuple,
    }
    former_names: ClassVar[Mapping[str, str]] = {"shape": "image_shape", "size": "vocabulary_size"}

    def __init__(
        self,
        recurrent: RecurrentSettings,
        vision: VisionSettings,
        embedding: EmbeddingSettings,
        decoder: DecoderSettings,
        *,
        image_shape: tuple[int, int, int],
        vocabulary_size: int,
        pooling: str = "mean",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings: dict[str, DataclassInstance] = {
            "recurrent": recurrent,
            "vision": vision,
            "embedding": embedding,
            "decoder": decoder,
        }
        self.image_shape, self.vocabulary_size = image_shape, vocabulary_size
        self.pooling, self.seed = pooling, seed
        policy = self.dtype_policy

        def layer_options(name: str) -> _LayerOptions:
            return {"name": name, "seed": stream(seed, name)}

        self.vision = ImageEncoder(
            vision, image_shape, recurrent.width, dtype=policy, **layer_options("vision")
        )
        self.reader = None
        width = recurrent.width
        if recurrent.bidirectional:
            self.reader = Encoder(recurrent, dtype=policy, **layer_options("reader"))
            width = self.reader.output_width
        self.pool = Pooling(pooling, dtype=policy, **layer_options("pool"))
        self.embedding = build_embedding(
            embedding, VocabularySpec(vocabulary_size), **layer_options("embedding")
        )
        pooled_width = width * (2 if pooling == "mean_max" else 1)
        self.state_parts = 2 if recurrent.cell == "lstm" else 1
        self.depth = recurrent.layers
        self.decoder = TokenDecoder(
            decoder,
            recurrent,
            self.embedding,
            memory_width=width,
            state_widths=[[pooled_width] * self.state_parts] * self.depth,
            dtype=policy,
            **layer_options("decoder"),
        )
        self.vision.build()
        if self.reader is not None:
            self.reader.build((None, None, recurrent.width))
        self.pool.build((None, None, width))
        self.decoder.build()
        self.built = True

    def encode(
        self,
        images: tf.Tensor,
        training: bool | None = None,
        network_trainable: tf.Tensor | None = None,
    ) -> tuple[Memory, DecoderState]:
        """The decoder's memory, of P positions, and its initial state.

        images (B, H, W, 3) uint8, or features (B, h, w, C). network_trainable: see ImageEncoder.
        """
        values = self.vision(images, training=training, network_trainable=network_trainable)
        if self.reader is not None:
            values, _ = self.reader(values, training=training)
        mask = tf.ones(tf.shape(values)[:2], tf.bool)
        pooled = self.pool(transpose_time(values), tf.transpose(mask))
        initial = ((pooled,) * self.state_parts,) * self.depth
        return self.decoder.precompute_keys(values, mask), self.decoder.start(initial)

    def readouts_and_attention(
        self,
        inputs: Mapping[str, tf.Tensor],
        training: bool | None = None,
        network_trainable: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The inputs of the output layer after each caption token, and the attention weights.

        inputs  image, as in `encode`; owner (N,), which of the B images each of the N captions
                describes; target (N, T) from the begin marker on.
        Returns readouts (N, T, R) and attention (N, T, P), or (N, T, 0) without attention.
        """
        encoded = self.encode(inputs["image"], training, network_trainable)
        owner, target = inputs["owner"], inputs["target"]
        memory, state = tf.nest.map_structure(lambda x: tf.gather(x, owner), encoded)
        return self.decoder.call_with_attention(
            target, target != 0, state, memory, training=training
        )

    def readouts(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """The first part of `readouts_and_attention`."""
        return self.readouts_and_attention(inputs, training)[0]

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Logits (N, T, V) of the token that follows each caption token."""
        return self.decoder.logits(self.readouts(inputs, training))

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            **{name: asdict(settings) for name, settings in self.settings.items()},
            "image_shape": self.image_shape,
            "vocabulary_size": self.vocabulary_size,
            "pooling": self.pooling,
            "seed": self.seed,
        }
