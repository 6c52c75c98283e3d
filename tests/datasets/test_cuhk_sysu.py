from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from personsearch.datasets import cuhk_sysu
from personsearch.datasets.galleries import Excluding
from personsearch.errors import AnnotationError
from personsearch.types import UNLABELLED

PROTOCOL = (
    Path(__file__).resolve().parents[2]
    / ".."
    / "shared"
    / "data"
    / "cuhk-sysu-protocol"
    / "TestG100.mat"
)
NOTHING = np.zeros((1, 0))


def struct(fields: str, *rows: tuple[Any, ...]) -> np.ndarray:
    table = np.empty((1, len(rows)), dtype=[(field, object) for field in fields.split()])
    for k, row in enumerate(rows):
        table[0, k] = row
    return table


def column(*values: Any) -> np.ndarray:
    cells = np.empty((len(values), 1), dtype=object)
    cells[:, 0] = values
    return cells


def u8(*box: int) -> np.ndarray:
    return np.array([box], dtype=np.uint8)


def asked(scene: str, box: np.ndarray, name: str, *gallery: tuple[str, np.ndarray]) -> tuple:
    query = struct("imname idlocate ishard idname", (scene, box, u8(0), name))
    return query, struct("imname idlocate ishard", *[(n, b, u8(0)) for n, b in gallery])


def make(root: Path) -> Path:
    """Two training and four gallery pictures, in the shapes of the real files."""
    people = {
        "s1.jpg": [u8(200, 10, 100, 240), u8(1, 1, 20, 40), u8(7, 7, 0, 9)],
        "s2.jpg": [np.array([[300, 5, 30, 60]], np.uint16), u8(3, 3, 10, 20)],
        "s3.jpg": [u8(5, 5, 50, 100)],
        "s4.jpg": [u8(6, 6, 50, 100), u8(60, 6, 50, 100)],
        "s5.jpg": [u8(8, 8, 40, 80)],
        "s6.jpg": [u8(9, 9, 30, 60)],
    }
    (root / "Image" / "SSM").mkdir(parents=True)
    test = root / "annotation" / "test"
    (test / "train_test").mkdir(parents=True)
    (test / "subset").mkdir()
    images = [
        (name, u8(len(boxes)), struct("idlocate ishard", *[(box, u8(0)) for box in boxes]))
        for name, boxes in people.items()
    ]
    savemat(root / "annotation" / "Images.mat", {"Img": struct("imname nAppear box", *images)})
    pool = column("s4.jpg", "s3.jpg", "s5.jpg", "s6.jpg")
    savemat(root / "annotation" / "pool.mat", {"pool": pool})
    scenes = [
        struct("imname idlocate ishard", ("s1.jpg", people["s1.jpg"][0], u8(0))),
        struct(
            "imname idlocate ishard",
            ("s1.jpg", people["s1.jpg"][1], u8(0)),
            ("s2.jpg", people["s2.jpg"][0], u8(1)),
            ("s2.jpg", u8(3, 3, 10, 21), u8(1)),
        ),
    ]
    train = [struct("idname nAppear scene", (f"p{k}", u8(2), s)) for k, s in enumerate(scenes)]
    savemat(test / "train_test" / "Train.mat", {"Train": column(*train)})
    s3, (s4, s4b), s5 = people["s3.jpg"][0], people["s4.jpg"], people["s5.jpg"][0]
    for size in (50, 100):
        table = struct(
            "Query Gallery",
            asked("s3.jpg", s3, "p10", ("s4.jpg", s4), ("s4.jpg", s4b), ("s6.jpg", NOTHING)),
            asked("s5.jpg", s5, "p11", ("s3.jpg", s3), ("s6.jpg", NOTHING), ("s4.jpg", NOTHING)),
        )
        savemat(
            test / "train_test" / f"TestG{size}.mat", {f"TestG{size}": table}, do_compression=True
        )
    row = asked("s5.jpg", s5, "p11", ("s3.jpg", s3), ("s6.jpg", NOTHING))
    occlusion = struct("Query Gallery occlusion", (*row, u8(1)))
    savemat(test / "subset" / "Occlusion.mat", {"Occlusion1": occlusion})
    savemat(test / "subset" / "Resolution.mat", {"Test_Size": struct("Query Gallery", row)})
    return root


def reasons(dataset: Any) -> list[str]:
    return sorted(entry.reason for entry in dataset.dropped)


def test_splits_boxes_and_ids(tmp_path: Path) -> None:
    dataset = cuhk_sysu.read(make(tmp_path))
    train, test = dataset.split("train"), dataset.split("test")
    assert [scene.name for scene in train] == ["s1.jpg", "s2.jpg"]
    assert [scene.name for scene in test] == ["s4.jpg", "s3.jpg", "s5.jpg", "s6.jpg"]
    # 200 + 100 does not fit the uint8 that the box is stored in.
    assert train[0].boxes.tolist() == [[200, 10, 300, 250], [1, 1, 21, 41]]
    assert train[0].ids.tolist() == [0, 1]
    assert train[1].boxes.tolist() == [[300, 5, 330, 65], [3, 3, 13, 23]]
    # The second identity's box at 3, 3 differs by a pixel: it stays unlabelled and is counted.
    assert train[1].ids.tolist() == [1, UNLABELLED]
    # s3 is a query's box and a right answer of the next query, which has it then.
    assert [scene.ids.tolist() for scene in test] == [[0, 0], [1], [1], [UNLABELLED]]
    assert dataset.source_ids is None
    assert reasons(dataset).count("box of zero or negative size") == 1
    assert reasons(dataset).count("identity's box is not in Images.mat") == 1
    assert reasons(dataset).count("box of two identities: the later one has it") == 1


