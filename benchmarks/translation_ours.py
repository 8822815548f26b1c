"""Our attention encoder-decoder as `translation_peers.py` asks it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from translation_data import Sentences

from pipelines.codecs.text import BEGIN, END, PAD, UNKNOWN


class OurTranslation:
    """A `translation_peers.System`: the project's own task, model, update and search."""

    def __init__(self, sentences: Sentences):
        from pipelines.optimization import Learner

        self.config, self.codec = sentences.config, sentences.codec
        self.model = self.config.task.build(self.config.model, self.codec, self.config.seed)
        self.learner = Learner(self.config.task, self.model, self.codec, self.config.train, 10**6)
        self._step = 0
        self._searches: dict[int, Any] = {}

    def batch(self, columns: dict[str, np.ndarray]) -> Any:
        return self.config.task.batch(columns, self.codec)

    def train(self, batches: Iterable[Any]) -> float:
        for batch in batches:
            self.learner.reset()
            self.learner.update([batch], self._step)
            last = self.learner.mean_loss()
            self._step += 1
        return last

    def search(self, batch: Any, beams: int) -> np.ndarray:
        if beams not in self._searches:
            self._searches[beams] = self._traced(beams)
        inputs = batch.inputs
        return self._searches[beams](
            inputs["source_tokens"], inputs["source_tokens_length"]
        ).numpy()

    def _traced(self, beams: int) -> Any:
        import tensorflow as tf

        from models.decoding import search

        settings = self.config.decode.quick() if beams == 1 else self.config.decode

        @tf.function(
            input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]
        )
        def answers(tokens: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
            memory, state = self.model.encode(tokens, length)
            found = search(
                self.model.decoder.step,
                state,
                memory,
                settings=settings,
                begin=BEGIN,
                end=END,
                forbidden=(PAD, UNKNOWN, BEGIN),
                source_length=length,
            )
            return found.ids[:, 0]

        return answers

    def take(self, weights: Mapping[str, list[np.ndarray]]) -> None:
        """Those of a peer, by the names that `translation_torch.py` gives them."""
        encoder, decoder = self.model.encoder, self.model.decoder
        forward, backward = encoder.layers[0]
        variables = {
            "source": [self.model.source_embedding.matrix],
            "target": [self.model.target_embedding.matrix],
            "forward": forward.weights,
            "backward": backward.weights,
            "bridge": decoder.bridge[0][0].weights,
            "decoder": decoder.rnn.layers[0][0].weights,
            "key": [decoder.attention.key],
            "combine": decoder.combine.weights,
            "output": [decoder.kernel, decoder.bias],
        }
        for name, arrays in weights.items():
            for variable, array in zip(variables[name], arrays, strict=True):
                variable.assign(array)
