"""What a task is: what to learn from examples, and how to measure it.

`Task` is a core of six methods, with defaults for the rest. What only some tasks can do is a
capability, a class of its own that a task has as a further base:

    Decodes      its predictions are searched for: greedily, with a beam, by sampling
    Streams      it answers after each further step of its input
    Explains     it says which parts of an input an answer is due to
    Diagnosable  its recurrent layers can be looked into
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from pipelines.core.contracts import Batch, Codec, FieldCodec, Filter, Spec, Split, Windows
from pipelines.core.scores import Metric, Score
from pipelines.core.types import Arrays, Example, JsonObject, Nest, Tensors

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from models.recurrent import Decoder, Encoder
    from models.settings import RecurrentSettings, SearchSettings
    from pipelines.core.sections import Section


@dataclass(frozen=True)
class Trained:
    """A model with its task, codec and search settings, which always go together.

    decode  how answers are searched for, where the task decodes.
    """

    task: Task
    model: keras.Model
    codec: Codec
    decode: SearchSettings


class Signature(NamedTuple):
    """A SavedModel's signature: graph code from tensors by name to tensors by name."""

    run: Callable[..., Tensors]
    inputs: Mapping[str, tf.TensorSpec]


class ExportedFunction(NamedTuple):
    """A numeric part of a model, for formats that know no text.

    run, inputs  as of a Signature.
    from_batch   graph code: from the inputs of a Batch to those of `run`, to try it out.
    predicts     `run` gives predictions, which the task can score.
    """

    run: Callable[..., Tensors]
    inputs: Mapping[str, tf.TensorSpec]
    from_batch: Callable[[Tensors], Tensors]
    predicts: bool = False


class RecurrentStack(NamedTuple):
    """A recurrent stack of a model, for diagnostics: its inputs, step by step.

    stack    its layers, as in models/recurrent.py.
    field    of a Batch's inputs, whose second axis is time.
    blank    what stands in it for nothing: an unknown token's id, or 0.
    in_step  whether the model answers after every step; otherwise after the last.
    """

    stack: Encoder | Decoder
    field: str
    blank: int
    in_step: bool = False


class TeacherForced(NamedTuple):
    """A model's outputs for a batch whose targets are known, without dropout, for diagnostics.

    losses   as of Task.losses.
    answers  one number a prediction, (B,) or (B, P), that moves when the prediction does: the
             log-odds of a class or a word against all others, or an estimated number.
    """

    losses: tf.Tensor
    answers: tf.Tensor


Change = Callable[[Nest, Nest], tuple[Nest, Nest]]
"""Graph code that alters what a decoder reads: (memory, first state) -> (memory, first state)."""


class Objective(Protocol):
    """What training minimizes: the task's own losses, or others in their place."""

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        """Graph code: what `losses` is computed from; the training step is counted from 0."""

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        """Graph code. Losses of the shape of the batch's weights; not reduced."""


