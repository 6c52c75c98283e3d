"""Whatever a decoder raises is an error of one file, which names the file and the cause."""

import errno
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from damaged import (
    ODD_ENTRIES,
    cut_video,
    damage,
    damaged_avif,
    odd_photo,
    video,
    video_without_codec,
)

from personsearch.errors import PictureError
from personsearch.media.damage import cause, decoding, is_of_machine
from personsearch.media.files import decode, find_media
from personsearch.media.pictures import decode_picture, picture_size, read_picture
from personsearch.media.video import frame_count, play, read_frame, video_size

PATH = Path("a.jpg")


@pytest.mark.parametrize(
    "raised",
    [
        *(struct.error("short"), RuntimeError("short"), TypeError("short"), KeyError("short")),
        *(OverflowError("short"), AttributeError("short")),
        *(EOFError("short"), SyntaxError("short"), OSError("short")),
        av.error.PatchWelcomeError(1, "short"),
        av.error.EOFError(1, "short"),
    ],
)
def test_every_exception_names_the_file(raised: Exception) -> None:
    expected = r"^a\.jpg: is damaged \(.*short.*\)"
    with pytest.raises(PictureError, match=expected) as caught, decoding(PATH):
        raise raised
    assert caught.value.__cause__ is raised


def test_its_own_errors_and_interruptions_pass() -> None:
    with pytest.raises(PictureError, match=r"^mine$"), decoding(PATH):
        raise PictureError("mine")
    for ending in (KeyboardInterrupt, SystemExit):
        with pytest.raises(ending), decoding(PATH):
            raise ending


@pytest.mark.parametrize(
    "raised", [MemoryError("full"), *(OSError(n, "short") for n in (errno.EMFILE, errno.EIO, 28))]
)
def test_errors_of_the_machine_pass(raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught, decoding(PATH):
        raise raised
    assert caught.value is raised
    assert is_of_machine(raised)
    assert not is_of_machine(av.error.FFmpegError(errno.EIO, "damaged"))
    assert not is_of_machine(PermissionError(errno.EACCES, "no"))


def test_a_cause_is_one_short_line() -> None:
    assert cause(PermissionError(13, "Permission denied", "/a/b")) == "Permission denied"
    assert cause(RuntimeError("two\n  lines")) == "RuntimeError: two lines"
    assert cause(KeyError()) == "KeyError"
    assert cause(OSError()) == "OSError"
    assert len(cause(ValueError("x" * 999))) == 200


@pytest.mark.parametrize("entry", ODD_ENTRIES.values(), ids=ODD_ENTRIES)
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "MPO"])
def test_a_photo_with_an_odd_exif_block_is_read_upright(
    tmp_path: Path, format: str, entry: tuple[int, int, int, bytes]
) -> None:
    content = odd_photo(format, entry)
    path = tmp_path / ("a.webp" if format == "WEBP" else "a.jpg")
    path.write_bytes(content)
    assert read_picture(path).shape == (60, 50, 3)
    assert picture_size(path) == (50, 60)
    np.testing.assert_array_equal(decode_picture(content, "it"), read_picture(path))
    (frame,) = decode(find_media([path])[0][0])
    assert frame.time is None


@pytest.mark.parametrize(
    "read", [read_picture, lambda path: decode_picture(path.read_bytes(), path)]
)
def test_a_damaged_avif(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "a.avif"
    path.write_bytes(damaged_avif())
    with pytest.raises(PictureError, match=r"a\.avif: is truncated or damaged \(.*decode"):
        read(path)


@pytest.mark.parametrize(
    "read",
    [
        *(frame_count, video_size, lambda path: read_frame(path, 3)),
        lambda path: list(play(path, lambda *_: True)),
    ],
)
def test_a_video_that_cannot_be_opened(tmp_path: Path, read: Callable[[Path], object]) -> None:
    for name, codec in (("a.mp4", "libx264"), ("a.ts", "mpeg2video")):
        cut = cut_video(tmp_path / name, codec)
        with pytest.raises(PictureError, match=rf"{name}: is not a video that can be read \(End"):
            read(cut)
    with pytest.raises(PictureError, match=r"b\.mp4: is in an unknown codec, expected a video"):
        read(video_without_codec(tmp_path / "b.mp4"))


def test_a_decoder_that_raises_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    video(path, "mpeg4")
    monkeypatch.setattr(
        "personsearch.media.video._shown",
        lambda frame: (_ for _ in ()).throw(RuntimeError("no such colors")),
    )
    with pytest.raises(PictureError, match=r"a\.mp4: is damaged \(RuntimeError: no such colors\)"):
        list(play(path, lambda *_: True))
    with pytest.raises(PictureError, match="frame 3 cannot be decoded"):
        read_frame(path, 3)


def test_the_files_of_a_folder_raise_nothing_else(tmp_path: Path) -> None:
    names = damage(tmp_path / "files")
    media, skipped = find_media([tmp_path / "files"])
    assert (sorted(one.name for one in media), skipped) == (names, [])
    for one in media:
        with pytest.raises(PictureError, match=one.name):
            list(decode(one))
