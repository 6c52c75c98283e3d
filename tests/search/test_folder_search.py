"""Search of a folder with a model whose answers are known: people are blocks of plain colour."""

import json
from pathlib import Path

import numpy as np
import pytest
from blocks import BROWN, GREEN, ORANGE, RED, Blocks, paint

from personsearch.errors import DataError, PictureError
from personsearch.search.folder_search import pictures_in, search_folder
from personsearch.search.query import query_person


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    paint(root / "query.png", RED, GREEN)
    paint(root / "a.png", GREEN, ORANGE)
    paint(root / "deep" / "b.png", BROWN, RED)
    paint(root / "empty.png")
    return root


def box(*sides: float) -> np.ndarray:
    return np.array(sides, dtype=np.float32)


def test_everyone_is_ranked_by_likeness(folder: Path) -> None:
    model = Blocks()
    query = query_person(model, folder / "query.png", box(0, 0, 10, 20))
    result = search_folder(model, query, folder)
    assert [hit.scene for hit in result.hits] == ["deep/b.png", "deep/b.png", "a.png", "a.png"]
    brown, orange = 128 / np.hypot(128, 64), 255 / np.hypot(255, 160)
    similarities = [hit.similarity for hit in result.hits]
    np.testing.assert_allclose(similarities, [1, brown, orange, 0], atol=1e-6)
    np.testing.assert_array_equal(result.hits[0].box, [20, 0, 30, 20])
    assert result.hits[0].path == folder / "deep" / "b.png"
    assert (result.pictures, result.people) == (3, 4)
    assert result.excluded == folder / "query.png"
    assert not result.interrupted


def test_confidence_weighting_ranks_by_the_product(folder: Path) -> None:
    model = Blocks()
    query = query_person(model, folder / "query.png", box(0, 0, 10, 20))
    model.confidence_weighted = True
    result = search_folder(model, query, folder)
    dim = next(hit for hit in result.hits if hit.score < 0.6)
    assert dim.rank_score == pytest.approx(dim.similarity * dim.score)
    ranks = [hit.rank_score for hit in result.hits]
    assert ranks == sorted(ranks, reverse=True)


def test_weak_people_and_low_ranks_are_left_out(folder: Path) -> None:
    model = Blocks()
    query = query_person(model, folder / "query.png", box(0, 0, 10, 20))
    strong = search_folder(model, query, folder, score_threshold=0.6)
    assert strong.people == 3
    assert all(hit.score >= 0.6 for hit in strong.hits)
    assert len(search_folder(model, query, folder, top=1).hits) == 1
    assert len(search_folder(model, query, folder, top=None).hits) == 4


def test_without_a_box_the_surest_person_is_looked_for(tmp_path: Path) -> None:
    path = paint(tmp_path / "q.png", BROWN, GREEN, ORANGE)
    query = query_person(Blocks(), path)
    np.testing.assert_array_equal(query.box, [20, 0, 30, 20])
    np.testing.assert_allclose(query.embedding, [0, 1, 0])
    assert query.score == 1.0
    assert query.others is not None
    np.testing.assert_array_equal(query.others.boxes[:, 0], [40, 0])
    assert query.others.scores[0] >= query.others.scores[1]


def test_a_query_outside_the_folder_excludes_nothing(folder: Path, tmp_path: Path) -> None:
    query = query_person(Blocks(), paint(tmp_path / "mine.png", RED))
    result = search_folder(Blocks(), query, folder)
    assert result.excluded is None
    assert result.pictures == 4
    assert result.hits[0].similarity == pytest.approx(1)


def test_the_query_is_excluded_by_whatever_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    query = query_person(Blocks(), Path("deep/../query.png"), box(0, 0, 10, 20))
    assert search_folder(Blocks(), query, folder).pictures == 3


def test_unreadable_pictures_are_named_and_passed_over(folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"no picture")
    whole = (folder / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) - 40])
    (folder / "notes.txt").write_text("not looked at")
    query = query_person(Blocks(), folder / "query.png")
    result = search_folder(Blocks(), query, folder)
    assert [item.path.name for item in result.unreadable] == ["broken.jpg", "cut.png"]
    assert "is not a picture" in result.unreadable[0].reason
    assert result.pictures == 3


def test_an_interrupt_keeps_what_was_found(folder: Path) -> None:
    query = query_person(Blocks(), folder / "query.png")

    def stop(done: int, total: int) -> None:
        assert total == 4
        if done == 2:
            raise KeyboardInterrupt

    result = search_folder(Blocks(), query, folder, progress=stop)
    assert result.interrupted
    assert {hit.scene for hit in result.hits} == {"a.png", "deep/b.png"}


def test_what_cannot_be_searched_says_so(folder: Path, tmp_path: Path) -> None:
    model = Blocks()
    with pytest.raises(DataError, match=r"box 60,0,70,20 lies outside of .* 60 x 30 pixels"):
        query_person(model, folder / "query.png", box(60, 0, 70, 20))
    with pytest.raises(DataError, match="nobody was found in it; draw a box"):
        query_person(model, folder / "empty.png")
    with pytest.raises(PictureError, match="no such picture"):
        query_person(model, folder / "gone.png")
    query = query_person(model, folder / "query.png")
    with pytest.raises(DataError, match="no such folder"):
        search_folder(model, query, tmp_path / "gone")
    with pytest.raises(DataError, match="is a file"):
        search_folder(model, query, folder / "query.png")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="no pictures in it"):
        search_folder(model, query, tmp_path / "bare")


def test_pictures_are_found_in_order_and_by_ending(folder: Path) -> None:
    paint(folder / "Z.PNG", RED)
    paths, closed = pictures_in(folder)
    names = [path.relative_to(folder).as_posix() for path in paths]
    assert names == ["Z.PNG", "a.png", "deep/b.png", "empty.png", "query.png"]
    assert closed == []


def test_the_result_is_plain_json(folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"no picture")
    query = query_person(Blocks(), folder / "query.png")
    result = search_folder(Blocks(), query, folder, top=2)
    report = json.loads(json.dumps(result.as_json()))
    assert report["query"]["chosen_by"] == "detector"
    assert report["query"]["box"] == [0, 0, 10, 20]
    assert len(report["query"]["others"]) == 1
    assert [hit["rank"] for hit in report["hits"]] == [1, 2]
    assert report["hits"][0]["picture"] == "deep/b.png"
    assert report["unreadable"][0]["path"].endswith("broken.jpg")
    given = query_person(Blocks(), folder / "query.png", box(0, 0, 10, 20))
    report = search_folder(Blocks(), given, folder).as_json()
    assert (report["query"]["chosen_by"], report["query"]["others"]) == ("box", [])
