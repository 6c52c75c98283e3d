from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from personsearch.datasets import mot
from personsearch.errors import AnnotationError, DataError, PictureError
from personsearch.media.pictures import read_scene

PETS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "pets09"

TRUTH = """\
1,3,10,20,30,40,1,1,1
2,3,12,20,30,40,1,1,1
2,4,-10,0,30,40,1,1,0.5
2,4,5,5,30,40,1,1,0.5
4,3,15,20,30,40,1,1,1
4,5,1,1,2,2,0,1,1
4,6,1,1,2,2,1,3,1
4,7,1,1,0,2,1,1,1
4,8,500,1,20,20,1,1,1
4,9,nan,1,20,20,1,1,1
9,3,15,20,30,40,1,1,1
"""


def make(root: Path, truth: str = TRUTH, frames: int = 5) -> Path:
    (root / "gt").mkdir(parents=True)
    (root / "gt" / "gt.txt").write_text(truth)
    (root / "img1").mkdir()
    for number in range(1, frames + 1):
        Image.new("RGB", (160, 120), (number, 0, 0)).save(root / "img1" / f"{number:06d}.jpg")
    (root / "seqinfo.ini").write_text(
        "[Sequence]\nname=walk\nimDir=img1\nframeRate=4\nimWidth=320\nimHeight=240\n"
    )
    return root


def test_tracks_become_identities(tmp_path: Path) -> None:
    dataset = mot.read(make(tmp_path), camera=2)
    pictures = dataset.split("test")
    assert dataset.name == "walk"
    names = ["000001.jpg", "000002.jpg", "000003.jpg", "000004.jpg", "000005.jpg"]
    assert [scene.name for scene in pictures] == names
    # Drawn on 320 x 240, the frames are half as large; time counts from the first frame.
    assert pictures[0].boxes.tolist() == [[5, 10, 20, 30]]
    assert pictures[1].boxes.tolist() == [[6, 10, 21, 30], [0, 0, 10, 20]]
    assert (pictures[1].ids.tolist(), pictures[2].ids.tolist()) == ([3, 4], [])
    assert (pictures[3].time, pictures[3].camera, pictures[3].frame) == (0.75, 2, None)
    assert sorted(entry.reason for entry in dataset.dropped) == [
        "another class than pedestrian",
        "box of zero or negative size",
        "box outside its picture",
        "row marked as not to be considered",
        "row that is not finite",
        "row without a picture",
        "track twice in a frame: the first row counts",
    ]


def test_every_other_frame_and_protocols(tmp_path: Path) -> None:
    dataset = mot.read(make(tmp_path), every=1, apart=2)
    everything, apart = dataset.protocol("all"), dataset.protocol("apart-2")
    assert [(q.scene, q.id) for q in everything.queries] == [
        ("000001.jpg", 3),
        ("000002.jpg", 3),
        ("000004.jpg", 3),
    ]
    assert list(everything.targets[0]) == ["000002.jpg", "000004.jpg"]
    assert list(apart.galleries[1]) == ["000004.jpg", "000005.jpg"]
    assert [list(t) for t in apart.targets] == [
        ["000004.jpg"],
        ["000004.jpg"],
        ["000001.jpg", "000002.jpg"],
    ]
    fewer = mot.read(tmp_path, every=3, apart=3)
    assert [scene.name for scene in fewer.split("test")] == ["000001.jpg", "000004.jpg"]
    assert [list(g) for g in fewer.protocol("apart-3").galleries] == [
        ["000004.jpg"],
        ["000001.jpg"],
    ]


def test_frames_after_the_last_annotated_are_left_out(tmp_path: Path) -> None:
    dataset = mot.read(make(tmp_path, "1,3,10,20,30,40\n"))
    assert [scene.name for scene in dataset.split("test")] == ["000001.jpg"]
    reasons = [entry.reason for entry in dataset.dropped]
    assert reasons == ["frame after the last annotated one"] * 4


def test_the_last_frame_is_the_callers(tmp_path: Path) -> None:
    whole = mot.read(make(tmp_path, "1,3,10,20,30,40\n5,3,10,20,30,40\n"), every=2, last=3)
    assert [scene.name for scene in whole.split("test")] == ["000001.jpg", "000003.jpg"]
    assert not whole.dropped
    # Frames without annotations too, where they are asked for.
    (tmp_path / "gt" / "gt.txt").write_text("1,3,10,20,30,40\n")
    assert len(mot.read(tmp_path, last=4).split("test")) == 5


def test_frames_of_a_video(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("1,1,2,2,20,20\n3,1,4,2,20,20\n")
    with av.open(str(tmp_path / "film.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(4):
            pixels = np.full((48, 64, 3), 60 * k, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    pictures = mot.read(tmp_path).split("test")
    assert [(s.name, s.frame, s.time, s.size) for s in pictures] == [
        ("film_000000", 0, 0.0, (64, 48)),
        ("film_000001", 1, 0.2, (64, 48)),
        ("film_000002", 2, 0.4, (64, 48)),
    ]
    # Row 3 of the ground truth is the frame at index 2.
    assert pictures[2].boxes.tolist() == [[4, 2, 24, 22]]
    assert abs(float(read_scene(pictures[2]).mean()) - 120) < 6


def test_bad_folders_have_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"neither gt/gt.txt nor gt.txt"):
        mot.read(tmp_path)
    make(tmp_path / "a", "1,2,three,4,5,6\n")
    with pytest.raises(AnnotationError, match=r"line 1: '1,2,three,4,5,6', expected frame, id"):
        mot.read(tmp_path / "a")
    make(tmp_path / "b", "1,2,3,4,0,6\n")
    with pytest.raises(AnnotationError, match=r"none of its 1 rows can be used"):
        mot.read(tmp_path / "b")
    make(tmp_path / "c", frames=0)
    with pytest.raises(PictureError, match="no frames in img1/ and 0 videos"):
        mot.read(tmp_path / "c")
    make(tmp_path / "d")
    (tmp_path / "d" / "seqinfo.ini").write_text("[Sequence]\nimWidth=wide\n")
    with pytest.raises(AnnotationError, match="imWidth is 'wide'"):
        mot.read(tmp_path / "d")
    with pytest.raises(DataError, match="every=0"):
        mot.read(tmp_path / "d", every=0)


@pytest.mark.skipif(not PETS.is_dir(), reason="no real film at ../shared/data/pets09")
def test_pets09() -> None:
    dataset = mot.read(PETS, every=25)
    pictures = dataset.split("test")
    assert [scene.frame for scene in pictures] == list(range(0, 500, 25))
    assert {scene.size for scene in pictures} == {(480, 360)}
    # Drawn on 768 x 576: 0.625 of 499, 158, 31.03, 75.17.
    x, y, w, h = 499 * 0.625, 158 * 0.625, 31.03 * 0.625, 75.17 * 0.625
    row = pictures[0].ids.tolist().index(9)
    np.testing.assert_allclose(pictures[0].boxes[row], [x, y, x + w, y + h], rtol=1e-6)
    assert len(dataset.protocol("apart-200").queries) > 50
    after = [d for d in dataset.dropped if d.reason == "frame after the last annotated one"]
    assert len(after) == 295
