"""Output of `personsearch search` in a store, by its options."""

import json
from collections.abc import Callable
from pathlib import Path

from labelled_blocks import run


def test_options_of_search(place: Path) -> None:
    def cameras(*options: str) -> list[str]:
        return [hit["camera"] for hit in json.loads(run("search", *options, "--json"))["hits"]]

    assert cameras("me.png", "--source", "hall") == ["hall", "hall"]
    assert cameras("me.png", "--source", "gate", "--since", "2026-11-21T13:01") == ["gate"]
    assert cameras("me.png", "--one-per-file") == ["gate", "gate", "hall"]
    assert cameras("me.png", "--min-height", "21") == []
    assert cameras("me.png", "--score", "0.99", "--camera", "hall") == ["hall", "hall"]
    assert len(cameras("me.png", "--flat")) == 5
    assert len(cameras("--example", "me.png:0,0,10,20", "--example", "me.png")) == 5
    # Everyone in a picture that was given is left out.
    assert set(cameras("me.png", "--example", "hall/20261121_150000.png")) == {"gate"}
    for way in ("k-reciprocal", "expansion"):
        assert cameras("me.png", "--rerank", way)[0] == "gate"
        assert "similarity" in run("search", "me.png", "--rerank", way)
    run("search", "--example", "me.png", "--out", "hits.png")
    assert (place / "hits.png").is_file()
    assert "is not a box" in run("search", "--example", "me.png:1,2,3,x", code=2)
    assert "lies outside of" in run("search", "--example", "me.png:100,100,120,140", code=2)
    assert "--box needs a picture" in run("search", "--person", "1", "--box", "1,2,3,4", code=2)
    assert "exclude each other" in run("search", "me.png", "--in", ".", "--flat", code=2)


def test_no_matches_have_a_reason(place: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    status, _, err = cli("search", "me.png", "--camera", "nowhere")
    assert status == 0
    assert "no matches: nobody passes the filters" in err
    assert "is empty" in run("search", "me.png", "--camera", "", code=2)
    assert "is empty" in run("timeline", "me.png", "--source", "", code=2)
