"""What a task is: what to learn from examples, and how to measure it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pipelines.core.contracts import Batch, Codec, FieldCodec, Filter, Split

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from models.settings import RecurrentSettings, SearchSettings
    from pipelines.core.sections import Section


@dataclass(frozen=True)
class Score:
    """A corpus-level score as a function of how often each example counts.

    of((R, N) float weights) -> (R,) float. Weights of 1 give the score itself; multinomial weights
    bootstrap it; 0/1 weights give it on a part (by length, by class). So intervals, paired tests
    and breakdowns are the same code for every metric of every task.

    signature says exactly what is computed ("f1 macro, classes absent from both count 0"). A costly
    one is left out while training, unless it is what training is judged by.
    """

    name: str
    of: Callable[[np.ndarray], np.ndarray]
    signature: str
    higher_is_better: bool = True
    costly: bool = False


class Signature(NamedTuple):
    """One of a SavedModel's: graph code from tensors by name to tensors by name."""

    run: Callable[..., Mapping[str, Any]]
    inputs: Mapping[str, tf.TensorSpec]


class Core(NamedTuple):
    """A numeric part of a model, for formats that know no text.

    run, inputs  as of a Signature.
    given        graph code: from the inputs of a Batch to those of `run`, such as it may be asked.
    predicts     `run` gives predictions, which the task can score.
    """

    run: Callable[..., Mapping[str, Any]]
    inputs: Mapping[str, tf.TensorSpec]
    given: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    predicts: bool = False


class RecurrentStack(NamedTuple):
    """A recurrent stack of a model, for diagnostics: what it reads, a step at a time.

    stack  its layers, as in models/recurrent.py.
    field  of a Batch's inputs, whose second axis is time.
    blank  what stands in it for nothing: an unknown token's id, or 0.
    in_step  whether the model answers after every step; otherwise after the last.
    """

    stack: Any
    field: str
    blank: int
    in_step: bool = False


class TeacherForced(NamedTuple):
    """What a model makes of a batch, without dropout, for diagnostics.

    losses   as of Task.losses.
    answers  one number a prediction, (B,) or (B, P), that moves when the prediction does: the
             log-odds of a class or a word against all others, or an estimated number.
    """

    losses: Any
    answers: Any


Change = Callable[[Any, Any], tuple[Any, Any]]
"""Of what a writing model has of what it read: (memory, state) -> (memory, state), graph code."""


