"""Shards and writers: the same people as plain indexing, whatever is done again."""

from pathlib import Path

import pytest
from blocks import GREEN, RED, Blocks, paint
from footage import MODEL, contents, shoot

from personsearch.indexing.pipeline import IndexReport, index_media
from personsearch.indexing.shards import (
    Ended,
    Looked,
    Shard,
    Task,
    in_pieces,
    index_shards,
    look_at,
    make_shards,
    run_here,
)
from personsearch.indexing.writers import open_writer
from personsearch.media.files import Media, find_media
from personsearch.store import FileStamp, open_store


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shoot(tmp_path_factory.mktemp("footage") / "all")


@pytest.fixture(scope="module")
def plain(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IndexReport]:
    """A store as `index_media` makes it."""
    store = tmp_path_factory.mktemp("plain") / "store"
    media, _ = find_media([footage])
    with open_store(store, model=MODEL, write=True) as opened:
        return store, index_media(Blocks(), opened, media, every=0.0)


@pytest.fixture(params=["store", "milvus"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "store":
        return str(tmp_path / "store")
    return f"milvus-lite:{tmp_path / 'people.db'}"


def index(place: str, folder: Path) -> IndexReport:
    media, _ = find_media([folder])
    with open_writer(place, MODEL) as writer:
        return index_shards(writer, media, run_here(writer, Blocks(), every=0.0))


def test_the_manifest_depends_on_the_files_alone() -> None:
    sizes = [10, 10, 10, 500, 10, 90, 10, 10]
    tasks = [
        Task(Media("/s", f"{n}.jpg", Path(f"/s/{n}.jpg"), "photo", FileStamp(size, n), "c"))
        for n, size in enumerate(sizes)
    ]
    shards = make_shards(tasks, files=3, size=100)
    assert [[int(t.media.name[0]) for t in shard.tasks] for shard in shards] == [
        *([0, 1, 2], [3], [4, 5], [6, 7])
    ]
    assert [shard.number for shard in shards] == [0, 1, 2, 3]
    assert make_shards(list(tasks), files=3, size=100) == shards
    assert make_shards([]) == []


def test_pieces_are_bounded(footage: Path) -> None:
    media, _ = find_media([footage])
    items = list(look_at(Shard(0, tuple(map(Task, media))), Blocks(), every=0.0))
    assert sum(isinstance(item, Looked) for item in items) == 13 + 24 + 15
    assert [item.media for item in items if isinstance(item, Ended)] == media
    pieces = list(in_pieces(items, 8))
    assert {len(piece) for piece in pieces[:-1]} == {8}
    assert [item for piece in pieces for item in piece] == items
    assert [len(piece) for piece in in_pieces(items[:3], 8, seconds=-1.0)] == [1, 1, 1]


def test_the_same_people_as_plain_indexing(
    footage: Path, plain: tuple[Path, IndexReport], place: str
) -> None:
    report = index(place, footage)
    assert contents(place) == contents(plain[0])
    assert len(contents(place)) == 24 + 4 * 5
    for name in ("pictures", "people", "files", "skipped", "unreadable"):
        assert getattr(report, name) == getattr(plain[1], name), name
    again = index(place, footage)
    assert (again.pictures, again.files, again.skipped) == (0, 0, 16)
    assert contents(place) == contents(plain[0])


@pytest.mark.parametrize("cut", [1, 9, 26, 40])
def test_a_shard_that_broke_off_is_done_again(
    footage: Path, plain: tuple[Path, IndexReport], place: str, cut: int
) -> None:
    media, _ = find_media([footage])
    with open_writer(place, MODEL) as writer:
        (shard,) = make_shards(writer.plan(media), files=99)
        for item, _ in zip(look_at(shard, Blocks(), every=0.0), range(cut), strict=False):
            writer.write(item)
        (again,) = make_shards(writer.plan(media), files=99)
        for item in look_at(again, Blocks(), every=0.0):
            writer.write(item)
        writer.flush()
        assert writer.plan(media) == []
    assert contents(place) == contents(plain[0])


def test_what_changed_is_done_again_and_what_was_erased_is_not(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "photos"
    paint(folder / "a.png", RED, GREEN)
    paint(folder / "b.png", RED)
    index(place, folder)
    paint(folder / "a.png", GREEN)
    report = index(place, folder)
    assert (report.files, report.skipped) == (1, 1)
    assert [(name, box[0]) for name, _, box, *_ in contents(place)] == [
        ("a.png", 0.0),
        ("b.png", 0.0),
    ]


class Stopped(Blocks):
    def detect(self, images: list) -> list:  # type: ignore[type-arg]
        raise KeyboardInterrupt


def test_ctrl_c_ends_it_early(footage: Path, place: str) -> None:
    media, _ = find_media([footage])
    with open_writer(place, MODEL) as writer:
        report = index_shards(writer, media, run_here(writer, Stopped()))
    assert report.interrupted
    assert report.pictures == 0
    assert not index(place, footage).interrupted
