"""Serving: what a server needs to start, authentication, and the latest version."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Command, FinishedRun
from serve_settings import serve_settings
from serving_process import write_arithmetic

from pipelines.config.messages import RENAMED
from pipelines.serve.application import create_app
from pipelines.serve.checks import read_token
from pipelines.serve.served_models import ServedModels
from pipelines.serve.versions import latest_version

MISTAKES = [
    ([], "mode=serve needs run=DIRECTORY"),
    (["run=no/such"], "run=no/such must be a run, a SavedModel, or a directory of versions"),
    (["run={empty}"], "it holds no SavedModel"),
    (["run={unexported}"], "holds no saved_model: make one with mode=export run="),
    (["run={run},{run}"], "a name of its own, and sentiment is the name of 2"),
    (["run={run}", "serve.name=a,b"], "a name for each of 1 runs; received a,b"),
    (["run={run}", "serve.name=a/b"], "must be letters, digits, _ . or -; received 'a/b'"),
    (["run={run}", "serve.host=0.0.0.0"], "can be reached by others, so a token is needed"),
    (["run={run}", "serve.host=example.org"], "can be reached by others, so a token is needed"),
    (["run={run}", "serve.token=NO_SUCH"], "names neither"),
    (["run={run}", "serve.token=SHORT"], "8 or more printable ASCII characters"),
    (
        ["run={run}", "serve.origins=[models.example.org]"],
        "serve.origins must be addresses without a path, such as https://models.example.org; "
        "received 'models.example.org'",
    ),
    (["run={run}", "serve.max_headers=1"], "must be greater than or equal to 1024"),
    (["run={run}", "serve.port=70000"], "serve.port: must be less than or equal to 65535"),
    (
        ["run={run}", "serve.prot=1"],
        "serve.prot: there is no such setting; did you mean serve.port",
    ),
    *(
        (["run={run}", f"{old}=3"], f"error: {old} is now called {new}")
        for old, new in RENAMED.items()
        if old.startswith("serve.")
    ),
    (["run={run}", "train.epochs=3"], "train.epochs can't be set with mode=serve"),
    (["run={run}", "serve.port={taken}"], "must be free to listen on (Address already in use)"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_an_error_of_one_line(
    finished_run: FinishedRun,
    command_here: Command,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unexported").mkdir()
    shutil.copy(finished_run.directory / "config.yaml", tmp_path / "unexported")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        known = {
            "run": finished_run.directory,
            "empty": tmp_path / "empty",
            "unexported": tmp_path / "unexported",
            "taken": listener.getsockname()[1],
        }
        given = [argument.format(**known) for argument in arguments]
        result = command_here("mode=serve", *given, SHORT="abc")
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*.log"))


def test_a_damaged_saved_model_is_an_error_of_one_line(tmp_path: Path, command: Command) -> None:
    place = write_arithmetic(tmp_path / "arithmetic")
    (place / "saved_model.pb").write_bytes(b"no graph")
    result = command("mode=serve", f"run={place}", "serve.port=0")
    assert result.returncode == 1
    assert "its SavedModel can't be loaded" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_requests_without_the_token_are_rejected(tmp_path: Path) -> None:
    settings = serve_settings(token="unused")
    app = create_app(ServedModels({"one": tmp_path}, settings), "secret-token")

    async def get(path: str, **headers: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers=headers)

    for path in ("/v1/models/one", "/metrics", "/openapi.json", "/nothing"):
        for headers in ({}, {"Authorization": "secret-token"}, {"Authorization": b"Bearer \xff"}):
            response = asyncio.run(get(path, **headers))
            assert response.status_code == 401
            assert "Authorization: Bearer" in response.json()["error"]
    right = {"Authorization": "Bearer secret-token"}
    assert asyncio.run(get("/v1/models/one", **right)).json() == {"error": "one has no version yet"}
    assert "/v1/models/{name}:predict" in asyncio.run(get("/openapi.json", **right)).text
    assert asyncio.run(get("/healthz")).status_code == 200
    assert asyncio.run(get("/readyz")).status_code == 503


def test_the_token_comes_from_a_variable_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING_TOKEN", "from-the-environment")
    (tmp_path / "token").write_text("from-a-file\n")
    known = {"SERVING_TOKEN": "from-the-environment", tmp_path / "token": "from-a-file"}
    for place, token in known.items():
        assert read_token(serve_settings(token=str(place))) == token


def test_the_latest_version_is_served(tmp_path: Path) -> None:
    assert latest_version(tmp_path / "nothing") is None
    assert latest_version(tmp_path) is None
    for name in ("1", "2", "10", "x", "011", "-3", "12"):
        (tmp_path / name).mkdir()
        if name != "12":
            (tmp_path / name / "saved_model.pb").touch()
    found = latest_version(tmp_path)
    assert found
    assert (found.directory, found.number) == (tmp_path / "10", 10)
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").touch()
    found = latest_version(tmp_path)
    assert found
    assert (found.directory, found.number) == (tmp_path / "saved_model", None)
