"""Columns that are no single text, from rows to prepared splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from only_data import OnlyData
from rows_in_memory import RowsInMemory

from pipelines.core.contracts import FieldCodec
from pipelines.core.errors import UserError
from pipelines.core.settings import PrepareSettings
from pipelines.data.codecs.series import NumberCodec, SeriesCodec
from pipelines.data.codecs.text import TextCodec, TextSettings
from pipelines.data.prepare import Prepared, prepare


def prepare_rows(
    rows: list[dict[str, object]], codec: dict[str, FieldCodec], path: Path
) -> Prepared:
    settings = PrepareSettings(
        validation=0.1, test=0.2, bad_rows=0.0, limit=None, division="hash", group_by=None,
        block_rows=10, time_column=None, split_seed=0, cache_dir=str(path),
    )  # fmt: skip
    return prepare(RowsInMemory(rows), OnlyData(codec), settings)


def word_list(column: str) -> TextCodec:
    settings = TextSettings(
        tokens="list", vocabulary_size=50, minimum_count=1, lowercase=True, strip_markup=True,
        punctuation="drop", max_tokens=4, truncate="head", model_type="unigram",
    )  # fmt: skip
    return TextCodec(column, settings)


def test_lists_of_words_are_prepared_with_one_id_a_word(tmp_path: Path) -> None:
    rows = [
        {"words": [f"Word{n}", "isn't", ",", f"no {n % 3}", "!"][: 1 + n % 5]} for n in range(60)
    ]
    data = prepare_rows(rows, {"tokens": word_list("words")}, tmp_path)
    codec = data.codec.fields["tokens"]
    for split in data.splits.values():
        columns = split.gather(np.arange(len(split)))
        for row, words in enumerate(
            example["words"] for example in split.examples(range(len(split)))
        ):
            length = columns["tokens_length"][row]
            assert length == min(len(words), 4)
            ids = columns["tokens"][row, :length]
            assert ids.tolist() == codec.encode(tf.ragged.constant([words])).to_list()[0]
            if split.name == "train":
                expected = [word.lower() for word in words[:4]]
                assert [codec.vocabulary[k] for k in ids] == expected


def test_words_that_are_not_split_are_an_error_of_a_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use tokens=word"):
        prepare_rows(
            [{"words": f"a text {n}"} for n in range(30)], {"tokens": word_list("words")}, tmp_path
        )


def test_numbers_and_series_are_prepared_with_training_moments(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows: list[dict[str, object]] = [
        {"price": float(n), "load": (100 * random.normal(size=(2 + n % 3, 2))).tolist()}
        for n in range(50)
    ]
    data = prepare_rows(rows, {"y": NumberCodec("price"), "x": SeriesCodec("load")}, tmp_path)
    train = data.splits["train"]
    assert train.column("y").dtype == np.float32
    assert abs(train.column("y").mean()) < 1e-6
    assert train.column("y").std() == pytest.approx(1, abs=1e-5)
    for split in data.splits.values():
        columns = split.gather(np.arange(len(split)))
        for row, example in enumerate(split.examples(range(len(split)))):
            assert data.codec.fields["y"].decode(columns["y"][row]) == pytest.approx(
                example["price"], abs=1e-4
            )
            steps = columns["x"][row, : columns["x_length"][row]]
            np.testing.assert_allclose(
                data.codec.fields["x"].decode(steps), example["load"], atol=1e-3
            )
