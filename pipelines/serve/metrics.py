"""Metrics of the server, which Prometheus reads at /metrics."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Metrics by model, in a registry of their own: so one process can hold several servers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "serving_requests",
            "Requests to predict, by the status of their response.",
            ["model", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "serving_request_seconds",
            "Seconds from a request's headers to its response.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_rows = Histogram(
            "serving_batch_rows",
            "Rows in a batch.",
            ["model"],
            buckets=ROWS,
            registry=self.registry,
        )
        self.open = Gauge(
            "serving_open_requests", "Requests in progress.", ["model"], registry=self.registry
        )
        self.restarts = Counter(
            "serving_worker_restarts",
            "Worker processes that died and were started again.",
            ["model"],
            registry=self.registry,
        )
        self.version = Gauge(
            "serving_version", "The version that is served.", ["model"], registry=self.registry
        )

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
