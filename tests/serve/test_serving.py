"""Serving: TensorFlow Serving's REST API by a real server."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import tensorflow as tf
from conftest import ROOT, FinishedRun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_process import Server

from pipelines.serve.description import REASONS

TEXTS = ["great film", "a dull story of people", "", "映画 \U0001f600", "x " * 3000]


class TestRest:
    """The API of https://www.tensorflow.org/tfx/serving/api_rest."""

    def test_a_model_has_its_version_and_its_signatures_as_metadata(self, server: Server) -> None:
        for path in ("/v1/models/reviews", "/v1/models/reviews/versions/1"):
            (version,) = server.client.get(path).json()["model_version_status"]
            assert version == {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        metadata = server.client.get("/v1/models/reviews/metadata").json()
        assert metadata["model_spec"] == {"name": "reviews", "signature_name": "", "version": "1"}
        signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["method_name"] == "tensorflow/serving/predict"
        assert signature["inputs"]["text"] == {
            "dtype": "DT_STRING",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
            "name": "serving_default_text:0",
        }

    def test_predictions_are_those_of_the_saved_model(
        self, server: Server, finished_run: FinishedRun
    ) -> None:
        loaded = tf.saved_model.load(str(finished_run.directory / "saved_model"))
        expected = loaded.signatures["serving_default"](text=tf.constant(TEXTS))
        rows = server.predict("reviews", instances=[{"text": text} for text in TEXTS])
        bare = server.predict("reviews", instances=TEXTS)
        columns = server.predict("reviews", inputs={"text": TEXTS})["outputs"]
        assert bare == rows
        assert columns["label"] == [label.decode() for label in expected["label"].numpy()]
        for row, values in zip(rows["predictions"], expected["probabilities"], strict=True):
            assert row["probabilities"] == pytest.approx(values.numpy().tolist(), abs=1e-5)
        assert [row["label"] for row in rows["predictions"]] == columns["label"]

    def test_what_is_no_finite_number_is_null(self, server: Server) -> None:
        """JSON has no NaN and no infinity."""
        inputs = [[-3e38, 1], [2, -1e38]]
        assert server.predict("arithmetic", instances=inputs)["predictions"] == [
            [None, 2],
            [4, pytest.approx(-2e38)],
        ]

    def test_a_single_output_has_no_name(self, server: Server) -> None:
        x = [[1, 2], [3, 4.5]]
        assert server.predict("arithmetic", instances=x) == {"predictions": [[2, 4], [6, 9]]}
        assert server.predict("arithmetic", inputs=x) == {"outputs": [[2, 4], [6, 9]]}
        assert server.predict("arithmetic", inputs={"x": x}) == {"outputs": [[2, 4], [6, 9]]}

    def test_bytes_are_base64_in_requests_and_responses(self, server: Server) -> None:
        binary = {"b64": base64.b64encode(bytes(range(256))).decode()}
        rows = [
            {"image_bytes": binary, "n": [1, 2], "flag": True},
            {"image_bytes": "text", "n": [3, 4], "flag": False},
        ]
        response = server.predict("arithmetic", signature_name="kinds", instances=rows)
        assert response["predictions"] == [
            {"back_bytes": binary, "n": [1, 2], "flag": False},
            {"back_bytes": {"b64": "dGV4dA=="}, "n": [3, 4], "flag": True},
        ]

    def test_outputs_without_rows_are_columns(self, server: Server) -> None:
        request = {"signature_name": "total", "inputs": [1, 2, 6]}
        assert server.predict("arithmetic", **request)["outputs"] == {"mean": 3, "rows": [1, 2, 6]}
        request = {"signature_name": "total", "instances": [1, 2, 6]}
        reason = server.error("/v1/models/arithmetic:predict", request)
        assert 'send "inputs"' in reason

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v1/models/nothing", 404),
            ("GET", "/v1/models/reviews/versions/2", 404),
            ("GET", "/v1/models/reviews/versions/99999999999999999999999", 404),
            ("GET", "/v1/models/reviews/versions/2/metadata", 404),
            ("POST", "/v1/models/nothing:predict", 404),
            ("POST", "/v1/models/reviews/versions/2:predict", 404),
            ("POST", "/v1/models/reviews:classify", 404),
            ("DELETE", "/v1/models/reviews", 405),
            ("GET", "/v1/models/reviews:predict", 405),
            ("GET", "/nothing/%ff/%00", 404),
        ],
    )
    def test_an_unknown_model_version_or_path_is_an_error(
        self, server: Server, method: str, path: str, status: int
    ) -> None:
        response = server.client.request(method, path)
        assert (response.status_code, list(response.json())) == (status, ["error"])


GOOD = {"instances": [{"text": "fine"}]}