class Task(ABC):
    """What to learn from examples and how to measure it.

    Subclasses are settings, one in each pipelines/tasks/<name>.py; they import TensorFlow inside
    their methods only.
    """

    name: str
    """The name of its module and of its YAML."""
    columns: ClassVar[tuple[str, ...]]
    """Columns of an example that the task reads."""
    input_columns: ClassVar[tuple[str, ...]]
    """The columns that are given when predicting: the SavedModel's inputs."""
    metrics: ClassVar[tuple[Metric, ...]]
    """Metrics that `score` may give, the most important first."""
    dedupe_by: ClassVar[tuple[str, ...]] = ()
    """Examples alike in these columns are duplicates, of which one stays. Empty: all stay."""
    stratify_by: ClassVar[str | None] = None
    """Column whose values are spread evenly over the splits; at least two values must occur."""
    group_by: ClassVar[tuple[str, ...]] = ()
    """Columns: examples alike in one of them go to the same split, where we divide the data."""
    divides_sequences: ClassVar[bool] = False
    """Whether prepare.division=time cuts each sequence, of which the end is the test split's."""
    intended_use: ClassVar[str] = ""
    """What a trained model is for, in a sentence or two, for its model card."""
    example_input: ClassVar[Example] = {}
    """Values of `input_columns` that the model card may show."""
    cleaning: Filter | None = None
    """A filter of examples that are not to be learnt from."""

    # The core

    @abstractmethod
    def codec(self) -> Mapping[str, FieldCodec]:
        """Unfitted codecs by field name."""

    @abstractmethod
    def build(self, model: RecurrentSettings, codec: Codec, seed: int) -> keras.Model: ...

    @abstractmethod
    def batch(self, columns: Arrays, codec: Codec) -> Batch:
        """Makes a Batch of a Split's padded columns: inputs, targets and weights."""

    @abstractmethod
    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        """Graph code. Losses in nats, of the shape of the batch's weights; not reduced."""

    @abstractmethod
    def predict(
        self, trained: Trained, inputs: Tensors, *, detail: bool = False
    ) -> dict[str, tf.Tensor]:
        """Graph code: predictions by name, each (B, ...), from what is given alone.

        inputs  the fields that are made of `input_columns`, padded, and the columns that
                `raw_inputs` names.
        detail  also what explains one answer but is too much to keep for a split, such as
                attention.
        """

    @abstractmethod
    def score(self, predictions: Arrays, split: Split) -> dict[str, Score]:
        """Scores by name, in order of importance. Predictions are in the split's order."""

    # Defaults for the rest

    def check(self, decode: SearchSettings) -> None:  # noqa: B027 - optional
        """Raises UserError for what doesn't go together, or isn't there; fast."""

    def windows(self, spec: Spec, begin: np.ndarray, end: np.ndarray) -> Windows | None:
        """Examples that are stretches of a longer sequence; None: an example is a whole row.

        begin, end (N,): the positions of each row's first sequence field that the split has. What a
        window predicts must lie there; what it reads may lie before, never after.
        """
        return None

    def example(self, raw: Example) -> Example:
        """A raw example in the form in which it is shown, and given to the SavedModel.

        Of a window it holds apart what is read, in the input columns, and what is to be predicted.
        """
        return {name: raw[name] for name in self.columns}

    def costs(self, spec: Spec) -> Mapping[str, float]:
        """By sequence field, the cost of a position in a batch's budget, where it isn't 1."""
        return {}

    def initialize(  # noqa: B027 - optional
        self, model: keras.Model, train: Split, codec: Codec, seed: int
    ) -> None:
        """Sets weights of a new model that are estimated from all training examples at once."""

    def objective(self, train: Split, codec: Codec) -> Objective:
        """What training minimizes, where that isn't the task's own losses."""
        return self

    def augment(
        self, columns: dict[str, np.ndarray], codec: Codec, random: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """A Split's padded columns as training sees them this time; the same otherwise."""
        return columns

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        """Graph code: what `losses` is computed from in training; step is counted from 0."""
        return model(inputs, training=True)

    def raw_inputs(self, decode: SearchSettings) -> tuple[str, ...]:
        """Input columns whose raw values `predict` needs besides the fields made of them."""
        return ()

    def measure_targets(self, model: keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
        """Graph code: measures that need the targets, by name, each (B,).

        Such as the likelihood of a reference. It joins the predictions that are scored; baselines
        have none.
        """
        return {}

    def calibrate(self, model: keras.Model, predictions: Arrays, split: Split) -> Arrays:
        """Sets weights that are estimated on validation, from its predictions; returns what these
        become. It is called before each evaluation while training.
        """
        return predictions

    def parts(self, predictions: Arrays) -> Mapping[str, Arrays]:
        """Predictions of each part of the model by itself, by its name, where it has several."""
        return {}

    def baselines(self, train: Split, test: Split) -> Mapping[str, Arrays]:
        """Predictions of simple systems for test, by the system's name, as `predict` gives them."""
        return {}

    def decode_predictions(self, predictions: Tensors, codec: Codec) -> dict[str, tf.Tensor]:
        """Graph code: predictions to what a person reads (label words, text), each (B, ...)."""
        return dict(predictions)

    def to_json(self, answer: JsonObject) -> JsonObject:
        """One example's answer in the form that reads best as JSON.

        Values are plain, but for arrays of two axes and more.
        """
        return answer

    def numeric_functions(self, trained: Trained) -> dict[str, ExportedFunction]:
        """Numbers in, numbers out, by name: what formats that know no text hold of the model."""
        return {}

    def signatures(self, trained: Trained) -> dict[str, Signature]:
        """The SavedModel's signatures besides serving_default (raw columns to answers), by name."""
        return {}

    def limitations(self, codec: Codec) -> list[str]:
        """Sentences for the model card: what a trained model can't do, or wasn't made for."""
        return []

    def report_sections(self, trained: Trained, predictions: Arrays, split: Split) -> list[Section]:
        """The task's own part of the report."""
        return []


class Decodes:
    """A task whose predictions are searched for, as the decode settings say.

    The SavedModel's answers stand under the name of the strategy too.
    """


class Streams(ABC):
    """A task that answers after each further step of its input, in constant memory."""

    @abstractmethod
    def stream(self, trained: Trained) -> ExportedFunction | None:
        """Reads one more step; None for a model that must read all first (bidirectional)."""


class Explains(ABC):
    """A task that says which parts of an input an answer is due to."""

    @abstractmethod
    def explain(self, trained: Trained) -> Signature:
        """The signature from raw columns to answers with their explanation."""


class Diagnosable(ABC):
    """A task whose recurrent layers can be looked into."""

    image_field: ClassVar[str | None] = None
    """Inputs of a Batch that a decoder reads as a whole, such as an image."""

    @abstractmethod
    def recurrent_stacks(self, model: keras.Model) -> dict[str, RecurrentStack]:
        """The model's recurrent stacks by name."""

    @abstractmethod
    def teacher_forced(
        self, model: keras.Model, batch: Batch, change: Change | None = None
    ) -> TeacherForced:
        """Graph code: how the model answers a batch whose targets are known.

        change  alters what a decoder has of its input.
        """

    def attends(self, model: keras.Model) -> bool:
        """Whether a decoder reads its input by attention and by its first state: `change` works."""
        return False
