"""Benchmarks run as their documentation says, at the smallest size; no time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / ".." / "shared" / "data"


def _run(name: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_sharing_compares_every_way_with_the_disjoint_pair() -> None:
    small = ("--backbone", "small", "--side", "128", "--repeats", "1")
    shape = ("--batches", "1", "2", "--people", "2", "5")
    rows = json.loads(_run("sharing.py", *small, *shape, "--json"))
    assert [row["sharing"] for row in rows[::4]] == ["disjoint", "J2", "J3", "J4"]
    assert [(row["batch"], row["people"]) for row in rows[:4]] == [(1, 2), (1, 5), (2, 2), (2, 5)]
    first = {(row["batch"], row["people"]): row["ms_per_person"] for row in rows[:4]}
    for row in rows:
        disjoint = first[row["batch"], row["people"]]
        assert row["ms_per_person"] > 0
        assert abs(row["speedup"] - disjoint / row["ms_per_person"]) < 1e-9
    # Table 1b at one picture and 5 people: 17.0 ms for the pair, 12.2 for J3.
    assert abs(rows[9]["paper_speedup"] - 17.0 / 12.2) < 1e-9


def test_the_evaluator_is_timed_at_several_sizes() -> None:
    rows = json.loads(_run("evaluation.py", "--scale", "0.01", "--json"))["growth"]
    assert [row["convention"] for row in rows] == ["standard", "seqnet"] * 5
    assert [row["pictures"] for row in rows[::2]] == [61, 61, 61, 30, 122]
    assert all(row["cpu"] > 0 for row in rows)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real samples in ../shared/data")
def test_real_samples_are_searched_through_a_store(tmp_path: Path) -> None:
    for name in ("prw-frames", "prw-annotations", "models"):
        (tmp_path / name).symlink_to((DATA / name).resolve())
    result = json.loads(_run("real_search.py", "--data", str(tmp_path), "--json"))
    assert [row["data"] for row in result["search"]] == ["PRW frames"]
    assert result["calibration"]


def test_indexing_is_compared_with_the_same_in_turn() -> None:
    (row,) = json.loads(_run("indexing.py", "--pictures", "12", "--json"))
    assert row["pictures"] == 12
    assert 0.0 <= row["waited_share"] <= 1.0
    ratio = row["pictures_per_second"] / row["in_turn_per_second"]
    assert abs(row["speedup"] - ratio) < 1e-9


def test_retrieval_finds_as_many_as_numpy() -> None:
    result = json.loads(
        _run("retrieval.py", "--people", "21000", "--dim", "32", "--queries", "40", "--json")
    )
    rows = {(row["what"], row["who"]): row for row in result["rows"]}
    assert result["prepared"]
    for what in ("exact, one by one", "exact, together", "2 %, one by one"):
        # Two people may be alike to the sixth digit, of whom either is right.
        assert rows[what, "numpy"]["recall"] >= 0.99
        assert rows[what, "store"]["count"] == rows[what, "numpy"]["count"]
    assert rows["approximate, together", "store"]["recall"] > 0.9
    assert rows["insert, with thumbnails", "store"]["count"] == 21000
    assert result["disk_bytes"]["database"] > 21000 * (2048 + 64)
    assert result["disk_bytes"]["rows"] >= 21000 * 64


def test_serving_answers_every_search() -> None:
    result = json.loads(
        _run("serving.py", "--people", "2000", "--dim", "16", "--searches", "8", "--json")
    )
    assert result["people"] == 2000
    assert set(result["rows"]) >= {"engine alone", "API: a search", "page: what is in the store"}
    assert all(0 < row["median_ms"] <= row["worst_ms"] for row in result["rows"].values())


def test_a_loaded_server_shows_nobody_who_was_erased_and_loses_nothing() -> None:
    small = ("--minutes", "0.05", "--clients", "5", "--rate", "10", "--pictures", "5")
    found = json.loads(_run("soak.py", *small, "--json"))
    assert (found["erased_still_visible"], found["lost"], found["failures"]) == (0, 0, [])
    assert (found["audit"], found["damage"]) == ("whole", "none")
    assert found["statuses"]["200"] > 0


def test_networks_are_compared_with_one_as_it_is_built() -> None:
    sizes = ("--size", "64", "96", "--train-size", "64", "96", "--train-batch", "1")
    chosen = ("--systems", "seqnet", "--people", "2", "--rounds", "1", "--device", "cpu")
    result = json.loads(_run("networks.py", *sizes, *chosen, "--json"))
    rows = result["rows"]
    assert [row["task"] for row in rows] == sorted(row["task"] for row in rows)
    assert {row["system"] for row in rows} == {"seqnet as built", "seqnet"}
    assert all(row["pictures_per_second"] > 0 and row["ratio"] > 0 for row in rows)
    detection, training = result["differences"]
    assert detection["scores"] < 1e-4
    assert training["sum of losses"] < 1e-3
    assert result["nms"]["kept, ours"] == result["nms"]["kept, torchvision"]
