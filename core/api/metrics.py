"""What Prometheus gets to see: requests by route, and what an assignment costs.

Labels are bounded: the route is the pattern it matched, never the address asked for.
With several worker processes, ``PROMETHEUS_MULTIPROC_DIR`` makes each write to files of
one folder, and whichever is asked answers for all.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Seconds; the promises are 0.025 for a read and 0.05 for an assignment.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Counters of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "segments_http_requests",
            "Requests answered, by route and status",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "segments_http_request_seconds",
            "Time from a request's head to the end of its answer, by route",
            ("method", "route"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "segments_http_requests_in_progress",
            "Requests being answered",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.assign_seconds = Histogram(
            "segments_assign_seconds",
            "Time that features and segments of one customer take, without waiting",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.database_errors = Counter(
            "segments_database_errors",
            "Requests that the database could not serve",
            registry=self.registry,
        )
        self.models_loaded = Counter(
            "segments_models_loaded",
            "Models read from the database: at first use, and after each refit",
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        method = method if method in METHODS else "other"
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)

    def page(self) -> bytes:
        """Return everything in Prometheus' text format, of all workers."""
        if MULTIPROCESS not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
