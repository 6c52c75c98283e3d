"""`personsearch serve`, `keys` and `audit`, through their real entry point."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from crowd import make_store

from personsearch.store.audit import LOG, AuditLog

COMMAND = [sys.executable, "-m", "personsearch"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("crowd"))


def run(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PERSONSEARCH_STORE": str(store), "COLUMNS": "120"},
    )


def test_keys_and_the_log_of_them(tmp_path: Path) -> None:
    made = run(tmp_path, "keys", "make", "--name", "desk", "--scope", "search", "--scope", "erase")
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert re.fullmatch(r"psk_[\w-]{43}", secret)
    assert "shown once" in made.stderr
    assert secret not in "".join(p.read_text() for p in tmp_path.iterdir() if p.is_file())
    (listed,) = json.loads(run(tmp_path, "keys", "list", "--json").stdout)
    assert (listed["name"], listed["scopes"]) == ("desk", ["search", "erase"])
    assert listed["revoked"] is None
    assert run(tmp_path, "keys", "revoke", "desk").returncode == 0
    again = run(tmp_path, "keys", "revoke", "desk")
    assert (again.returncode, "has no valid key" in again.stderr) == (1, True)
    lines = run(tmp_path, "audit", "read", "--json").stdout.splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["key made", "key revoked"]
    head = json.loads(lines[0])["hash"]
    checked = run(tmp_path, "audit", "check", "--head", head, "--json")
    assert json.loads(checked.stdout)["whole"] is True
    (tmp_path / LOG).write_text((tmp_path / LOG).read_text().replace("desk", "chair"))
    found = run(tmp_path, "audit", "check")
    assert found.returncode == 1
    assert "the audit log was changed: line 2 does not follow" in found.stderr


def test_the_commands_on_a_store_are_logged(store: Path) -> None:
    found = run(store, "search", "--person", "1", "--camera", "gate", "--top", "2", "--json")
    assert found.returncode == 0, found.stderr
    erased = run(store, "erase", "--person", "2", "--yes")
    assert erased.returncode == 0, erased.stderr
    searched, asked, done = list(AuditLog(store).entries())[-3:]
    assert searched.details["people"] == [1]
    assert searched.details["filters"]["cameras"] == ["gate"]
    assert searched.details["hits"] == len(json.loads(found.stdout)["hits"])
    assert (asked.action, asked.details) == ("erase", {"people": [2]})
    assert (done.action, done.details) == ("erased", {"people": [2], "views": 1})
    assert searched.who == done.who != "local"
    assert "search" in run(store, "audit", "read").stdout


def test_it_serves_until_it_is_told_to_end(store: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "serve", "--store", str(store), "--port", "0", "--log-json"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        match = re.search(r"served at (http://127\.0\.0\.1:\d+)", said)
        assert match, said
        page = urllib.request.urlopen(f"{match[1]}/").read().decode()
        assert "Person to search for" in page
        told = json.load(urllib.request.urlopen(f"{match[1]}/api/v1/store"))
        assert told["people"] > 0
        asked = urllib.request.Request(f"{match[1]}/api/v1/queries", b"x" * 10)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(asked)
        caught.value.close()
        assert caught.value.code == 422
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        process.wait()
        process.stderr.close()
    lines = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
    seen = [line for line in lines if line.get("path") == "/api/v1/store"]
    assert [(line["status"], line["who"]) for line in seen] == [(200, "local")]
    assert "Traceback" not in rest


def test_it_serves_milvus_with_its_state_in_a_folder(store: Path, tmp_path: Path) -> None:
    place = f"milvus-lite:{tmp_path / 'people.db'}"
    moved = run(store, "migrate", str(store), place)
    assert moved.returncode == 0, moved.stderr
    state = tmp_path / "state"
    made = run(state, "keys", "make", "--name", "desk", "--scope", "search")
    process = subprocess.Popen(
        [*COMMAND, "serve", "--store", place, "--state", str(state), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = ""
        while "served at" not in said:
            said = process.stderr.readline()
            assert said
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+", said)
        headers = {"authorization": f"Bearer {made.stdout.strip()}"}
        body = json.dumps({"people": ["1"]}).encode()
        asked = urllib.request.Request(
            f"{address}/api/v1/search", body, headers | {"content-type": "application/json"}
        )
        assert json.load(urllib.request.urlopen(asked))["hits"]
    finally:
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        process.wait()
        process.stderr.close()
    assert [one.action for one in AuditLog(state).entries()] == ["key made", "search"]
    misplaced = run(store, "serve", "--state", str(state), "--port", "0")
    assert (misplaced.returncode, "is for a store on a server" in misplaced.stderr) == (2, True)


def test_what_it_does_not_serve(store: Path, tmp_path: Path) -> None:
    away = run(store, "serve", "--host", "0.0.0.0", "--port", "0")
    assert away.returncode == 2
    said = " ".join(away.stderr.replace("│", " ").split())
    assert "which needs a key" in said
    assert "keys make" in said
    none = run(tmp_path / "nothing", "serve", "--port", "0")
    assert (none.returncode, "there is no store here" in none.stderr) == (1, True)
    nowhere = run(store, "serve", "--host", "127.0.0.300", "--port", "0")
    assert nowhere.returncode in (1, 2)
    assert "Traceback" not in nowhere.stderr
