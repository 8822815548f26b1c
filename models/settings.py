"""Hyperparameters of the models: types and ranges, without TensorFlow; the values are in conf/.

They live here, not in the modules that use them, so that a configuration can be checked
before TensorFlow is imported.
"""

from dataclasses import fields, replace
from typing import Annotated, Any, Literal, dataclass_transform

from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

MOST = 2**31 - 1
"""Of what is counted: more is a mistake, and no tensor has as many numbers along an axis."""

Rate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Whole = Annotated[int, Field(ge=0, le=MOST)]
MOST_SIZE = 65_536
Size = Annotated[int, Field(ge=1, le=MOST_SIZE)]
"""Numbers along an axis of a weight: a square matrix of the largest size has 17 GB."""
Few = Annotated[int, Field(ge=1, le=1000)]
"""Parts that a model is made of, one after or beside the other."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]


CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(cls: type) -> Any:
    """A frozen dataclass whose fields are checked when it is made: no coercion, no unknown key."""
    return dataclass(frozen=True, kw_only=True, config=CONFIG)(cls)


@settings
class RecurrentSettings:
    """A stack of recurrent layers.

    activation  of simple_rnn only (gates fix it for lstm and gru). relu starts from an identity
                recurrent matrix (Le, Jaitly & Hinton 2015, "IRNN").
    residual    adds a layer's input to its output from the second layer on.
    dropout     on the input of every layer after the first.
    recurrent_dropout  one mask a sequence on the recurrent state (Gal & Ghahramani 2016).
    """

    cell: Literal["simple_rnn", "lstm", "gru"]
    bidirectional: bool
    width: Size
    layers: Few
    residual: bool
    activation: Literal["tanh", "relu", "sigmoid"]
    dropout: Rate
    recurrent_dropout: Rate


@settings
class ModelSettings(RecurrentSettings):
    """As RecurrentSettings, with a width that may be left to a budget.

    width       0 where `parameters` decides it.
    parameters  a budget for the whole model without embeddings and n-grams: the width is the
                largest that fits.
    """

    width: Annotated[int, Field(ge=0, le=MOST_SIZE)]
    parameters: Count | None

    @field_validator("parameters")
    @classmethod
    def _check_width_or_parameters(cls, parameters: int | None, info: ValidationInfo) -> int | None:
        width = info.data.get("width", 0)
        if parameters is None and not width:
            raise ValueError("must be given where model.width is 0")
        if parameters is not None and width:
            raise ValueError(f"chooses the width: leave model.width={width} out")
        return parameters

    def of_width(self, width: int) -> RecurrentSettings:
        """The same settings with this width."""
        names = [field.name for field in fields(RecurrentSettings)]
        return RecurrentSettings(**{name: getattr(self, name) for name in names} | {"width": width})


@settings
class EmbeddingSettings:
    """Token vectors.

    scale            random vectors start uniformly between -scale and scale. What suits a
                     classifier (0.05) makes an encoder-decoder learn many times slower (0.3 suits).
                     Of vectors of the corpus it is the root mean square.
    vectors          null; "corpus", where words of the training texts that have the same neighbours
                     start with the same vectors; "glove" (the optional package), a word2vec or
                     GloVe text file, or the directory of a run on other data, whose vectors are
                     used. Words of these are in the vocabulary even if training lacks them, as far
                     as there is room.
    trainable        false freezes the pretrained vectors; words without one stay trainable.
    word_dropout     share of tokens whose whole vector is zeroed in training.
    dropout          share of features zeroed in training.
    """

    width: Size
    scale: Annotated[float, Field(gt=0)]
    vectors: str | None
    trainable: bool
    word_dropout: Rate
    dropout: Rate


@settings
class SpellingSettings:
    """Words by their letters: what is known of a word that training didn't have.

    network    none; cnn: filters over neighbouring characters, of each the best place counts (Ma &
               Hovy 2016); recurrent: the model's cell in both directions (Lample et al. 2016).
    width      of a character's vector.
    output     numbers that cnn gives for a word, or recurrent for a direction.
    kernel     neighbouring characters that a filter of cnn sees.
    affixes    lengths of beginnings and of endings that have vectors of their own; [] for none.
    affix_width    of such a vector.
    affix_buckets  how many vectors there are for each length: affixes are hashed to them.
    dropout    of the characters' vectors.
    """

    network: Literal["none", "cnn", "recurrent"]
    width: Count
    output: Count
    kernel: Count
    affixes: tuple[Count, ...]
    affix_width: Count
    affix_buckets: Count
    dropout: Rate

    @field_validator("affixes", mode="before")
    @classmethod
    def _to_tuple(cls, affixes: object) -> object:
        return tuple(affixes) if isinstance(affixes, list) else affixes


@settings
class NgramSettings:
    """A linear classifier of n-grams, whose logits are mixed with the recurrent network's.

    order          n-grams have 1 to so many tokens; 0: there is no such classifier.
    minimum_count  n-grams that fewer training texts hold are left out.
    limit          the most n-grams; the most frequent stay. Each takes 12 bytes in the codec and 4
                   in the model, or 4 a class if there are more than two.
    """

    order: Annotated[int, Field(ge=0, le=5)]
    minimum_count: Count
    limit: Count


Pooling = Literal["last", "mean", "max", "mean_max", "attention"]


@settings
class SearchSettings:
    """How an answer is searched for; one subclass a strategy."""

    strategy: str

    def to_greedy(self) -> "SearchSettings":
        """A greedy search with the same limits, for evaluation while training."""
        return self

    def return_all_hypotheses(self) -> "SearchSettings":
        """The same search that returns all of its final hypotheses as answers."""
        return self


@settings
class NoSearch(SearchSettings):
    """One answer per example: nothing to search."""

    strategy: Literal["none"]


@settings
class Limits:
    """Limits on a generated answer; the end marker is not counted.

    maximum_ratio, maximum_extra  at most ceil(ratio * source length) + extra tokens.
    minimum_length     tokens before the end is allowed, unless nothing else is.
    no_repeat_ngram    n, where an answer must not hold any n-gram twice; null: it may.
    replace_unknown    unknown tokens are allowed, and replaced by the source token that gets the
                       most attention (Luong et al. 2015, section 4.1); false: they are forbidden.
    """

    maximum_ratio: Annotated[float, Field(ge=0)]
    maximum_extra: Whole
    minimum_length: Whole
    no_repeat_ngram: Count | None
    replace_unknown: bool

    def to_greedy(self) -> "Greedy":
        """A greedy search with the same limits."""
        names = (field.name for field in fields(Limits))
        return Greedy(strategy="greedy", **{name: getattr(self, name) for name in names})


@settings
class Greedy(Limits, SearchSettings):
    """The most likely token at each step."""

    strategy: Literal["greedy"]


@settings
class Beam(Limits, SearchSettings):
    """The most likely hypotheses at each step, of which the best by score are the answers.

    The score is log P(Y) / ((5 + |Y|) / 6) ** length_penalty + coverage_penalty * sum over source
    positions of log min(attention received, 1) (Wu et al. 2016, eq. 14). |Y| counts the end
    marker, as log P does, so that an empty answer has a length too.

    beam      hypotheses that are continued.
    answers   how many of them are returned.
    """

    strategy: Literal["beam"]
    beam: Few
    length_penalty: Annotated[float, Field(ge=0)]
    coverage_penalty: Annotated[float, Field(ge=0)]
    answers: Count

    @field_validator("answers")
    @classmethod
    def _check_answers(cls, answers: int, info: ValidationInfo) -> int:
        if answers > info.data.get("beam", answers):
            raise ValueError(f"must be at most decode.beam, {info.data['beam']}")
        return answers

    def return_all_hypotheses(self) -> "Beam":
        return replace(self, answers=self.beam)


@settings
class Sample(Limits, SearchSettings):
    """Answers sampled from the model's distribution, or from its most likely part.

    temperature  divides the logits: below 1 sharpens the distribution.
    top_k        samples only among this many most likely tokens (Fan et al. 2018); null: all.
    top_p        samples only among the fewest tokens that together have this probability (Holtzman
                 et al. 2020), after temperature and top_k; null: all.
    seed         decides the samples, together with the input's id.
    answers      for each input; the most likely comes first.
    """

    strategy: Literal["sample"]
    temperature: Annotated[float, Field(gt=0)]
    top_k: Count | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    seed: Seed
    answers: Annotated[int, Field(ge=1, le=10_000)]


Attention = Literal["none", "dot", "general", "additive"]


@settings
class DecoderSettings:
    """The decoder of a token sequence; its cell and number of layers are the model's.

    width          of its state; null: as wide as the encoder's outputs.
    attention      none, dot or general (Luong et al. 2015), additive (Bahdanau et al. 2015).
    input_feeding  each position also reads what the one before attended to (Luong et al. 2015,
                   section 3.3): sequential, and so slow in training.
    readout        width of the output layer's input; null: the decoder's width.
    tied           the output layer's matrix is the embedding's (Press & Wolf 2017), so that the
                   readout is as wide as the embedding.
    dropout        of the readout.
    """

    width: Size | None
    attention: Attention
    input_feeding: bool
    readout: Size | None
    tied: bool
    dropout: Rate


@settings
class ScheduledSampling:
    """The share of training in which the decoder reads the reference, not its own prediction.

    The share of reference tokens at training step i (Bengio et al. 2015, section 2.4) is at least
    `floor`, and otherwise:

    none             1: teacher forcing.
    constant         floor.
    linear           1 - i / steps.
    exponential      ½ ^ (i / steps).
    inverse_sigmoid  k / (k + exp(i / k)), k = steps.
    """

    schedule: Literal["none", "constant", "linear", "exponential", "inverse_sigmoid"]
    steps: Count
    floor: Annotated[float, Field(ge=0, le=1)]


Network = Literal[
    "residual",
    "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge",
    "DenseNet121", "DenseNet169", "DenseNet201",
    "EfficientNetB0", "EfficientNetB1", "EfficientNetB2", "EfficientNetB3",
    "EfficientNetB4", "EfficientNetB5", "EfficientNetB6", "EfficientNetB7",
    "EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2", "EfficientNetV2B3",
    "EfficientNetV2L", "EfficientNetV2M", "EfficientNetV2S",
    "InceptionResNetV2", "InceptionV3",
    "MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small",
    "NASNetLarge", "NASNetMobile",
    "ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2", "ResNet50", "ResNet50V2",
    "VGG16", "VGG19", "Xception",
]  # fmt: skip
"""The small network of models/vision.py, and those of keras.applications."""


def smallest_side(network: str) -> int:
    """The smallest side of an image in pixels that Keras accepts for the network."""
    larger = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}
    return 1 if network == "residual" else larger.get(network, 32)


@settings
class VisionSettings:
    """The network that turns an image into a grid of vectors.

    network     residual, which starts from random weights, or one of keras.applications.
    channels    of residual's stages. The first works on a grid of a quarter of the image's sides,
                each later one on half of the sides before it.
    blocks      residual blocks in each stage, of two convolutions each.
    weights     of one of keras.applications: null for random ones, imagenet, which is downloaded,
                or a file.
    train_from  the training step from which the network is trained; null: it is frozen, and
                prepare computes its features once.
    dropout     share of the grid's features zeroed in training.
    """

    network: Network
    channels: Annotated[list[Size], Field(min_length=1, max_length=20)]
    blocks: Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(min_length=1)]
    weights: str | None
    train_from: Whole | None
    dropout: Rate

    @field_validator("blocks")
    @classmethod
    def _check_blocks(cls, blocks: list[int], info: ValidationInfo) -> list[int]:
        stages = len(info.data.get("channels", blocks))
        if len(blocks) != stages:
            raise ValueError(f"must say how many for each of the {stages} of vision.channels")
        return blocks

    @property
    def frozen(self) -> bool:
        """Whether the model's inputs are the network's features, not images."""
        return self.train_from is None
