"""Serving: workers that die, and new versions, lose no request."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import httpx
import psutil
from serving_process import Load, Server, serving, write_arithmetic

from pipelines.core.files import atomic_replace

GOOD = {"instances": [{"text": "fine"}]}


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
