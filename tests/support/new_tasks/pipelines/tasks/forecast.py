"""A made-up task: what comes next in a series, with quantiles; examples are windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np

from models.settings import Count, RecurrentSettings, settings
from pipelines.core.contracts import Batch, Codec, FieldCodec, Spec, Split, Windows
from pipelines.core.scores import Metric, Score, by_name
from pipelines.core.task import ExportedFunction, Task, Trained
from pipelines.core.types import Arrays, Example, Tensors
from pipelines.data.codecs.series import SeriesCodec
from pipelines.evaluate.metrics.generation import ratio

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

QUANTILES = (0.1, 0.5, 0.9)
PINBALL = Metric("pinball", "quantile loss", higher_is_better=False)


@settings
class Forecast(Task):
    """Settings: steps that are read, and steps that are foretold."""

    name: Literal["forecast"]
    history: Count
    horizon: Count

    columns: ClassVar[tuple[str, ...]] = ("series",)
    input_columns: ClassVar[tuple[str, ...]] = ("series",)
    metrics: ClassVar[tuple[Metric, ...]] = (PINBALL,)
    divides_sequences: ClassVar[bool] = True

    def codec(self) -> Mapping[str, FieldCodec]:
        return {"series": SeriesCodec("series", univariate=True)}

    def windows(self, spec: Spec, begin: np.ndarray, end: np.ndarray) -> Windows:
        """What is foretold lies in the split; what is read may lie before it."""
        parts = []
        for row, (first, last) in enumerate(zip(begin, end, strict=True)):
            starts = np.arange(max(first - self.history, 0), last - self.history - self.horizon + 1)
            parts.append(np.stack([np.full_like(starts, row), starts]))
        row, start = np.concatenate(parts, axis=1)
        return Windows(row, start, start + self.history + self.horizon, ("series",))

    def example(self, raw: Example) -> Example:
        series = raw["series"]
        return {"series": series[: -self.horizon], "future": series[-self.horizon :]}

    def costs(self, spec: Spec) -> Mapping[str, float]:
        return {"series": 2.0}

    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model:
        import keras

        from models.prober import LastStates, SequenceMask
        from models.recurrent import Encoder

        x = keras.Input((None,), name="series")
        length = keras.Input((), dtype="int32", name="series_length")
        steps = keras.layers.Reshape((-1, 1))(x)
        mask = SequenceMask(name="mask")(steps, length)
        y, _ = Encoder(model, seed=seed, name="encoder")(steps, mask=mask)
        last = LastStates(1, bidirectional=model.bidirectional, name="last")(y, length)
        glorot = keras.initializers.GlorotUniform(seed=seed)
        count = self.horizon * len(QUANTILES)
        numbers = keras.layers.Dense(count, kernel_initializer=glorot, dtype="float32")(last)
        shaped = keras.layers.Reshape((self.horizon, len(QUANTILES)))(numbers)
        return keras.Model({"series": x, "series_length": length}, shaped)

    def batch(self, columns: Arrays, codec: Codec) -> Batch:
        series = columns["series"]
        history, future = series[:, : -self.horizon], series[:, -self.horizon :]
        length = columns["series_length"] - self.horizon
        inputs = {"series": history, "series_length": length}
        return Batch(inputs, future, np.ones(future.shape, np.float32))

    def losses(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """(B, H): the mean pinball loss over quantiles."""
        import tensorflow as tf

        wrong = targets[..., tf.newaxis] - outputs
        levels = tf.constant(QUANTILES)
        return tf.reduce_mean(tf.maximum(levels * wrong, (levels - 1) * wrong), -1)

    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        return {"quantiles": trained.model(inputs, training=False)}

    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        future = split.gather(np.arange(len(split)))["series"][:, -self.horizon :]
        wrong = future[..., None] - predictions["quantiles"]
        levels = np.array(QUANTILES)
        losses = np.maximum(levels * wrong, (levels - 1) * wrong).mean((1, 2))
        of = ratio(losses, np.ones(len(losses)))
        return by_name([Score(PINBALL, of, "mean over steps and quantiles")])

    def baselines(self, train: Split, test: Split) -> Mapping[str, Arrays]:
        series = test.gather(np.arange(len(test)))["series"]
        last = series[:, -self.horizon - 1, None, None]
        shape = (len(test), self.horizon, len(QUANTILES))
        return {"last value": {"quantiles": np.broadcast_to(last, shape)}}

    def decode_predictions(self, predictions: Tensors, codec: Codec) -> dict[str, Any]:
        series = cast(SeriesCodec, codec.fields["series"])
        return {"quantiles": series.unscale(predictions["quantiles"])}

    def numeric_functions(self, trained: Trained) -> dict[str, ExportedFunction]:
        from pipelines.graphs.prediction import predict_function

        return {"forecast": predict_function(trained)}
