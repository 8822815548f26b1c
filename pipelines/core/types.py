"""Names for values whose type is known only when a program runs: of data, files and graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

Value: TypeAlias = Any
"""One raw value of a column: text, a number, bytes of a file, a list, or a series."""

Example: TypeAlias = Mapping[str, Value]
"""One raw record, unbatched: column name to value."""

RawColumn: TypeAlias = Any
"""A batch of one column's raw values in graph code: tf.Tensor (B,), or tf.RaggedTensor (B, T, ...).

Which of the two depends on the codec: a text is one value, a list of words or a series has time.
"""

Json: TypeAlias = Any
"""What JSON holds: text, a number, a truth value, null, a list, an object."""

JsonObject: TypeAlias = dict[str, Json]

Config: TypeAlias = dict[str, Any]
"""Plain values of a configuration, or of a part of it, before they are typed settings."""

Nest: TypeAlias = Any
"""Tensors in tuples, lists and dictionaries, as tf.nest takes them."""

Arrays: TypeAlias = Mapping[str, "np.ndarray"]
"""A batch, or a whole split, of arrays by name, with a leading axis for the examples."""

Tensors: TypeAlias = Mapping[str, "tf.Tensor"]
"""Likewise of tensors, in graph code."""
