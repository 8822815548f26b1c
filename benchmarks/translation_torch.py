"""The attention encoder-decoder of `translation_peers.py` in PyTorch, as a good programmer has it.

Whole sequences go through nn.GRU. Everything in float32, without compilation. The decoder, its
searches and its updates are in `torch_writer.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch_writer import Learner, Memory, Writer, array, gru

from pipelines.data.codecs.text import PAD


class Pairs(NamedTuple):
    """A batch: source (B, S), lengths (B,), target (B, T) from <s> to </s>."""

    source: Tensor
    lengths: Tensor
    target: Tensor


class Translator(Writer):
    """Bidirectional GRU; GRU with "general" attention over its outputs (Luong et al. 2015).

    N the encoder's width in both directions, W the decoder's, the same. With packed=False the
    encoder goes over padding too: a little faster, but the backward direction reads it first.
    """

    def __init__(self, config: Any, sizes: Mapping[str, int], *, packed: bool):
        depth, width = config.task.embedding.width, 2 * config.model.width
        super().__init__(sizes["target_tokens"], depth, width, width)
        self.packed = packed
        self.source = nn.Embedding(sizes["source_tokens"], depth, padding_idx=PAD)
        self.encoder = nn.GRU(depth, config.model.width, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(width, width)

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Memory, Tensor]:
        """The memory, and the state (1, B, W) that the decoder starts from."""
        x = self.source(source)
        if self.packed:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, last = self.encoder(x)
        if self.packed:
            y, _ = pad_packed_sequence(y, batch_first=True)
        state = torch.tanh(self.bridge(torch.cat([last[0], last[1]], -1)))
        return self.remember(y, source == PAD), state[None]

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Logits (B, T, V) of what follows each position of target (B, T)."""
        return self.write(*self.encode(source, lengths), target)


class TorchTranslation:
    """A `translation_peers.System`: the translator, its training and its searches."""

    def __init__(self, config: Any, sizes: Mapping[str, int], *, packed: bool):
        torch.manual_seed(config.seed)
        self.config = config
        self.model = Translator(config, sizes, packed=packed)
        self.learner = Learner(self.model, config.train)

    def batch(self, columns: Mapping[str, np.ndarray]) -> Pairs:
        names = ("source_tokens", "source_tokens_length", "target_tokens")
        return Pairs(*(torch.from_numpy(columns[name].astype(np.int64)) for name in names))

    def train(self, batches: Iterable[Pairs]) -> float:
        for source, lengths, target in batches:
            last = self.learner.update((source, lengths), target)
        return last

    @torch.inference_mode()
    def search(self, batch: Pairs, beams: int) -> np.ndarray:
        self.model.eval()
        decode = self.config.decode
        memory, state = self.model.encode(batch.source, batch.lengths)
        return self.model.search(memory, state, decode.maximum_extra, beams, decode.length_penalty)

    def weights(self) -> dict[str, list[np.ndarray]]:
        model = self.model
        return model.written() | {
            "source": [array(model.source.weight)],
            "forward": gru(model.encoder, ""),
            "backward": gru(model.encoder, "_reverse"),
            "bridge": [array(model.bridge.weight).T, array(model.bridge.bias)],
        }
