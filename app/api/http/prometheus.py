"""Prometheus metrics: requests as they happen, jobs as the database has them when asked."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.db.models import JOB_STATUSES
from app.runtime import health
from app.runtime.context import Context


class _StoredCollector(Collector):
    """Counts jobs, datasets and models at scrape time, so that a restart loses nothing."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterable[Metric]:
        """Yield one gauge of jobs by status, and one for each other kind of resource."""
        by_status, stored = health.counts(self._context)
        jobs = GaugeMetricFamily("fitserve_jobs", "Jobs by status", labels=["status"])
        for status in JOB_STATUSES:
            jobs.add_metric([status], by_status.get(status, 0))
        yield jobs
        for name, count in stored.items():
            yield GaugeMetricFamily(f"fitserve_{name}", f"Stored {name}", value=count)


class Metrics:
    """What ``/metrics`` shows: one registry per application."""

    def __init__(self, context: Context) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_StoredCollector(context))
        self.requests = Counter(
            "fitserve_http_requests",
            "HTTP requests",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "fitserve_http_request_seconds",
            "Time to answer",
            ["method", "route"],
            registry=self.registry,
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request under its route's template, never its path: paths are endless."""
        key = (method, route, status)
        if key not in self._children:  # looking a label up costs more than counting
            count = self.requests.labels(method, route, str(status))
            self._children[key] = count, self.seconds.labels(method, route)
        count, histogram = self._children[key]
        count.inc()
        histogram.observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
