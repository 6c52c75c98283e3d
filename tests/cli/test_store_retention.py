"""`personsearch store keep` and `expire`."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from personsearch.store import open_store

Run = Callable[..., tuple[int, str, str]]


def test_keep_and_expire(cli: Run, small_store: Path) -> None:
    assert "keeps forever; set a time" in cli("store", "expire")[1]
    assert "1 people are older" in cli("store", "keep", "30")[1]
    assert json.loads(cli("store", "info", "--json")[1])["outdated"] == 1
    assert cli("store", "expire")[:2] == (0, "1 people older than 30 days erased\n")
    assert json.loads(cli("store", "expire", "--json")[1])["erased"] == 0
    assert "kept forever" in cli("store", "keep", "forever")[1]
    for wrong in ("0", "nan", "inf", "soon"):
        status, _, err = cli("store", "keep", wrong)
        assert status == 2
        assert "expected days such as 30" in " ".join(err.replace("│", " ").split())
    with open_store(small_store) as opened:
        assert opened.embeddings()[0].tolist() == [2]
        assert (opened.times()[0] or time.time()) > 1e9
