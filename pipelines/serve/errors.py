"""The one exception that a request can end with."""

from __future__ import annotations


class RequestError(Exception):
    """A request that gets an error response: its HTTP status, and the reason in one line."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason


class InternalError(RequestError):
    """A defect of the server, which the log describes and the client only hears of."""

    def __init__(self) -> None:
        super().__init__(500, "a defect of the server: its log has the details")
