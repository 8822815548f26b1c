"""Images -> features of a frozen, pretrained network; prepare computes them once."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.metadata
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, PositiveInt

from models.settings import VisionSettings, smallest_side
from pipelines.core.contracts import FieldSpec
from pipelines.core.errors import UserError
from pipelines.core.paths import MODELS
from pipelines.core.saved_arrays import open_arrays
from pipelines.core.saved_files import describe, typed
from pipelines.core.types import JsonObject, RawColumn, Value
from pipelines.data.codecs.images import ImageCodec, ImageSettings
from pipelines.data.codecs.restoring import check_same_settings

if TYPE_CHECKING:
    import tensorflow as tf

    from models.vision import Backbone

NETWORKS = MODELS / "vision.py"
FLOAT16_MAX = 65504.0
"""The largest finite float16."""


@dataclass(frozen=True)
class _State:
    weights: str
    grid: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]


class FeatureCodec(ImageCodec):
    """The network's features of ImageCodec's pixels: a grid (h, w, C) of float16.

    The state holds the network's weights, so that a run needs no other files.
    """

    def __init__(self, column: str, settings: ImageSettings, vision: VisionSettings):
        super().__init__(column, settings)
        self.vision = vision
        # Prepared data is identified by these, too: other weights in a file of the same name, or
        # another version of the network's code, give other features.
        self.content = _digest(vision.weights)
        self.made_by = [importlib.metadata.version("keras"), _digest(NETWORKS)]
        self._state: JsonObject = {}

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        """Reads the network's weights; nothing is learnt. UserError if they can't be read."""
        from models.vision import Backbone

        size = self.settings.size
        try:
            network = Backbone(self.vision.network, size, size, dtype="float32")
            network.load_pretrained(self.vision.weights)
        except ValueError as error:
            raise UserError(f"task.vision: {error}") from None
        file = io.BytesIO()
        np.savez(file, *network.network.get_weights())
        weights = base64.b64encode(file.getvalue()).decode()
        self._state = {"weights": weights, "grid": list(network.grid(size, size))}
        self.__dict__.pop("_network", None)

    def encode(self, values: RawColumn) -> tf.Tensor:
        """(B,) files' bytes to (B, h, w, C) float16; errors as in ImageCodec."""
        import tensorflow as tf

        network = self._network

        def compute_features(image: tf.Tensor) -> tf.Tensor:
            features = network(image[tf.newaxis])[0]
            return tf.cast(tf.clip_by_value(features, -FLOAT16_MAX, FLOAT16_MAX), tf.float16)

        # One by one: prepare passes thousands, whose activations would fill the memory.
        signature = tf.TensorSpec(self._state["grid"], tf.float16)
        return tf.map_fn(compute_features, super().encode(values), fn_output_signature=signature)

    @cached_property
    def _network(self) -> Backbone:
        import tensorflow as tf

        from models.vision import Backbone

        with tf.init_scope():
            size = self.settings.size
            network = Backbone(self.vision.network, size, size, dtype="float32")
            try:
                network.network.set_weights(self._weights())
            except ValueError as error:
                raise UserError(
                    f"the codec's weights are not those of {self.vision.network} "
                    f"({describe(error)}): start a new run"
                ) from None
        return network

    def _weights(self) -> list[np.ndarray]:
        packed = base64.b64decode(self._state["weights"], validate=True)
        with open_arrays(io.BytesIO(packed), most=len(packed)) as saved:
            return [saved[name] for name in saved.names]

    def decode(self, numbers: np.ndarray) -> Value:
        """The grid itself: features can't be turned back into an image."""
        return numbers

    @property
    def resources(self) -> list[object]:
        return [variable.value for variable in self._network.variables]

    @property
    def field(self) -> FieldSpec:
        return FieldSpec(shape=tuple(self._state["grid"]), dtype="float16")

    def state(self) -> JsonObject:
        return {**super().state(), "network": self.vision.network, **self._state}

    def restore(self, state: JsonObject) -> None:
        """UserError if the state is of other settings."""
        mine = {**super().state(), "network": self.vision.network}
        check_same_settings("features made", state, mine)
        self._state = dataclasses.asdict(typed(_State, state))
        self._weights()
        self.__dict__.pop("_network", None)

    def summary(self) -> JsonObject:
        return {**super().summary(), "network": self.vision.network, "grid": self._state["grid"]}


def _digest(path: str | Path | None) -> str | None:
    """SHA-256 of a file's content; None if there is no such file."""
    if path is None or not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_vision(vision: VisionSettings, side: int) -> None:
    """Raises UserError for settings that don't go together; `side` is an image's, in pixels."""
    if side < (smallest := smallest_side(vision.network)):
        raise UserError(
            f"task.image.size must be at least {smallest} for task.vision.network="
            f"{vision.network}; received {side}"
        )
    if vision.network == "residual" and vision.train_from != 0:
        raise UserError("task.vision.network=residual learns from the start: train_from=0")
    if vision.network == "residual" and vision.weights is not None:
        raise UserError("task.vision.weights are of a network of keras.applications: name it")
    if vision.weights is None and vision.train_from != 0:
        raise UserError("task.vision.train_from goes with task.vision.weights; else it is 0")
    if vision.weights not in (None, "imagenet") and not Path(str(vision.weights)).is_file():
        raise UserError(f"task.vision.weights: there is no file {vision.weights}")
