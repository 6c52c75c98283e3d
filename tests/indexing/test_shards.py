"""Shards: cut by the files alone, handed over in pieces, and indexed again after a break."""

from pathlib import Path

import pytest
from blocks import Blocks
from footage import MODEL, contents, shoot

from personsearch.indexing.pipeline import index_media
from personsearch.indexing.shards import in_pieces, make_shards, process_shard
from personsearch.indexing.writer import Ended, Picture, Task
from personsearch.indexing.writers import open_writer
from personsearch.media.files import Media, find_media
from personsearch.types import FileStamp


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shoot(tmp_path_factory.mktemp("footage") / "all")


@pytest.fixture(scope="module")
def plain(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was indexed without shards."""
    folder = tmp_path_factory.mktemp("plain") / "store"
    with open_writer(folder, MODEL) as writer:
        index_media(Blocks(), writer, find_media([footage])[0], every=0.0)
    return folder


def test_the_manifest_depends_on_the_files_alone() -> None:
    sizes = [10, 10, 10, 500, 10, 90, 10, 10]
    tasks = [
        Task(Media("/s", f"{n}.jpg", Path(f"/s/{n}.jpg"), "photo", FileStamp(size, n), "c"))
        for n, size in enumerate(sizes)
    ]
    shards = make_shards(tasks, files=3, size=100)
    assert [[int(t.media.name[0]) for t in shard] for shard in shards] == [
        *([0, 1, 2], [3], [4, 5], [6, 7])
    ]
    assert make_shards(list(tasks), files=3, size=100) == shards
    assert make_shards([]) == []


def test_pieces_are_bounded(footage: Path) -> None:
    media, _ = find_media([footage])
    items = list(process_shard(tuple(map(Task, media)), Blocks(), 0.0, 0.3))
    assert sum(isinstance(item, Picture) for item in items) == 13 + 24 + 15
    assert [item.media for item in items if isinstance(item, Ended)] == media
    pieces = list(in_pieces(items, 8))
    assert {len(piece) for piece in pieces[:-1]} == {8}
    assert [item for piece in pieces for item in piece] == items
    assert [len(piece) for piece in in_pieces(items[:3], 8, seconds=-1.0)] == [1, 1, 1]


@pytest.mark.usefixtures("no_thread_is_left")
@pytest.mark.parametrize("kind", ["store", "milvus"])
@pytest.mark.parametrize("cut", [1, 9, 26, 40])
def test_a_shard_that_broke_off_is_done_again(
    footage: Path, plain: Path, tmp_path: Path, kind: str, cut: int
) -> None:
    uri = str(tmp_path / "store") if kind == "store" else f"milvus-lite:{tmp_path / 'people.db'}"
    media, _ = find_media([footage])
    with open_writer(uri, MODEL) as writer:
        (shard,) = make_shards(writer.plan(media), files=99)
        items = process_shard(shard, Blocks(), 0.0, 0.3)
        for item, _ in zip(items, range(cut), strict=False):
            writer.write(item)
        items.close()  # type: ignore[attr-defined]
        (again,) = make_shards(writer.plan(media), files=99)
        for item in process_shard(again, Blocks(), 0.0, 0.3):
            writer.write(item)
        writer.flush()
        assert writer.plan(media) == []
    assert contents(uri) == contents(plain)
