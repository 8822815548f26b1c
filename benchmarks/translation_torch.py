"""The attention encoder-decoder of `translation_peers.py` in PyTorch, as a good programmer has it.

Whole sequences go through nn.GRU (no input feeding), attention of all positions is two batched
products, Adam is the fused one. Searches keep the hypotheses of a whole batch in tensors and end
as soon as all of them have. Everything in float32, without compilation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipelines.codecs.text import BEGIN, END, PAD


class Pairs(NamedTuple):
    """A batch: source (B, S), lengths (B,), target (B, T) from <s> to </s>."""

    source: Tensor
    lengths: Tensor
    target: Tensor


class Memory(NamedTuple):
    """What is attended to: values (B, S, N), keys (B, W, S), padding (B, 1, S) bool."""

    values: Tensor
    keys: Tensor
    padding: Tensor


class Translator(nn.Module):
    """Bidirectional GRU; GRU with "general" attention over its outputs (Luong et al. 2015).

    N the encoder's width in both directions, W the decoder's, the same. With packed=False the
    encoder goes over padding too: a little faster, but the backward direction reads it first.
    """

    def __init__(self, config: Any, sizes: Mapping[str, int], *, packed: bool):
        super().__init__()
        self.packed = packed
        depth, width = config.task.embedding.width, 2 * config.model.width
        vocabulary = sizes["target_tokens"]
        self.source = nn.Embedding(sizes["source_tokens"], depth, padding_idx=PAD)
        self.target = nn.Embedding(vocabulary, depth, padding_idx=PAD)
        self.encoder = nn.GRU(depth, config.model.width, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(width, width)
        self.decoder = nn.GRU(depth, width, batch_first=True)
        self.key = nn.Linear(width, width, bias=False)
        self.combine = nn.Linear(2 * width, width)
        self.output = nn.Linear(width, vocabulary)

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Memory, Tensor]:
        """The memory, and the state (1, B, W) that the decoder starts from."""
        x = self.source(source)
        if self.packed:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, last = self.encoder(x)
        if self.packed:
            y, _ = pad_packed_sequence(y, batch_first=True)
        state = torch.tanh(self.bridge(torch.cat([last[0], last[1]], -1)))
        return Memory(y, self.key(y).mT, (source == PAD)[:, None]), state[None]

    def attend(self, h: Tensor, memory: Memory) -> Tensor:
        """From the decoder's outputs (B, T, W) to logits (B, T, V)."""
        scores = torch.bmm(h, memory.keys).masked_fill(memory.padding, -torch.inf)
        context = torch.bmm(scores.softmax(-1), memory.values)
        return self.output(torch.tanh(self.combine(torch.cat([context, h], -1))))

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Logits (B, T, V) of what follows each position of target (B, T)."""
        memory, state = self.encode(source, lengths)
        h, _ = self.decoder(self.target(target), state)
        return self.attend(h, memory)

    @torch.inference_mode()
    def greedy(self, source: Tensor, lengths: Tensor, steps: int) -> Tensor:
        """The most likely piece at each position: (B, up to steps), 0 behind </s>."""
        memory, state = self.encode(source, lengths)
        token = source.new_full((len(source),), BEGIN)
        finished = torch.zeros_like(token, dtype=torch.bool)
        tokens = []
        for _ in range(steps):
            h, state = self.decoder(self.target(token[:, None]), state)
            token = self.attend(h, memory)[:, 0].argmax(-1).masked_fill(finished, PAD)
            tokens.append(token)
            finished |= token == END
            if finished.all():
                break
        return torch.stack(tokens, 1)

    @torch.inference_mode()
    def beam(
        self, source: Tensor, lengths: Tensor, steps: int, beams: int, penalty: float
    ) -> Tensor:
        """The best hypothesis of beam search: (B, up to steps), 0 behind </s>.

        One that has reached </s> stays as it is. In the end, scores are divided by
        ((5 + length) / 6) ** penalty (Wu et al. 2016, eq. 14).
        """
        memory, state = self.encode(source, lengths)
        batch = len(source)
        state = state.repeat_interleave(beams, 1)
        token = source.new_full((batch, beams), BEGIN)
        tokens = source.new_empty((batch, beams, 0))
        finished = torch.zeros_like(token, dtype=torch.bool)
        # All beams start alike: only the first goes on.
        scores = memory.values.new_full((batch, beams), -torch.inf)
        scores[:, 0] = 0
        frozen = scores.new_full((self.output.out_features,), -torch.inf)
        frozen[PAD] = 0
        first = torch.arange(batch)[:, None] * beams
        for _ in range(steps):
            h, state = self.decoder(self.target(token.view(-1, 1)), state)
            # A sentence's beams share its memory, as positions do in training.
            log = self.attend(h.view(batch, beams, -1), memory).log_softmax(-1)
            log[finished] = frozen
            scores, best = (scores[..., None] + log).flatten(1).topk(beams)
            token = best % log.shape[-1]
            origin = (best // log.shape[-1] + first).flatten()
            state = state.index_select(1, origin)
            kept = tokens.flatten(0, 1).index_select(0, origin).view(batch, beams, -1)
            tokens = torch.cat([kept, token[..., None]], -1)
            finished = finished.flatten().index_select(0, origin).view(batch, beams)
            finished |= token == END
            if finished.all():
                break
        length = (tokens != PAD).sum(-1)
        chosen = (scores / ((5 + length) / 6) ** penalty).argmax(1)
        return tokens[torch.arange(batch), chosen]


class TorchTranslation:
    """A `translation_peers.System`: the translator, its training and its searches."""

    def __init__(self, config: Any, sizes: Mapping[str, int], *, packed: bool):
        torch.manual_seed(config.seed)
        self.config = config
        self.model = Translator(config, sizes, packed=packed)
        self.parameters = list(self.model.parameters())
        # Fused: on a CPU no slower than foreach or a loop. The epsilon is Keras'.
        self.optimizer = torch.optim.Adam(
            self.parameters, config.train.learning_rate, eps=1e-7, fused=True
        )

    def batch(self, columns: Mapping[str, np.ndarray]) -> Pairs:
        names = ("source_tokens", "source_tokens_length", "target_tokens")
        return Pairs(*(torch.from_numpy(columns[name].astype(np.int64)) for name in names))

    def train(self, batches: Iterable[Pairs]) -> float:
        self.model.train()
        for source, lengths, target in batches:
            self.optimizer.zero_grad()
            logits = self.model(source, lengths, target[:, :-1])
            loss = cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, self.config.train.clip_norm)
            self.optimizer.step()
            last = loss.item()
        return last

    def search(self, batch: Pairs, beams: int) -> np.ndarray:
        self.model.eval()
        decode = self.config.decode
        given = batch.source, batch.lengths, decode.maximum_extra
        if beams == 1:
            return self.model.greedy(*given).numpy()
        return self.model.beam(*given, beams, decode.length_penalty).numpy()

    def weights(self) -> dict[str, list[np.ndarray]]:
        model = self.model
        return {
            "source": [_array(model.source.weight)],
            "target": [_array(model.target.weight)],
            "forward": _gru(model.encoder, ""),
            "backward": _gru(model.encoder, "_reverse"),
            "bridge": [_array(model.bridge.weight).T, _array(model.bridge.bias)],
            "decoder": _gru(model.decoder, ""),
            "key": [_array(model.key.weight).T],
            "combine": [_array(model.combine.weight).T, _array(model.combine.bias)],
            "output": [_array(model.output.weight), _array(model.output.bias)],
        }


def _array(weight: Tensor) -> np.ndarray:
    return weight.detach().numpy().copy()


def _gru(layer: Any, direction: str) -> list[np.ndarray]:
    """Kernel, recurrent kernel and biases of a nn.GRU in the layout of Keras' GRU."""

    def gates(name: str) -> np.ndarray:
        reset, update, new = np.split(_array(getattr(layer, f"{name}_l0{direction}")), 3)
        return np.concatenate([update, reset, new])

    return [
        gates("weight_ih").T,
        gates("weight_hh").T,
        np.stack([gates("bias_ih"), gates("bias_hh")]),
    ]
