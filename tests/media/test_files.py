"""Which photos and videos there are, whose, and from when; and every hostile kind of file."""

import datetime
import os
from pathlib import Path
from zoneinfo import ZoneInfo

import av
import numpy as np
import pytest
from PIL import Image

from personsearch.errors import DataError, PictureError
from personsearch.media.files import decode, find_media, named_time
from personsearch.media.name_pattern import NamePattern
from personsearch.media.sampling import Sampling


def photo(path: Path, **save: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(path, **save)
    return path


def movie(path: Path, frames: int = 30, rate: int = 10) -> Path:
    """Frame k is of grey 8 k."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for k in range(frames):
            pixels = np.full((32, 32, 3), 8 * k % 256, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def taken_at(path: Path, zone: datetime.tzinfo | None = None) -> float | None:
    """The time of a photo when it is decoded."""
    (one,), _ = find_media([path], zone=zone)
    (frame,) = decode(one)
    return frame.time


def test_folders_of_any_depth(tmp_path: Path) -> None:
    for name in ("b.jpg", "door/a.PNG", "door/deep/c.webp"):
        photo(tmp_path / "photos" / name)
    movie(tmp_path / "photos" / "door" / "v.mp4")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    alone = photo(tmp_path / "alone.jpg")
    media, skipped = find_media([tmp_path / "photos", alone])
    assert skipped == []
    assert [(one.name, one.kind, one.camera) for one in media] == [
        ("b.jpg", "photo", "photos"),
        ("door/a.PNG", "photo", "door"),
        ("door/v.mp4", "video", "door"),
        ("door/deep/c.webp", "photo", "deep"),
        ("", "photo", tmp_path.name),
    ]
    assert [one.source for one in media] == [str(tmp_path / "photos")] * 4 + [str(alone)]
    assert media[0].stamp.bytes == (tmp_path / "photos" / "b.jpg").stat().st_size
    assert {one.camera for one in find_media([tmp_path], "all")[0]} == {"all"}


def test_hostile_names_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = ["new\nline.jpg", "quo'te\".jpg", "emoji 🚪.jpg", "x" * 251 + ".jpg"]
    for name in odd:
        photo(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    photo(tmp_path / "ok.jpg")
    (tmp_path / "ok.jpg").rename(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg"))
    media, skipped = find_media([tmp_path])
    assert sorted(one.name for one in media) == sorted(odd)
    reasons = {os.fsencode(one.path.name): one.reason for one in skipped}
    assert reasons.keys() == {b"pipe.jpg", b"gone.jpg", b"bad\xff.jpg"}
    assert reasons[b"pipe.jpg"] == "is not a regular file"
    assert "UTF-8" in reasons[b"bad\xff.jpg"]


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        find_media([tmp_path / "gone"])
    (tmp_path / "notes.txt").write_text("x")
    media, (skipped,) = find_media([tmp_path / "notes.txt"])
    assert media == []
    assert "expected a file ending in" in skipped.reason


def test_when_a_photo_was_taken(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2025:07:06 05:04:03"
    local = datetime.datetime(2025, 7, 6, 5, 4, 3).timestamp()
    assert taken_at(photo(tmp_path / "a.jpg", exif=exif)) == local
    exif.get_ifd(0x8769)[0x9011] = "+02:00"
    utc = datetime.datetime(2025, 7, 6, 3, 4, 3, tzinfo=datetime.UTC).timestamp()
    assert taken_at(photo(tmp_path / "b.jpg", exif=exif)) == utc
    exif.get_ifd(0x8769)[0x9003] = "0000:00:00 00:00:00"
    named = datetime.datetime(2024, 2, 3, 4, 5, 6).timestamp()
    assert taken_at(photo(tmp_path / "IMG_20240203_040506.jpg", exif=exif)) == named
    assert taken_at(photo(tmp_path / "plain.jpg")) is None


def test_parts_of_a_second_and_the_zone(tmp_path: Path) -> None:
    exif = Image.Exif()
    # Without a time at which it was taken, that at which it was made digital counts.
    exif.get_ifd(0x8769)[0x9004] = "2025:07:06 05:04:03"
    exif.get_ifd(0x8769)[0x9292] = "25"
    path = photo(tmp_path / "a.jpg", exif=exif)
    tokyo = ZoneInfo("Asia/Tokyo")
    expected = datetime.datetime(2025, 7, 6, 5, 4, 3, 250_000, tzinfo=tokyo).timestamp()
    assert taken_at(path, tokyo) == expected
    photo(tmp_path / "20240203_040506.jpg")
    media, _ = find_media([tmp_path], zone=tokyo)
    named = datetime.datetime(2024, 2, 3, 4, 5, 6, tzinfo=tokyo).timestamp()
    assert [next(decode(one)).time for one in media] == [named, expected]


def test_camera_and_time_by_a_pattern(tmp_path: Path) -> None:
    pattern = NamePattern("{camera}/{date}/{any}-{time}")
    photo(tmp_path / "gate" / "2024-02-03" / "x-040506.jpg")
    movie(tmp_path / "gate" / "2024-02-03" / "y-0405.mp4", frames=2)
    photo(tmp_path / "gate" / "other" / "20240203_040506.jpg")
    media, _ = find_media([tmp_path], pattern=pattern, zone=datetime.UTC)
    start = datetime.datetime(2024, 2, 3, 4, 5, tzinfo=datetime.UTC).timestamp()
    found = {one.path.name: (one.camera, next(decode(one)).time) for one in media}
    assert found == {
        "x-040506.jpg": ("gate", start + 6),
        "y-0405.mp4": ("gate", start),
        "20240203_040506.jpg": ("other", start + 6),
    }
    # Who says whose it is, is right.
    media, _ = find_media([tmp_path], "door", pattern=pattern)
    assert {one.camera for one in media} == {"door"}


def test_pictures_that_are_not_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "b.NEF").write_bytes(b"raw")
    (tmp_path / "notes.txt").write_text("nothing to tell")
    media, skipped = find_media([tmp_path])
    assert media == []
    assert {one.path.name: one.reason for one in skipped} == {
        "a.svg": ".svg is not read; save it as JPEG or PNG",
        "b.NEF": ".NEF is not read; save it as JPEG or PNG",
    }


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_of_an_animation_the_first_picture_counts(tmp_path: Path, suffix: str) -> None:
    pictures = [Image.new("RGB", (30, 20), (level, 0, 0)) for level in (200, 100, 0)]
    path = tmp_path / f"a.{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], lossless=True)
    (one,), _ = find_media([path])
    (frame,) = decode(one)
    assert frame.index is None
    assert frame.pixels[10, 15].tolist() == [200, 0, 0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("svg.jpg", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
        ("playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hosts\n"),
        ("list.mp4", b"ffconcat version 1.0\nfile /etc/hosts\n"),
    ],
)
def test_what_calls_itself_something_else(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (one,), _ = find_media([tmp_path / name])
    with pytest.raises(PictureError):
        list(decode(one))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20240203_040506.mp4", (2024, 2, 3, 4, 5, 6)),
        ("door 2024-02-03 04.05.06.mp4", (2024, 2, 3, 4, 5, 6)),
        ("2024-02-03T04-05-06.mkv", (2024, 2, 3, 4, 5, 6)),
        ("20241303_040506.mp4", None),
        ("120240203040506.mp4", None),
        ("clip.mp4", None),
    ],
)
def test_a_date_in_a_name(name: str, expected: tuple[int, ...] | None) -> None:
    time = None if expected is None else datetime.datetime(*expected).timestamp()  # type: ignore[arg-type]
    assert named_time(Path(name)) == time


@pytest.mark.parametrize(
    ("every", "expected"),
    [(1.0, [0, 10, 20]), (0.5, [0, 5, 10, 15, 20, 25]), (0.0, list(range(30))), (99.0, [0])],
)
def test_frames_so_many_seconds_apart(tmp_path: Path, every: float, expected: list[int]) -> None:
    (one,), _ = find_media([movie(tmp_path / "2024-02-03_040506.mp4")])
    frames = list(decode(one, every=every))
    start = datetime.datetime(2024, 2, 3, 4, 5, 6).timestamp()
    assert [frame.index for frame in frames] == expected
    for frame in frames:
        assert frame.index is not None
        assert frame.time == pytest.approx(start + frame.index / 10)
        assert abs(float(frame.pixels.mean()) - 8 * frame.index) < 8
    again = [frame.index for frame in decode(one, every=every, known=set(expected[:2]))]
    assert again == expected[2:]


def test_every_so_many_frames(tmp_path: Path) -> None:
    (one,), _ = find_media([movie(tmp_path / "v.mp4")])
    assert [frame.index for frame in decode(one, every=Sampling(frames=7))] == [0, 7, 14, 21, 28]


def test_frames_in_which_nothing_moves_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for k in range(60):
            pixels = np.full((96, 160, 3), 60, np.uint8)
            if k >= 33:  # someone comes in, as tall as a quarter of the picture
                pixels[40:64, 70:80] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    (one,), _ = find_media([path])
    scenes = Sampling(0.5, scenes=60.0)
    assert [frame.index for frame in decode(one, every=scenes)] == [0, 35]
    # What was there already does not change the choice of the rest.
    assert [frame.index for frame in decode(one, every=scenes, known={0})] == [35]
    at_least = Sampling(0.5, scenes=1.0)
    assert [frame.index for frame in decode(one, every=at_least)] == [0, 10, 20, 30, 35, 45, 55]


def test_a_video_that_breaks_in_the_middle(tmp_path: Path) -> None:
    path = movie(tmp_path / "v.avi", frames=200)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    (one,), _ = find_media([path])
    frames = [frame.index for frame in decode(one, every=0.0)]
    assert 20 < len(frames) < 190
    assert frames == list(range(len(frames)))


@pytest.mark.parametrize("name", ["a.jpg", "a.mp4"])
def test_what_is_no_picture_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("just text")
    (one,), _ = find_media([tmp_path / name])
    with pytest.raises(PictureError, match="is not a"):
        list(decode(one))
    (tmp_path / name).unlink()
    with pytest.raises(PictureError, match="no such"):
        list(decode(one))
