"""Our attention encoder-decoder as `translation_peers.py` asks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from our_writer import OurWriter


class OurTranslation(OurWriter):
    """A `writer_peers.System`."""

    def lengths(self, given: Mapping[str, Any]) -> Any:
        return given["source_tokens_length"]

    def variables(self) -> dict[str, Any]:
        """By the names that `translation_torch.py` gives them."""
        encoder, decoder = self.model.encoder, self.model.decoder
        forward, backward = encoder.layers[0]
        return {
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
