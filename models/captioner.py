"""From a picture to a sequence of tokens: a network that looks, and a decoder that tells.

Show and tell (Vinyals et al. 2015) without attention, where the picture is the decoder's state at
the start; show, attend and tell (Xu et al. 2015) with it.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import keras
import tensorflow as tf

from models.attention import Memory
from models.embedding import build_embedding
from models.heads import Pooling
from models.layers import swap
from models.recurrent import Encoder
from models.seeds import stream
from models.settings import DecoderSettings, EmbeddingSettings, RecurrentSettings, VisionSettings
from models.token_decoder import TokenDecoder, Written
from models.vision import PictureEncoder

_register = keras.saving.register_keras_serializable(package="recurrent")


@_register
class Captioner(keras.Model):
    """Reads pictures, writes tokens.

    recurrent  cell and layers of the decoder. In both directions, such a network also reads the
               grid of the picture, row by row, before the decoder, which goes forward, attends.
    shape      of a picture (H, W, 3), or of a frozen network's features (h, w, C).
    size       of the vocabulary.
    pooling    how the grid becomes the vector that the decoder's state at the start is made of.
    """

    def __init__(
        self,
        recurrent: RecurrentSettings,
        vision: VisionSettings,
        embedding: EmbeddingSettings,
        decoder: DecoderSettings,
        *,
        shape: tuple[int, int, int],
        size: int,
        pooling: str = "mean",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings: dict[str, Any] = {
            "recurrent": recurrent,
            "vision": vision,
            "embedding": embedding,
            "decoder": decoder,
        }
        self.shape, self.size, self.pooling, self.seed = shape, size, pooling, seed
        policy = self.dtype_policy

        def named(name: str) -> dict[str, Any]:
            return {"seed": stream(seed, name), "name": name}

        self.vision = PictureEncoder(
            vision, self.shape, recurrent.width, dtype=policy, **named("vision")
        )
        self.reader = None
        width = recurrent.width
        if recurrent.bidirectional:
            self.reader = Encoder(recurrent, dtype=policy, **named("reader"))
            width = self.reader.output_width
        self.pool = Pooling(pooling, dtype=policy, **named("pool"))
        self.embedding = build_embedding(embedding, size, **named("embedding"))
        pooled = width * (2 if pooling == "mean_max" else 1)
        self.parts = 2 if recurrent.cell == "lstm" else 1
        self.depth = recurrent.layers
        self.decoder = TokenDecoder(
            decoder,
            recurrent,
            self.embedding,
            memory_width=width,
            state_widths=[[pooled] * self.parts] * self.depth,
            dtype=policy,
            **named("decoder"),
        )
        self.vision.build()
        if self.reader is not None:
            self.reader.build((None, None, recurrent.width))
        self.pool.build((None, None, width))
        self.decoder.build()
        self.built = True

    def encode(
        self,
        pictures: tf.Tensor,
        training: bool | None = None,
        learns: tf.Tensor | None = None,
    ) -> tuple[Memory, Written]:
        """What is decoded from pictures (B, H, W, 3) uint8, or features (B, h, w, C): memory of P
        positions, and state at the start. learns: see PictureEncoder.
        """
        values = self.vision(pictures, training=training, learns=learns)
        if self.reader is not None:
            values, _ = self.reader(values, training=training)
        mask = tf.ones(tf.shape(values)[:2], tf.bool)
        pooled = self.pool(swap(values), tf.transpose(mask))
        state = [[pooled] * self.parts] * self.depth
        return self.decoder.remember(values, mask), self.decoder.start(state)

    def attended(
        self,
        inputs: Mapping[str, tf.Tensor],
        training: bool | None = None,
        learns: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What the output layer reads after each token of the given captions, (N, T, R), and where
        the decoder looked, (N, T, P), or (N, T, 0) without attention.

        inputs  image, as in `encode`; owner (N,): which of the B pictures each of the N captions
                is of; target (N, T) from the begin marker on.
        """
        seen = self.encode(inputs["image"], training, learns)
        owner, target = inputs["owner"], inputs["target"]
        memory, state = tf.nest.map_structure(lambda x: tf.gather(x, owner), seen)
        return self.decoder.attended(target, target != 0, state, memory, training=training)

    def readouts(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """The first part of `attended`."""
        return self.attended(inputs, training)[0]

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Logits (N, T, V) of the token after each of the given captions'."""
        return self.decoder.logits(self.readouts(inputs, training))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **{name: asdict(one) for name, one in self.settings.items()},
            "shape": self.shape,
            "size": self.size,
            "pooling": self.pooling,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        made = config | {
            "recurrent": RecurrentSettings(**config["recurrent"]),
            "vision": VisionSettings(**config["vision"]),
            "embedding": EmbeddingSettings(**config["embedding"]),
            "decoder": DecoderSettings(**config["decoder"]),
            "shape": tuple(config["shape"]),
        }
        return cls(**made)
