"""`personsearch serve`, through its real entry point where it serves."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crowd import make_store

from personsearch.engines.migrate import migrate
from personsearch.engines.uri import open_engine
from personsearch.store.audit import AuditLog, user_of_this_machine
from personsearch.web.keys import Keys

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("crowd"))


@contextmanager
def serve(*arguments: str) -> Iterator[tuple[str, list[str]]]:
    """Serve until the block ends; give the address, and the lines of the log after the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "personsearch", "serve", "--port", "0", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    lines: list[str] = []
    try:
        for line in process.stderr:
            if match := re.search(r"served at (http://127\.0\.0\.1:\d+)", line):
                break
        assert match
        yield match[1], lines
    finally:
        process.send_signal(signal.SIGINT)
        lines += process.stderr.read().splitlines()
        process.wait()
        process.stderr.close()


def test_it_serves_until_it_is_interrupted(store: Path) -> None:
    with serve("--store", str(store), "--log-json") as (address, lines):
        page = urllib.request.urlopen(f"{address}/").read().decode()
        assert "Person to search for" in page
        info = json.load(urllib.request.urlopen(f"{address}/api/v1/store"))
        assert info["people"] > 0
        assert info["uri"] == info["place"] == str(store)
        wrong = urllib.request.Request(f"{address}/api/v1/queries", b"x" * 10)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(wrong)
        caught.value.close()
        assert caught.value.code == 422
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    seen = [line for line in logged if line.get("path") == "/api/v1/store"]
    assert [(line["status"], line["who"]) for line in seen] == [(200, "local")]
    assert "Traceback" not in "".join(lines)


def test_a_second_interrupt_does_not_wait_for_pictures(
    cli: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[object] = []

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("uvicorn.Server.run", interrupted)
    monkeypatch.setattr("personsearch.web.service.Service.close", lambda self: closed.append(self))
    status, _, err = cli("serve", "--port", "0", "--store", str(store))
    assert (status, len(closed)) == (130, 1), err


def test_it_serves_milvus_with_its_state_in_a_folder(store: Path, tmp_path: Path) -> None:
    uri, state = f"milvus-lite:{tmp_path / 'people.db'}", tmp_path / "state"
    old = open_engine(store)
    new = open_engine(uri, model=old.model, create=True)
    migrate(old, new)
    old.close()
    new.close()
    secret = Keys(state).make("desk", ["search"])
    with serve("--store", uri, "--state", str(state)) as (address, _):
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        body = json.dumps({"people": ["1"]}).encode()
        request = urllib.request.Request(f"{address}/api/v1/search", body, headers)
        assert json.load(urllib.request.urlopen(request))["hits"]
    assert [(one.action, one.who) for one in AuditLog(state).entries()] == [
        ("key made", user_of_this_machine()),
        ("search", "desk"),
    ]


def test_searches_and_erasures_of_the_commands_are_one_line_each(
    cli: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONSEARCH_STORE", str(store))
    before = len(list(AuditLog(store).entries()))
    status, out, err = cli("search", "--person", "1", "--camera", "gate", "--top", "2", "--json")
    assert status == 0, err
    assert cli("timeline", "--person", "1", "--min-similarity", "0.9")[0] == 0
    assert cli("erase", "--person", "2", "--yes")[0] == 0
    searched, timeline, wish, done = list(AuditLog(store).entries())[before:]
    assert (searched.action, timeline.action) == ("search", "search")
    assert searched.details["people"] == [1]
    assert searched.details["filters"]["cameras"] == ["gate"]
    assert searched.details["hits"] == len(json.loads(out)["hits"])
    assert (wish.action, wish.details) == ("erase", {"people": [2]})
    assert (done.action, done.details) == ("erased", {"people": [2], "views": 1})
    assert {one.who for one in (searched, timeline, wish, done)} == {user_of_this_machine()}


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["--host", "0.0.0.0"], 2, "which needs a key; make one with: personsearch keys make"),
        (["--store", "nothing"], 1, "there is no store here"),
        (["--state", "somewhere"], 2, "is for a store on a server"),
    ],
)
def test_what_is_not_served(
    cli: Run,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    expected: str,
) -> None:
    monkeypatch.setenv("PERSONSEARCH_STORE", str(store))
    monkeypatch.chdir(tmp_path)
    code, _, err = cli("serve", "--port", "0", *arguments)
    assert code == status, err
    assert expected in " ".join(err.replace("│", " ").split())
