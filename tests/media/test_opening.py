"""Only regular files are opened, and nothing makes a reader wait."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from footage import film
from PIL import Image

from personsearch.errors import DataError, PictureError
from personsearch.media import apart, pictures, video
from personsearch.media.files import decode, find_media
from personsearch.media.opening import leads_out, open_regular
from personsearch.search.query import QueryPicture

pytestmark = pytest.mark.timeout(30)

READERS: list[Callable[[Path], object]] = [
    open_regular,
    *(pictures.read_picture, pictures.picture_size, apart.read_picture, QueryPicture.read),
    *(lambda path: video.read_frame(path, 0), lambda path: apart.read_frame(path, 0)),
    *(video.frame_count, lambda path: list(apart.play(path, apart.Sampling(0.0)))),
]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_regular_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        listening.bind("socket.jpg")
        for name in ("pipe.jpg", "zero.jpg", "socket.jpg"):
            with pytest.raises(PictureError, match=rf"{name}: is not a regular file, expected a"):
                read(tmp_path / name)
    with pytest.raises(PictureError, match=r"folder\.jpg: is a folder, expected a"):
        read(tmp_path / "folder.jpg")


@pytest.mark.parametrize("read", READERS)
def test_names_that_are_none(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(PictureError, match=r"is no file name \(it has a NUL byte"):
        read(tmp_path / "a\0b.jpg")
    with pytest.raises(
        PictureError, match=r"xxx\.\.\.: the name is too long, with [45],\d\d\d char"
    ):
        read(Path(f"/{'x' * 4990}.jpg"))
    with pytest.raises(PictureError, match=r"no such (picture|video)"):
        read(tmp_path / "absent.jpg")
    with pytest.raises(DataError, match="no such file"):
        find_media([Path(f"/{'x' * 4990}.jpg")])
    with pytest.raises(DataError, match="no such file"):
        find_media([tmp_path / "a\0b.jpg"])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
@pytest.mark.parametrize("read", READERS)
def test_the_machines_errors_are_not_the_files(
    photo: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], number: int
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr("personsearch.media.opening.os.open", fail)
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            read(photo)
    assert not isinstance(caught.value, PictureError)


def test_a_file_that_may_not_be_read(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("personsearch.media.opening.os.open", fail)
    with pytest.raises(PictureError, match=r"a\.png: cannot be opened \(Permission denied\)"):
        open_regular(photo)


def test_a_link_must_not_lead_out_of_its_source(photo: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    photo.rename(source / "deep" / "in.png")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "out.png")
    (source / "inner.png").symlink_to(source / "deep" / "in.png")
    (source / "outer.png").symlink_to(tmp_path / "out.png")
    (tmp_path / "same").symlink_to(source)
    for root in (source, tmp_path / "same"):
        media, skipped = find_media([root])
        assert [one.name for one in media] == ["inner.png", "deep/in.png"]
        assert [(one.path.name, one.reason) for one in skipped] == [
            ("outer.png", "is a link out of its source; index the folder that holds the file")
        ]
        assert [len(list(decode(one))) for one in media] == [1, 1]
    # Someone who wants such a file names it, or its folder.
    media, skipped = find_media([source / "outer.png", tmp_path / "out.png"])
    assert ([len(list(decode(one))) for one in media], skipped) == ([1, 1], [])
    assert leads_out(source / "outer.png", source)
    assert not leads_out(source / "inner.png", source)


@pytest.mark.parametrize("kind", ["photo", "video"])
def test_a_file_that_is_replaced_after_it_was_found(photo: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    path = photo.rename(source / "a.png") if kind == "photo" else film(source / "a.mkv", 3)
    outside = path.rename(tmp_path / path.name)
    path.write_bytes(outside.read_bytes())
    ((one,), _) = find_media([source])
    path.unlink()
    path.symlink_to(outside)
    with pytest.raises(PictureError, match=r"a\.\w+: is a link out of its source"):
        list(decode(one))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PictureError, match="is not a regular file"):
        list(decode(one))
    path.unlink()
    # A folder on the way is replaced, too: found by what was opened.
    source.rename(tmp_path / "moved")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / path.name).write_bytes(outside.read_bytes())
    source.mkdir()
    (source / "deep").symlink_to(tmp_path / "other")
    with pytest.raises(PictureError, match="link out of its source"):
        open_regular(source / "deep" / path.name, inside=source)
