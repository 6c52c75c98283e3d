"""Migration: everyone once, unchanged, whatever happens on the way."""

import itertools
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blocks import Blocks
from footage import MODEL, contents, shoot

from personsearch.engines.engine import Engine, PersonRecord
from personsearch.engines.migrate import largest_id, migrate, same
from personsearch.engines.uri import open_engine
from personsearch.errors import StoreError
from personsearch.indexing.pipeline import index_media
from personsearch.indexing.writers import open_writer
from personsearch.media.files import find_media
from personsearch.store import ModelIdentity, StoredPerson


def fill(engine: Engine, count: int, dim: int = 3) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float16)
    engine.upsert(
        [
            PersonRecord(
                StoredPerson(
                    *(3 * number + 1, "/photos", f"{number}.jpg"),
                    *(np.array([0, 0, 10, number + 1], np.float32), 0.1, None, None, 1.5, "gate"),
                    size=(64, 48),
                ),
                vectors[number],
                b"jpeg" * (number % 3),
            )
            for number in range(count)
        ]
    )


def everyone(engine: Engine) -> list[PersonRecord]:
    return [one for batch in engine.iterate() for one in batch]


def test_from_a_store_to_milvus_and_back(tmp_path: Path) -> None:
    folder = shoot(tmp_path / "all")
    places = [str(tmp_path / "a"), f"milvus-lite:{tmp_path / 'b.db'}", str(tmp_path / "c")]
    with open_writer(places[0], MODEL) as writer:
        index_media(Blocks(), writer, find_media([folder])[0], every=0.0)
    first = contents(places[0])
    for source, target in itertools.pairwise(places):
        old, new = open_engine(source), open_engine(target, model=MODEL, create=True)
        report = migrate(old, new, batch=10)
        assert (report.people, report.copied, report.compared) == (44, 44, 44)
        again = migrate(old, new, batch=10)
        assert (again.people, again.copied, again.compared) == (44, 0, 44)
        assert all(map(same, everyone(old), everyone(new)))
        old.close()
        new.close()
        assert contents(target) == first


def test_the_largest_id(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "a", model=MODEL, create=True)
    assert largest_id(engine) == 0
    fill(engine, 50)
    assert largest_id(engine) == 148
    (last,) = engine.get([148])
    top = replace(last, id=(1 << 63) - 1, name="last.jpg")
    engine.upsert([PersonRecord(top, np.ones(3, np.float16), b"")])
    assert largest_id(engine) == (1 << 63) - 1
    engine.close()


def test_a_batch_that_was_cut_is_completed(tmp_path: Path) -> None:
    old = open_engine(tmp_path / "a", model=MODEL, create=True)
    new = open_engine(tmp_path / "b", model=MODEL, create=True)
    fill(old, 50)
    records = everyone(old)
    new.upsert(records[:20])
    new.upsert(records[25:30:2])
    report = migrate(old, new, batch=8)
    assert (report.copied, report.compared) == (50 - 23, 50)
    assert all(map(same, everyone(new), records))
    old.close()
    new.close()


def test_others_and_other_models_are_refused(tmp_path: Path) -> None:
    old = open_engine(tmp_path / "a", model=MODEL, create=True)
    new = open_engine(tmp_path / "b", model=MODEL, create=True)
    fill(old, 5)
    (someone, *_) = everyone(old)
    new.upsert([replace(someone, person=replace(someone.person, id=999, name="other.jpg"))])
    with pytest.raises(StoreError, match=r"has 6 people, .* has 5; others were there"):
        migrate(old, new)
    new.delete([999])
    new.upsert([replace(someone, thumbnail=b"another")])
    with pytest.raises(StoreError, match=r"person 1 is not as in"):
        migrate(old, new)
    for other in (ModelIdentity("m", "e" * 64, 3), replace(MODEL, weighted=True)):
        wrong = open_engine(tmp_path / other.fingerprint[:3], model=other, create=True)
        with pytest.raises(StoreError, match="was made by model"):
            migrate(old, wrong)
        wrong.close()
    old.close()
    new.close()


def people_of(folder: Path) -> int:
    try:
        engine = open_engine(folder)
    except StoreError:
        return 0
    count = engine.count()
    engine.close()
    return count


def test_killed_at_any_moment_nobody_is_missing_or_there_twice(tmp_path: Path) -> None:
    old = open_engine(tmp_path / "a", model=MODEL, create=True)
    fill(old, 3000)
    command = [sys.executable, "-m", "personsearch", "migrate", "a", "b", "--batch", "8", "--json"]
    seen, kills = [0], 0
    while kills < 3:
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and people_of(tmp_path / "b") <= seen[-1]:
                time.sleep(0.02)
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            kills += 1
        seen.append(people_of(tmp_path / "b"))
    # It went on, and was not begun anew.
    assert kills
    assert seen == sorted(set(seen))
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    new = open_engine(tmp_path / "b")
    assert all(map(same, everyone(new), everyone(old)))
    assert new.count() == 3000
    old.close()
    new.close()


DYING = """
import os, signal, sys
from personsearch.engines.uri import open_engine
from personsearch.engines.migrate import migrate
from personsearch.engines.milvus import MilvusEngine
plain, calls = MilvusEngine.upsert, []
def upsert(self, records):
    calls.append(plain(self, records))
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return calls[-1]
MilvusEngine.upsert = upsert
old = open_engine(sys.argv[1])
migrate(old, open_engine(sys.argv[2], model=old.model, create=True), batch=7)
"""


def test_killed_on_the_way_to_milvus_it_goes_on(tmp_path: Path) -> None:
    old = open_engine(tmp_path / "a", model=MODEL, create=True)
    fill(old, 60)
    place = f"milvus-lite:{tmp_path / 'b.db'}"
    command = [sys.executable, "-c", DYING, str(tmp_path / "a"), place]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    new = open_engine(place)
    assert new.count() == 4 * 7
    report = migrate(old, new, batch=7)
    assert (report.people, report.copied, report.compared) == (60, 32, 60)
    assert all(map(same, everyone(new), everyone(old)))
    old.close()
    new.close()
