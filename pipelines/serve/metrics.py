"""What Prometheus is told at /metrics."""

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
    """Counts by model. In a registry of its own, so that a process can hold several servers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "serving_requests",
            "Requests to predict, by the status that they ended with.",
            ["model", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "serving_request_seconds",
            "Seconds from a request's headers to its answer.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_rows = Histogram(
            "serving_batch_rows",
            "Rows that the model was given at once.",
            ["model"],
            buckets=ROWS,
            registry=self.registry,
        )
        self.open = Gauge(
            "serving_open_requests", "Requests being answered.", ["model"], registry=self.registry
        )
        self.restarts = Counter(
            "serving_worker_restarts",
            "Worker processes that died and were started again.",
            ["model"],
            registry=self.registry,
        )
        self.version = Gauge(
            "serving_version", "Version that is served.", ["model"], registry=self.registry
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
