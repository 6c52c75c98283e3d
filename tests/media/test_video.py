import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from personsearch.errors import PictureError
from personsearch.media.pictures import read_scene
from personsearch.media.video import frame_count, frame_rate, play, read_frame, video_size
from personsearch.types import Scene

PETS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "pets09"
COUNT = 90


def make_video(path: Path, codec: str, **options: str) -> Path:
    """Frame k is of brightness 2 k."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for k in range(COUNT):
            pixels = np.full((48, 64, 3), 2 * k, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("reordered.mp4", "libx264", {"g": "12", "bf": "3"}),
        ("reordered.avi", "libx264", {"g": "12", "bf": "3"}),
        ("plain.avi", "mpeg4", {"g": "15"}),
        ("reordered.mkv", "libx264", {"g": "20", "bf": "2"}),
        ("reordered.mpg", "mpeg2video", {"g": "12", "bf": "2"}),
    ],
)
def test_any_order_gives_the_frames_of_playing(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = make_video(tmp_path / name, codec, **options)
    assert frame_count(path) == COUNT
    assert video_size(path) == (64, 48)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(expected) == COUNT
    for index in (70, 3, 71, 35, 89, 0, 88, 52, 53, 12):
        frame = read_frame(path, index)
        np.testing.assert_array_equal(frame, expected[index])
        assert abs(float(frame.mean()) - 2 * index) < 6


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "mpeg4")
    with pytest.raises(PictureError, match="no frame 90; it has 90"):
        read_frame(path, 90)
    # The video can still be read after an error.
    assert read_frame(path, 1).shape == (48, 64, 3)
    with pytest.raises(PictureError, match="expected an index from zero"):
        read_frame(path, -1)
    with pytest.raises(PictureError, match="no such video"):
        read_frame(tmp_path / "absent.mp4", 0)
    with pytest.raises(PictureError, match="64 x 48 is 3,072 pixels a frame, the limit is 100"):
        read_frame(path, 0, max_pixels=100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(PictureError, match=r"is empty \(0 bytes\)"):
        frame_count(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(PictureError, match="is not a video"):
        read_frame(tmp_path / "text.mp4", 0)


def test_a_replaced_file_is_opened_again(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", "mpeg4")
    before = read_frame(path, 40)
    make_video(tmp_path / "b.avi", "mpeg4", g="1", qscale="20").replace(path)
    os.utime(path, ns=(1, 1))
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(read_frame(path, 40), expected[40])
    assert before.shape == expected[40].shape


def test_a_scene_is_read_from_its_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "mpeg4")
    nobody = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    scene = Scene("a", path, (64, 48), *nobody, frame=33)
    np.testing.assert_array_equal(read_scene(scene), read_frame(path, 33))


def played(path: Path) -> list[tuple[int, float]]:
    """Index and seconds of every frame."""
    return [(k, seconds) for k, seconds, _ in play(path, lambda *_: True)]


def uneven(path: Path, stamps: list[int], start: int = 0) -> Path:
    """Frames at so many hundredths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=100)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = start + stamp, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
@pytest.mark.parametrize("start", [0, 5000])
def test_seconds_are_those_of_the_frames(tmp_path: Path, name: str, start: int) -> None:
    stamps = [0, 3, 10, 11, 250, 251, 900]
    found = played(uneven(tmp_path / name, stamps, start))
    assert [k for k, _ in found] == list(range(7))
    np.testing.assert_allclose([seconds for _, seconds in found], np.array(stamps) / 100, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.avi", {"g": "12", "bf": "3"}), ("b.mp4", {"g": "12", "bf": "3"}), ("c.avi", {"bf": "0"})],
)
def test_seconds_where_frames_are_stored_in_another_order(
    tmp_path: Path, name: str, options: dict[str, str]
) -> None:
    found = played(make_video(tmp_path / name, "libx264", **options))
    assert [k for k, _ in found] == list(range(COUNT))
    np.testing.assert_allclose([second for _, second in found], np.arange(COUNT) / 10, atol=2e-3)


