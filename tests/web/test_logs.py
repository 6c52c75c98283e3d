"""The server's log: one line a request; unexpected errors are logged and hidden."""

import json
import logging
from typing import Any

import pytest
from starlette.testclient import TestClient

from personsearch.web.logs import JsonLines, log_to_stderr


def test_records_are_json_with_their_facts() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "GET %s", ("/\nfake",), None)
    record.facts = {"who": "desk", "status": 200}
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line) | {"time": 0} == {
        "time": 0,
        "level": "info",
        "message": "GET /\nfake",
        "who": "desk",
        "status": 200,
    }


def test_a_path_adds_no_line(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "personsearch.web"):
        client.get("/api/v1/people/1%0Afake")
    (line,) = [one.getMessage() for one in caplog.records if one.name == "personsearch.web"]
    assert line == "GET /api/v1/people/1\\nfake 422"


def test_the_loggers_write_to_stderr_alone() -> None:
    names = ("personsearch.web", "uvicorn.error")
    loggers = [logging.getLogger(name) for name in names]
    before = [(one.handlers, one.propagate, one.level) for one in loggers]
    try:
        log_to_stderr(as_json=True)
        assert all(isinstance(one.handlers[0].formatter, JsonLines) for one in loggers)
        assert not any(one.propagate for one in loggers)
    finally:
        for one, (handlers, propagate, level) in zip(loggers, before, strict=True):
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)


def test_an_error_that_nobody_expected_is_one_line(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise RuntimeError("secret")

    app: Any = client.app
    monkeypatch.setattr(app.state.service.archive.engine, "cameras", fails)
    answer = client.get("/api/v1/cameras")
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert "secret" in caplog.text
