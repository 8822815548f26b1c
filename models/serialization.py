"""Layers from their saved configuration, for all that hold settings or other layers."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import keras


class FromConfig:
    """A layer or model whose `get_config` holds settings as dicts, and perhaps layers.

    config_types   for arguments that aren't plain values, what makes them of the saved one: a
                   settings class, of a dict; `tuple`; keras.layers.Layer, of a serialized layer.
    former_names   arguments by the names that earlier versions saved.
    """

    config_types: ClassVar[Mapping[str, type]] = {}
    former_names: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer that was saved, without its weights."""
        arguments = {cls.former_names.get(name, name): value for name, value in config.items()}
        for name, kind in cls.config_types.items():
            value = arguments[name]
            if kind is keras.layers.Layer:
                arguments[name] = keras.saving.deserialize_keras_object(value)
            elif kind is tuple:
                arguments[name] = tuple(value)
            else:
                arguments[name] = kind(**value)
        return cls(**arguments)
