"""A server with few open files, as after ulimit -n 256, among clients that wish it ill."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterable, Iterator

import psutil
import pytest
from raw_http import HEALTHZ, RawClient, get_healthz
from serving_process import Server, serving, write_arithmetic

PREDICT = b"POST /v1/models/arithmetic:predict HTTP/1.1\r\nContent-Type: text/plain\r\n"
WEBSOCKET = (
    b"GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    run = f"run={write_arithmetic(folder / 'arithmetic')}"
    with serving(folder / "log", run, "serve.drain_seconds=0", open_files=256) as server:
        yield server


def test_silent_and_slow_connections_shut_nobody_out(server: Server) -> None:
    silent = [RawClient(server.port) for _ in range(300)]
    slow = [RawClient(server.port, HEALTHZ + b"X: ") for _ in range(100)]
    for _ in range(5):
        assert get_healthz(server.port) == 200
        for client in slow:
            client.send(b"a")
    assert server.predict("arithmetic", instances=[[1, 2]]) == {"predictions": [[2, 4]]}
    assert sum(client.is_open() for client in silent + slow) < 256
    for client in silent + slow:
        client.close()


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("3,000 headers", [b"X: " + b"a" * 100_000 + b"\r\n"] * 3000),
        ("one header", [b"X: ", *[b"a" * 1_000_000] * 100]),
        ("URL", [b"a" * 1_000_000] * 50),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_headers_without_end_cost_no_memory(
    server: Server, label: str, parts: Iterable[bytes]
) -> None:
    process = psutil.Process(server.process.pid)
    get_healthz(server.port)
    before = process.memory_info().rss
    client = RawClient(server.port, b"GET /" if label == "URL" else HEALTHZ)
    sender = threading.Thread(target=client.send, args=parts)
    sender.start()
    most = before
    while sender.is_alive():
        assert get_healthz(server.port) == 200
        most = max(most, process.memory_info().rss)
    assert client.is_closed()
    assert most - before < 20_000_000


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Host: localhost\r\n", 200),
        (b"Host: localhost\r\nOrigin: http://localhost\r\n", 200),
        (b"Host: localhost\r\nOrigin: http://evil.example\r\n", 403),
        (b"Host: evil.example\r\nOrigin: http://evil.example\r\n", 421),
        (b"Host: evil.example\r\n", 421),
    ],
)
def test_a_foreign_page_gets_no_answer(server: Server, headers: bytes, status: int) -> None:
    body = b'{"instances": [[1, 2]]}'
    head = PREDICT + headers + b"Content-Length: %d\r\n\r\n" % len(body)
    answered, content = RawClient(server.port, head + body).read_response()
    assert (answered, b"predictions" in content) == (status, status == 200)
    if importlib.util.find_spec("nicegui"):
        client = RawClient(server.port, WEBSOCKET + headers + b"\r\n")
        expected = 101 if status == 200 else status
        assert client.read_head().startswith(b"HTTP/1.1 %d" % expected)


def test_sigterm_ends_a_server_with_open_connections(server: Server) -> None:
    """The last of this module."""
    idle = RawClient(server.port, HEALTHZ + b"\r\n")
    assert idle.read_response()[0] == 200
    clients = [RawClient(server.port), RawClient(server.port, HEALTHZ), idle]
    if importlib.util.find_spec("nicegui"):
        clients.append(RawClient(server.port, WEBSOCKET + b"Host: localhost\r\n\r\n"))
        assert clients[-1].read_head().startswith(b"HTTP/1.1 101")
    server.process.terminate()
    assert server.process.wait(50) == 0  # a request would be waited for for 60 seconds
    assert all(client.is_closed() for client in clients)
    assert "Traceback" not in server.log_text()
