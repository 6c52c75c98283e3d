"""Export, import, merge: nothing is lost, nothing comes back, nothing damaged gets in."""

import json
import random
import resource
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from personsearch.errors import StoreError
from personsearch.indexing.tracks import link_detections
from personsearch.store import (
    FileStamp,
    Filters,
    FoundPeople,
    ModelIdentity,
    Store,
    exchange_tables,
    open_store,
)
from personsearch.store import exchange as store_exchange
from personsearch.store import merge as store_merge
from personsearch.store.exchange import MANIFEST, export_store, import_store
from personsearch.store.merge import merge_stores, units_of

DIM = 8
MODEL = ModelIdentity("omz", "a" * 64, DIM)
Format = Literal["jsonl", "parquet"]
FORMATS: tuple[Format, ...] = ("jsonl", "parquet")
ODD = (
    "line\nfeed.jpg",
    "quo\"te'.jpg",
    "emoji 🚪.jpg",
    "u2028\u2028.jpg",
    "ü" * 127 + "x",
    "a/b c",
)


def people(rng: random.Random, frame: int | None, time: float | None) -> FoundPeople:
    count = rng.choice([0, 1, 1, 3])
    generator = np.random.default_rng(rng.randrange(2**32))
    rows = generator.normal(size=(count, DIM)).astype(np.float32)
    corners = generator.uniform(0, 50, (count, 2))
    return FoundPeople(
        (640, 480),
        np.concatenate([corners, corners + np.array([10, 30])], axis=1).astype(np.float32),
        generator.uniform(0.3, 1, count).astype(np.float32),
        rows / np.linalg.norm(rows, axis=1, keepdims=True),
        [generator.bytes(rng.choice([0, 40, 5000])) for _ in range(count)],
        frame=frame,
        position=None if frame is None else rng.choice([frame / 7, frame / 3]),
        time=time,
    )


def fill(store: Store, seed: int) -> None:
    """Photos and videos of odd names, in every state."""
    rng = random.Random(seed)
    names = [*ODD, *(f"{n}.jpg" for n in range(rng.randrange(8)))]
    rng.shuffle(names)
    for name in names:
        place = rng.choice(["/photos", "/más fotos\n🚪"])
        stamp = FileStamp(rng.randrange(10**9), rng.randrange(10**18))
        file = store.begin_file(place, name, stamp, rng.choice([None, "", 'door "1"\n']))
        if rng.random() < 0.2:
            store.finish_file(file, "it is broken: \n'why'")
            continue
        if rng.random() < 0.5:
            time = rng.choice([None, 1e9 / 3])
            store.add(file, [people(rng, None, time)], finished=rng.random() < 0.8)
        else:
            store.add(file, [people(rng, frame, rng.random()) for frame in range(rng.randrange(9))])
            if rng.random() < 0.7:
                store.finish_video(file, link_detections(store.frame_detections(file)), views=2)
        if rng.random() < 0.15:
            store.erase_files(place, [name])


def make(folder: Path, seed: int = 0) -> Path:
    with open_store(folder, model=MODEL, write=True) as store:
        fill(store, seed)
    return folder


def one(folder: Path, stamp: FileStamp, time: float, name: str = "a.jpg") -> Path:
    """A store of one photo with two people."""
    rng = random.Random(stamp.changed)
    with open_store(folder, model=MODEL, write=True) as store:
        file = store.begin_file("/photos", name, stamp, "door")
        found = people(rng, None, time)
        while len(found.boxes) != 3:
            found = people(rng, None, time)
        store.add(file, [found], finished=True)
    return folder


def contents(folder: Path) -> list[object]:
    with open_store(folder) as store:
        assert store.damage() == ""
        return [
            (
                *(unit.source, unit.name, unit.stamp, unit.camera, unit.state, unit.reason),
                *(unit.pictures, unit.tracks, unit.people),
                unit.vectors.tobytes(),
                unit.thumbnails,
            )
            for unit in units_of(store)
        ]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("seed", range(6))
