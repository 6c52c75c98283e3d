"""Export and import: nothing is lost, nothing damaged gets in."""

import hashlib
import json
import os
import random
import resource
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from odd_stores import DIM, MODEL, contents, files, make, one

from personsearch.errors import StoreError
from personsearch.store import (
    FileStamp,
    Filters,
    exchange_tables,
    open_store,
)
from personsearch.store import exchange as store_exchange
from personsearch.store import merge as store_merge
from personsearch.store.exchange import MANIFEST, export_store, import_store
from personsearch.store.merge import units_of

Format = Literal["jsonl", "parquet"]


FORMATS: tuple[Format, ...] = ("jsonl", "parquet")


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


def test_a_person_who_was_erased_does_not_come_back(tmp_path: Path) -> None:
    store = one(tmp_path / "store", FileStamp(9, 9), 1.0)
    export_store(store, tmp_path / "out")
    with open_store(store, write=True) as opened:
        opened.erase(Filters(people=(2,)))
    assert import_store(tmp_path / "out", store).skipped == 1
    with open_store(store) as opened:
        assert opened.embeddings()[0].tolist() == [1, 3]


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


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("dim", value) for value in (0, 2**17, 2**62, 2**63, 2**70)),
        *(("embedding_rows", value) for value in (0, 2**63, 2**200)),
        *(("retention", value) for value in (0.0, -1.0, float("nan"), float("inf"))),
        *((key, "half a character: \ud800") for key in ("name", "fingerprint")),
    ],
    ids=ascii,
)
def test_a_manifest_of_impossible_values_is_refused(
    tmp_path: Path, key: str, value: float | str
) -> None:
    folder = tmp_path / "out"
    export_store(one(tmp_path / "store", FileStamp(1, 1), 1.0), folder)
    plain = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (plain["model"] if key in plain["model"] else plain)[key] = value
    plain["sha256"] = ""
    text = json.dumps({name: plain[name] for name in plain if name != "sha256"}, sort_keys=True)
    plain["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(StoreError, match="is damaged"):
        import_store(folder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


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
        exchange = store_merge.Exchange("import", tmp_path, lambda: units_of(origin), whole)
        with pytest.raises(StoreError, match="the disk is full; make room"):
            store_merge.take(opened, exchange)
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


@pytest.mark.parametrize("name", [MANIFEST, "files.jsonl", "embeddings-00000.safetensors"])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, name: str) -> None:
    export_store(one(tmp_path / "store", FileStamp(1, 1), 1.0), tmp_path / "out")
    path = tmp_path / "out" / name
    path.unlink()
    for make_odd in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        make_odd(path)
        with pytest.raises(StoreError, match="is not a regular file"):
            import_store(tmp_path / "out", tmp_path / "new")
        path.unlink()


def test_an_export_that_was_killed_at_its_manifest_is_written_again(tmp_path: Path) -> None:
    store = one(tmp_path / "store", FileStamp(1, 1), 1.0)
    if not (child := os.fork()):
        written = tmp_path / "out.partial"
        os.fsync = lambda _: any(written.glob("*manifest*")) and os._exit(9)
        export_store(store, tmp_path / "out")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not (tmp_path / "out").exists()
    export_store(store, tmp_path / "out")
    assert import_store(tmp_path / "out", tmp_path / "new").people == 3
