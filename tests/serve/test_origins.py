"""Names that a request may know the server by, and pages that may send it one."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from serve_settings import serve_settings
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from pipelines.serve.origins import OriginCheck

PROXY = ["https://models.example.org", "http://Lab:8080"]
EVIL = "http://evil.example"


def status(headers: list[tuple[str, str]], **settings: Any) -> int:
    """The status of a request with these headers; 200 if it reaches the application."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("reached")(scope, receive, send)

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(OriginCheck(application, serve_settings(**settings)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            given = httpx.Request("POST", "http://localhost/", headers=headers, content="{}")
            return await client.send(given)

    response = asyncio.run(request())
    assert ("error" in response.text) == (response.status_code != 200)
    return response.status_code


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("LocalHost:8501", 200),
        ("127.0.0.1:8501", 200),
        ("[::1]:8501", 200),
        ("evil.example:8501", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.1:8501", 421),
        ("0.0.0.0:8501", 421),
        ("models.example.org", 421),
        ("[::1", 421),
    ],
)
def test_on_loopback_a_foreign_host_is_refused(host: str, expected: int) -> None:
    """So no page reads answers by DNS rebinding, where its own name has our address."""
    assert status([("Host", host)]) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("models.example.org", 200),
        ("lab:8080", 200),
        ("localhost:8501", 200),
        ("192.0.2.1", 200),
        ("evil.example", 421),
    ],
)
def test_elsewhere_the_host_is_checked_if_there_are_origins(host: str, expected: int) -> None:
    assert status([("Host", host)], host="0.0.0.0", origins=PROXY) == expected
    assert status([("Host", host)], host="0.0.0.0") == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:8501", 200),
        ("https://localhost:8501", 200),  # a proxy adds TLS and hands the name on
        ("http://127.0.0.1:8501", 403),
        ("http://localhost:9999", 403),
        ("http://localhost", 403),
        (EVIL, 403),
        (f"{EVIL}/localhost:8501", 403),
        ("null", 403),
        ("", 403),
        ("https://models.example.org", 403),
    ],
)
def test_a_page_of_another_origin_is_refused(origin: str, expected: int, address: str) -> None:
    headers = [("Host", "localhost:8501"), ("Origin", origin)]
    assert status(headers, host=address) == expected
    # What a form of a foreign page can send without being asked for permission.
    assert status([*headers, ("Content-Type", "text/plain")], host=address) == expected


def test_pages_of_serve_origins_may_send_requests() -> None:
    """A proxy may have its own name in the browser, and another one for the server."""
    for host in ("localhost:8501", "models.example.org"):
        for origin, expected in ((PROXY[0], 200), ("http://lab:8080", 200), (EVIL, 403)):
            assert status([("Host", host), ("Origin", origin)], origins=PROXY) == expected


def test_a_request_without_host_and_origin_is_no_browsers() -> None:
    assert status([("Host", "")]) == 200
    assert status([("Host", ""), ("Origin", "null")]) == 403


def test_two_hosts_are_no_request() -> None:
    assert status([("Host", "localhost"), ("Host", "evil.example")]) == 400
    assert status([("Host", "localhost"), *[("Origin", "http://localhost")] * 2]) == 400
