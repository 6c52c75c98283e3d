"""Threads that decode ahead: every frame and every end once, errors are heard of, threads end."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from blocks import RED, paint
from footage import film

from personsearch.indexing.decoders import FileFrames
from personsearch.indexing.writer import Ended, Task
from personsearch.media import apart
from personsearch.media.files import find_media


def tasks(folder: Path) -> list[Task]:
    paint(folder / "a.png", RED)
    (folder / "b.jpg").write_text("no picture")
    film(folder / "c.mkv", 5)
    film(folder / "d.mkv", 4)
    return [Task(one) for one in find_media([folder])[0]]


@pytest.mark.usefixtures("no_thread_is_left")
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_every_frame_and_every_end_once(tmp_path: Path, threads: int | None) -> None:
    given = tasks(tmp_path)
    given[2] = Task(given[2].media, frozenset({1, 3}))
    counts: Counter[str] = Counter()
    order: list[str] = []
    with FileFrames(given, 0.0, threads) as frames:
        for item in frames:
            if isinstance(item, Ended):
                order.append(item.media.name)
                assert bool(item.reason) == (item.media.name == "b.jpg")
            else:
                counts[item[0].name] += 1
        assert frames.unfinished() == []
    assert counts == {"a.png": 1, "c.mkv": 3, "d.mkv": 4}
    assert sorted(order) == ["a.png", "b.jpg", "c.mkv", "d.mkv"]
    assert threads != 1 or order == sorted(order)


@pytest.mark.usefixtures("no_thread_is_left")
def test_it_can_be_left_early(tmp_path: Path) -> None:
    with FileFrames(tasks(tmp_path), 0.0, 2) as frames:
        next(iter(frames))
    with FileFrames([], 0.0) as frames:
        assert list(frames) == []


@pytest.mark.usefixtures("no_thread_is_left")
def test_it_can_be_left_while_a_decoder_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "PATIENCE", 3600.0)
    given = tasks(tmp_path)
    apart.stop_decoders()
    apart.read_picture(given[0].media.path)
    os.kill(*apart.idle_decoders(), signal.SIGSTOP)
    with FileFrames(given, 0.0, 1) as frames:
        while apart.idle_decoders():
            time.sleep(0.05)
    assert frames.unfinished() == []


@pytest.mark.usefixtures("no_thread_is_left")
def test_a_failure_of_the_program_itself_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("personsearch.indexing.decoders.decode", broken)
    with (
        pytest.raises(AssertionError, match="a bug"),
        FileFrames(tasks(tmp_path), 0.0, 1) as frames,
    ):
        list(frames)
