"""A SavedModel with inputs of all types: the same outputs by the server, client and prediction."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serving_process import Load, Server, serving, write_all_types

from pipelines.core.contracts import FileBytes
from pipelines.export import client
from pipelines.predict.batched_inference import RowError
from pipelines.predict.predict import _SavedModel
from pipelines.runs.directory import Run

FILE = b"\x00\xff"
ROWS: list[dict[str, Any]] = [
    {
        "text": "One",
        "age": 40,
        "tokens": ["a", "b"],
        "ids": [1, 2, 3],
        "series": [[1.0, 2.0], [3.0, 4.0]],
        "file_bytes": {"b64": base64.b64encode(FILE).decode()},
    },
    {"text": "Zwei", "age": 0.5, "tokens": [], "ids": [7], "series": [[5, 6]], "file_bytes": "x"},
]
OUTPUTS = [
    {
        "text": "one",
        "years": 41.0,
        "joined": "a b",
        "words": 2,
        "sum": 6,
        "last": [3.0, 4.0],
        "lengths": [3, 2],
        "bytes": 2,
    },
    {
        "text": "zwei",
        "years": 1.5,
        "joined": "",
        "words": 0,
        "sum": 7,
        "last": [5.0, 6.0],
        "lengths": [1, 1],
        "bytes": 1,
    },
]


def strip(row: dict[str, Any]) -> dict[str, Any]:
    """Padding tokens are joined as spaces."""
    return {**row, "joined": row["joined"].strip()}


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all_types(tmp_path_factory.mktemp("run") / "saved_model")


@pytest.fixture(scope="module")
def server(saved_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("served") / "log"
    limits = ["serve.drain_seconds=0", "serve.batch_timeout=0.05"]
    with serving(log, f"run={saved_model}", *limits) as server:
        yield server


def test_rows_and_columns_of_all_types_are_served(server: Server) -> None:
    rows = server.predict("saved_model", instances=ROWS)["predictions"]
    assert [strip(row) for row in rows] == OUTPUTS
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    outputs = server.predict("saved_model", inputs=columns)["outputs"]
    assert outputs == {name: [row[name] for row in rows] for name in rows[0]}


def test_requests_with_different_lengths_are_one_batch_and_get_their_own_outputs(
    server: Server,
) -> None:
    first, second = ({"instances": [row]} for row in ROWS)
    with (
        Load(server, "saved_model", first, clients=4) as one,
        Load(server, "saved_model", second, clients=4) as two,
    ):
        server.wait_for(lambda: len(one.responses) > 40 and len(two.responses) > 40)
    for load, expected in ((one, OUTPUTS[0]), (two, OUTPUTS[1])):
        assert {status for status, _ in load.responses} == {200}
        for _, response in load.responses:
            assert [strip(row) for row in response["predictions"]] == [expected]
    counts = dict(line.rsplit(" ", 1) for line in server.client.get("/metrics").text.splitlines())
    batches = float(counts['serving_batch_rows_count{model="saved_model"}'])
    assert float(counts['serving_batch_rows_bucket{le="1.0",model="saved_model"}']) < batches


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("age", "40", 'age: row 1 must be a number; received "40"'),
        ("tokens", "a b", 'tokens: row 1 must be a list of text; received "a b"'),
        ("ids", [1, "a"], 'ids: row 1 must be a list of whole numbers; received "a"'),
        ("series", [[1, 2], [3]], "series: row 1 must be a list of lists of 2 numbers; received"),
        ("file_bytes", 3, "file_bytes: row 1 must be text or"),
    ],
)
def test_an_input_of_another_type_is_an_error_of_one_line(
    server: Server, name: str, value: Any, reason: str
) -> None:
    rows = [ROWS[0], {**ROWS[1], name: value}]
    message = server.error("/v1/models/saved_model:predict", {"instances": rows})
    assert message.startswith(f"400: {reason}")
    assert "\n" not in message


def test_the_client_of_a_fresh_process_pads_like_the_server(saved_model: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-I", client.__file__, str(saved_model)],
        input="".join(json.dumps(row) + "\n" for row in ROWS),
        capture_output=True,
        text=True,
        cwd="/",
        check=True,
    )
    assert [strip(json.loads(line)) for line in result.stdout.splitlines()] == OUTPUTS


class AnyTask:
    """Stands in for a task, of which prediction needs only this."""

    def to_json(self, outputs: dict[str, Any]) -> dict[str, Any]:
        return outputs


def test_prediction_pads_like_the_server_and_loses_only_rows_that_do_not_fit(
    saved_model: Path,
) -> None:
    model = _SavedModel(Run(saved_model.parent), AnyTask())  # type: ignore[arg-type]
    rows = [{**row, "file_bytes": FileBytes(FILE[: 2 - i], "file")} for i, row in enumerate(ROWS)]
    rows[0]["series"] = np.array(rows[0]["series"])
    bad = [{**rows[0], "ids": [1, 1.5]}, {**rows[1], "series": [[1, 2], [3]]}]
    first, second, third, fourth = model.predict([rows[0], *bad, rows[1]])
    for found, row, expected in ((first, rows[0], OUTPUTS[0]), (fourth, rows[1], OUTPUTS[1])):
        assert isinstance(found, dict)
        assert strip(found) == {**found, **expected}
        assert found["tokens"] == row["tokens"]
        assert found["file_bytes"] == "file"
    for found in (second, third):
        assert isinstance(found, RowError)
        assert found.reason.startswith("the model can't predict it: ")


def test_the_metadata_has_all_inputs_also_the_lengths(server: Server) -> None:
    metadata = httpx.get(f"{server.client.base_url}/v1/models/saved_model/metadata").json()
    inputs = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
    assert inputs.keys() == {*ROWS[0], "tokens_length", "ids_length", "series_length"}
