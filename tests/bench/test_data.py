import threading
from pathlib import Path

import pytest
from filelock import FileLock

from personsearch.bench import data
from personsearch.bench.data import Drawn, Source
from personsearch.errors import DataError
from personsearch.synthetic import benchmark

Drawing = tuple[Path, Source, list[tuple[int, int]]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawing:
    """A folder of runs, the data set drawn below it, and what was told meanwhile."""
    runs = tmp_path_factory.mktemp("runs")
    calls: list[tuple[int, int]] = []
    source = data.drawn(Drawn("tiny"), runs, progress=lambda *call: calls.append(call))
    return runs, source, calls


def test_a_data_set_is_drawn_once(drawn: Drawing) -> None:
    runs, source, calls = drawn
    assert len(calls) == 40
    assert data.drawn(Drawn("tiny"), runs, progress=lambda *call: calls.append(call)) == source
    assert len(calls) == 40
    assert source.folder == runs / "data" / "tiny-person-0"
    assert data.at(source.folder) == source


def test_two_processes_do_not_draw_one_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "tiny-person-0"
    folder.mkdir(parents=True)
    began, waited = threading.Event(), threading.Event()

    def draw(*_: object, **__: object) -> None:
        began.set()

    monkeypatch.setattr(benchmark, "make_benchmark", draw)
    monkeypatch.setattr(data, "at", lambda folder: waited.set())
    with FileLock(folder.with_name(".tiny-person-0.lock")):
        threading.Thread(target=data.drawn, args=(Drawn("tiny"), tmp_path), daemon=True).start()
        assert not began.wait(0.3)
        (folder / "scenes.json").touch()
    assert waited.wait(10)
    assert not began.is_set()


def test_a_folder_in_which_nothing_can_be_drawn_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be drawn .*Not a directory.*; choose another"):
        data.drawn(Drawn("tiny"), tmp_path / "file")


def test_without_leave_nothing_is_drawn(tmp_path: Path) -> None:
    source = data.drawn(Drawn("tiny"), tmp_path, draw=False)
    assert source.fingerprint == data.NOT_DRAWN
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="size is 'huge'"):
        data.drawn(Drawn("huge"), tmp_path)
