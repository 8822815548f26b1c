"""The one exception that a request can end with."""

from __future__ import annotations


class RequestError(Exception):
    """What a client is told instead of an answer: an HTTP status and the reason, in one line."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason
