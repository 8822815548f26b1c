"""From a picture to a grid of vectors: a small residual network, or one of keras.applications.

Shapes: B batch, H, W sides of a picture, h, w those of the grid, P = h w positions, C channels.
"""

import sys
from dataclasses import asdict
from typing import Any, Self

import keras
import tensorflow as tf

from models.dropout import Dropout
from models.seeds import stream
from models.settings import VisionSettings

_register = keras.saving.register_keras_serializable(package="recurrent")

MOMENTUM = 0.95
"""Of the means and variances that inference normalises by: those of some twenty updates."""

RESIDUAL = 0.5
"""How strongly a residual branch speaks at first, where what it is added to has strength 1."""


@_register
class Convolution(keras.layers.Layer):
    """A convolution and batch normalisation (Ioffe & Szegedy 2015), as one fused operation each.

    On emoji it learnt more in the same time than weights that are standardised (Brock et al. 2021)
    instead, or group normalisation. Where everything is averaged over updates, the means and
    variances that inference normalises by are, too.
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
        """gain: at first, of what was normalised."""
        super().__init__(**kwargs)
        self.inputs, self.channels, self.size, self.stride = inputs, channels, size, stride
        self.start, self.seed = gain, seed

    def build(self, input_shape: Any = None) -> None:
        shape = (self.size, self.size, self.inputs, self.channels)
        initial = keras.initializers.HeNormal(seed=stream(self.seed, "kernel"))
        self.kernel = self.add_weight(shape, initial, name="kernel")

        def of_channel(name: str, value: float, trainable: bool = True) -> Any:
            constant, shape = keras.initializers.Constant(value), (self.channels,)
            return self.add_weight(shape, constant, name=name, trainable=trainable, autocast=False)

        self.gain, self.bias = of_channel("gain", self.start), of_channel("bias", 0.0)
        self.mean = of_channel("mean", 0.0, trainable=False)
        self.variance = of_channel("variance", 1.0, trainable=False)
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """(B, H, W, inputs) -> (B, ceil(H / stride), ceil(W / stride), channels)."""
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), self.compute_dtype)
        x = tf.nn.conv2d(tf.cast(x, self.compute_dtype), kernel, self.stride, "SAME")
        scale = {
            "scale": tf.convert_to_tensor(self.gain),
            "offset": tf.convert_to_tensor(self.bias),
        }
        if not training:
            mean, variance = (tf.convert_to_tensor(one) for one in (self.mean, self.variance))
            return _normalised(x, mean=mean, variance=variance, is_training=False, **scale)[0]
        y, mean, variance, *_ = _normalised(x, mean=[], variance=[], is_training=True, **scale)
        for kept, new in ((self.mean, mean), (self.variance, variance)):
            old = tf.convert_to_tensor(kept)
            kept.assign(old + (1 - MOMENTUM) * (new - old))
        return y

    def get_config(self) -> dict[str, Any]:
        own: dict[str, Any] = {"inputs": self.inputs, "channels": self.channels}
        own |= {"size": self.size, "stride": self.stride, "gain": self.start, "seed": self.seed}
        return {**super().get_config(), **own}


def _normalised(x: tf.Tensor, **how: Any) -> Any:
    return tf.raw_ops.FusedBatchNormV3(x=x, epsilon=1e-3, **how)


class _Block(keras.layers.Layer):
    """x + f(x), where f is rectified before each of its two convolutions (He et al. 2016b)."""

    def __init__(
        self, inputs: int, channels: int, stride: int, *, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)

        def convolution(name: str, read: int, size: int, *stride: int, **more: Any) -> Convolution:
            more |= {"seed": stream(seed, name), "dtype": self.dtype_policy, "name": name}
            return Convolution(read, channels, size, *stride, **more)

        self.stride = stride
        self.first = convolution("first", inputs, 3, stride)
        self.second = convolution("second", channels, 3, gain=RESIDUAL)
        changes = stride > 1 or inputs != channels
        self.shortcut = convolution("shortcut", inputs, 1) if changes else None

    def build(self, input_shape: Any = None) -> None:
        for convolution in (self.first, self.second, self.shortcut):
            if convolution is not None:
                convolution.build()
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        rectified = tf.nn.relu(x)
        y = tf.nn.relu(self.first(rectified, training=training))
        y = self.second(y, training=training)
        if self.shortcut is not None:
            if self.stride > 1:
                rectified = tf.nn.avg_pool2d(rectified, self.stride, self.stride, "SAME")
            x = self.shortcut(rectified, training=training)
        return x + y


@_register
class ResidualNetwork(keras.layers.Layer):
    """Two strided convolutions and stages of residual blocks, to learn from nothing on a CPU.

    (B, H, W, 3) uint8 -> (B, h, w, C): a quarter of the sides after the two, half of that after
    each further stage.
    """

    def __init__(self, channels: list[int], blocks: list[int], *, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels, self.numbers, self.seed = list(channels), list(blocks), seed

        def made(kind: Any, name: str, *shape: Any, **more: Any) -> Any:
            more |= {"seed": stream(seed, name), "dtype": self.dtype_policy, "name": name}
            return kind(*shape, **more)

        width = max(1, channels[0] // 2)
        self.stem = [
            made(Convolution, "stem_0", 3, width, 3, 2),
            made(Convolution, "stem_1", width, channels[0], 3, 2),
        ]
        self.blocks, width = [], channels[0]
        for stage, (wanted, count) in enumerate(zip(channels, blocks, strict=True)):
            # A further stage halves the grid, so it has a block whatever it is asked for.
            for index in range(max(count, min(stage, 1))):
                stride = 2 if stage and not index else 1
                name = f"stage_{stage}_{index}"
                self.blocks.append(made(_Block, name, width, wanted, stride))
                width = wanted
        self.width = width

    def build(self, input_shape: Any = None) -> None:
        for layer in (*self.stem, *self.blocks):
            layer.build()
        self.built = True

    def call(self, pictures: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = tf.cast(pictures, self.compute_dtype) / 127.5 - 1
        x = tf.nn.relu(self.stem[0](x, training=training))
        x = self.stem[1](x, training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return tf.nn.relu(x)

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """(h, w, C) for pictures of these sides."""
        halvings = 2 + sum(block.stride == 2 for block in self.blocks)
        rows, columns = (-(-side // 2**halvings) for side in (height, width))
        return rows, columns, self.width

    def get_config(self) -> dict[str, Any]:
        own = {"channels": self.channels, "blocks": self.numbers, "seed": self.seed}
        return {**super().get_config(), **own}


@_register
class Backbone(keras.layers.Layer):
    """A network of keras.applications without its classifier, and the scaling it was trained with.

    (B, H, W, 3) uint8 -> (B, h, w, C). Its weights are random until `load`.
    """

    def __init__(self, network: str, height: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network_name, self.sides = network, (height, width)
        self.make = getattr(keras.applications, network)
        self.scaled = sys.modules[self.make.__module__].preprocess_input
        self.network = self._made(None)
        # What was pretrained keeps the means and variances that it was trained with.
        self.pretrained = False
        self.built = True

    def _made(self, weights: str | None) -> keras.Model:
        return self.make(include_top=False, weights=weights, input_shape=(*self.sides, 3))

    def load(self, weights: str | None) -> None:
        """Takes weights: imagenet, or a file. ValueError if they can't be had or don't fit."""
        if weights is None:
            return
        self.pretrained = True
        try:
            if weights == "imagenet":
                self.network.set_weights(self._made("imagenet").get_weights())
            else:
                self.network.load_weights(weights)
        except Exception as error:  # Keras raises whatever comes up
            reason = " ".join(str(error).split())[:160]
            raise ValueError(
                f"the weights {weights} of {self.network_name} can't be had ({reason}): give a "
                "file of weights of this network, or null"
            ) from None

    def call(self, pictures: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = self.scaled(tf.cast(pictures, self.compute_dtype))
        return self.network(x, training=bool(training) and not self.pretrained)

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """(h, w, C) for pictures of the sides that it was made for."""
        del height, width
        return tuple(self.network.output_shape[1:])

    def get_config(self) -> dict[str, Any]:
        height, width = self.sides
        own = {"network": self.network_name, "height": height, "width": width}
        return {**super().get_config(), **own}


@_register
class PictureEncoder(keras.layers.Layer):
    """Pictures, or the features of a frozen network, to vectors (B, P, W) of places, row by row.

    Each is a projection of the grid's channels, with a learned vector for its row and for its
    column added, normalised (Ba et al. 2016).
    """

    def __init__(
        self,
        settings: VisionSettings,
        shape: tuple[int, int, int],
        width: int,
        *,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """shape: of a picture (H, W, 3), or of a frozen network's features (h, w, C)."""
        super().__init__(**kwargs)
        self.settings, self.shape, self.width, self.seed = settings, shape, width, seed
        policy = self.dtype_policy
        self.network: Any = None
        if settings.network != "residual" and not settings.frozen:
            self.network = Backbone(settings.network, *self.shape[:2], dtype=policy, name="network")
        elif settings.network == "residual":
            self.network = ResidualNetwork(
                settings.channels,
                settings.blocks,
                seed=stream(seed, "network"),
                dtype=policy,
                name="network",
            )
        self.grid = self.network.grid(*self.shape[:2]) if self.network else self.shape
        self.positions = self.grid[0] * self.grid[1]
        initial = keras.initializers.GlorotUniform(seed=stream(seed, "project"))
        self.project = keras.layers.Dense(
            width, kernel_initializer=initial, dtype=policy, name="project"
        )
        self.norm = keras.layers.LayerNormalization(dtype=policy, name="norm")
        self.drop = Dropout(settings.dropout, seed=stream(seed, "drop"), name="drop")

    def build(self, input_shape: Any = None) -> None:
        if self.network is not None and not self.network.built:
            self.network.build()
        self.project.build((None, None, self.grid[-1]))
        self.norm.build((None, None, self.width))

        def places(name: str, count: int) -> Any:
            initial = keras.initializers.RandomNormal(stddev=0.1, seed=stream(self.seed, name))
            return self.add_weight((count, self.width), initial, name=f"{name}_embedding")

        self.rows, self.columns = places("rows", self.grid[0]), places("columns", self.grid[1])
        self.built = True

    def load(self, weights: str | None) -> None:
        """As Backbone.load, where it has a network of keras.applications."""
        if isinstance(self.network, Backbone):
            self.network.load(weights)

    def call(
        self,
        pictures: tf.Tensor,
        training: bool | None = None,
        learns: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """(B, P, W) of pictures (B, H, W, 3) uint8 or features (B, h, w, C).

        learns: a bool scalar, whether the network gets a gradient; None: it does.
        """
        grid = tf.cast(pictures, self.compute_dtype)
        if self.network is not None:
            grid = self._seen(pictures, training, learns)
        flat = tf.reshape(grid, [-1, self.positions, self.grid[-1]])
        places = self.rows[:, tf.newaxis] + self.columns[tf.newaxis]
        places = tf.cast(tf.reshape(places, [self.positions, self.width]), self.compute_dtype)
        return self.drop(self.norm(self.project(flat) + places), training=training)

    def _seen(
        self, pictures: tf.Tensor, training: bool | None, learns: tf.Tensor | None
    ) -> tf.Tensor:
        def see() -> tf.Tensor:
            return self.network(pictures, training=training)

        if learns is None:
            return see()
        # In branches: so that no gradient is computed only to be thrown away.
        return tf.cond(learns, see, lambda: tf.stop_gradient(see()))

    def get_config(self) -> dict[str, Any]:
        own = {"settings": asdict(self.settings), "shape": self.shape}
        return {**super().get_config(), **own, "width": self.width, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        made = config | {"settings": VisionSettings(**config["settings"])}
        return cls(**(made | {"shape": tuple(config["shape"])}))