def test_there_and_back_is_the_same_to_the_byte(
    tmp_path: Path, format: Format, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rows in (("EMBEDDING_ROWS", 5), ("THUMBNAIL_ROWS", 3)):
        monkeypatch.setattr(store_exchange, name, rows)
    monkeypatch.setattr(exchange_tables, "_BATCH", 4)
    monkeypatch.setattr(store_merge, "_TOGETHER", 7)
    store = make(tmp_path / "store", seed)
    with open_store(store, write=True) as opened:
        opened.set_retention(3.65e5)
    counts = export_store(store, tmp_path / "out", format)
    report = import_store(tmp_path / "out", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(store)
    assert counts == {
        **{"files": report.files, "pictures": report.pictures},
        **{"tracks": report.tracks, "people": report.people},
    }
    assert report.people > 5
    with open_store(tmp_path / "again", model=MODEL) as opened:
        assert opened.retention() == 3.65e5
    export_store(tmp_path / "again", tmp_path / "out again", format)
    assert files(tmp_path / "out again") == files(tmp_path / "out")
    # A second time there is nothing to do.
    again = import_store(tmp_path / "out", tmp_path / "again")
    assert (again.files, again.skipped, again.replaced) == (0, report.files, [])
    # Nothing that is read back can run.
    assert not any(b"pickle" in content for content in files(tmp_path / "out").values())


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_store(tmp_path: Path, format: Format) -> None:
    with open_store(tmp_path / "store", model=MODEL, write=True):
        pass
    export_store(tmp_path / "store", tmp_path / "out", format)
    assert import_store(tmp_path / "out", tmp_path / "again").files == 0
    assert contents(tmp_path / "again") == []


def test_what_was_erased_stays_erased_on_both_sides(tmp_path: Path) -> None:
    stamp = FileStamp(9, 9)
    here, there = one(tmp_path / "here", stamp, 1.0), one(tmp_path / "there", stamp, 1.0)
    with open_store(there) as store:
        secret = store.embeddings()[1][0].tobytes()
    export_store(there, tmp_path / "whole")
    with open_store(there, write=True) as store:
        store.erase_files("/photos")
    # Erased where it comes from: erased here, bytes and all.
    assert merge_stores(there, here).erased == 1
    assert not any(secret in content for content in files(here).values())
    # Erased here: does not come back, not even with another stamp.
    assert import_store(tmp_path / "whole", there).skipped == 1
    newer = one(tmp_path / "newer", FileStamp(9, 99), 1.0)
    assert merge_stores(newer, there).skipped == 1
    assert contents(there) == contents(here)
    with open_store(there) as store:
        assert store.known_files("/photos")["a.jpg"].state == "erased"
        assert store.counts()["people"] == 0


def test_a_person_who_was_erased_does_not_come_back(tmp_path: Path) -> None:
    store = one(tmp_path / "store", FileStamp(9, 9), 1.0)
    export_store(store, tmp_path / "out")
    with open_store(store, write=True) as opened:
        opened.erase(Filters(people=(2,)))
    assert import_store(tmp_path / "out", store).skipped == 1
    with open_store(store) as opened:
        assert opened.embeddings()[0].tolist() == [1, 3]


def test_the_newer_stamp_wins_and_is_named(tmp_path: Path) -> None:
    old = one(tmp_path / "old", FileStamp(9, 9), 1.0)
    new = one(tmp_path / "new", FileStamp(7, 10), 2.0)
    before = contents(new)
    assert merge_stores(old, new).kept == ["/photos/a.jpg"]
    assert contents(new) == before
    assert merge_stores(new, old).replaced == ["/photos/a.jpg"]
    assert contents(old) == before


def test_a_whole_file_beats_one_that_is_not(tmp_path: Path) -> None:
    stamp = FileStamp(9, 9)
    whole = one(tmp_path / "whole", stamp, 1.0)
    for name in ("open", "unreadable"):
        with open_store(tmp_path / name, model=MODEL, write=True) as store:
            file = store.begin_file("/photos", "a.jpg", stamp)
            if name == "unreadable":
                store.finish_file(file, "broken")
        assert merge_stores(tmp_path / name, whole).skipped == 1
        assert merge_stores(whole, tmp_path / name).replaced == ["/photos/a.jpg"]
        assert contents(tmp_path / name) == contents(whole)


def test_stores_are_merged_under_new_ids(tmp_path: Path) -> None:
    one(tmp_path / "a", FileStamp(1, 1), 1.0, "a.jpg")
    one(tmp_path / "b", FileStamp(2, 2), 1.0, "b.jpg")
    both = sorted(map(repr, contents(tmp_path / "a") + contents(tmp_path / "b")))
    report = merge_stores(tmp_path / "a", tmp_path / "b")
    assert (report.files, report.people) == (1, 3)
    assert sorted(map(repr, contents(tmp_path / "b"))) == both
    with open_store(tmp_path / "b") as store:
        assert store.embeddings()[0].tolist() == [1, 2, 3, 4, 5, 6]
        assert store.people_in(Path("/photos/a.jpg")) == [4, 5, 6]
    with pytest.raises(StoreError, match="is the same store"):
        merge_stores(tmp_path / "a", tmp_path / "b" / ".." / "a")
    with pytest.raises(StoreError, match="no store here"):
        merge_stores(tmp_path / "none", tmp_path / "a")


def test_who_is_too_old_for_a_store_does_not_stay(tmp_path: Path) -> None:
    here = one(tmp_path / "here", FileStamp(1, 1), 4e9, "here.jpg")
    with open_store(here, write=True) as store:
        store.set_retention(30)
    there = one(tmp_path / "there", FileStamp(2, 2), 1e9, "there.jpg")
    assert merge_stores(there, here).expired == 3
    with open_store(here) as store:
        assert store.counts()["people"] == 3
        assert store.retention() == 30


def test_another_model_is_refused(tmp_path: Path) -> None:
    here = one(tmp_path / "here", FileStamp(1, 1), 1.0)
    with open_store(tmp_path / "other", model=ModelIdentity("b", "b", DIM), write=True):
        pass
    export_store(here, tmp_path / "out")
    for call in (
        lambda: import_store(tmp_path / "out", tmp_path / "other"),
        lambda: merge_stores(here, tmp_path / "other"),
    ):
        with pytest.raises(StoreError, match=r"model 'b' .* cannot be compared. Use another store"):
            call()


def _sign(folder: Path, **changes: object) -> None:
    """Makes checksums fit again, as one would who means harm."""
    path = folder / MANIFEST
    plain = json.loads(path.read_text(encoding="utf-8"))
    plain["files"] = {
        name: store_exchange._described(folder / name).model_dump() for name in plain["files"]
    }
    manifest = store_exchange._Manifest.model_validate(plain | changes)
    manifest.sha256 = manifest.digest()
    path.write_text(json.dumps(manifest.model_dump()), encoding="utf-8")


@pytest.mark.parametrize("format", FORMATS)
def test_every_file_is_missed_and_every_flipped_bit_is_seen(tmp_path: Path, format: Format) -> None:
    export_store(make(tmp_path / "store"), tmp_path / "out", format)
    rng = random.Random(0)
    for path in sorted((tmp_path / "out").iterdir()):
        content = path.read_bytes()
        place = rng.randrange(len(content))
        flipped = content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
        for damaged in (None, content[:-2], flipped):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            with pytest.raises(StoreError, match=path.name) as caught:
                import_store(tmp_path / "out", tmp_path / "new")
            assert "\n" not in str(caught.value)
            assert not (tmp_path / "new").exists()
            path.write_bytes(content)
    assert import_store(tmp_path / "out", tmp_path / "new").people > 0


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("table", "column", "value", "expected"),
    [
        ("files", "name", "../../etc/passwd", "leads out of its source"),
        ("files", "name", "/etc/passwd", "leads out of its source"),
        ("files", "state", "fine", "expected open, whole"),
        ("files", "state", "erased", "is erased, but has pictures"),
        ("pictures", "time", float("inf"), "not finite"),
        ("pictures", "file", 5, "other rows than its manifest"),
        ("people", "picture", 7, "other rows than its manifest"),
        ("people", "picture", -1, "in a picture that is not there"),
        ("people", "track", 0, "in a track that is not there"),
        ("people", "x1", float("nan"), "not finite"),
    ],
)
def test_rows_that_make_no_sense_are_refused(
    tmp_path: Path, format: Format, table: str, column: str, value: object, expected: str
) -> None:
    export_store(one(tmp_path / "store", FileStamp(1, 1), 1.0), tmp_path / "out", format)
    path = tmp_path / "out" / f"{table}.{format}"
    if format == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows[0][column] = value
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        import pyarrow
        import pyarrow.parquet

        given = pyarrow.parquet.read_table(path)
        rows = given.to_pylist()
        rows[0][column] = value
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, given.schema), path)
    _sign(tmp_path / "out")
    with pytest.raises(StoreError, match=expected):
        import_store(tmp_path / "out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_embeddings_that_are_none_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    export_store(one(tmp_path / "store", FileStamp(1, 1), 1.0), tmp_path / "out")
    unit = np.eye(3, DIM, dtype=np.float16)
    cases = {
        "unit length": unit * np.float16(2),
        "unit length ": unit * np.float16("nan"),
        "expected float16": unit.astype(np.float32),
        r"expected float16 \(N, 8\)": unit[:, :4].copy(),
        "shape": unit[:2],
    }
    for expected, matrix in cases.items():
        save_file({"embeddings": matrix}, tmp_path / "out" / "embeddings-00000.safetensors")
        _sign(tmp_path / "out")
        with pytest.raises(StoreError, match=expected.strip()):
            import_store(tmp_path / "out", tmp_path / "new")
    (tmp_path / "out" / "embeddings-00000.safetensors").write_bytes(b"no tensors at all")
    _sign(tmp_path / "out")
    with pytest.raises(StoreError, match="is damaged"):
        import_store(tmp_path / "out", tmp_path / "new")


def test_a_manifest_that_is_none_is_refused(tmp_path: Path) -> None:
    export_store(one(tmp_path / "store", FileStamp(1, 1), 1.0), tmp_path / "out")
    _sign(tmp_path / "out", version=2)
    with pytest.raises(StoreError, match=r"newer version .* update personsearch"):
        import_store(tmp_path / "out", tmp_path / "new")
    _sign(
        tmp_path / "out",
        version=1,
        counts={"files": 1, "people": 2**39, "pictures": 1, "tracks": 0},
    )
    with pytest.raises(StoreError, match="list of files is incomplete"):
        import_store(tmp_path / "out", tmp_path / "new")
    for text, expected in (
        ("{", "not JSON"),
        ("[]", "not the manifest"),
        ("[" * 99_999, "not JSON"),
    ):
        (tmp_path / "out" / MANIFEST).write_text(text, encoding="utf-8")
        with pytest.raises(StoreError, match=expected):
            import_store(tmp_path / "out", tmp_path / "new")
    with pytest.raises(StoreError, match="written by: personsearch store export"):
        import_store(tmp_path, tmp_path / "new")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    store = one(tmp_path / "store", FileStamp(1, 1), 1.0)
    (tmp_path / "out").mkdir()
    export_store(store, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(StoreError, match="is there already"):
        export_store(store, tmp_path / "out")
    assert files(tmp_path / "out") == before
    (tmp_path / "next.partial").mkdir()
    (tmp_path / "next.partial" / "files.jsonl").write_text("of an export that was stopped")
    export_store(store, tmp_path / "next")
    assert files(tmp_path / "next") == before
    (tmp_path / "third.partial").mkdir()
    (tmp_path / "third.partial" / "diary.txt").write_text("mine")
    with pytest.raises(StoreError, match="not an export; move it"):
        export_store(store, tmp_path / "third")
    assert (tmp_path / "third.partial" / "diary.txt").is_file()


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_keeps_nothing_of_an_export(tmp_path: Path, format: Format) -> None:
    store = make(tmp_path / "store", 3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up(step: str, done: int, total: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))

    try:
        with pytest.raises(StoreError, match="nothing of it is kept, make room"):
            export_store(store, tmp_path / "out", format, fill_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_an_import_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_merge, "_TOGETHER", 1)
    store = make(tmp_path / "store", 4)
    export_store(store, tmp_path / "out")
    whole = len(contents(store))

    def stop(step: str, done: int, total: int) -> None:
        if step == "writing" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_store(tmp_path / "out", tmp_path / "new", stop)
    assert len(contents(tmp_path / "new")) == 3
    # No room for more: what is there stays, each file whole.
    with open_store(tmp_path / "new", write=True) as opened, open_store(store) as origin:
        (pages,) = next(opened.query("PRAGMA page_count"))
        opened.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="the disk is full; make room"):
            store_merge.take(opened, units_of(origin), whole)
    there = contents(tmp_path / "new")
    assert all(unit in contents(store) for unit in there)
    report = import_store(tmp_path / "out", tmp_path / "new")
    assert (report.files, report.skipped) == (whole - len(there), len(there))
    assert contents(tmp_path / "new") == contents(store)


def test_others_may_write_while_it_is_exported(tmp_path: Path) -> None:
    store = make(tmp_path / "store", 5)
    export_store(store, tmp_path / "before")
    written = False

    def write(step: str, done: int, total: int) -> None:
        nonlocal written
        if not written:
            written = True
            one(store, FileStamp(1, 1), 1.0, "new.jpg")

    export_store(store, tmp_path / "meanwhile", progress=write)
    assert written
    assert files(tmp_path / "meanwhile") == files(tmp_path / "before")
