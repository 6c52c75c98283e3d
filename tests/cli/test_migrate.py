"""`personsearch migrate`, and the commands on Milvus; the first in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from footage import MODEL, contents, shoot
from shell import personsearch

from personsearch.engines.uri import open_engine
from personsearch.indexing.pipeline import index_media
from personsearch.indexing.writers import open_writer
from personsearch.media.files import find_media
from personsearch.store.audit import AuditLog


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from blocks import Blocks

    folder = tmp_path_factory.mktemp("migrate")
    shoot(folder / "footage", photos=6)
    with open_writer(folder / "store", MODEL) as writer:
        media = find_media([folder / "footage"])[0]
        index_media(Blocks(), writer, media, every=0.0)
    return folder


@pytest.fixture
def place(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``footage`` and ``store``."""
    monkeypatch.chdir(filled)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("PERSONSEARCH_STATE", str(filled / "state"))
    return filled


def test_to_milvus_searched_and_erased(place: Path) -> None:
    command = [sys.executable, "-m", "personsearch", "migrate", "store", "milvus-lite:people.db"]
    moved = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert moved.returncode == 0, moved.stderr
    report = json.loads(moved.stdout)
    assert report["people"] == report["copied"] == report["compared"] > 20
    again = personsearch("migrate", "store", "milvus-lite:people.db")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(f"{report['people']} people in milvus-lite:people.db: 0 written")
    there = f"milvus-lite:{place / 'people.db'}"
    assert contents(there) == contents(place / "store")
    by_store, by_milvus = (
        json.loads(personsearch("search", "--person", "1", "--store", where, "--json").stdout)[
            "hits"
        ]
        for where in ("store", there)
    )
    assert by_store == by_milvus
    assert len(by_store) > 3
    erased = personsearch("erase", "--store", there, "--person", "1", "--yes")
    assert erased.stdout == "1 people erased\n", erased.stderr
    assert "the server's settings" in erased.stderr
    actions = [entry.action for entry in AuditLog(place / "state").entries()]
    assert actions == ["search", "erase", "erased"]
    source = str(place / "footage")
    picture = "camera1/01.png"
    erased = personsearch(
        "erase", "--store", there, "--source", source, "--picture", picture, "--yes"
    )
    assert erased.stdout == "2 people erased\n", erased.stderr
    engine = open_engine(there)
    assert engine.count() == report["people"] - 3
    assert engine.people_in(place / "footage" / picture) == []
    engine.close()


def test_wrong_places(place: Path) -> None:
    cases = {
        ("migrate", "store", "store"): (2, "are the same"),
        ("migrate", "store", "qdrant://x/y"): (1, "unknown store scheme 'qdrant'"),
        ("migrate", "none", "other"): (1, "there is no store here"),
        ("search", "--person", "1", "--store", "milvus-lite:none.db"): (1, "no such file"),
        ("search", "--person", "1", "--store", "milvus-lite:none"): (1, "ends in .db"),
        ("erase", "--person", "1", "--yes", "--store", "ftp://x"): (1, "unknown store scheme"),
        ("index", "footage", "--workers", "2"): (2, "goes with --ray"),
    }
    for arguments, (status, expected) in cases.items():
        result = personsearch(*arguments)
        assert result.returncode == status, (arguments, result.stderr)
        assert expected in " ".join(result.stderr.replace("│", " ").split()), arguments
        assert "Traceback" not in result.stderr
    assert not (place / "other").exists()
