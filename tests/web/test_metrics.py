"""Metrics in the text format of Prometheus."""

from starlette.testclient import TestClient

from personsearch.web.metrics import Metrics


def test_each_server_has_metrics_of_its_own() -> None:
    one, other = Metrics(), Metrics()
    one.searches.inc()
    one.requests.labels("/api/v1/search", "POST", "200").inc(2)
    assert b"personsearch_searches_total 1.0" in one.text()
    row = b'personsearch_requests_total{method="POST",route="/api/v1/search",status="200"} 2.0'
    assert row in one.text()
    assert b"personsearch_searches_total 0.0" in other.text()


def test_clients_invent_no_labels(client: TestClient) -> None:
    def rows() -> set[str]:
        lines = client.get("/metrics").text.splitlines()
        return {line.split(" ")[0] for line in lines if line.startswith("personsearch_requests_")}

    client.request("INVENTED", "/api/v1/store")
    client.get("/api/v1/invented")
    rows()  # the requests for metrics count from now on
    before = rows()
    for number in range(50):
        assert client.request(f"INVENTED{number}", "/api/v1/store").status_code == 405
        assert client.get(f"/api/v1/invented/{number}").status_code == 404
        client.get(f"/static/{number}")
    added = rows() - before
    assert len(added) <= 2, added
    assert not any("INVENTED" in row or "invented" in row for row in added | before)
