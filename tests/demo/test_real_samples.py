"""Real samples are read from a folder made here, and from the real one where it is present."""

import json
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from personsearch.datasets.dataset import Dataset
from personsearch.demo.real_samples import (
    PROTOCOL,
    networks,
    pets09,
    prw_frames,
    read_real_samples,
    sample_networks,
)
from personsearch.errors import AnnotationError, DataError, ModelError, PictureError

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs the real samples in ../shared/data"
)

FRAMES = ("c1s1_000001.jpg", "c1s1_000026.jpg", "c3s1_000001.jpg")
ANNOTATIONS = [
    # frame, box x, y, w, h, id
    (0, [10, 10, 20, 40], 7),
    (1, [12, 10, 20, 40], 7),
    (1, [50, 10, 20, 40], 8),
    (1, [80, 10, 30, 40], -2),  # reaches out of the frame
    (2, [-9, 10, 20, 40], 7),
    (2, [100, 10, 5, 40], 8),  # wholly outside
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prw-frames").mkdir()
    (tmp_path / "prw-annotations").mkdir()
    for name in FRAMES:
        cv2.imwrite(str(tmp_path / "prw-frames" / name), np.zeros((60, 96, 3), np.uint8))
    images = [{"id": i, "file_name": name} for i, name in enumerate(FRAMES)]
    images.append({"id": 9, "file_name": "c1s1_999999.jpg"})  # not among the frames
    rows = [
        {"id": k, "image_id": i, "bbox": box, "person_id": id_}
        for k, (i, box, id_) in enumerate(ANNOTATIONS)
    ]
    rows.append({"id": 6, "image_id": 9, "bbox": [0, 0, 9, 9], "person_id": 7})
    table = {"images": images, "annotations": rows}
    (tmp_path / "prw-annotations" / "some.json").write_text(json.dumps(table))
    (tmp_path / "pets09").mkdir()
    write_video(tmp_path / "pets09" / "v.avi", frames=40)
    (tmp_path / "pets09" / "seqinfo.ini").write_text("[Sequence]\nimWidth=64\nimHeight=96\n")
    # Frame numbers count from one; the last column but three says whether a row counts.
    (tmp_path / "pets09" / "gt.txt").write_text(
        "1,5,8,6,16,24,1,-1,-1,-1\n1,6,40,6,16,24,0,-1,-1,-1\n2,5,0,0,9,9,1,-1,-1,-1\n"
        "11,5,8,12,16,24,1,-1,-1,-1\n21,5,16,6,16,24,1,-1,-1,-1\n21,4,32,6,16,24,1,-1,-1,-1\n"
    )
    return tmp_path


def write_video(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 48, "yuv420p"
        for _ in range(frames):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_prw_frames_become_scenes(folder: Path) -> None:
    data = prw_frames(folder)
    first, second, third = data.split("test")
    assert [scene.name for scene in (first, second, third)] == list(FRAMES)
    assert [scene.camera for scene in (first, second, third)] == [1, 1, 3]
    assert first.size == (96, 60)
    np.testing.assert_array_equal(first.boxes, [[10, 10, 30, 50]])
    np.testing.assert_array_equal(second.boxes[2], [80, 10, 96, 50])
    np.testing.assert_array_equal(second.ids, [7, 8, -1])
    np.testing.assert_array_equal(third.boxes, [[0, 10, 11, 50]])
    assert [(item.where, item.reason) for item in data.dropped] == [
        (f"annotation 5 of {FRAMES[2]}", "box outside its picture")
    ]


def test_every_box_seen_again_is_a_prw_query(folder: Path) -> None:
    protocol = prw_frames(folder).protocol(PROTOCOL)
    # 8 is in one frame only, once its box outside is dropped.
    assert [(query.scene, query.id) for query in protocol.queries] == [(n, 7) for n in FRAMES]
    assert list(protocol.galleries[1]) == [FRAMES[0], FRAMES[2]]
    assert set(protocol.targets[0]) == {FRAMES[1], FRAMES[2]}
    np.testing.assert_array_equal(protocol.targets[0][FRAMES[1]], [12, 10, 32, 50])
    assert protocol.queries[2].camera == 3


def test_frames_without_annotations_are_named(folder: Path) -> None:
    cv2.imwrite(str(folder / "prw-frames" / "c2s1_5.jpg"), np.zeros((60, 96, 3), np.uint8))
    data = prw_frames(folder)
    assert ("c2s1_5.jpg", "frame without annotations") in [
        (item.where, item.reason) for item in data.dropped
    ]
    assert len(data.split("test")) == 3


def test_frames_in_two_files_are_refused(folder: Path) -> None:
    annotations = folder / "prw-annotations"
    (annotations / "other.json").write_text((annotations / "some.json").read_text())
    with pytest.raises(AnnotationError, match=r"2 \.json files annotate .* expected one"):
        prw_frames(folder)


def test_pets_frames_boxes_and_galleries(folder: Path) -> None:
    data = pets09(folder, every=10, last=39, gap=20)
    scenes = data.split("test")
    assert [scene.frame for scene in scenes] == [0, 10, 20, 30]
    assert {scene.size for scene in scenes} == {(32, 48)}
    # Drawn on 64 x 96, shown at 32 x 48; the row marked 0 is not counted.
    np.testing.assert_array_equal(scenes[0].boxes, [[4, 3, 12, 15]])
    np.testing.assert_array_equal(scenes[2].ids, [5, 4])
    (name,) = data.protocols
    protocol = data.protocol(name)
    assert [(query.scene, query.id) for query in protocol.queries] == [
        ("v_000000", 5),
        ("v_000020", 5),
    ]
    assert [list(gallery) for gallery in protocol.galleries] == [
        ["v_000020", "v_000030"],
        ["v_000000"],
    ]
    np.testing.assert_array_equal(protocol.targets[0]["v_000020"], [8, 3, 16, 15])


def test_a_folder_gives_what_it_holds(folder: Path, tmp_path: Path) -> None:
    assert [data.name for data in read_real_samples(folder)] == ["PRW frames", "PETS09 S2L1"]
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(DataError, match="expected folders prw-frames or pets09"):
        read_real_samples(bare)
    assert networks(bare) == []
    with pytest.raises(ModelError, match=r"models: expected person-detection-0202\.xml .* none"):
        sample_networks(bare)


def test_damage_is_named(folder: Path) -> None:
    (folder / "pets09" / "gt.txt").write_text("1,2,three\n")
    with pytest.raises(AnnotationError, match=r"gt\.txt, line 1: '1,2,three', expected frame"):
        pets09(folder)
    (folder / "pets09" / "gt.txt").write_text("1,2,3\n")
    with pytest.raises(AnnotationError, match="'1,2,3', expected frame"):
        pets09(folder)
    (folder / "pets09" / "seqinfo.ini").write_text("[Sequence]\n")
    (folder / "pets09" / "gt.txt").write_text("1,5,8,6,16,24,1\n")
    with pytest.raises(AnnotationError, match="imWidth"):
        pets09(folder)
    (folder / "pets09" / "v.avi").write_bytes(b"no video")
    with pytest.raises(PictureError, match="not a video"):
        pets09(folder)
    (folder / "prw-annotations" / "some.json").write_text('{"images": []}')
    with pytest.raises(AnnotationError, match=r"some\.json: expected COCO"):
        prw_frames(folder)
    (folder / "prw-annotations" / "some.json").unlink()
    with pytest.raises(AnnotationError, match=r"no \.json files annotate"):
        prw_frames(folder)


def counts(data: Dataset) -> tuple[int, int, int]:
    (protocol,) = data.protocols.values()
    scenes = data.split("test")
    return len(scenes), sum(len(scene.boxes) for scene in scenes), len(protocol.queries)


@needs_data
def test_the_real_samples_have_the_known_counts() -> None:
    prw, pets = read_real_samples(DATA)
    assert counts(prw) == (12, 48, 37)
    assert counts(pets) == (20, 103, 62)
    assert not prw.dropped
    # Of the whole film; none of them is of use to anyone.
    assert Counter(item.reason for item in pets.dropped) == {
        "row marked as not to be considered": 174
    }
    assert [path.suffix for path in networks(DATA)] == [".onnx", ".xml"]
