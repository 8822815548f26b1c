"""From an image to a grid of vectors: a small residual network, or one of keras.applications.

Shapes: B batch, H, W sides of an image, h, w those of the grid, P = h w positions, C channels.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import ModuleType
from typing import Any, ClassVar

import keras
import tensorflow as tf

from models.dropout import Dropout
from models.residual_network import ResidualNetwork
from models.seeds import stream
from models.serialization import FromConfig
from models.settings import VisionSettings

_register = keras.saving.register_keras_serializable(package="recurrent")


def find_preprocessing(network: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """The scaling of images that a network of keras.applications was trained with."""
    # Keras has it in the network's own module, but this one, where the networks are missing.
    if network.startswith("MobileNetV3"):
        return keras.applications.mobilenet_v3.preprocess_input
    modules = [
        member for member in vars(keras.applications).values() if isinstance(member, ModuleType)
    ]
    return next(module for module in modules if hasattr(module, network)).preprocess_input


@_register
class Backbone(keras.layers.Layer):
    """A network of keras.applications without its classifier, with the scaling of its images.

    (B, H, W, 3) uint8 -> (B, h, w, C). Its weights are random until `load_pretrained`.
    """

    def __init__(self, network: str, height: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network_name, self.sides = network, (height, width)
        self.preprocess = find_preprocessing(network)
        self.network = self._build_network(None)
        # Pretrained weights keep the means and variances that they were trained with.
        self.pretrained = False
        self.built = True

    def _build_network(self, weights: str | None) -> keras.Model:
        build = getattr(keras.applications, self.network_name)
        return build(include_top=False, weights=weights, input_shape=(*self.sides, 3))

    def load_pretrained(self, weights: str | None) -> None:
        """Loads weights: imagenet, or a file. ValueError if they are unavailable or don't fit."""
        if weights is None:
            return
        self.pretrained = True
        try:
            if weights == "imagenet":
                self.network.set_weights(self._build_network("imagenet").get_weights())
            else:
                self.network.load_weights(weights)
        except Exception as error:  # Keras raises whatever comes up
            reason = " ".join(str(error).split())[:160]
            raise ValueError(
                f"the weights {weights} of {self.network_name} are unavailable ({reason}): give a "
                "file of weights of this network, or null"
            ) from None

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = self.preprocess(tf.cast(images, self.compute_dtype))
        return self.network(x, training=bool(training) and not self.pretrained)

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """The grid's shape (h, w, C); images have the sides that the network was built for."""
        del height, width
        return tuple(self.network.output_shape[1:])

    def get_config(self) -> dict[str, object]:
        height, width = self.sides
        own = {"network": self.network_name, "height": height, "width": width}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="recurrent", name="PictureEncoder")
class ImageEncoder(FromConfig, keras.layers.Layer):
    """Images, or the features of a frozen network, to vectors (B, P, W) of positions, row by row.

    Each vector is a projection of the grid's channels, plus a learned vector for its row and one
    for its column, normalised (Ba et al. 2016).
    """

    config_types: ClassVar[Mapping[str, type]] = {"settings": VisionSettings, "shape": tuple}

    def __init__(
        self,
        settings: VisionSettings,
        shape: tuple[int, int, int],
        width: int,
        *,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """shape: of an image (H, W, 3), or of a frozen network's features (h, w, C)."""
        super().__init__(**kwargs)
        self.settings, self.shape, self.width, self.seed = settings, shape, width, seed
        policy = self.dtype_policy
        self.network: ResidualNetwork | Backbone | None = None
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

    def build(self, input_shape: object = None) -> None:
        if self.network is not None and not self.network.built:
            self.network.build()
        self.project.build((None, None, self.grid[-1]))
        self.norm.build((None, None, self.width))

        def embedding(name: str, count: int) -> keras.Variable:
            initial = keras.initializers.RandomNormal(stddev=0.1, seed=stream(self.seed, name))
            return self.add_weight((count, self.width), initial, name=f"{name}_embedding")

        self.rows = embedding("rows", self.grid[0])
        self.columns = embedding("columns", self.grid[1])
        self.built = True

    def load_pretrained(self, weights: str | None) -> None:
        """Calls Backbone.load_pretrained, if the network is one of keras.applications."""
        if isinstance(self.network, Backbone):
            self.network.load_pretrained(weights)

    def call(
        self,
        images: tf.Tensor,
        training: bool | None = None,
        network_trainable: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Vectors (B, P, W) of images (B, H, W, 3) uint8 or features (B, h, w, C).

        network_trainable: a bool scalar, whether the network gets a gradient; None: it does.
        """
        grid = tf.cast(images, self.compute_dtype)
        if self.network is not None:
            grid = self._features(self.network, images, training, network_trainable)
        flat = tf.reshape(grid, [-1, self.positions, self.grid[-1]])
        positions = self.rows[:, tf.newaxis] + self.columns[tf.newaxis]
        positions = tf.cast(tf.reshape(positions, [self.positions, self.width]), self.compute_dtype)
        return self.drop(self.norm(self.project(flat) + positions), training=training)

    def _features(
        self,
        network: ResidualNetwork | Backbone,
        images: tf.Tensor,
        training: bool | None,
        network_trainable: tf.Tensor | None,
    ) -> tf.Tensor:
        def run() -> tf.Tensor:
            return network(images, training=training)

        if network_trainable is None:
            return run()
        # Branches, not a mask on the gradient: none is computed only to be thrown away.
        return tf.cond(network_trainable, run, lambda: tf.stop_gradient(run()))

    def get_config(self) -> dict[str, object]:
        own = {"settings": asdict(self.settings), "shape": self.shape}
        return {**super().get_config(), **own, "width": self.width, "seed": self.seed}


# Keras makes the paths of saved weights of class names: in earlier versions' files it is this one.
ImageEncoder.__name__ = "PictureEncoder"
