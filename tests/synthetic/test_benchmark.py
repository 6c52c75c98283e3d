import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from personsearch.classical.hsv_histogram import extract
from personsearch.datasets import scenes
from personsearch.errors import AnnotationError, DataError
from personsearch.media.pictures import read_picture
from personsearch.synthetic.benchmark import PICTURE_SIZE, SIZES, make_benchmark
from personsearch.types import UNLABELLED

PRW = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "prw-annotations"
ANNOTATIONS = "df12e6cb65433428d9910d91fb3c577f8595d8cbed1a1750d9bdbbce35bc008d"
PIXELS = "7ba854240967afd38b9d33385435b1f657467f8c6883356b2f2f476113eb4111"
CHEAP = "573cd134ab0fcd2f04ed68c0547eaeec00393178541e064c8fe7d4147a139061"
TATTOOS = "4717531dbe31811b1ebdb5a75a001ca309282f76f648af888613614117659e44"


@pytest.fixture(scope="module")
def progress():
    return []


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, progress):
    return make_benchmark(
        tmp_path_factory.mktemp("tiny"),
        size="tiny",
        workers=1,
        progress=lambda *call: progress.append(call),
    )


def make_few(out, **options):
    """A benchmark of `tiny` with fewer people and scenes."""
    few = replace(SIZES["tiny"], ids=(4, 3), pictures=(9, 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", few)
        return make_benchmark(out, size="tiny", **options)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return make_few(tmp_path_factory.mktemp("few"), workers=1)


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def cameras_by_id(part):
    seen: dict[int, set[int]] = {}
    for scene in part:
        for identity in set(scene.ids.tolist()) - {UNLABELLED}:
            seen.setdefault(identity, set()).add(scene.camera)
    return seen


def test_any_number_of_workers_writes_the_same_bytes(few, tmp_path):
    again = make_few(tmp_path, workers=2)
    assert files(again.root) == files(few.root)
    assert len(files(few.root)) == 19


def test_the_bytes_are_those_of_every_other_machine(tiny):
    digest = hashlib.sha256()
    for scene in tiny:
        digest.update(f"{scene.name} {scene.camera} {scene.time}".encode())
        digest.update(scene.boxes.astype("<f4").tobytes())
        digest.update(scene.ids.astype("<i8").tobytes())
    assert digest.hexdigest() == ANNOTATIONS
    pixels = hashlib.sha256(read_picture(tiny.split("test")[0].path).tobytes())
    assert pixels.hexdigest() == PIXELS


def test_another_seed_gives_other_people(few, tmp_path):
    other = make_few(tmp_path, seed=1, workers=1)
    assert files(other.root).keys() == files(few.root).keys()
    assert not set(files(other.root).values()) & set(files(few.root).values())


def test_scenes_json_gives_the_same_data_set_back(tiny):
    back = scenes.read(tiny.root)
    assert list(back.splits) == ["train", "test"]
    assert (back.name, back.object_class) == ("synthetic-tiny", "person")
    assert list(back.source_ids) == list(tiny.source_ids)
    for a, b in zip(tiny, back, strict=True):
        assert (a.name, a.size, a.camera, a.time) == (b.name, b.size, b.camera, b.time)
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.ids, b.ids)
    assert list(back.protocols) == list(tiny.protocols)
    for name, protocol in tiny.protocols.items():
        assert [list(g) for g in back.protocols[name].galleries] == [
            list(g) for g in protocol.galleries
        ]
        assert [sorted(t) for t in back.protocols[name].targets] == [
            sorted(t) for t in protocol.targets
        ]


def test_identities_are_disjoint_and_seen_by_several_cameras(tiny):
    train, test = cameras_by_id(tiny.split("train")), cameras_by_id(tiny.split("test"))
    assert sorted(train) == list(range(7))
    assert sorted(test) == list(range(7, 12))
    assert min(len(cameras) for cameras in (train | test).values()) >= 2
    for scene in tiny:
        known = scene.ids[scene.ids != UNLABELLED].tolist()
        assert len(set(known)) == len(known)
    assert any((scene.ids == UNLABELLED).any() for scene in tiny)


def test_boxes_lie_in_pictures_of_the_documented_size(tiny):
    for scene in tiny:
        assert read_picture(scene.path).shape == (480, 640, 3)
        assert scene.size == PICTURE_SIZE
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] <= PICTURE_SIZE).all()
    heights = np.concatenate([s.boxes[:, 3] - s.boxes[:, 1] for s in tiny])
    assert np.percentile(heights, 5) > 60
    assert np.percentile(heights, 95) < 400


