from pathlib import Path

import pytest

from personsearch.bench import floor as module
from personsearch.bench.data import NOT_DRAWN, Source
from personsearch.bench.floor import floor
from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError


def test_plain_colours_are_found_by_colour(source: Source, tmp_path: Path) -> None:
    assert floor(source, tmp_path) == {"mean_ap": 1.0, "top_1": 1.0}


def test_the_floor_is_computed_once(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = floor(source, tmp_path)
    monkeypatch.setattr(module, "hsv_floor", None)
    assert floor(source, tmp_path) == known


def test_what_is_not_drawn_has_none(tmp_path: Path) -> None:
    assert floor(Source(tmp_path / "nothing", NOT_DRAWN), tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_without_queries_there_is_none(drawn: Dataset) -> None:
    with pytest.raises(DataError, match="no search protocol with queries"):
        module.hsv_floor(Dataset("empty", drawn.root, drawn.splits))
