"""What /openapi.json says is so: schemathesis asks whatever it allows, and much that it doesn't."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from serving_process import Server

from pipelines.serve.description import MODEL_PATHS, REASONS, describe_api

COMMAND = [sys.executable, "-m", "schemathesis.cli", "run"]


def test_every_error_is_described_once() -> None:
    description = describe_api(["one"], with_token=True)
    assert description["components"]["responses"].keys() == {str(status) for status in REASONS}
    assert description["paths"]["/healthz"]["get"]["security"] == []
    used = {
        status
        for path in description["paths"].values()
        for method in path.keys() - {"parameters"}
        for status in path[method]["responses"]
    }
    assert used == {"200", *description["components"]["responses"]}
    without = describe_api(["one"], with_token=False)["paths"][MODEL_PATHS[0]]["get"]
    assert "401" not in without["responses"]


def test_a_server_says_which_models_it_has(server: Server) -> None:
    path = server.client.get("/openapi.json").json()["paths"][MODEL_PATHS[0]]
    assert path["parameters"][0]["schema"] == {"enum": ["reviews", "arithmetic"]}
    assert server.client.get("/metrics").headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("examples", "fewest"), [(20, 200), pytest.param(320, 2000, marks=pytest.mark.slow)]
)
def test_no_request_gets_what_is_not_described(
    server: Server, tmp_path: Path, examples: int, fewest: int
) -> None:
    """No 5xx, no status, kind of content or JSON but those described, no wrong request accepted."""
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("needs the package schemathesis")
    url = f"{server.client.base_url}/openapi.json"
    # That what fits the description is accepted can't be: which inputs fit, the signatures say.
    options = ["--exclude-checks", "positive_data_acceptance", "--max-examples", str(examples)]
    command = [*COMMAND, url, *options, "--seed", "1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout
    found = re.search(r"(\d+) generated, (\d+) passed", result.stdout)
    assert found, result.stdout
    assert int(found[2]) >= fewest
