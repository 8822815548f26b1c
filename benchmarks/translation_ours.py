"""Our attention encoder-decoder as `translation_peers.py` asks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from our_writer import OurWriter


class OurTranslation(OurWriter):
    """A `translation_peers.System`."""

    def lengths(self, given: Mapping[str, Any]) -> Any:
        return given["source_tokens_length"]

    def take(self, weights: Mapping[str, list[np.ndarray]]) -> None:
        """Those of a peer, by the names that `translation_torch.py` gives them."""
        self.learner.weights.flush()  # or its own updates would go on later
        encoder, decoder = self.model.encoder, self.model.decoder
        forward, backward = encoder.layers[0]
        variables = {
            "source": [self.model.source_embedding.matrix],
            "target": [self.model.target_embedding.matrix],
            "forward": forward.weights,
            "backward": backward.weights,
            "bridge": decoder.bridge[0].weights,
            "decoder": decoder.rnn.layers[0][0].weights,
            "key": [decoder.attention.key],
            "combine": decoder.combine.weights,
            "output": [decoder.kernel, decoder.bias],
        }
        for name, arrays in weights.items():
            for variable, array in zip(variables[name], arrays, strict=True):
                variable.assign(array)
