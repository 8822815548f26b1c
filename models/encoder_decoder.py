"""From one sequence of tokens to another: an encoder, and a decoder that attends to it.

Sutskever et al. 2014; Bahdanau et al. 2015; Luong et al. 2015.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import keras
import tensorflow as tf

from models.attention import Memory
from models.embedding import build_embedding
from models.recurrent import Encoder
from models.seeds import stream
from models.settings import DecoderSettings, EmbeddingSettings, RecurrentSettings
from models.token_decoder import TokenDecoder, Written

_register = keras.saving.register_keras_serializable(package="recurrent")


@_register
class EncoderDecoder(keras.Model):
    """Reads source tokens, writes target tokens.

    recurrent  of the encoder, and the cell and layers of the decoder.
    sizes      of the source and target vocabulary; shared: they are one, with one embedding.
    """

    def __init__(
        self,
        recurrent: RecurrentSettings,
        embedding: EmbeddingSettings,
        decoder: DecoderSettings,
        *,
        sizes: tuple[int, int],
        shared: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if shared and sizes[0] != sizes[1]:
            raise ValueError(f"a shared vocabulary has one size; got {sizes}.")
        self.settings: dict[str, Any] = {
            "recurrent": recurrent,
            "embedding": embedding,
            "decoder": decoder,
        }
        self.sizes, self.shared, self.seed = tuple(sizes), shared, seed
        policy = self.dtype_policy
        self.source_embedding = build_embedding(
            embedding, sizes[0], seed=stream(seed, "source_embedding"), name="source_embedding"
        )
        self.target_embedding = self.source_embedding
        if not shared:
            self.target_embedding = build_embedding(
                embedding, sizes[1], seed=stream(seed, "target_embedding"), name="target_embedding"
            )
        self.encoder = Encoder(
            recurrent, seed=stream(seed, "encoder"), dtype=policy, name="encoder"
        )
        width = self.encoder.output_width
        parts = 2 if recurrent.cell == "lstm" else 1
        self.decoder = TokenDecoder(
            decoder,
            recurrent,
            self.target_embedding,
            memory_width=width,
            state_widths=[[width] * parts] * recurrent.layers,
            seed=stream(seed, "decoder"),
            dtype=policy,
            name="decoder",
        )
        self.encoder.build((None, None, self.source_embedding.width))
        self.decoder.build()
        self.built = True

    def encode(
        self, tokens: tf.Tensor, length: tf.Tensor, training: bool | None = None
    ) -> tuple[Memory, Written]:
        """What is decoded from tokens (B, S) int32, length (B,): memory, and state at the start."""
        mask = tf.sequence_mask(length, tf.shape(tokens)[1])
        x = self.source_embedding(tokens, mask, training=training)
        values, states = self.encoder(x, mask=mask, training=training)
        return self.decoder.remember(values, mask), self.decoder.start(states)

    def readouts(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """(B, T, R): what the output layer reads after each token of the given target.

        inputs  source (B, S), source_length (B,), target (B, T) from the begin marker on.
        """
        memory, state = self.encode(inputs["source"], inputs["source_length"], training)
        target = inputs["target"]
        return self.decoder(target, target != 0, state, memory, training=training)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Logits (B, T, V) of the token after each of the given target's."""
        return self.decoder.logits(self.readouts(inputs, training))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **{name: asdict(one) for name, one in self.settings.items()},
            "sizes": self.sizes,
            "shared": self.shared,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        made = config | {
            "recurrent": RecurrentSettings(**config["recurrent"]),
            "embedding": EmbeddingSettings(**config["embedding"]),
            "decoder": DecoderSettings(**config["decoder"]),
            "sizes": tuple(config["sizes"]),
        }
        return cls(**made)
