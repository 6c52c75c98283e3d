"""A URI names a folder or a Milvus collection; other schemes are refused."""

from pathlib import Path

import pytest
from few_people import MODEL

from personsearch.engines.sqlite import StoreEngine
from personsearch.engines.uri import check_scheme, made_by, open_engine, scheme_of
from personsearch.errors import StoreError


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("store", ""),
        (Path("milvus://h"), ""),
        ("C:/store", ""),
        ("milvus://h/c", "milvus"),
        ("milvus+https://h/c", "milvus+https"),
        ("milvus-lite:x.db", "milvus-lite"),
        ("qdrant://h", "qdrant"),
    ],
)
def test_scheme(uri: Path | str, scheme: str) -> None:
    assert scheme_of(uri) == scheme
    if scheme == "qdrant":
        with pytest.raises(StoreError, match=r"unknown store scheme 'qdrant'; expected a folder"):
            check_scheme(uri)
    else:
        check_scheme(uri)


@pytest.mark.parametrize("name", ["{}/store", "milvus-lite:{}/people.db"])
def test_a_store_is_created_on_request(tmp_path: Path, name: str) -> None:
    uri = name.format(tmp_path)
    assert made_by(uri) is None
    with pytest.raises(StoreError, match="there is no"):
        open_engine(uri)
    with open_engine(uri, model=MODEL, create=True) as engine:
        assert isinstance(engine, StoreEngine) == (not scheme_of(uri))
        assert engine.uri == uri
    assert made_by(uri) == MODEL
