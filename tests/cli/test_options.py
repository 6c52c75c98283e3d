"""Shared options of the command line: stores, times, boxes, filters."""

from pathlib import Path
from typing import Any

import pytest
import typer
from blocks import RED, paint

from personsearch.cli.options import (
    VARIABLE,
    make_filters,
    parse_example,
    parse_time,
    read_examples,
    show_position,
    show_time,
    source_uri,
    store_folder,
    store_uri,
)
from personsearch.errors import PictureError, StoreError
from personsearch.store import Filters

NOTHING: dict[str, Any] = {"camera": None, "source": None, "since": None, "until": None}


def test_times_are_parsed_and_shown_in_this_zone() -> None:
    assert parse_time("1970-01-01T00:00:10+00:00") == 10.0
    assert parse_time(None) is None
    assert show_time(None) == ""
    assert parse_time(show_time(1_700_000_000.0)) == 1_700_000_000.0
    assert show_position(3725.4) == "1:02:05"


def test_the_store_is_the_named_one_that_of_the_environment_or_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert store_folder(None) == tmp_path
    assert store_folder(Path("x")) == Path("x")
    with pytest.raises(StoreError, match="is on a server"):
        store_folder("milvus://gate:19530/people")
    with pytest.raises(typer.BadParameter, match="is empty"):
        store_uri("")
    monkeypatch.delenv(VARIABLE)
    assert store_folder(None).parts[-2:] == ("personsearch", "store")


def test_sources_are_absolute_paths_or_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert source_uri("photos") == "/photos"
    assert source_uri("rtsp://gate/live") == "rtsp://gate/live"
    assert source_uri("api:desk") == "api:desk"


@pytest.mark.parametrize("option", ["camera", "source"])
def test_an_empty_name_is_refused(option: str) -> None:
    assert make_filters(**NOTHING) == Filters()
    assert make_filters(**NOTHING | {option: []}) == Filters()
    with pytest.raises(typer.BadParameter, match="is empty") as refused:
        make_filters(**NOTHING | {option: ["gate", ""]})
    assert refused.value.param_hint == f"--{option}"


def test_examples_are_read_once_and_their_boxes_checked(tmp_path: Path) -> None:
    picture = paint(tmp_path / "me:1.png", RED)
    assert parse_example(str(picture)) == (picture, None)
    assert parse_example(f"{picture}:1,2,3,4") == (picture, (1.0, 2.0, 3.0, 4.0))
    first, second = read_examples(picture, "0,0,10,20", [f"{picture}:5,0,10,20"])
    assert first[1] == (0.0, 0.0, 10.0, 20.0)
    assert second[1] == (5.0, 0.0, 10.0, 20.0)
    assert first[0].size == (60, 30)
    with pytest.raises(typer.BadParameter, match="lies outside of"):
        read_examples(picture, "60,0,70,20", None)
    with pytest.raises(typer.BadParameter, match="--box needs a picture"):
        read_examples(None, "0,0,1,1", None)
    with pytest.raises(PictureError, match="no such picture"):
        read_examples(tmp_path / "gone.png", None, None)
