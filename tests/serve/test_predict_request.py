"""Requests in JSON: inputs of each type as rows and as columns, and what is wrong with others."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.serve import input_parsing
from pipelines.serve.errors import RequestError
from pipelines.serve.predict_request import PredictRequest, RequestLimits, parse_request
from pipelines.serve.signatures import Signature, TensorInfo

LENGTH = TensorInfo("DT_INT32", (None,))
INPUTS = {
    "text": {"text": TensorInfo("DT_STRING", (None,))},
    "number": {"age": TensorInfo("DT_FLOAT", (None,))},
    "count": {"count": TensorInfo("DT_INT64", (None,))},
    "words": {"tokens": TensorInfo("DT_STRING", (None, None)), "tokens_length": LENGTH},
    "ids": {"ids_length": LENGTH, "ids": TensorInfo("DT_INT32", (None, None))},
    "series": {"series": TensorInfo("DT_FLOAT", (None, None, 2)), "series_length": LENGTH},
    "any": {"x": TensorInfo("DT_FLOAT", (None, None, None)), "x_length": LENGTH},
    "two": {
        "age": TensorInfo("DT_FLOAT", (None,)),
        "tokens": TensorInfo("DT_STRING", (None, None)),
        "tokens_length": LENGTH,
    },
}
SIGNATURES = {name: Signature(name, inputs, {}) for name, inputs in INPUTS.items()}


def parse(signature: str, **content: Any) -> PredictRequest:
    body = json.dumps({"signature_name": signature, **content}).encode()
    return parse_request(body, SIGNATURES, RequestLimits(rows=100, pixels=100))


def error(signature: str, **content: Any) -> str:
    with pytest.raises(RequestError) as raised:
        parse(signature, **content)
    assert raised.value.status == 400
    assert "\n" not in raised.value.reason
    return raised.value.reason


BYTES = {"b64": base64.b64encode(b"\x00\xff\x00").decode()}

VALUES = [
    ("text", "text", ["a", BYTES], [b"a", b"\x00\xff\x00"], None),
    ("number", "age", [1, 2.5], [1, 2.5], None),
    ("words", "tokens", [["a", "b"], ["c"]], [[b"a", b"b"], [b"c", b""]], [2, 1]),
    ("words", "tokens", [[], []], [[b""], [b""]], [0, 0]),
    ("ids", "ids", [[7], [1, 2, 3]], [[7, 0, 0], [1, 2, 3]], [1, 3]),
    (
        "series",
        "series",
        [[[1, 2], [3, 4]], [[5, 6.5]], []],
        [[[1, 2], [3, 4]], [[5, 6.5], [0, 0]], [[0, 0], [0, 0]]],
        [2, 1, 0],
    ),
    ("any", "x", [[], [[1, 2, 3]]], [[[0, 0, 0]], [[1, 2, 3]]], [0, 1]),
]


@pytest.mark.parametrize(("signature", "name", "values", "array", "lengths"), VALUES)
@pytest.mark.parametrize("form", ["named rows", "rows", "named columns", "columns"])
def test_inputs_of_each_type_are_padded_with_their_lengths(
    form: str, signature: str, name: str, values: Any, array: Any, lengths: Any
) -> None:
    content = {
        "named rows": {"instances": [{name: value} for value in values]},
        "rows": {"instances": values},
        "named columns": {"inputs": {name: values}},
        "columns": {"inputs": values},
    }[form]
    request = parse(signature, **content)
    assert request.rows == len(values)
    assert request.columns[name].tolist() == array
    assert request.columns.keys() == INPUTS[signature].keys()
    if lengths is not None:
        found = request.columns[f"{name}_length"]
        assert (found.tolist(), found.dtype) == (lengths, np.int32)


@given(st.lists(st.lists(st.integers(-9, 9)), min_size=1, max_size=9))
def test_rows_and_columns_of_any_lengths_are_the_same_request(values: list[list[int]]) -> None:
    rows = parse("ids", instances=[{"ids": value} for value in values])
    columns = parse("ids", inputs={"ids": values})
    for name in ("ids", "ids_length"):
        np.testing.assert_array_equal(rows.columns[name], columns.columns[name])
    lengths = rows.columns["ids_length"]
    found = [ids[:n].tolist() for ids, n in zip(rows.columns["ids"], lengths, strict=True)]
    assert found == values


def test_a_client_may_pad_and_send_the_lengths_itself() -> None:
    padded, lengths = [["a", ""], ["b", "c"]], [1, 2]
    columns = parse("words", inputs={"tokens": padded, "tokens_length": lengths})
    rows = parse(
        "words", instances=[{"tokens": ["a", ""], "tokens_length": 1}, {"tokens": ["b", "c"]}]
    )
    for request in (columns, rows):
        assert request.columns["tokens_length"].tolist() == lengths
        assert request.columns["tokens"].tolist() == [[b"a", b""], [b"b", b"c"]]


@pytest.mark.parametrize(
    ("signature", "values", "reason"),
    [
        ("number", ["1"], 'age: row 0 must be a number; received "1"'),
        ("number", [1, True], "age: row 1 must be a number; received true"),
        ("number", [1, None], "age: row 1 must be a number; received null"),
        ("number", [[1]], "age: row 0 must be a number; received a list of 1"),
        ("count", [1, 2.5], "count: row 1 must be a whole number; received 2.5"),
        ("count", [2**63], "count: row 0: a number is out of the range of int64"),
        ("words", ["a b"], 'tokens: row 0 must be a list of text; received "a b"'),
        ("words", [["a"], [1]], "tokens: row 1 must be a list of text; received 1"),
        ("words", [["a"], [["b"]]], "tokens: row 1 must be a list of text; received a list of 1"),
        ("words", "a", 'tokens must be a list of rows, each a list of text; received "a"'),
        ("ids", [[1], [1.5]], "ids: row 1 must be a list of whole numbers; received 1.5"),
        ("series", [[1, 2]], "series: row 0 must be a list of lists of 2 numbers; received 1"),
        (
            "series",
            [[[1, 2]], [[1, 2], [3]]],
            "series: row 1 must be a list of lists of 2 numbers; received a list of 1",
        ),
        (
            "series",
            [[[1, "a"]]],
            'series: row 0 must be a list of lists of 2 numbers; received "a"',
        ),
        (
            "any",
            [[[1, 2], [3]]],
            "x: row 0 must be a list of lists of numbers, all equally long; received lists of 2 "
            "and 1",
        ),
        (
            "any",
            [[], [[1, 2]], [[3]]],
            "x: row 2 must be a list of lists of 2 numbers, like the rows before; received a list "
            "of 1",
        ),
    ],
)
def test_an_error_names_the_input_the_row_and_what_is_expected(
    signature: str, values: Any, reason: str
) -> None:
    assert error(signature, inputs=values) == reason


@pytest.mark.parametrize(
    ("lengths", "reason"),
    [
        ([1], "tokens_length must be a list of 2 whole numbers, one a row; received a list of 1"),
        (2, "tokens_length must be a list of 2 whole numbers, one a row; received 2"),
        ([2, 1.5], "row 1 must be a whole number from 0 to 1, the length of the row; received 1.5"),
        ([3, 1], "row 0 must be a whole number from 0 to 2, the length of the row; received 3"),
        ([-1, 1], "row 0 must be a whole number from 0 to 2"),
        ([True, 1], "row 0 must be a whole number from 0 to 2"),
    ],
)
def test_lengths_that_a_client_sends_must_fit_the_rows(lengths: Any, reason: str) -> None:
    inputs = {"tokens": [["a", "b"], ["c"]], "tokens_length": lengths}
    assert reason in error("words", inputs=inputs)


def test_names_are_needed_for_several_inputs_but_not_for_lengths() -> None:
    assert error("two", instances=[1]) == "instances: values must be named: age, tokens"
    assert "instances[0] must have just the inputs age, tokens" in error(
        "two", instances=[{"age": 1}]
    )
    assert "inputs must have just age, tokens" in error("two", inputs={"tokens_length": [1]})
    assert "same number of rows; received [1, 2]" in error(
        "two", inputs={"age": [1, 2], "tokens": [["a"]]}
    )
    assert parse("two", instances=[{"age": 1, "tokens": ["a"]}]).rows == 1


def test_a_long_row_among_many_short_ones_is_refused_before_it_takes_all_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(input_parsing, "MAX_PADDED_VALUES", 50)
    assert parse("ids", inputs=[[1] * 60, [1] * 60])
    assert "would be padded to 120 values: send long rows in a request of their own" in error(
        "ids", inputs=[[1] * 60, [1]]
    )