def test_the_usual_protocol_comes_first(tiny):
    names = list(tiny.protocols)
    assert names[:2] == ["cross-camera", "all"]
    assert set(names) >= {"gallery-5", "gallery-10", "occlusion", "resolution"}


def test_colours_alone_do_not_find_people_across_cameras(tiny):
    by_name = {scene.name: scene for scene in tiny.split("test")}
    features = {}
    for name, scene in by_name.items():
        picture = read_picture(scene.path)
        features[name] = np.array(
            [extract(picture[int(a) : int(c), int(x) : int(z)]) for x, a, z, c in scene.boxes]
        )
    protocol = tiny.protocols["cross-camera"]
    precisions = []
    for query, gallery, targets in zip(
        protocol.queries, protocol.galleries, protocol.targets, strict=True
    ):
        row = np.flatnonzero((by_name[query.scene].boxes == query.box).all(axis=1))[0]
        pairs = []
        for name in gallery:
            for similarity, box in zip(
                features[name] @ features[query.scene][row], by_name[name].boxes, strict=True
            ):
                hit = name in targets and bool((targets[name] == box).all())
                pairs.append((-float(similarity), hit))
        hits = np.array([hit for _, hit in sorted(pairs)])
        precisions.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
    assert np.mean(precisions) < 0.5


def test_progress_counts_to_the_end(tiny, progress):
    assert progress == [(k, 40) for k in range(1, 41)]


@pytest.fixture(scope="module")
def tattoos(tmp_path_factory):
    return make_few(tmp_path_factory.mktemp("tattoos"), object_class="tattoo", workers=1)


def test_tattoos_are_another_class_with_the_same_shape_of_data(tattoos):
    assert tattoos.object_class == "tattoo"
    assert scenes.read(tattoos.root).object_class == "tattoo"
    assert len(cameras_by_id(tattoos.split("train"))) == 4
    sides = np.concatenate([s.boxes[:, 2:] - s.boxes[:, :2] for s in tattoos])
    assert 0.7 < np.median(sides[:, 0] / sides[:, 1]) < 1.5
    assert "cross-camera" in tattoos.protocols


def test_the_bytes_of_tattoos(tattoos):
    digest = hashlib.sha256(b"".join(read_picture(scene.path).tobytes() for scene in tattoos))
    assert digest.hexdigest() == TATTOOS


