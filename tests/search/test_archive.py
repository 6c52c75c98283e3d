"""Searches of an archive by pictures, examples, ids and vectors; blocks of colour are people."""

import hashlib
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blocks import BROWN, GREEN, ORANGE, RED, Blocks, paint
from colored_archive import IDENTITY, index, use_blocks
from torch import Tensor

import personsearch
import personsearch.search
from personsearch.errors import DataError, StoreError
from personsearch.search.calibration import fit_calibration, write_calibration
from personsearch.search.labelled_pairs import Pairs
from personsearch.search.request import SearchRequest
from personsearch.store import Filters, open_store
from personsearch.store.audit import LOG, AuditLog, user_of_this_machine

BLUE = (0, 0, 255)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_blocks(monkeypatch)
    paint(tmp_path / "gate" / "20261121_130000.png", RED, GREEN)
    paint(tmp_path / "gate" / "20261121_140000.png", ORANGE)
    paint(tmp_path / "hall" / "20261121_130000.png", (250, 10, 0), BLUE, BROWN)
    return index(tmp_path / "store", tmp_path / "gate", tmp_path / "hall")


def colors(matches: list[personsearch.Match]) -> list[tuple[str, int]]:
    """The camera and hour of each, and which block of the picture."""
    return [
        (f"{m.person.path.parent.name}{m.person.path.stem[9:11]}", int(m.person.box[0]))
        for m in matches
    ]


def test_by_a_picture_of_its_own_box_or_the_surest(store: Path, tmp_path: Path) -> None:
    query = paint(tmp_path / "me.png", (120, 0, 0), (0, 200, 0))
    with personsearch.open(store) as archive:
        red = archive.search(query, box=(0, 0, 10, 20))
        assert colors(red.matches)[:2] == [("gate13", 0), ("hall13", 0)]
        assert red.matches[0].similarity == pytest.approx(1.0, abs=1e-3)
        assert red.matches[0].rank_score == red.matches[0].similarity
        assert red.matches[0].probability is None
        assert red.searched is None
        np.testing.assert_allclose(red.query, [1, 0, 0], atol=1e-6)
        surest = archive.search(query, top=1)  # green is brighter
        assert colors(surest.matches) == [("gate13", 20)]
        assert surest.shown is not None
        assert surest.shown.score == pytest.approx(200 / 255)
        assert archive.find_people(np.zeros((30, 60, 3), np.uint8)).boxes.shape == (0, 4)


