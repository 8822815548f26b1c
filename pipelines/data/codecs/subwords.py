"""Sentencepiece: pieces of words learnt from text (Kudo & Richardson 2018)."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from pipelines.core.errors import UserError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from tensorflow_text import SentencepieceTokenizer

log = logging.getLogger(__name__)

INSTALL = "tokens=sentencepiece needs two more packages: pip install '.[sentencepiece]'"

SAMPLE = 2_000_000
"""Texts that a model is learnt from: a random sample of them where there are more."""

MEASURED = 20_000
"""Texts that unknown shares and lengths are measured on: the first."""

LONGEST = 4000
"""Characters; longer texts are cut in pieces for training, which would else leave them out."""


def train(
    texts: Iterator[str], vocabulary_size: int, model_type: str, markers: bool, column: str
) -> bytes:
    """A model with ids 0 padding, 1 unknown, and 2 begin, 3 end if there are markers.

    Where the texts don't hold enough pieces, the vocabulary is smaller, which is logged. UserError
    where they hold more characters than it may have pieces. Messages name the column.
    """
    sentencepiece = _sentencepiece()
    sentencepiece.set_random_generator_seed(0)
    lines = _lines(texts)
    common = {
        "model_type": model_type,
        "pad_id": 0,
        "unk_id": 1,
        "bos_id": 2 if markers else -1,
        "eos_id": 3 if markers else -1,
        "input_sentence_size": SAMPLE,
        "shuffle_input_sentence": True,
        "max_sentence_length": 4 * LONGEST,
        "hard_vocab_limit": False,
        # Fixed: sums, and so pieces, depend on the number of threads.
        "num_threads": 4,
        "minloglevel": 2,
    }
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines, model_writer=model, vocab_size=vocabulary_size, **common
        )
    except RuntimeError as error:
        raise _too_small(column, vocabulary_size, str(error)) from None
    size = len(pieces(model.getvalue()))
    if size < vocabulary_size:
        log.warning("%s: the texts hold only %d of %d pieces", column, size, vocabulary_size)
    return model.getvalue()


def _too_small(column: str, size: int, told: str) -> UserError:
    received = f"{column}: a vocabulary_size of {size} sentencepiece tokens"
    needed = re.search(r"required_chars\. \d+ vs (\d+)", told)
    if needed:
        return UserError(
            f"{received} is too small: the texts hold {needed[1]} different characters and markers,"
            f" and each needs a piece of its own; give more than {needed[1]}"
        )
    return UserError(f"{received} can't be learnt: {' '.join(told.split())}")


def _lines(texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        text = re.sub(r"\s+", " ", text)
        for start in range(0, len(text), LONGEST):
            yield text[start : start + LONGEST]


def pieces(model: bytes) -> list[str]:
    """The model's pieces by id."""
    made = processor(model)
    return made.id_to_piece(list(range(made.get_piece_size())))


def processor(model: bytes) -> SentencePieceProcessor:
    """The library's own object."""
    return _sentencepiece().SentencePieceProcessor(model_proto=model)


def encode(model: bytes, texts: Sequence[str]) -> list[list[int]]:
    return processor(model).encode(list(texts))


def tokenizer(model: bytes) -> SentencepieceTokenizer:
    """A tensorflow_text.SentencepieceTokenizer: graph code between text and int32 ids."""
    import tensorflow as tf

    try:
        import tensorflow_text
    except ImportError as error:
        raise UserError(INSTALL) from error

    with tf.init_scope():
        return tensorflow_text.SentencepieceTokenizer(model)


def _sentencepiece() -> ModuleType:
    try:
        import sentencepiece
    except ImportError as error:
        raise UserError(INSTALL) from error
    return sentencepiece