def test_protocols(tmp_path: Path) -> None:
    dataset = cuhk_sysu.read(make(tmp_path))
    assert list(dataset.protocols) == [
        "gallery-50",
        "gallery-100",
        "full",
        "occlusion",
        "resolution",
    ]
    fifty = dataset.protocol("gallery-50")
    assert [(q.scene, q.id, q.box.tolist()) for q in fifty.queries] == [
        ("s3.jpg", 0, [5, 5, 55, 105]),
        ("s5.jpg", 1, [8, 8, 48, 88]),
    ]
    # A scene listed twice stays twice in the list; its first box is the right answer.
    assert fifty.galleries[0] == ["s4.jpg", "s4.jpg", "s6.jpg"]
    assert {n: b.tolist() for n, b in fifty.targets[0].items()} == {"s4.jpg": [6, 6, 56, 106]}
    assert list(fifty.targets[1]) == ["s3.jpg"]
    full = dataset.protocol("full")
    assert isinstance(full.galleries[0], Excluding)
    assert list(full.galleries[0]) == ["s4.jpg", "s5.jpg", "s6.jpg"]
    assert [list(t) for t in full.targets] == [["s4.jpg"], ["s3.jpg"]]
    for name in ("occlusion", "resolution"):
        (query,) = dataset.protocol(name).queries
        # The same person as in the gallery files, by name.
        assert (query.scene, query.id) == ("s5.jpg", 1)
        assert dataset.protocol(name).galleries == [["s3.jpg", "s6.jpg"]]


def test_sizes_come_from_pictures_or_else_from_boxes(tmp_path: Path) -> None:
    make(tmp_path)
    Image.new("RGB", (600, 800)).save(tmp_path / "Image" / "SSM" / "s3.jpg")
    (tmp_path / "Image" / "SSM" / "s4.jpg").write_bytes(b"")
    dataset = cuhk_sysu.read(tmp_path)
    sizes = {scene.name: scene.size for scene in dataset}
    assert (sizes["s3.jpg"], sizes["s4.jpg"]) == ((600, 800), (110, 106))
    assert reasons(dataset).count("picture unreadable: its size is that of its boxes") == 5
    (tmp_path / "Image" / "SSM" / "s3.jpg").unlink()
    (tmp_path / "Image" / "SSM" / "s4.jpg").unlink()
    (tmp_path / "Image" / "SSM").rmdir()
    without = cuhk_sysu.read(tmp_path)
    assert "no folder of pictures: sizes are extents of boxes" in reasons(without)
    assert len(without.dropped) == len(dataset.dropped) - 4


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        ("annotation/Images.mat", {"img": 1}, "no variable 'Img'"),
        ("annotation/Images.mat", {"Img": np.eye(2)}, "expected a struct with imname, box"),
        ("annotation/pool.mat", {"pool": np.eye(2)}, "expected a cell array of strings"),
        ("annotation/pool.mat", {"pool": column("x.jpg", "y.jpg")}, "none of its 2 pictures"),
        ("annotation/test/train_test/Train.mat", {"Train": np.eye(2)}, "not a cell array"),
        (
            "annotation/test/train_test/TestG50.mat",
            {"TestG50": struct("Query Other", (1, 2))},
            "query 0 is not",
        ),
    ],
)
def test_files_of_another_data_set(
    tmp_path: Path, place: str, content: dict[str, Any], message: str
) -> None:
    make(tmp_path)
    savemat(tmp_path / place, content)
    with pytest.raises(AnnotationError, match=message):
        cuhk_sysu.read(tmp_path)


def test_a_query_without_a_box(tmp_path: Path) -> None:
    table = struct("Query Gallery", asked("s3.jpg", u8(1, 2, 0, 4), "p", ("s4.jpg", NOTHING)))
    savemat(tmp_path / "TestG50.mat", {"TestG50": table})
    with pytest.raises(AnnotationError, match="query 0 has box"):
        cuhk_sysu.read_protocol(tmp_path / "TestG50.mat")


@pytest.mark.skipif(not PROTOCOL.is_file(), reason="no real protocol at ../shared/data")
def test_the_real_gallery_100() -> None:
    protocol = cuhk_sysu.read_protocol(PROTOCOL)
    assert (protocol.name, len(protocol.queries)) == ("gallery-100", 2900)
    assert {len(gallery) for gallery in protocol.galleries} == {100}
    assert len({name for gallery in protocol.galleries for name in gallery}) == 6978
    assert round(sum(map(len, protocol.targets)) / 2900, 2) == 1.88
    assert [query.id for query in protocol.queries] == list(range(2900))
    assert protocol.queries[0].box.tolist() == [488, 90, 576, 340]
    assert protocol.targets[0]["s15539.jpg"].tolist() == [535, 97, 634, 389]
    doubled = [g for g in protocol.galleries if len(set(g)) < 100]
    twice = {name for gallery in doubled for name in gallery if gallery.count(name) > 1}
    assert twice == {"s3981.jpg", "s11888.jpg", "s5957.jpg", "s12295.jpg"}
