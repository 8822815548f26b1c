"""Our own tasks that write text, as the benchmarks against PyTorch ask them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipelines.core.task import Trained


class OurWriter:
    """The project's own task, model, update and search.

    data  has config, and the codec that was fitted on it.
    """

    def __init__(self, data: Any):
        from pipelines.train.learner import Learner

        self.config, self.codec = data.config, data.codec
        self.model: Any = self.config.task.build(self.config.model, self.codec, self.config.seed)
        self.learner = Learner(self.config.task, self.model, self.codec, self.config.train, 10**6)
        self._step = 0
        self._searches: dict[int, Any] = {}

    @property
    def _trained(self) -> Trained:
        return Trained(self.config.task, self.model, self.codec, self.config.decode)

    def batch(self, columns: dict[str, np.ndarray]) -> Any:
        return self.config.task.batch(columns, self.codec)

    def train(self, batches: Iterable[Any]) -> float:
        for batch in batches:
            self.learner.reset()
            self.learner.train_step([batch], self._step)
            last = self.learner.mean_loss()
            self._step += 1
        return last

    def search(self, batch: Any, beams: int) -> np.ndarray:
        """(B, T) the tokens of the best answers."""
        from pipelines.graphs.prediction import prediction_inputs

        if beams not in self._searches:
            self.learner.weights.flush()
            self._searches[beams] = self._traced(beams)
        given = prediction_inputs(self._trained, batch.inputs)
        return self._searches[beams](given).numpy()

    def lengths(self, given: Mapping[str, Any]) -> Any:
        """(B,) int32, which the longest answer goes by."""
        raise NotImplementedError

    def variables(self) -> dict[str, Any]:
        """Those that a peer has as well, by the names that it gives them."""
        raise NotImplementedError

    def take(self, weights: Mapping[str, list[np.ndarray]]) -> None:
        """Assigns a peer's weights."""
        self.learner.weights.flush()  # or its own updates would go on later
        variables = self.variables()
        for name, arrays in weights.items():
            for variable, array in zip(variables[name], arrays, strict=True):
                variable.assign(array)

    def _traced(self, beams: int) -> Any:
        import tensorflow as tf

        from pipelines.graphs.generation import InputFacts, search_ids
        from pipelines.graphs.prediction import field_specs

        settings = self.config.decode.to_greedy() if beams == 1 else self.config.decode

        @tf.function(input_signature=[field_specs(self._trained)])
        def answers(given: Mapping[str, tf.Tensor]) -> tf.Tensor:
            start = self.config.task.encode_inputs(self.model, given)
            facts = InputFacts(self.lengths(given))
            found = search_ids(self.model.decoder, start, settings, facts)
            return found.ids[:, 0]

        return answers
