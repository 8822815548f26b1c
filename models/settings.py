"""Hyperparameters of the models: types and ranges, free of TensorFlow; the values are in conf/.

They live here, not in the modules that use them, so that a configuration can be checked
before TensorFlow is imported.
"""

from typing import Annotated, Any, Literal, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Rate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(cls: type) -> Any:
    """A frozen dataclass whose fields are checked when it is made: no coercion, no unknown key."""
    return dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))(cls)


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
    width: Count
    layers: Count
    residual: bool
    activation: Literal["tanh", "relu", "sigmoid"]
    dropout: Rate
    recurrent_dropout: Rate


@settings
class EmbeddingSettings:
    """Token vectors.

    vectors          null, "glove" (the optional package), a word2vec or GloVe text file, or the
                     directory of a run on other data, whose vectors are taken.
    trainable        false keeps the given vectors as they are; unknown words stay trainable.
    word_dropout     share of tokens whose whole vector is zeroed in training.
    dropout          share of features zeroed in training.
    """

    width: Count
    vectors: str | None
    trainable: bool
    word_dropout: Rate
    dropout: Rate


Pooling = Literal["last", "mean", "max", "mean_max", "attention"]


@settings
class SearchSettings:
    """How an answer is searched for; one subclass a strategy."""

    strategy: str

    def quick(self) -> "SearchSettings":
        """What is used while training: the same limits, but no more than one hypothesis."""
        return self


@settings
class NoSearch(SearchSettings):
    """One answer an example: nothing to search."""

    strategy: Literal["none"]


Attention = Literal["none", "dot", "general", "additive"]


@settings
class DecoderSettings:
    """What writes a sequence of tokens; its cell and layers are the model's.

    width          of its state; null for that of the encoder's outputs.
    attention      none, dot or general (Luong et al. 2015), additive (Bahdanau et al. 2015).
    input_feeding  each position also reads what the one before attended to (Luong et al. 2015,
                   section 3.3): sequential, and so slow in training.
    readout        width of what the output layer reads; null for the decoder's.
    tied           the output layer's matrix is the embedding's (Press & Wolf 2017), so that the
                   readout is as wide as the embedding.
    dropout        of the readout.
    """

    width: Count | None
    attention: Attention
    input_feeding: bool
    readout: Count | None
    tied: bool
    dropout: Rate
