"""Limits of a connection before its request is complete: of size, of time, and of their number."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from raw_http import HEALTHZ, RawClient, get_healthz
from serve_settings import serve_settings
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from pipelines.serve import server as server_module
from pipelines.serve.connections import MAX_HEADER_COUNT, MAX_PIPELINED, MAX_URL, Connections
from pipelines.serve.served_models import ServedModels
from pipelines.serve.server import Server

LARGE = 20_000_000
"""Bytes of a response that no socket's buffer holds."""


class Stub:
    """An application in the place of the page, which responds once it may."""

    def __init__(self) -> None:
        self.may_respond = threading.Event()
        self.entered = threading.Semaphore(0)
        self.size = 5

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.entered.release()
        while not self.may_respond.is_set():
            await asyncio.sleep(0.01)
        await PlainTextResponse("x" * self.size)(scope, receive, send)


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, stub: Stub, **changed: Any) -> Iterator[int]:
    """The port of a server without a model, in a thread of its own, which ends by itself."""
    monkeypatch.setattr(server_module, "create_page", lambda _: stub)
    server = Server(ServedModels({"one": Path("nowhere")}, serve_settings(**changed)), None)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listener]))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stub.may_respond.set()
        server.should_exit = True
        thread.join(50)  # fewer seconds than a request may take: nothing is waited for in vain
    assert not thread.is_alive()


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, stub: Stub) -> Iterator[int]:
    with serving(monkeypatch, stub) as port:
        yield port


@pytest.fixture
def hasty_port(monkeypatch: pytest.MonkeyPatch, stub: Stub) -> Iterator[int]:
    """Of a server that waits for nobody."""
    with serving(monkeypatch, stub, header_timeout=0.5, idle_timeout=0.5, timeout=0.5) as port:
        yield port


