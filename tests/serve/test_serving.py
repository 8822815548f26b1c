"""Serving: TensorFlow Serving's REST API by a real server, and what the server survives."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import tensorflow as tf
from conftest import ROOT, FinishedRun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from serving_process import Load, Server, serving, write_arithmetic

from pipelines.core.files import atomic_replace
from pipelines.serve.application import ERROR_RESPONSES

TEXTS = ["great film", "a dull story of people", "", "映画 \U0001f600", "x " * 3000]


@pytest.fixture(scope="module")
def server(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    arithmetic = write_arithmetic(folder / "arithmetic")
    names = "serve.name=reviews,arithmetic"
    limits = ["serve.max_rows=1000", "serve.max_pixels=1000000", "serve.drain_seconds=0"]
    run = f"run={finished_run.directory},{arithmetic}"
    with serving(folder / "log", run, names, *limits) as server:
        yield server


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
            ("POST", "/v1/models/reviews:classify", 405),
            ("DELETE", "/v1/models/reviews", 405),
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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_an_image_bomb_is_refused_by_its_header(server: Server, kind: str) -> None:
    def request(side: int) -> dict[str, Any]:
        file = io.BytesIO()
        Image.new("1" if kind == "PNG" else "L", (side, side)).save(file, kind)
        image = {"b64": base64.b64encode(file.getvalue()).decode()}
        row = {"image_bytes": image, "n": [1], "flag": True}
        return {"signature_name": "kinds", "instances": [row]}

    path = "/v1/models/arithmetic:predict"
    bomb = {"PNG": 20_000, "GIF": 16_000}.get(kind, 2000)
    assert f"1,000,000 pixels; received {bomb**2:,}" in server.error(path, request(bomb))
    assert server.client.post(path, json=request(50)).status_code == 200


def test_an_animation_has_the_pixels_of_all_its_frames(server: Server) -> None:
    file = io.BytesIO()
    frames = [Image.new("RGB", (300, 300), (9 * number, 0, 0)) for number in range(20)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    content = file.getvalue()
    for cut in (len(content), len(content) - 40):
        image = {"b64": base64.b64encode(content[:cut]).decode()}
        row = {"image_bytes": image, "n": [1], "flag": True}
        request = {"signature_name": "kinds", "instances": [row]}
        reason = server.error("/v1/models/arithmetic:predict", request)
        assert "1,000,000 pixels; received 1," in reason or "can't be counted" in reason


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_while_it_is_read(
    server: Server, chunked: bool
) -> None:
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            yield b" " * 1_000_000
            sent += 1

    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    path, body = "/v1/models/reviews:predict", parts() if chunked else b" " * 100_000_000
    response = server.client.post(path, content=body)
    assert response.status_code == 413
    assert "no more than 10,000,000 bytes" in response.json()["error"]
    assert process.memory_info().rss - before < 60e6
    assert server.predict("reviews", **GOOD)


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
        assert response.status_code in ERROR_RESPONSES  # as /openapi.json tells
        assert list(response.json()) == ["error"]
        assert "Traceback" not in response.text
        assert str(ROOT) not in response.text
    assert server.workers() == workers


def test_an_invalid_row_fails_no_other_request(server: Server) -> None:
    """Requests of one batch get what each would get alone."""
    statuses: dict[int, list[int]] = {1: [], 2000: []}

    def send(value: int) -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=60) as client:
            for _ in range(20):
                response = client.post(
                    "/v1/models/arithmetic:predict", json={"inputs": [[value, 0]]}
                )
                statuses[value].append(response.status_code)

    threads = [threading.Thread(target=send, args=[value]) for value in [1] * 6 + [2000] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses[1]) == {200}
    assert set(statuses[2000]) == {400}
    counted = server.client.get("/metrics").text
    assert 'serving_requests_total{model="arithmetic",status="200"}' in counted
    assert "serving_batch_rows_bucket" in counted


def test_a_worker_that_is_killed_under_load_is_replaced(server: Server) -> None:
    before = server.workers()
    path = next(path for path in before if path.endswith("saved_model"))
    with Load(server, "reviews", GOOD) as load:
        server.wait_for(lambda: len(load.responses) > 50)
        os.kill(before[path], signal.SIGKILL)
        server.wait_for(lambda: "recovered" in server.log_text())
        known = len(load.responses)
        server.wait_for(lambda: len(load.responses) > known + 50)
    assert {status for status, _ in load.responses} == {200}
    after = server.workers()
    assert after.pop(path) != before.pop(path)
    assert after == before
    assert re.search(
        r"reviews version 1: worker process \d+ was killed by SIGKILL", server.log_text()
    )
    assert (
        'serving_worker_restarts_total{model="reviews"} 1.0' in server.client.get("/metrics").text
    )


def test_a_request_that_kills_its_worker_twice_is_aborted(server: Server) -> None:
    path = next(path for path in server.workers() if path.endswith("arithmetic"))
    responses: list[httpx.Response] = []

    def send() -> None:
        content = {"signature_name": "slow", "inputs": [30]}
        with httpx.Client(base_url=server.client.base_url, timeout=120) as client:
            responses.append(client.post("/v1/models/arithmetic:predict", json=content))

    thread = threading.Thread(target=send)
    thread.start()
    for _ in range(2):
        server.wait_for(lambda: server.client.get("/readyz").status_code == 200)
        time.sleep(0.5)
        os.kill(server.workers()[path], signal.SIGKILL)
        server.wait_for(lambda: server.client.get("/readyz").status_code == 503)
    thread.join()
    assert responses[0].status_code == 503
    assert "died twice" in responses[0].json()["error"]
    server.wait_for(lambda: server.client.get("/readyz").status_code == 200)
    assert server.predict("arithmetic", instances=[[1, 2]])


def stalled_body(server: Server) -> int:
    """The status that a request ends with whose body never comes."""
    address = (server.client.base_url.host, server.client.base_url.port or 80)
    with socket.create_connection(address, timeout=60) as connection:
        head = (
            "POST /v1/models/arithmetic:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
        )
        connection.sendall(head.encode())
        return int(connection.recv(1000).split()[1])


def test_time_and_queue_are_limited_and_sigterm_finishes_requests_in_flight(
    tmp_path: Path,
) -> None:
    arithmetic = write_arithmetic(tmp_path / "arithmetic")
    responses: list[httpx.Response] = []
    limits = ["serve.drain_seconds=1", "serve.timeout=8", "serve.max_queue=1"]
    with serving(tmp_path / "log", f"run={arithmetic}", *limits) as server:

        def send(seconds: float) -> None:
            content = {"signature_name": "slow", "inputs": [seconds]}
            url = f"{server.client.base_url}/v1/models/arithmetic:predict"
            responses.append(httpx.post(url, json=content, timeout=60))

        thread = threading.Thread(target=send, args=[60])
        thread.start()
        time.sleep(1)
        send(1)
        assert (responses[0].status_code, responses[0].headers["Retry-After"]) == (503, "1")
        thread.join()
        assert responses[1].status_code == 504
        assert "longer than 8 s" in responses[1].json()["error"]
        server.wait_for(lambda: "recovered" in server.log_text())
        assert stalled_body(server) == 408

        responses.clear()
        workers = server.workers()
        thread = threading.Thread(target=send, args=[4])
        thread.start()
        time.sleep(1)
        server.process.terminate()
        server.wait_for(lambda: server.client.get("/readyz").status_code == 503)
        assert server.client.get("/healthz").status_code == 200
        thread.join()
        assert server.process.wait(30) == 0
    assert responses[0].status_code == 200
    assert responses[0].json() == {"outputs": [4.0]}
    assert not any(psutil.pid_exists(worker) for worker in workers.values())
    assert "Traceback" not in server.log_text()
    assert server.log_text().splitlines()[-1].endswith("The server has ended.")


def test_new_versions_are_loaded_without_losing_a_request(tmp_path: Path) -> None:
    """From a directory of versions, and from a run whose export is replaced."""
    write_arithmetic(tmp_path / "versions" / "3", 3.0)
    write_arithmetic(tmp_path / "run" / "saved_model", 1.0)
    run = f"run={tmp_path / 'versions'},{tmp_path / 'run'}"
    with serving(tmp_path / "log", run, "serve.reload_interval=0.2") as server:
        content = {"instances": [[1, 0]]}
        before = server.workers()
        with Load(server, "versions", content, 2) as one, Load(server, "run", content, 2) as other:
            server.wait_for(lambda: one.responses and other.responses)
            write_arithmetic(tmp_path / "new", 4.0).rename(tmp_path / "versions" / "4")
            atomic_replace(
                write_arithmetic(tmp_path / "next", 2.0), tmp_path / "run" / "saved_model"
            )
            server.wait_for(lambda: server.log_text().count("is unloaded") == 2)
            broken = shutil.copytree(tmp_path / "versions" / "4", tmp_path / "broken")
            (broken / "saved_model.pb").write_bytes(b"no graph")
            # By one rename: the server could load a copy that is complete but not yet broken.
            broken.rename(tmp_path / "versions" / "5")
            server.wait_for(lambda: "new version can't be loaded" in server.log_text())
        for load, factors in ((one, [3.0, 4.0]), (other, [1.0, 2.0])):
            assert {status for status, _ in load.responses} == {200}
            seen = [response["predictions"][0][0] for _, response in load.responses]
            assert sorted(set(seen)) == factors
        for name, version in (("versions", "4"), ("run", "2")):
            statuses = server.client.get(f"/v1/models/{name}").json()["model_version_status"]
            states = {status["version"]: status["state"] for status in statuses}
            assert states.pop(version) == "AVAILABLE"
            assert states in ({}, {"5": "LOADING"}), "the broken version is tried again"
        assert not any(psutil.pid_exists(worker) for worker in before.values())
