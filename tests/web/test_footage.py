"""Pictures and clips of hits, from the indexed files alone."""

import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from crowd import RED, make_store, open_crowd, scene
from PIL import Image

from personsearch.errors import PictureError
from personsearch.store import StoredPerson
from personsearch.web import footage
from personsearch.web.footage import as_jpeg, clip, whole_picture


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[StoredPerson]]:
    folder = tmp_path_factory.mktemp("footage")
    with open_crowd(make_store(folder)) as archive:
        yield [one.person for batch in archive.engine.iterate() for one in batch]


def test_the_photo_and_the_frame(people: list[StoredPerson]) -> None:
    for person in people:
        pixels = whole_picture(person)
        assert pixels.shape == (200, 320, 3)
        x1, y1, x2, y2 = person.box.astype(int)
        middle = pixels[(y1 + y2) // 2, (x1 + x2) // 2].astype(int)
        assert middle.max() - middle.min() > 60  # coloured: someone stands there
    with Image.open(io.BytesIO(as_jpeg(scene({20: RED}), 100))) as small:
        assert small.size in ((100, 62), (100, 63))


def test_a_clip_around_the_moment(people: list[StoredPerson]) -> None:
    walker = [one for one in people if one.position is not None][-1]
    assert walker.position == pytest.approx(3.0, abs=0.15)
    with av.open(io.BytesIO(clip(walker, 2.0))) as made:
        assert made.streams.video[0].codec_context.name == "h264"
        frames = list(made.decode(made.streams.video[0]))
    assert 18 <= len(frames) <= 21
    # At 2 s the walker stands at x = 90, at 3.9 s at x = 166.
    for frame, x in ((frames[0], 90), (frames[-1], 166)):
        pixels = frame.to_ndarray(format="rgb24").astype(int)
        columns = np.flatnonzero((pixels.max(2) - pixels.min(2))[100] > 80)
        assert abs(columns[0] - x) <= 6


def test_a_clip_that_takes_too_long_ends_early(
    people: list[StoredPerson], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footage, "CLIP_SECONDS", 0.0)
    walker = next(one for one in people if one.position is not None)
    with av.open(io.BytesIO(clip(walker, 2.0))) as made:
        assert len(list(made.decode(video=0))) == 1


def test_what_is_gone_or_is_another_file(people: list[StoredPerson], tmp_path: Path) -> None:
    photo = next(one for one in people if one.position is None)
    walker = next(one for one in people if one.position is not None)
    with pytest.raises(PictureError, match="is a photo"):
        clip(photo)
    for work in (whole_picture, clip):
        with pytest.raises(PictureError, match="no such video"):
            work(replace(walker, source=str(tmp_path)))
    with pytest.raises(PictureError, match="is 320 x 200, expected 10 x 10"):
        whole_picture(replace(photo, size=(10, 10)))
    broken = tmp_path / walker.name
    broken.parent.mkdir()
    broken.write_bytes(b"nothing")
    with pytest.raises(PictureError):
        clip(replace(walker, source=str(tmp_path)))
    shutil.copy(photo.path, broken)
    with pytest.raises(PictureError):
        clip(replace(walker, source=str(tmp_path), position=1000.0))


@pytest.mark.timeout(60)
def test_what_was_put_in_place_of_a_file(people: list[StoredPerson], tmp_path: Path) -> None:
    photo = next(one for one in people if one.position is None)
    walker = next(one for one in people if one.position is not None)
    for person, works in ((photo, [whole_picture]), (walker, [whole_picture, clip])):
        source = tmp_path / Path(person.name).stem
        path = source / person.name
        path.parent.mkdir(parents=True)
        moved = replace(person, source=str(source))
        for work in works:
            path.symlink_to(person.path)
            with pytest.raises(PictureError, match="is a link out of its source"):
                work(moved)
            path.unlink()
            os.mkfifo(path)
            with pytest.raises(PictureError, match="is not a regular file"):
                work(moved)
            path.unlink()
    with pytest.raises(PictureError, match="no file name"):
        whole_picture(replace(photo, name="a\0b.png"))


def test_an_error_of_the_encoder_is_ours(
    people: list[StoredPerson], monkeypatch: pytest.MonkeyPatch
) -> None:
    walker = next(one for one in people if one.position is not None)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such encoder")

    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(RuntimeError, match="no such encoder"):
        clip(walker)