class TestSize:
    """Headers and URLs without end are refused as soon as they are known to be too large."""

    @pytest.mark.parametrize("count", [1, 3000])
    def test_large_headers_are_refused(self, port: int, count: int) -> None:
        headers = [b"X-%d: %s\r\n" % (n, b"a" * 100_000) for n in range(count)]
        client = RawClient(port, HEALTHZ)
        sent = client.send(*headers, b"\r\n")
        assert sent < 20_000_000
        if count == 1:  # more than one is cut off while it is sent, and may lose the response
            status, body = client.read_response()
            assert (status, b"no more than 32,768 bytes" in body) == (431, True)
        assert client.is_closed()
        assert get_healthz(port) == 200

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (HEALTHZ + b"X: " + b"a" * 30_000 + b"\r\n\r\n", 200),
            (HEALTHZ + b"X: " + b"a" * 33_000 + b"\r\n\r\n", 431),
            (HEALTHZ + b"X: 1\r\n" * (MAX_HEADER_COUNT - 1) + b"\r\n", 200),
            (HEALTHZ + b"X: 1\r\n" * MAX_HEADER_COUNT + b"\r\n", 431),
            (b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * (MAX_URL - 1)), 404),
            (b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * MAX_URL), 414),
            (b"GET /" + b"a" * 100_000, 414),
            (b"no HTTP\r\n\r\n", 400),
            (b"\r\n" * 20_000, 431),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_limits_are_exact(self, port: int, request_bytes: bytes, status: int) -> None:
        client = RawClient(port, request_bytes)
        assert client.read_response()[0] == status
        assert status in (200, 404) or client.is_closed()

    @pytest.mark.parametrize(("size", "status"), [(32_768, 200), (32_769, 431)])
    def test_how_headers_are_split_changes_no_limit(
        self, port: int, size: int, status: int
    ) -> None:
        head = HEALTHZ + b"X: " + b"a" * (size - len(HEALTHZ) - 7) + b"\r\n\r\n"
        assert len(head) == size
        client = RawClient(port)
        for start in range(0, size, 9000):
            client.send(head[start : start + 9000])
            time.sleep(0.05)  # so that they are read one by one
        assert client.read_response()[0] == status

    def test_headers_after_a_body_are_limited_too(self, port: int) -> None:
        """A chunked body may have trailers, and the parser collects them as it does headers."""
        client = RawClient(port, HEALTHZ + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ")
        assert client.read_response()[0] == 200
        assert client.send(*[b"a" * 100_000] * 500) < 50_000_000
        assert client.is_closed()

    def test_a_body_may_be_larger_than_headers(self, port: int, stub: Stub) -> None:
        stub.may_respond.set()
        body = b"a" * 300_000
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        client = RawClient(port, (head + body) * 2 + HEALTHZ + b"\r\n")
        answers = [client.read_response() for _ in range(3)]
        assert answers == [(200, b"xxxxx")] * 2 + [(200, b'{"status": "alive"}')]

    def test_a_flood_of_pipelined_requests_is_cut_off(self, port: int, stub: Stub) -> None:
        """Each takes a hundred times the memory of its bytes until it is its turn."""
        stub.may_respond.set()
        few = RawClient(port, (HEALTHZ + b"\r\n") * MAX_PIPELINED)
        assert [few.read_response()[0] for _ in range(MAX_PIPELINED)] == [200] * MAX_PIPELINED
        many = RawClient(port)
        many.send((HEALTHZ + b"\r\n") * 1000)
        assert many.is_closed()
        assert get_healthz(port) == 200


class TestTime:
    """Who sends nothing, or never ends, is closed after a while."""

    def test_silent_connections_are_closed(self, hasty_port: int) -> None:
        client = RawClient(hasty_port)
        assert client.read_response() == (0, b"")

    def test_headers_that_come_slowly_are_refused(self, hasty_port: int) -> None:
        """Each byte would keep a connection open if only silence counted."""
        client = RawClient(hasty_port, HEALTHZ + b"X: ")
        late = threading.Event()

        def trickle() -> None:
            while not late.wait(0.1):
                client.send(b"a")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert client.read_response()[0] in (408, 0)  # 0 where a byte came after the response
        finally:
            late.set()
            thread.join()
        assert client.is_closed()

    def test_headers_that_stop_get_a_reason(self, hasty_port: int) -> None:
        client = RawClient(hasty_port, HEALTHZ)
        assert client.read_response() == (
            408,
            b'{"error": "the request\'s headers took longer than 0.5 s"}',
        )

    def test_a_connection_without_a_further_request_is_closed(self, hasty_port: int) -> None:
        client = RawClient(hasty_port, HEALTHZ + b"\r\n")
        assert client.read_response()[0] == 200
        assert client.read_response() == (0, b"")

    def test_a_body_that_nobody_asked_for_is_not_read_for_ever(self, hasty_port: int) -> None:
        client = RawClient(hasty_port, HEALTHZ + b"Content-Length: 9\r\n\r\n1")
        assert client.read_response()[0] == 200
        assert client.read_response() == (0, b"")

    def test_a_request_in_progress_has_its_time(self, hasty_port: int, stub: Stub) -> None:
        """None of these limits is one of the model."""
        client = RawClient(hasty_port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stub.entered.acquire(timeout=30)
        silent = RawClient(hasty_port)
        assert silent.is_closed()  # by now the time of both would be over
        stub.may_respond.set()
        assert client.read_response() == (200, b"xxxxx")

    @pytest.mark.parametrize("requests", [1, 2])
    def test_responses_that_are_not_read_are_dropped(
        self, hasty_port: int, stub: Stub, requests: int
    ) -> None:
        stub.size = LARGE
        stub.may_respond.set()
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        client = RawClient(hasty_port, request * requests, receive_buffer=4096)
        silent = [RawClient(hasty_port) for _ in range(2)]
        assert all(one.is_closed() for one in silent)
        for _ in range(2):  # some seconds in which nothing is read
            again = RawClient(hasty_port)
            assert again.is_closed()
        assert len(client.read_all()) < LARGE


class TestNumber:
    """Whoever waits longest gives way, and no request in progress does."""

    def test_the_connection_that_waits_longest_gives_way(
        self, monkeypatch: pytest.MonkeyPatch, stub: Stub
    ) -> None:
        with serving(monkeypatch, stub, max_connections=3) as port:
            first, second, third = (RawClient(port) for _ in range(3))
            for client in (second, third, first):  # so `second` has waited longest
                client.send(HEALTHZ + b"\r\n")
                assert client.read_response()[0] == 200
            assert get_healthz(port) == 200
            assert second.is_closed()
            assert first.is_open()
            assert third.is_open()

    def test_a_request_in_progress_gives_way_to_none(
        self, monkeypatch: pytest.MonkeyPatch, stub: Stub
    ) -> None:
        with serving(monkeypatch, stub, max_connections=2) as port:
            busy = [RawClient(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(2)]
            for _ in busy:
                assert stub.entered.acquire(timeout=30)
            status, body = RawClient(port).read_response()
            assert (status, b"too many connections" in body) == (503, True)
            stub.may_respond.set()
            assert [client.read_response()[0] for client in busy] == [200, 200]
            assert get_healthz(port) == 200

    def test_bodies_that_do_not_come_give_way(
        self, monkeypatch: pytest.MonkeyPatch, stub: Stub
    ) -> None:
        with serving(monkeypatch, stub, max_connections=2) as port:
            head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1"
            stalled = [RawClient(port, head) for _ in range(2)]
            for _ in stalled:
                assert stub.entered.acquire(timeout=30)
            assert get_healthz(port) == 200
            assert stalled[0].is_closed()

    @pytest.mark.parametrize(
        ("files", "most"),
        [(256, 128), (1024, 896), (100, 50), (1_000_000, 1000), (resource.RLIM_INFINITY, 1000)],
    )
    def test_open_files_limit_the_number(
        self, monkeypatch: pytest.MonkeyPatch, files: int, most: int
    ) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
        assert Connections(serve_settings(max_connections=1000)).limit == most


def test_head_has_the_headers_of_get_and_no_body(port: int, stub: Stub) -> None:
    """Load balancers probe by HEAD."""
    stub.may_respond.set()
    for path, status in ((b"/healthz", 200), (b"/", 200), (b"/readyz", 503), (b"/nothing", 404)):
        client = RawClient(port, b"HEAD %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        head = client.read_head()
        assert head.startswith(b"HTTP/1.1 %d" % status)
        assert b"content-length: 0" not in head
        client.send(HEALTHZ + b"\r\n")  # what follows is the next response, no body
        assert client.read_response() == (200, b'{"status": "alive"}')
