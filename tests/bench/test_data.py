from pathlib import Path

import pytest

from personsearch.bench import data
from personsearch.bench.data import Drawn, Source
from personsearch.errors import DataError

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


def test_without_leave_nothing_is_drawn(tmp_path: Path) -> None:
    source = data.drawn(Drawn("tiny"), tmp_path, draw=False)
    assert source.fingerprint == data.NOT_DRAWN
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="size is 'huge'"):
        data.drawn(Drawn("huge"), tmp_path)
