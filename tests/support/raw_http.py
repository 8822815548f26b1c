"""Clients that speak to a server by plain sockets, as no HTTP library would."""

from __future__ import annotations

import re
import socket

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
"""A request without the empty line at its end."""

PATIENCE = 60.0
"""Seconds that a client waits: many more than a server needs on a busy machine."""


class RawClient:
    """A connection, and what is read from it."""

    def __init__(self, port: int, first: bytes = b"", receive_buffer: int | None = None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(first)

    def send(self, *parts: bytes) -> int:
        """Sends until the server closes the connection. The number of bytes that were sent."""
        sent = 0
        try:
            for part in parts:
                self.socket.sendall(part)
                sent += len(part)
        except ConnectionError:
            pass
        return sent

    def read_response(self) -> tuple[int, bytes]:
        """The status and the body of the next response; (0, b"") if the connection is closed."""
        head = self._read_until(b"\r\n\r\n")
        if not head:
            return 0, b""
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        return int(head.split()[1]), self._read(int(length[1]) if length else 0)

    def read_head(self) -> bytes:
        return self._read_until(b"\r\n\r\n")

    def read_all(self) -> bytes:
        """All that the server sends until it closes the connection."""
        content = bytearray()
        try:
            while part := self.socket.recv(1 << 20):
                content += part
        except ConnectionError:
            pass
        return bytes(content)

    def is_closed(self) -> bool:
        """Waits until the server closes the connection."""
        try:
            self.read_all()
        except TimeoutError:
            return False
        return True

    def is_open(self) -> bool:
        """Whether the server has not closed the connection; nothing must be left to read."""
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        finally:
            self.socket.settimeout(PATIENCE)

    def close(self) -> None:
        self.socket.close()

    __del__ = close  # most tests end with connections that the server has closed

    def _read_until(self, end: bytes) -> bytes:
        content = b""
        try:
            while not content.endswith(end):
                if not (byte := self.socket.recv(1)):
                    return b""
                content += byte
        except ConnectionError:
            return b""
        return content

    def _read(self, size: int) -> bytes:
        content = b""
        while len(content) < size and (part := self.socket.recv(size - len(content))):
            content += part
        return content


def get_healthz(port: int) -> int:
    """The status of a request by a connection of its own; 0 if there is no response."""
    client = RawClient(port, HEALTHZ + b"\r\n")
    try:
        return client.read_response()[0]
    finally:
        client.close()