class Task(ABC):
    """What to learn from examples and how to measure it.

    Subclasses are settings, one in each pipelines/tasks/<name>.py; they import TensorFlow inside
    their methods only.
    """

    name: str
    """That of its module and of its YAML."""
    columns: ClassVar[tuple[str, ...]]
    """Columns of an example."""
    input_columns: ClassVar[tuple[str, ...]]
    """Those of them that are there when predicting; they are the SavedModel's inputs."""
    scores: ClassVar[tuple[str, ...]]
    """Names of the scores that `score` may give, the most important first."""
    dedupe_by: ClassVar[tuple[str, ...]]
    """Columns that tell two examples apart: examples alike in these are duplicates."""
    stratify_by: ClassVar[str | None]
    """Column whose values are spread evenly over the splits; at least two values must occur."""
    group_by: ClassVar[tuple[str, ...]] = ()
    """Columns: examples alike in one of them go to the same split, where we divide the data."""
    decodes: ClassVar[bool] = False
    """Whether answers are searched for, as the decode settings say."""
    intended_use: ClassVar[str] = ""
    """What a trained model is for, in a sentence or two, for its model card."""
    example_input: ClassVar[Mapping[str, str]] = {}
    """Values of the columns in `given` that the model card may show."""
    image_field: ClassVar[str | None] = None
    """Of a Batch's inputs, what a model that writes looks at as a whole, such as a picture."""
    cleaning: Filter | None = None
    """What keeps examples out that are not to be learnt from."""

    def check(self, decode: SearchSettings) -> None:  # noqa: B027 - optional
        """Raises UserError for what doesn't go together, or isn't there; fast."""

    @abstractmethod
    def codec(self) -> Mapping[str, FieldCodec]:
        """Unfitted codecs by field name."""

    @abstractmethod
    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model: ...

    def training_task(self, train: Split, codec: Codec) -> Task:
        """The task as training runs it, where that takes what all training examples say."""
        return self

    def augment(
        self, columns: dict[str, np.ndarray], codec: Codec, random: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """A Split's padded columns (numpy) as training sees them this time; the same otherwise."""
        return columns

    @abstractmethod
    def batch(self, columns: Mapping[str, np.ndarray], codec: Codec) -> Batch:
        """From a Split's padded columns (numpy) to inputs, targets and weights."""

    def outputs(self, model: keras.Model, inputs: Mapping[str, Any], step: tf.Tensor) -> Any:
        """Graph code: what `losses` is computed from in training; step is the update, from 0."""
        return model(inputs, training=True)

    @abstractmethod
    def losses(self, outputs: Any, targets: Any) -> tf.Tensor:
        """Graph code. Losses in nats, of the shape of the batch's weights; not reduced."""

    def raw_inputs(self, decode: SearchSettings) -> tuple[str, ...]:
        """Columns of `given` whose raw values `predict` needs beside the fields made of them."""
        return ()

    @abstractmethod
    def predict(
        self,
        model: keras.Model,
        codec: Codec,
        inputs: Mapping[str, Any],
        decode: SearchSettings,
        *,
        detail: bool = False,
    ) -> dict[str, Any]:
        """Graph code: predictions by name, each (B, ...), from what is given alone.

        inputs  the fields that are made of the columns in `given`, padded, and the columns that
                `raw` names.
        detail  also what explains one answer but is too much to keep for a split, such as
                attention.
        """

    def measure_targets(self, model: keras.Model, batch: Batch) -> dict[str, Any]:
        """Graph code: what can be said only with the targets at hand, by name, each (B,).

        Such as the likelihood of a reference. It joins the predictions that are scored; baselines
        have none.
        """
        return {}

    @abstractmethod
    def score(self, predictions: Mapping[str, np.ndarray], split: Split) -> dict[str, Score]:
        """Scores by name, in order of importance. Predictions are in the split's order."""

    @abstractmethod
    def baselines(self, train: Split, test: Split) -> Mapping[str, Mapping[str, np.ndarray]]:
        """What naive systems would say of test, by their name, in the form of `predict`."""

    @abstractmethod
    def decode_predictions(self, predictions: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
        """Graph code: predictions to what a person reads (label words, text), each (B, ...)."""

    def to_json(self, answer: dict[str, Any]) -> dict[str, Any]:
        """One example's answer in the form that reads best as JSON.

        Values are plain, but for arrays of two axes and more.
        """
        return answer

    def numeric_functions(
        self, model: keras.Model, codec: Codec, decode: SearchSettings
    ) -> dict[str, Core]:
        """Numbers in, numbers out, by name: what formats that know no text hold of the model."""
        return {}

    def signatures(
        self, model: keras.Model, codec: Codec, decode: SearchSettings
    ) -> dict[str, Signature]:
        """What the SavedModel offers beside "serving_default" (raw columns to answers), by name.

        A task that decodes has the latter under the name of its strategy too.
        """
        return {}

    def limitations(self, codec: Codec) -> list[str]:
        """Sentences for the model card: what a trained model can't do, or wasn't made for."""
        return []

    def recurrent_stacks(self, model: keras.Model) -> dict[str, RecurrentStack]:
        """The model's recurrent stacks by name; those that diagnostics look into."""
        return {}

    def teacher_forced(
        self, model: keras.Model, batch: Batch, change: Change | None = None
    ) -> TeacherForced:
        """Graph code: how the model answers a batch whose targets are known.

        change  of what a model that writes has read, before it writes.
        """
        raise NotImplementedError

    @abstractmethod
    def report_sections(
        self,
        model: keras.Model,
        predictions: Mapping[str, np.ndarray],
        split: Split,
        codec: Codec,
        decode: SearchSettings,
    ) -> list[Section]:
        """The task's own part of the report."""