def test_a_model_of_another_metric_is_indexed_and_searched_by_its_cosines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Blocks.embed

    def embed(self: Blocks, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Longer in brighter pictures."""
        rows = unit(self, images, boxes)
        return [
            (3 + 9 * float(image.mean())) * one for image, one in zip(images, rows, strict=True)
        ]

    monkeypatch.setattr(Blocks, "metric", "euclidean")
    monkeypatch.setattr(Blocks, "embed", embed)
    use_blocks(monkeypatch)
    paint(tmp_path / "gate" / "1.png", RED, GREEN, (255, 255, 255))
    paint(tmp_path / "gate" / "2.png", (250, 60, 0))
    store = index(tmp_path / "store", tmp_path / "gate")
    query = paint(tmp_path / "me.png", (120, 0, 0))
    with personsearch.open(store) as archive:
        found = archive.search(query)
        np.testing.assert_allclose(np.linalg.norm(found.query), 1, atol=1e-6)
        assert [round(m.similarity, 2) for m in found.matches] == [1, 0.97, 0.58, 0]
        assert archive.search(people=[1]).matches[0].similarity == pytest.approx(0.97, abs=0.01)


def test_several_pictures_ids_vectors_and_others(store: Path, tmp_path: Path) -> None:
    first = paint(tmp_path / "one.png", RED)
    second = paint(tmp_path / "two.png", BLUE, GREEN)
    with personsearch.open(store) as archive:
        both = archive.search(first, examples=[(second, (20, 0, 30, 20))])
        np.testing.assert_allclose(both.query, np.array([1, 1, 0]) / np.sqrt(2), atol=1e-6)
        assert colors(both.matches)[0] == ("gate14", 0)  # orange
        assert both.shown is not None
        assert both.shown.path == first
        vectors = archive.search(embeddings=np.eye(3, dtype=np.float32)[:2])
        np.testing.assert_allclose(vectors.query, both.query, atol=1e-6)
        brown = next(m.person.id for m in both.matches if colors([m]) == [("hall13", 40)])
        more = archive.search(people=[brown], unlike=[both.matches[0].person.id])
        left = {m.person.id for m in more.matches}
        assert left == {1, 2, 3, 4, 5, 6} - {brown, both.matches[0].person.id}
        only = archive.search(
            first, filters=Filters(cameras=["hall"], sources=[str(tmp_path / "hall")]), top=1
        )
        assert colors(only.matches) == [("hall13", 0)]
        assert not archive.search(first, filters=Filters(min_height=21)).matches
        with pytest.raises(StoreError, match="no example"):
            archive.search()
        with pytest.raises(StoreError, match="has no person 99"):
            archive.search(people=[99])


def test_a_query_picture_of_the_store_finds_nobody_in_itself(store: Path, tmp_path: Path) -> None:
    own = tmp_path / "gate" / "20261121_130000.png"
    with personsearch.open(store) as archive:
        found = colors(archive.search(own, box=(0, 0, 10, 20)).matches)
        assert found[0] == ("hall13", 0)
        assert not any(place == "gate13" for place, _ in found)
        orange = tmp_path / "gate" / "20261121_140000.png"
        pair = archive.search(examples=[(own, None), (orange, None)])
        assert {m.person.camera for m in pair.matches} == {"hall"}


def test_one_a_file_and_ranked_again(store: Path, tmp_path: Path) -> None:
    query = paint(tmp_path / "me.png", RED)
    with personsearch.open(store) as archive:
        plain = archive.search(query).matches
        assert len(plain) == 6
        files = archive.search(query, one_a_file=True).matches
        assert colors(files) == [("gate13", 0), ("hall13", 0), ("gate14", 0)]
        assert len(archive.search(query, one_a_file=True, top=2).matches) == 2
        for rerank in ("k-reciprocal", "expansion"):
            again = archive.search(query, rerank=rerank).matches
            assert {m.person.id for m in again} == {m.person.id for m in plain}
            by_id = {m.person.id: m.similarity for m in plain}
            for match in again:  # still to the query itself
                assert match.similarity == pytest.approx(by_id[match.person.id], abs=1e-5)
            assert np.all(np.diff([m.rank_score for m in again]) <= 0)
            assert [m.rank_score for m in again] != [m.rank_score for m in plain]


def test_probabilities_of_a_calibrated_store(store: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(30), 4)
    others = np.stack(
        [np.arange(400) % 30, (np.arange(400) + 1 + np.arange(400) // 30) % 30], axis=1
    )
    others = others[others[:, 0] != others[:, 1]]
    same, other = rng.normal(0.9, 0.05, len(ids)), rng.normal(0.3, 0.15, len(others))
    calibration = fit_calibration(Pairs(same, ids, other, others), IDENTITY)
    write_calibration(calibration, store)
    query = paint(tmp_path / "me.png", RED)
    with personsearch.open(store) as archive:
        found = archive.search(query)
        assert found.searched == 6
        expected = calibration.probability([m.similarity for m in found.matches], 6)
        np.testing.assert_allclose([m.probability for m in found.matches], expected, rtol=1e-5)
        hall = archive.search(query, filters=Filters(cameras=["hall"]), expected=2.0)
        assert hall.searched == 3
        assert hall.matches[0].probability == pytest.approx(
            calibration.probability(hall.matches[0].similarity, 3, expected=2.0), rel=1e-5
        )
        # Pairs were calibrated: several examples, or others, give other similarities.
        for more in ({"people": [1]}, {"unlike": [2]}):
            assert archive.search(query, **more).matches[0].probability is None
    write_calibration(replace(calibration, model=replace(IDENTITY, fingerprint="c" * 64)), store)
    with personsearch.open(store) as archive, pytest.raises(StoreError, match=r"calibration\.json"):
        archive.search(query)


def test_what_is_refused(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = paint(tmp_path / "me.png", RED)
    nobody = paint(tmp_path / "nobody.png")
    with personsearch.open(store) as archive:
        with pytest.raises(DataError, match="lies outside of"):
            archive.search(query, box=(100, 100, 120, 140))
        with pytest.raises(DataError, match="nobody was found in it"):
            archive.search(nobody)
        with pytest.raises(DataError, match=r"gone\.png"):
            archive.search(tmp_path / "gone.png")
    use_blocks(monkeypatch, replace(IDENTITY, name="other", fingerprint="e" * 64))
    with personsearch.open(store, model="other") as archive:
        with pytest.raises(StoreError, match="their embeddings cannot be compared"):
            archive.search(query)
        # What needs no network is still there.
        assert len(archive.search(people=[1]).matches) == 5
    with pytest.raises(StoreError, match="there is no store here"):
        personsearch.open(tmp_path / "gone")


def test_every_search_and_erasure_is_a_line_in_the_audit_log(store: Path, tmp_path: Path) -> None:
    query = paint(tmp_path / "me.png", RED)
    with personsearch.open(store) as archive:
        archive.search(query, people=[3], unlike=[2], filters=Filters(cameras=["gate"]), top=4)
        archive.search_by(SearchRequest(embeddings=np.eye(3)[:1]), caller="desk")
        assert archive.erase(Filters(people=[1])) == 1
        assert archive.erase_files(str(tmp_path / "hall"), caller="desk") == 3
        assert archive.erase(Filters(cameras=[])) == 0
        archive.log_report("html", [], caller="desk")
    entries = list(AuditLog(store).entries())
    python = f"{user_of_this_machine()} (python)"
    assert [(one.action, one.who) for one in entries] == [
        *[("search", python), ("search", "desk")],
        *[("erase", python), ("erased", python)],
        *[("erase", "desk"), ("erased", "desk")],
        *[("erase", python), ("erased", python)],
        ("report", "desk"),
    ]
    assert entries[0].details == {
        "examples": [
            {
                "picture_sha256": hashlib.sha256(query.read_bytes()).hexdigest(),
                "box": [0, 0, 10, 20],
            }
        ],
        "people": [3],
        "unlike": [2],
        "filters": {"cameras": ["gate"]},
        "top": 4,
        "hits": 1,
        "shown": [1],
    }
    assert entries[1].details["embeddings"] == 1
    assert entries[3].details == {"people": [1], "views": 1}
    assert entries[5].details == {"source": str(tmp_path / "hall"), "views": 3}


def test_without_a_line_nothing_is_answered_and_nobody_erased(store: Path, tmp_path: Path) -> None:
    with personsearch.open(store) as archive:
        archive.search(people=[1])
        (store / LOG).write_bytes(b"")
        for refused in (
            lambda: archive.search(people=[1]),
            lambda: archive.erase(Filters(people=[1])),
            lambda: archive.erase_files(str(tmp_path / "gate")),
            lambda: archive.log_report("csv", []),
        ):
            with pytest.raises(StoreError, match="its end was changed"):
                refused()
        assert archive.engine.count() == 6


def test_erasing_needs_a_selection(store: Path) -> None:
    with personsearch.open(store) as archive:
        for filters in (Filters(), Filters(min_score=0.0)):
            with pytest.raises(StoreError, match="no person, camera, source or time was named"):
                archive.erase(filters)
        with pytest.raises(StoreError, match="the source is an empty text"):
            archive.erase_files("")
        assert archive.engine.count() == 6
        assert not list(archive.audit.entries())


def test_no_matches_have_a_reason(store: Path, tmp_path: Path) -> None:
    query = paint(tmp_path / "me.png", RED)
    with personsearch.open(store) as archive:
        assert archive.search(query).reason == ""
        empty = archive.search(query, filters=Filters(cameras=[]))
        assert empty.matches == []
        assert empty.reason == "the filter 'cameras' is an empty list, which selects nobody"
        nobody = archive.search(query, filters=Filters(cameras=["none"]))
        assert nobody.reason == "nobody passes the filters"
        itself = archive.search(people=[1], filters=Filters(people=[1]))
        assert "among the examples" in itself.reason


def test_an_empty_store_has_no_matches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_blocks(monkeypatch)
    with open_store(tmp_path / "store", model=IDENTITY, write=True):
        pass
    query = paint(tmp_path / "me.png", RED)
    with personsearch.open(tmp_path / "store") as archive:
        for rerank in (None, "k-reciprocal", "expansion"):
            assert archive.search(query, rerank=rerank).matches == []


def test_threads_get_what_one_gets(store: Path, tmp_path: Path) -> None:
    pictures = [paint(tmp_path / f"{n}.png", color) for n, color in enumerate((RED, GREEN, BLUE))]
    with personsearch.open(store) as archive:
        expected = [colors(archive.search(picture).matches) for picture in pictures]
        found: dict[int, list[tuple[str, int]]] = {}

        def look(number: int) -> None:
            for _ in range(3):
                found[number] = colors(archive.search(pictures[number % 3]).matches)

        threads = [threading.Thread(target=look, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[number] for number in range(6)] == [*expected, *expected]


@pytest.mark.parametrize("module", ["archive", "calibration", "folder_search", "labelled_pairs"])
def test_importing_loads_no_network_and_no_solver(module: str) -> None:
    code = (
        f"import sys, personsearch.search.{module}; personsearch.search.Match; "
        "print([name for name in ('torch', 'scipy', 'faiss', 'cv2') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_the_package_names_what_users_need() -> None:
    assert dir(personsearch.search) == sorted(personsearch.search.__all__)
    for name in personsearch.search.__all__:
        assert getattr(personsearch.search, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = personsearch.search.nothing
