"""Metrics in the text format of Prometheus, without names of people, files or keys."""

from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
STATUSES = frozenset(str(int(status)) for status in HTTPStatus) | {"499"}
"""499 stands for a client that left before its answer."""
OTHER = "other"
"""Label of every method, route and status that is not in these lists: a client invents them."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "personsearch_requests",
            "Requests by route, method and status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "personsearch_request_seconds",
            "Seconds from request to answer.",
            ("route",),
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.searches = Counter("personsearch_searches", "Searches.", registry=registry)
        self.erased = Counter("personsearch_erased", "Views erased.", registry=registry)
        self.refused = Counter(
            "personsearch_refused",
            "Requests refused for a wrong key or a rate limit.",
            ("why",),
            registry=registry,
        )
        self.people = Gauge(
            "personsearch_people", "Views of people in the store.", registry=registry
        )
        self.uploads = Gauge(
            "personsearch_query_pictures", "Query pictures in memory.", registry=registry
        )
        self.waiting = Gauge(
            "personsearch_waiting", "Requests that wait for room.", registry=registry
        )

    def count(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Count a request; `route` is the path of a route as it is declared, None for no route."""
        route = route or OTHER
        method = method if method in METHODS else OTHER
        code = str(status) if str(status) in STATUSES else OTHER
        self.requests.labels(route, method, code).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
