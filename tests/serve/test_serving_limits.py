"""Serving: limits of images, bodies, the queue and time."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image
from raw_http import RawClient
from serving_process import Server, serving, write_arithmetic

GOOD = {"instances": [{"text": "fine"}]}


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


def stalled_body(server: Server) -> int:
    """The status that a request ends with whose body never comes."""
    head = b"POST /v1/models/arithmetic:predict HTTP/1.1\r\nHost: localhost\r\n"
    client = RawClient(server.port, head + b"Content-Length: 9\r\n\r\n{")
    return client.read_response()[0]


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
