"""A recurrent decoder with attention in PyTorch, and its searches: what its peers here share.

Attention of all positions is two batched products. Searches keep the hypotheses of a whole batch in
tensors and end as soon as all of them have.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipelines.data.codecs.text import BEGIN, END, PAD


class Memory(NamedTuple):
    """What is attended to: values (B, S, N), keys (B, W, S), padding (B, 1, S) bool."""

    values: Tensor
    keys: Tensor
    padding: Tensor


class Writer(nn.Module):
    """A GRU with "general" attention over a memory (Luong et al. 2015), no input feeding.

    N the width of the memory, W the decoder's.
    """

    def __init__(self, vocabulary: int, depth: int, memory: int, width: int):
        super().__init__()
        self.target = nn.Embedding(vocabulary, depth, padding_idx=PAD)
        self.decoder = nn.GRU(depth, width, batch_first=True)
        self.key = nn.Linear(memory, width, bias=False)
        self.combine = nn.Linear(memory + width, width)
        self.output = nn.Linear(width, vocabulary)

    def remember(self, values: Tensor, padding: Tensor) -> Memory:
        """Of values (B, S, N), padding (B, S) bool."""
        return Memory(values, self.key(values).mT, padding[:, None])

    def write(self, memory: Memory, state: Tensor, target: Tensor) -> Tensor:
        """Logits (B, T, V) of what follows each position of target (B, T)."""
        h, _ = self.decoder(self.target(target), state)
        return self.attend(h, memory)

    def attend(self, h: Tensor, memory: Memory) -> Tensor:
        """From the decoder's outputs (B, T, W) to logits (B, T, V)."""
        scores = torch.bmm(h, memory.keys).masked_fill(memory.padding, -torch.inf)
        context = torch.bmm(scores.softmax(-1), memory.values)
        return self.output(torch.tanh(self.combine(torch.cat([context, h], -1))))

    @torch.inference_mode()
    def greedy(self, memory: Memory, state: Tensor, steps: int) -> Tensor:
        """The most likely piece at each position: (B, up to steps), 0 behind </s>."""
        token = torch.full((len(memory.values),), BEGIN)
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
    def beam(self, memory: Memory, state: Tensor, steps: int, beams: int, penalty: float) -> Tensor:
        """The best hypothesis of beam search: (B, up to steps), 0 behind </s>.

        One that has reached </s> stays as it is. In the end, scores are divided by
        ((5 + length) / 6) ** penalty (Wu et al. 2016, eq. 14).
        """
        batch = len(memory.values)
        state = state.repeat_interleave(beams, 1)
        token = torch.full((batch, beams), BEGIN)
        tokens = token.new_empty((batch, beams, 0))
        finished = torch.zeros_like(token, dtype=torch.bool)
        # All beams start alike: only the first goes on.
        scores = memory.values.new_full((batch, beams), -torch.inf)
        scores[:, 0] = 0
        frozen = scores.new_full((self.output.out_features,), -torch.inf)
        frozen[PAD] = 0
        first = torch.arange(batch)[:, None] * beams
        for _ in range(steps):
            h, state = self.decoder(self.target(token.view(-1, 1)), state)
            # The beams of an input share its memory, as positions do in training.
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

    def search(
        self, memory: Memory, state: Tensor, steps: int, beams: int, penalty: float
    ) -> np.ndarray:
        """As `greedy` with one beam, else as `beam`."""
        if beams == 1:
            return self.greedy(memory, state, steps).numpy()
        return self.beam(memory, state, steps, beams, penalty).numpy()

    def written(self) -> dict[str, list[np.ndarray]]:
        """Its weights in Keras' layout, by name."""
        return {
            "target": [array(self.target.weight)],
            "decoder": gru(self.decoder, ""),
            "key": [array(self.key.weight).T],
            "combine": [array(self.combine.weight).T, array(self.combine.bias)],
            "output": [array(self.output.weight), array(self.output.bias)],
        }


class Learner:
    """Adam as ours is: clipped gradients, Keras' epsilon; fused, on a CPU no slower than a loop."""

    def __init__(self, model: Writer, settings: Any):
        self.model, self.clip = model, settings.clip_norm
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.Adam(
            self.parameters, settings.learning_rate, eps=1e-7, fused=True
        )

    def update(self, given: tuple, target: Tensor) -> float:
        """By the model's logits of `given` and the target (B, T) from <s> on; its loss in nats."""
        self.model.train()
        self.optimizer.zero_grad()
        logits = self.model(*given, target[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        return loss.item()


def array(weight: Tensor) -> np.ndarray:
    return weight.detach().numpy().copy()


def gru(layer: Any, direction: str) -> list[np.ndarray]:
    """Kernel, recurrent kernel and biases of a nn.GRU in the layout of Keras' GRU."""

    def gates(name: str) -> np.ndarray:
        reset, update, new = np.split(array(getattr(layer, f"{name}_l0{direction}")), 3)
        return np.concatenate([update, reset, new])

    return [
        gates("weight_ih").T,
        gates("weight_hh").T,
        np.stack([gates("bias_ih"), gates("bias_hh")]),
    ]
