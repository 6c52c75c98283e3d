"""Metrics in the text format of Prometheus."""

from personsearch.web.metrics import Metrics


def test_each_server_has_metrics_of_its_own() -> None:
    one, other = Metrics(), Metrics()
    one.searches.inc()
    one.requests.labels("/api/v1/search", "POST", "200").inc(2)
    assert b"personsearch_searches_total 1.0" in one.text()
    row = b'personsearch_requests_total{method="POST",route="/api/v1/search",status="200"} 2.0'
    assert row in one.text()
    assert b"personsearch_searches_total 0.0" in other.text()
