"""From one token sequence to another: an encoder, and a decoder that attends to its outputs.

Sutskever et al. 2014; Bahdanau et al. 2015; Luong et al. 2015.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import keras
import tensorflow as tf

from models.attention import Memory
from models.embedding import VocabularySpec, build_embedding
from models.recurrent import Encoder
from models.seeds import stream
from models.serialization import FromConfig
from models.settings import DecoderSettings, EmbeddingSettings, RecurrentSettings
from models.token_decoder import DecoderState, TokenDecoder

_register = keras.saving.register_keras_serializable(package="recurrent")


@_register
class EncoderDecoder(FromConfig, keras.Model):
    """Reads source tokens and generates target tokens.

    recurrent  of the encoder; the decoder has its cell and number of layers.
    vocabulary_sizes  of source and target.
    shared     source and target have one vocabulary, and one embedding.
    """

    config_types: ClassVar[Mapping[str, type]] = {
        "recurrent": RecurrentSettings,
        "embedding": EmbeddingSettings,
        "decoder": DecoderSettings,
        "vocabulary_sizes": tuple,
    }
    former_names: ClassVar[Mapping[str, str]] = {"sizes": "vocabulary_sizes"}

    def __init__(
        self,
        recurrent: RecurrentSettings,
        embedding: EmbeddingSettings,
        decoder: DecoderSettings,
        *,
        vocabulary_sizes: tuple[int, int],
        shared: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        source_size, target_size = vocabulary_sizes
        if shared and source_size != target_size:
            raise ValueError(f"a shared vocabulary has one size; got {vocabulary_sizes}.")
        self.settings: dict[str, RecurrentSettings | EmbeddingSettings | DecoderSettings] = {
            "recurrent": recurrent,
            "embedding": embedding,
            "decoder": decoder,
        }
        self.vocabulary_sizes = (source_size, target_size)
        self.shared, self.seed = shared, seed
        policy = self.dtype_policy
        self.source_embedding = build_embedding(
            embedding,
            VocabularySpec(source_size),
            seed=stream(seed, "source_embedding"),
            name="source_embedding",
        )
        self.target_embedding = self.source_embedding
        if not shared:
            self.target_embedding = build_embedding(
                embedding,
                VocabularySpec(target_size),
                seed=stream(seed, "target_embedding"),
                name="target_embedding",
            )
        self.encoder = Encoder(
            recurrent, seed=stream(seed, "encoder"), dtype=policy, name="encoder"
        )
        width = self.encoder.output_width
        state_parts = 2 if recurrent.cell == "lstm" else 1
        self.decoder = TokenDecoder(
            decoder,
            recurrent,
            self.target_embedding,
            memory_width=width,
            state_widths=[[width] * state_parts] * recurrent.layers,
            seed=stream(seed, "decoder"),
            dtype=policy,
            name="decoder",
        )
        self.encoder.build((None, None, self.source_embedding.width))
        self.decoder.build()
        self.built = True

    def encode(
        self, tokens: tf.Tensor, length: tf.Tensor, training: bool | None = None
    ) -> tuple[Memory, DecoderState]:
        """Tokens (B, S) int32, length (B,) -> the decoder's memory and its initial state."""
        mask = tf.sequence_mask(length, tf.shape(tokens)[1])
        x = self.source_embedding(tokens, mask, training=training)
        values, states = self.encoder(x, mask=mask, training=training)
        return self.decoder.precompute_keys(values, mask), self.decoder.start(states)

    def readouts(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """The inputs of the output layer after each token of the target: (B, T, R).

        inputs  source (B, S), source_length (B,), target (B, T) from the begin marker on.
        """
        memory, state = self.encode(inputs["source"], inputs["source_length"], training)
        target = inputs["target"]
        return self.decoder(target, target != 0, state, memory, training=training)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Logits (B, T, V) of the token that follows each token of the target."""
        return self.decoder.logits(self.readouts(inputs, training))

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            **{name: asdict(settings) for name, settings in self.settings.items()},
            "vocabulary_sizes": self.vocabulary_sizes,
            "shared": self.shared,
            "seed": self.seed,
        }
