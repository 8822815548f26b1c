"""A small residual network from images to a grid of vectors.

Shapes: B batch, H, W sides of an image, h, w those of the grid, C channels.
"""

from typing import Any

import keras
import tensorflow as tf

from models.seeds import stream

_register = keras.saving.register_keras_serializable(package="recurrent")

MOMENTUM = 0.95
"""Of the moving means and variances that inference normalises by: over some twenty steps."""

RESIDUAL = 0.5
"""Initial gain of a residual branch, relative to what it is added to."""


@_register
class Convolution(keras.layers.Layer):
    """A convolution and batch normalisation (Ioffe & Szegedy 2015), one fused operation each.

    On emoji it learnt more in the same time than standardised weights (Brock et al. 2021) or group
    normalisation. Inference normalises by moving means and variances.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        size: int,
        stride: int = 1,
        *,
        gain: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """gain: the initial one, by which the normalised values are multiplied."""
        super().__init__(**kwargs)
        self.inputs, self.channels, self.size, self.stride = inputs, channels, size, stride
        self.initial_gain, self.seed = gain, seed

    def build(self, input_shape: object = None) -> None:
        shape = (self.size, self.size, self.inputs, self.channels)
        initial = keras.initializers.HeNormal(seed=stream(self.seed, "kernel"))
        self.kernel = self.add_weight(shape, initial, name="kernel")

        def per_channel(name: str, value: float, trainable: bool = True) -> keras.Variable:
            constant, shape = keras.initializers.Constant(value), (self.channels,)
            return self.add_weight(shape, constant, name=name, trainable=trainable, autocast=False)

        self.gain, self.bias = per_channel("gain", self.initial_gain), per_channel("bias", 0.0)
        self.mean = per_channel("mean", 0.0, trainable=False)
        self.variance = per_channel("variance", 1.0, trainable=False)
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """(B, H, W, inputs) -> (B, ceil(H / stride), ceil(W / stride), channels)."""
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), self.compute_dtype)
        x = tf.nn.conv2d(tf.cast(x, self.compute_dtype), kernel, self.stride, "SAME")
        scale = tf.convert_to_tensor(self.gain), tf.convert_to_tensor(self.bias)
        if not training:
            statistics = tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.variance)
            return _batch_norm(x, scale, statistics)[0]
        y, mean, variance = _batch_norm(x, scale, None)
        for moving, new in ((self.mean, mean), (self.variance, variance)):
            old = tf.convert_to_tensor(moving)
            moving.assign(old + (1 - MOMENTUM) * (new - old))
        return y

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            "inputs": self.inputs,
            "channels": self.channels,
            "size": self.size,
            "stride": self.stride,
            "gain": self.initial_gain,
            "seed": self.seed,
        }


def _batch_norm(
    x: tf.Tensor,
    scale: tuple[tf.Tensor, tf.Tensor],
    statistics: tuple[tf.Tensor, tf.Tensor] | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """X normalised by mean and variance (None: the batch's own), times gain, plus bias.

    Returns it with the mean and variance.
    """
    mean, variance = ([], []) if statistics is None else statistics
    normalized = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=scale[0],
        offset=scale[1],
        mean=mean,
        variance=variance,
        epsilon=1e-3,
        is_training=statistics is None,
    )
    return normalized.y, normalized.batch_mean, normalized.batch_variance


class _Block(keras.layers.Layer):
    """x + f(x), where f is rectified before each of its two convolutions (He et al. 2016b)."""

    def __init__(
        self, inputs: int, channels: int, stride: int, *, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)

        def convolution(name: str, shape: tuple[int, ...], gain: float = 1.0) -> Convolution:
            return Convolution(
                *shape, gain=gain, seed=stream(seed, name), dtype=self.dtype_policy, name=name
            )

        self.stride = stride
        self.first = convolution("first", (inputs, channels, 3, stride))
        self.second = convolution("second", (channels, channels, 3), gain=RESIDUAL)
        changes_shape = stride > 1 or inputs != channels
        self.shortcut = None
        if changes_shape:
            self.shortcut = convolution("shortcut", (inputs, channels, 1))

    def build(self, input_shape: object = None) -> None:
        for convolution in (self.first, self.second, self.shortcut):
            if convolution is not None:
                convolution.build()
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        activated = tf.nn.relu(x)
        y = tf.nn.relu(self.first(activated, training=training))
        y = self.second(y, training=training)
        if self.shortcut is not None:
            if self.stride > 1:
                activated = tf.nn.avg_pool2d(activated, self.stride, self.stride, "SAME")
            x = self.shortcut(activated, training=training)
        return x + y


@_register
class ResidualNetwork(keras.layers.Layer):
    """Two strided convolutions and stages of residual blocks, small enough to train on a CPU.

    (B, H, W, 3) uint8 -> (B, h, w, C). The two convolutions leave a quarter of the sides; each
    stage but the first halves them.
    """

    def __init__(self, channels: list[int], blocks: list[int], *, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels, self.blocks_per_stage, self.seed = list(channels), list(blocks), seed

        def make(kind: type[Convolution | _Block], name: str, *shape: int) -> Convolution | _Block:
            return kind(*shape, seed=stream(seed, name), dtype=self.dtype_policy, name=name)

        width = max(1, channels[0] // 2)
        self.stem = [
            make(Convolution, "stem_0", 3, width, 3, 2),
            make(Convolution, "stem_1", width, channels[0], 3, 2),
        ]
        self.blocks, width = [], channels[0]
        for stage, (stage_width, count) in enumerate(zip(channels, blocks, strict=True)):
            # A stage after the first halves the grid, so it has a block even where it has `0`.
            for index in range(max(count, min(stage, 1))):
                stride = 2 if stage and not index else 1
                name = f"stage_{stage}_{index}"
                self.blocks.append(make(_Block, name, width, stage_width, stride))
                width = stage_width
        self.width = width

    def build(self, input_shape: object = None) -> None:
        for layer in (*self.stem, *self.blocks):
            layer.build()
        self.built = True

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = tf.cast(images, self.compute_dtype) / 127.5 - 1
        x = tf.nn.relu(self.stem[0](x, training=training))
        x = self.stem[1](x, training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return tf.nn.relu(x)

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """The grid's shape (h, w, C) for images of these sides."""
        halvings = 2 + sum(block.stride == 2 for block in self.blocks)
        rows, columns = (-(-side // 2**halvings) for side in (height, width))
        return rows, columns, self.width

    def get_config(self) -> dict[str, object]:
        own = {"channels": self.channels, "blocks": self.blocks_per_stage, "seed": self.seed}
        return {**super().get_config(), **own}