def layout_file(path, split):
    images = [
        {"id": k, "file_name": f"c{1 + k % 2}s1_{k:06d}.jpg", "width": 200, "height": 160}
        | ({"split": "test" if k % 3 == 0 else "train"} if split else {})
        for k in range(12)
    ]
    annotations = [
        {
            "id": 2 * k + n,
            "image_id": k,
            "category_id": 1,
            "bbox": [20.5 + 60 * n, 30.25, 25, 100 + k],
            "person_id": -2 if n and k % 2 else 10 * (k % 3) + n,
        }
        for k in range(12)
        for n in range(2)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return images, annotations


@pytest.mark.parametrize("split", [True, False])
def test_a_layout_lends_sizes_boxes_identities_and_cameras(tmp_path, split):
    images, annotations = layout_file(tmp_path / "real.json", split)
    made = make_benchmark(tmp_path / "out", size="tiny", layout=tmp_path / "real.json", workers=1)
    by_name = {scene.name: scene for scene in made}
    assert set(by_name) == {image["file_name"] for image in images}
    for image in images:
        scene = by_name[image["file_name"]]
        picture = cv2.imread(str(scene.path))
        assert picture.shape == (160, 200, 3)
        assert scene.size == (200, 160)
        real = [a["bbox"] for a in annotations if a["image_id"] == image["id"]]
        expected = [[x, y, x + w, min(y + h, 160)] for x, y, w, h in real]
        assert scene.boxes.tolist() == expected
        if not split:
            assert scene.camera == 1 + image["id"] % 2
    train, test = cameras_by_id(made.split("train")), cameras_by_id(made.split("test"))
    assert sorted(train) == list(range(len(train)))
    assert train
    assert not set(train) & set(test)
    if split:
        tested = {image["file_name"] for image in images if image["split"] == "test"}
        assert {scene.name for scene in made.split("test")} == tested


@pytest.mark.skipif(not PRW.is_dir(), reason="the PRW annotations are not here")
def test_prw_lends_its_boxes(tmp_path):
    source = tmp_path / "train_pid.json"
    table = json.loads((PRW / "train_pid.json").read_text())
    kept = table["images"][:3000:500]
    numbers = {image["id"] for image in kept}
    table["images"] = kept
    table["annotations"] = [a for a in table["annotations"] if a["image_id"] in numbers]
    source.write_text(json.dumps(table))
    made = make_benchmark(tmp_path / "out", size="tiny", layout=source, workers=1)
    real = scenes.read(source)
    boxes = {scene.name: scene.boxes for scene in real}
    assert {scene.size for scene in made} == {(1920, 1080)}
    for scene in made:
        assert np.array_equal(scene.boxes, boxes[scene.name])


@pytest.fixture(scope="module")
def cheap(tmp_path_factory):
    """The ablation preset with fewer people and scenes."""
    few = replace(SIZES["ablation"], ids=(10, 6), pictures=(25, 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "ablation", few)
        return make_benchmark(tmp_path_factory.mktemp("cheap"), size="ablation", workers=1)


def test_the_ablation_preset_is_the_usual_street_at_half_the_size(cheap):
    assert {scene.size for scene in cheap} == {(320, 240)}
    assert read_picture(cheap.split("train")[0].path).shape == (240, 320, 3)
    heights = np.concatenate([scene.boxes[:, 3] - scene.boxes[:, 1] for scene in cheap])
    assert np.percentile(heights, 5) > 40
    assert np.percentile(heights, 95) < 190
    assert len({scene.camera for scene in cheap}) == 5
    assert any((scene.ids == UNLABELLED).any() for scene in cheap)
    assert list(cheap.protocols)[:2] == ["cross-camera", "all"]


def test_the_bytes_of_the_ablation_preset(cheap):
    digest = hashlib.sha256()
    for scene in cheap:
        digest.update(scene.boxes.astype("<f4").tobytes() + scene.ids.astype("<i8").tobytes())
        digest.update(read_picture(scene.path).tobytes())
    assert digest.hexdigest() == CHEAP


def test_wrong_arguments_list_what_is_valid(tmp_path):
    with pytest.raises(DataError, match=r"'huge', expected one of 'tiny', 'ablation', 'small'"):
        make_benchmark(tmp_path, size="huge")
    with pytest.raises(DataError, match=r"'vehicle', expected one of 'person', 'tattoo'"):
        make_benchmark(tmp_path, object_class="vehicle")
    with pytest.raises(DataError, match="seed is -1"):
        make_benchmark(tmp_path, seed=-1)
    with pytest.raises(DataError, match="workers is 0"):
        make_benchmark(tmp_path, workers=0)
    with pytest.raises(AnnotationError, match="no such file"):
        make_benchmark(tmp_path, layout=tmp_path / "missing.json")
    assert list(tmp_path.iterdir()) == []


def test_sizes_are_as_documented():
    assert {name: (sum(s.ids), sum(s.pictures)) for name, s in SIZES.items()} == {
        "tiny": (12, 40),
        "ablation": (200, 1050),
        "small": (200, 1050),
        "standard": (1000, 10_000),
    }