def test_recordings_that_were_joined_go_on(tmp_path: Path) -> None:
    parts = [make_video(tmp_path / f"{k}.ts", "mpeg2video").read_bytes() for k in range(2)]
    (tmp_path / "joined.ts").write_bytes(parts[0] + parts[1])
    seconds = [second for _, second in played(tmp_path / "joined.ts")]
    assert len(seconds) > COUNT
    assert seconds[0] == 0.0
    assert (np.diff(seconds) > 0).all()
    assert seconds[-1] == pytest.approx((len(seconds) - 1) / 10, abs=1.0)


def test_a_wrong_length_in_the_header_changes_nothing(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "mpeg4")
    content = bytearray(path.read_bytes())
    at = content.index(b"mvhd") + 4 + 4 + 8 + 4  # version, two dates, clock
    content[at : at + 4] = struct.pack(">I", 3)
    path.write_bytes(content)
    assert len(played(path)) == COUNT


@pytest.mark.parametrize(
    ("matrix", "marked"),
    [((0, 1, -1, 0), (0, -1)), ((0, -1, 1, 0), (-1, 0)), ((-1, 0, 0, -1), (-1, -1))],
)
def test_a_video_that_lies_on_its_side_is_shown_upright(
    tmp_path: Path, matrix: tuple[int, ...], marked: tuple[int, int]
) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[:16, :16] = 255  # in the upper left corner, as stored
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (number << 16 for number in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    ((_, _, shown),) = play(path, lambda *_: True)
    turned = matrix[0] == 0
    assert shown.shape == ((64, 32, 3) if turned else (32, 64, 3))
    corners = {(y, x): int(shown[y, x].mean()) for y in (0, -1) for x in (0, -1)}
    assert max(corners, key=lambda corner: corners[corner]) == marked
    np.testing.assert_array_equal(shown, read_frame(path, 0))


def test_damage_in_the_middle_leaves_the_rest(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", "mjpeg")
    content = bytearray(path.read_bytes())
    places = [k for k in range(len(content) - 4) if content[k : k + 4] == b"00dc"]
    for at in places[40:43]:  # what stands in three frames is no picture
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        content[at + 8 : at + 8 + size] = bytes(size)
    path.write_bytes(content)
    found: list[float] = []
    frames = play(path, lambda *_: True)
    with pytest.raises(PictureError, match=r"damaged in \d+ places, first after frame 3\d"):
        found.extend(float(pixels.mean()) for _, _, pixels in frames)
    assert len(found) == COUNT - 3
    assert abs(found[-1] - 2 * (COUNT - 1)) < 6


def test_a_video_without_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", "mjpeg")
    content = bytearray(path.read_bytes())
    for k in range(len(content) - 8):
        if content[k : k + 4] == b"00dc":
            size = int.from_bytes(content[k + 4 : k + 8], "little")
            content[k + 8 : k + 8 + size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(PictureError, match=r"has no frames that can be decoded|is not a video"):
        played(path)


@pytest.mark.skipif(not PETS.is_dir(), reason="no real video at ../shared/data/pets09")
def test_a_real_video_with_reordered_frames() -> None:
    path = PETS / "vtest_480x360.avi"
    assert (frame_count(path), video_size(path), frame_rate(path)) == (795, (480, 360), 10.0)
    with av.open(str(path)) as container:
        wanted = {}
        for k, frame in enumerate(container.decode(video=0)):
            if k in (5, 60, 100):
                wanted[k] = frame.to_ndarray(format="rgb24")
            if k == 100:
                break
    for index in (100, 5, 60):
        np.testing.assert_array_equal(read_frame(path, index), wanted[index])
    seconds = [second for _, second in played(path)]
    np.testing.assert_allclose(seconds, np.arange(795) / 10, atol=1e-6)
