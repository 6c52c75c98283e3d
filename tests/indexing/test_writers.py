"""Writers of a SQLite store and of Milvus: the same people, whatever is indexed again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from blocks import GREEN, RED, Blocks, paint
from footage import MODEL, contents, shoot

from personsearch.errors import StoreError
from personsearch.indexing.pipeline import index_media
from personsearch.indexing.report import IndexReport, Tally
from personsearch.indexing.shards import process_shard
from personsearch.indexing.writers import StoreWriter, open_writer
from personsearch.media.files import find_media
from personsearch.store import FileStamp, open_store
from personsearch.store.check import check_store


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shoot(tmp_path_factory.mktemp("footage") / "all")


@pytest.fixture(params=["store", "milvus"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "store":
        return str(tmp_path / "store")
    return f"milvus-lite:{tmp_path / 'people.db'}"


def index(uri: str, folder: Path, load: Callable[[], Blocks] = Blocks) -> IndexReport:
    media, _ = find_media([folder])
    with open_writer(uri, MODEL) as writer:
        return index_media(load(), writer, media, every=0.0, decoders=2)


def test_the_same_people_in_both(footage: Path, tmp_path: Path) -> None:
    uris = [str(tmp_path / "store"), f"milvus-lite:{tmp_path / 'people.db'}"]
    reports = [index(uri, footage) for uri in uris]
    assert contents(uris[0]) == contents(uris[1])
    assert len(contents(uris[0])) == 24 + 4 * 5
    for name in ("pictures", "people", "files", "skipped", "unreadable"):
        assert getattr(reports[0], name) == getattr(reports[1], name), name
    for uri in uris:
        before = contents(uri)
        again = index(uri, footage)
        assert (again.pictures, again.files, again.skipped) == (0, 0, 16)
        assert contents(uri) == before


def test_what_changed_is_done_again(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "photos"
    paint(folder / "a.png", RED, GREEN)
    paint(folder / "b.png", RED)
    index(uri, folder)
    paint(folder / "a.png", GREEN)
    report = index(uri, folder)
    assert (report.files, report.skipped) == (1, 1)
    assert [(name, box[0]) for name, _, box, *_ in contents(uri)] == [
        ("a.png", 0.0),
        ("b.png", 0.0),
    ]


class Stopped(Blocks):
    def detect(self, images: list) -> list:  # type: ignore[type-arg]
        raise KeyboardInterrupt


@pytest.mark.usefixtures("no_thread_is_left")
def test_ctrl_c_ends_it_early(footage: Path, uri: str) -> None:
    report = index(uri, footage, Stopped)
    assert (report.interrupted, report.pictures) == (True, 0)
    assert not index(uri, footage).interrupted


def test_no_files_are_nothing_to_do(uri: str) -> None:
    with open_writer(uri, MODEL) as writer:
        report = index_media(Blocks(), writer, [])
        assert (report.pictures, report.files, writer.plan([])) == (0, 0, [])
        assert writer.known_files("/photos") == {}
        assert writer.flush() == []
        assert writer.counts()["people"] == 0


def test_a_file_that_was_begun_is_resumed(tmp_path: Path) -> None:
    folder = shoot(tmp_path / "all", photos=0)
    media = [one for one in find_media([folder])[0] if one.name.endswith("b.mkv")]
    with open_store(tmp_path / "store", model=MODEL, write=True) as store:
        writer = StoreWriter(store)
        (one,) = media
        index_media(Blocks(), writer, media, every=0.5)
        store.execute("UPDATE files SET state = 'open'")
        (task,) = writer.plan(media)
        assert (task.media, task.known) == (one, frozenset({0, 5, 10}))


def test_a_file_that_is_erased_while_it_is_indexed(footage: Path, tmp_path: Path) -> None:
    """By another process, at every moment of a photo and of a video; nothing comes back."""
    media, _ = find_media([footage])
    for moment in range(24):
        folder = tmp_path / str(moment)
        with open_writer(folder, MODEL) as writer, open_store(folder, write=True) as other:
            tasks = [task for task in writer.plan(media) if task.media.kind == "video"][:1]
            tasks += [task for task in writer.plan(media) if task.media.kind == "photo"][:1]
            one = tasks[moment % 2].media
            report = IndexReport()
            tally = Tally(report)
            for step, item in enumerate(process_shard(tuple(tasks), Blocks(), 0.0, 0.3)):
                if step == moment // 2 and one.name in other.known_files(one.source):
                    other.erase_files(one.source, [one.name])
                tally.write(writer, item)
            if other.known_files(one.source)[one.name].state == "erased":
                assert other.people_of(other.known_files(one.source)[one.name].id) == []
            assert check_store(other) == []
            assert writer.plan([one]) == []


def test_a_file_that_is_forgotten_or_replaced_while_it_is_indexed(
    footage: Path, tmp_path: Path
) -> None:
    """Its pictures do not go to the file that comes next, whose row is new."""
    media, _ = find_media([footage])
    with open_writer(tmp_path, MODEL) as writer, open_store(tmp_path, write=True) as other:
        (one, *_) = [task for task in writer.plan(media) if task.media.kind == "video"]
        first, *rest = process_shard((one,), Blocks(), 0.0, 0.3)
        writer.write(first)
        other.forget_files(one.media.source, [one.media.name])
        file = other.begin_file("api:door", "b.png", FileStamp(1, 1))
        assert [writer.write(item) for item in rest] == [[] for _ in rest]
        assert other.people_of(file) == []
        assert one.media.name not in other.known_files(one.media.source)
        assert [task.media for task in writer.plan([one.media])] == [one.media]


def test_an_unknown_scheme(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="ftp://somewhere"), open_writer("ftp://somewhere", MODEL):
        pass
