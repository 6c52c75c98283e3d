"""The writer of Milvus: ids that depend on what was seen alone, and files that are known."""

from pathlib import Path

import pytest
from blocks import GREEN, RED, Blocks, paint
from footage import MODEL, film

from personsearch.engines.milvus import MilvusEngine
from personsearch.engines.milvus_files import known_files
from personsearch.errors import StoreError
from personsearch.indexing.milvus_writer import MilvusWriter, person_id
from personsearch.indexing.pipeline import index_media
from personsearch.media.files import find_media


def index(engine: MilvusEngine, folder: Path, **options: bool) -> None:
    writer = MilvusWriter(engine, **options)
    index_media(Blocks(), writer, find_media([folder])[0], every=0.0)


def test_ids_are_of_63_bits_and_of_every_part() -> None:
    one = person_id("/s", "a.jpg", None, 0)
    assert one == 7989451097863442792
    others = {
        *(person_id("/t", "a.jpg", None, 0), person_id("/s", "b.jpg", None, 0)),
        *(person_id("/s", "a.jpg", 0, 0), person_id("/s", "a.jpg", None, 1)),
    }
    assert len(others | {one}) == 5
    many = {person_id("/s", "a.mkv", frame, order) for frame in range(2000) for order in range(5)}
    assert len(many) == 10_000
    assert all(0 < number < 1 << 63 for number in many)


def test_done_again_they_have_the_same_ids(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    paint(folder / "a.png", RED, GREEN)
    film(folder / "b.mkv")
    ids = []
    for name in ("one", "two"):
        with MilvusEngine(f"milvus-lite:{tmp_path / name}.db", MODEL, create=True) as engine:
            index(engine, folder)
            ids.append([one.person.id for batch in engine.iterate() for one in batch])
            tracks = {one.track.id for one in engine.get(ids[-1]) if one.track is not None}
            assert all(len(engine.track_members(track)) == 5 for track in tracks)
            assert len(tracks) == 2
            assert engine.people_in(folder / "a.png") == sorted(
                person_id(str(folder), "a.png", None, order) for order in (0, 1)
            )
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2 + 10


def test_without_tracks_every_view_is_kept(tmp_path: Path) -> None:
    film(tmp_path / "b.mkv")
    with MilvusEngine(f"milvus-lite:{tmp_path / 'x.db'}", MODEL, create=True) as engine:
        index(engine, tmp_path / "b.mkv", tracks=False)
        assert engine.count() == 24 + 12


def test_erased_files_do_not_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    paint(folder / "a.png", RED, GREEN)
    paint(folder / "b.png", RED)
    with MilvusEngine(f"milvus-lite:{tmp_path / 'x.db'}", MODEL, create=True) as engine:
        index(engine, folder)
        writer = MilvusWriter(engine)
        assert writer.counts() == {"files": 2, "people": 3, "unreadable": 0}
        with pytest.raises(StoreError, match=r"has no file 'c\.png'"):
            engine.erase_files(str(folder), ["c.png"])
        with pytest.raises(StoreError, match="has no source"):
            engine.erase_files("/elsewhere")
        for empty in ([], (), set(), frozenset(), "", {}, range(0)):
            assert engine.erase_files(str(folder), empty) == 0  # type: ignore[arg-type]
        assert writer.counts() == {"files": 2, "people": 3, "unreadable": 0}
        assert engine.erase_files(str(folder), ["a.png"]) == 2
        paint(folder / "a.png", RED, RED)
        index(engine, folder)
        assert engine.count() == 1
        assert known_files(engine.files, str(folder))["a.png"].state == "erased"
        assert engine.erase_files(str(folder)) == 1
        assert engine.count() == 0