BAD = [
    (b"", "must be JSON"),
    (b"{", "must be JSON"),
    (b"[" * 200_000, "must be JSON"),
    (b'{"instances": ["\xff"]}', "must be UTF-8"),
    ([], "must be an object"),
    ({}, 'either "instances" or "inputs"'),
    ({**GOOD, "inputs": ["a"]}, 'either "instances" or "inputs"'),
    (
        {**GOOD, "signature_name": "other"},
        "must be one of explain, serving_default, stream, tokenize; received",
    ),
    ({**GOOD, "signature_name": [1]}, "must be one of explain, serving_default"),
    (b'{"inputs": [NaN]}', "NaN is no number in JSON"),
    (b'{"inputs": [-Infinity]}', "-Infinity is no number in JSON"),
    ({"instances": "text"}, "instances must be a list"),
    ({"instances": []}, "must have 1 to 1000 rows"),
    ({"instances": ["text"] * 10_000}, "must have 1 to 1000 rows"),
    ({"inputs": ["text"] * 10_000}, "must have 1 to 1000 rows"),
    ({"inputs": []}, "must have 1 to 1000 rows"),
    (
        {"instances": [{"txt": "a"}]},
        "just the inputs text; received an object with 'txt'",
    ),
    ({"instances": [{"text": "a", "more": 1}]}, "must have just the inputs text"),
    ({"instances": [{"text": "a"}, "b"]}, "instances[1] must have just the inputs text"),
    ({"instances": [1]}, 'text: row 0 must be text or {"b64": ...}; received 1'),
    ({"instances": ["a", None]}, "text: row 1 must be text"),
    ({"instances": [["a"]]}, "text: row 0 must be text"),
    ({"instances": [{"b64": "?"}]}, "invalid base64"),
    ({"instances": [{"b64": "YQ"}]}, "invalid base64"),
    ({"instances": [{"b64": "é"}]}, "invalid base64"),
    ({"instances": [{"b64": 1}]}, "must have just the inputs text"),
    ({"instances": ["\ud800"]}, "surrogate"),
    ({"inputs": {"text": "a"}}, "text must be a list of rows, each text"),
    ({"inputs": 3}, "text must be a list of rows, each text"),
]


@pytest.mark.parametrize(("content", "reason"), BAD, ids=lambda value: str(value)[:40])
def test_an_invalid_request_gets_its_reason(server: Server, content: Any, reason: str) -> None:
    assert reason in server.error("/v1/models/reviews:predict", content)


@pytest.mark.parametrize(
    ("signature", "inputs", "reason"),
    [
        (
            "serving_default",
            [[1, 2, 3]],
            "row 0 must be a list of 2 numbers; received a list of 3",
        ),
        (
            "serving_default",
            [[1, 2], [3]],
            "row 1 must be a list of 2 numbers; received a list of 1",
        ),
        ("serving_default", [[1, "a"]], 'x: row 0 must be a list of 2 numbers; received "a"'),
        ("serving_default", [[1, True]], "received true"),
        ("serving_default", [[1, [2]]], "received a list of 1"),
        ("serving_default", [[10**400, 1]], "out of the range"),
        ("serving_default", [[1e39, 1]], "out of the range of float32"),
        ("serving_default", [[1, 2000]], "x must be below 1000"),
        ("kinds", {"image_bytes": ["a"], "n": [[1.5]], "flag": [True]}, "whole numbers"),
        ("kinds", {"image_bytes": ["a"], "n": [[2**40]], "flag": [True]}, "out of the range"),
        ("kinds", {"image_bytes": ["a"], "n": [[1]], "flag": [1]}, "true or false"),
        (
            "kinds",
            {"image_bytes": ["a"], "n": [[1]], "flag": [True] * 2},
            "the same number of rows",
        ),
        ("kinds", {"image_bytes": ["a"], "n": [[1]]}, "must have just"),
        ("kinds", ["a"], "must be named: flag, image_bytes, n"),
    ],
)
def test_inputs_that_do_not_fit_the_signature_get_their_reason(
    server: Server, signature: str, inputs: Any, reason: str
) -> None:
    content = {"signature_name": signature, "inputs": inputs}
    assert reason in server.error("/v1/models/arithmetic:predict", content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just({"b64": "YQ=="}),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "b64", "x", "n"]) | st.text(), inner, max_size=3)
    ),
    max_leaves=12,
)
bodies = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {},
        optional={
            "instances": json_values | st.lists(json_values, max_size=5),
            "inputs": json_values,
            "signature_name": st.sampled_from(["serving_default", "kinds", "total", "x", 1, None]),
        },
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=700, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(["reviews", "arithmetic", "reviews/versions/1", "other"]), body=bodies)
def test_no_request_ends_the_server_or_its_workers(server: Server, name: str, body: bytes) -> None:
    workers = server.workers()
    response = server.client.post(f"/v1/models/{name}:predict", content=body)
    if response.status_code == 200:
        assert response.json().keys() <= {"predictions", "outputs"}
    else:
        assert 400 <= response.status_code < 500, (response.status_code, response.text)
        assert response.status_code in REASONS  # as /openapi.json says
        assert list(response.json()) == ["error"]
        assert "Traceback" not in response.text
        assert str(ROOT) not in response.text
    assert server.workers() == workers
