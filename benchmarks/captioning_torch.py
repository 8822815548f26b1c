"""The captioner of `captioning_peers.py` in PyTorch, as a good programmer has it.

CaptionData stay in the order of their bytes (channels last), which is the fastest on a CPU too, and
pass the network once, however many captions they have. Everything in float32, without compilation.
The decoder, its searches and its updates are in `torch_writer.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, layer_norm, pad, relu
from torch_writer import Learner, Memory, Writer, array

from models.residual_network import MOMENTUM, RESIDUAL

EPSILON = 1e-3
"""Of layer and batch normalisation."""


class Convolution(nn.Module):
    """With batch normalisation; as models.vision.Convolution."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, gain: float = 1.0):
        super().__init__()
        kernel = torch.randn(outputs, inputs, size, size) * (2 / (inputs * size**2)) ** 0.5
        self.kernel = nn.Parameter(kernel.to(memory_format=torch.channels_last))
        self.norm = nn.BatchNorm2d(outputs, EPSILON, momentum=1 - MOMENTUM)
        nn.init.constant_(self.norm.weight, gain)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        size = self.kernel.shape[-1]
        if self.stride == 1:
            return self.norm(conv2d(x, self.kernel, padding=size // 2))
        # Keras' "same" pads even sides at their ends only.
        return self.norm(conv2d(pad(x, (0, 1, 0, 1)), self.kernel, stride=self.stride))

    def weights(self) -> list[np.ndarray]:
        norm = self.norm
        kept = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        return [array(self.kernel.permute(2, 3, 1, 0)), *(array(one) for one in kept)]


class Block(nn.Module):
    """As models.vision's: x + f(x), rectified before each of two convolutions."""

    def __init__(self, inputs: int, channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.first = Convolution(inputs, channels, 3, stride)
        self.second = Convolution(channels, channels, 3, gain=RESIDUAL)
        changes = stride > 1 or inputs != channels
        self.shortcut = Convolution(inputs, channels, 1) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        rectified = relu(x)
        y = self.second(relu(self.first(rectified)))
        if self.shortcut is not None:
            if self.stride > 1:
                rectified = avg_pool2d(rectified, self.stride)
            x = self.shortcut(rectified)
        return x + y

    def parts(self) -> list[Convolution]:
        return [self.first, self.second, *([self.shortcut] if self.shortcut else [])]


class Captioner(Writer):
    """The residual network, and the writer that attends to its grid of P places."""

    def __init__(self, config: Any, vocabulary: int, grid: tuple[int, int]):
        width, channels = config.model.width, config.task.vision.channels
        super().__init__(vocabulary, config.task.embedding.width, width, width)
        first = channels[0]
        self.stem = nn.ModuleList(
            [Convolution(3, first // 2, 3, 2), Convolution(first // 2, first, 3, 2)]
        )
        self.blocks, inputs = nn.ModuleList(), first
        for stage, (wanted, count) in enumerate(
            zip(channels, config.task.vision.blocks, strict=True)
        ):
            for index in range(max(count, min(stage, 1))):
                self.blocks.append(Block(inputs, wanted, 2 if stage and not index else 1))
                inputs = wanted
        self.project = nn.Linear(inputs, width)
        self.rows = nn.Parameter(0.1 * torch.randn(grid[0], width))
        self.columns = nn.Parameter(0.1 * torch.randn(grid[1], width))
        self.norm = nn.LayerNorm(width, EPSILON)
        self.bridge = nn.Linear(2 * width, width)

    def encode(self, images: Tensor, owner: Tensor | None = None) -> tuple[Memory, Tensor]:
        """Of images (B, H, W, 3) uint8 the memory and first state (1, N, W), for owner (N,)."""
        # Bytes in this order, seen so, are channels last.
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        x = self.stem[1](relu(self.stem[0](x)))
        for block in self.blocks:
            x = block(x)
        places = (self.rows[:, None] + self.columns).flatten(0, 1)
        flat = relu(x).permute(0, 2, 3, 1).flatten(1, 2)
        norm = self.norm
        values = layer_norm(
            self.project(flat) + places, norm.normalized_shape, norm.weight, norm.bias, EPSILON
        )
        state = torch.tanh(self.bridge(torch.cat([values.mean(1), values.amax(1)], -1)))
        memory = self.remember(values, values.new_zeros(values.shape[:2], dtype=torch.bool))
        if owner is not None:
            memory, state = Memory(*(part[owner] for part in memory)), state[owner]
        return memory, state[None]

    def forward(self, images: Tensor, owner: Tensor, target: Tensor) -> Tensor:
        """Logits (N, T, V) of what follows each position of target (N, T)."""
        return self.write(*self.encode(images, owner), target)


class Captions(NamedTuple):
    """A batch: images (B, H, W, 3) uint8, owner (N,), target (N, T) from <s> to </s>."""

    images: Tensor
    owner: Tensor
    target: Tensor


class TorchCaptioning:
    """A `captioning_peers.System`: the captioner, its training and its searches."""

    def __init__(self, config: Any, vocabulary: int, grid: tuple[int, int]):
        torch.manual_seed(config.seed)
        self.config = config
        self.model = Captioner(config, vocabulary, grid)
        self.learner = Learner(self.model, config.train)

    def batch(self, columns: Mapping[str, np.ndarray]) -> Captions:
        from pipelines.data.codecs.captions import caption_rows

        ids, owner = caption_rows(columns["caption_tokens"])
        numbers = (torch.from_numpy(part.astype(np.int64)) for part in (owner, ids))
        return Captions(torch.from_numpy(columns["image"]), *numbers)

    def train(self, batches: Iterable[Captions]) -> float:
        for images, owner, target in batches:
            last = self.learner.update((images, owner), target)
        return last

    @torch.inference_mode()
    def search(self, batch: Captions, beams: int) -> np.ndarray:
        self.model.eval()
        decode = self.config.decode
        memory, state = self.model.encode(batch.images)
        return self.model.search(memory, state, decode.maximum_extra, beams, decode.length_penalty)

    def weights(self) -> dict[str, list[np.ndarray]]:
        model = self.model
        parts = [*model.stem, *(part for block in model.blocks for part in block.parts())]
        return model.written() | {
            "vision": [value for part in parts for value in part.weights()],
            "project": [array(model.project.weight).T, array(model.project.bias)],
            "places": [array(model.rows), array(model.columns)],
            "norm": [array(model.norm.weight), array(model.norm.bias)],
            "bridge": [array(model.bridge.weight).T, array(model.bridge.bias)],
        }
