import os
from pathlib import Path

import av
import numpy as np
import pytest

from personsearch.datasets.pictures import read_scene
from personsearch.datasets.video import frame_count, frame_rate, read_frame, video_size
from personsearch.errors import PictureError
from personsearch.types import Scene

PETS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "pets09"
COUNT = 90


def make_video(path: Path, codec: str, **options: str) -> Path:
    """Frame k is of brightness 2 k."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
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
        played = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(played) == COUNT
    for index in (70, 3, 71, 35, 89, 0, 88, 52, 53, 12):
        frame = read_frame(path, index)
        np.testing.assert_array_equal(frame, played[index])
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
        played = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(read_frame(path, 40), played[40])
    assert before.shape == played[40].shape


def test_a_scene_is_read_from_its_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "mpeg4")
    nobody = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    scene = Scene("a", path, (64, 48), *nobody, frame=33)
    np.testing.assert_array_equal(read_scene(scene), read_frame(path, 33))


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
