"""Annotations, recipes, descriptions, detections and files of a store, of any content."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzzed import ODD_VALUES, changed_bytes, changed_json, fuzz
from hypothesis import strategies as st
from PIL import Image

from personsearch.bench.ablation import ablation_names, read_ablation
from personsearch.datasets import cuhk_sysu_writer, open_dataset, prw_writer, scenes
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.protocols import all_protocol
from personsearch.evaluation.files import SavedDetections, load_detections, save_detections
from personsearch.external.description import read_description
from personsearch.external.onnx_data import external_files
from personsearch.media.name_pattern import NamePattern
from personsearch.recipes import find
from personsearch.search.calibration import FILE, FORMAT, read_calibration
from personsearch.store import ModelIdentity
from personsearch.store.audit import HEAD, LOG, AuditLog
from personsearch.systems.exported import KEY, ExportedFacts, read_facts
from personsearch.training.recipe import read_recipe
from personsearch.types import Detections, Scene
from personsearch.web.keys import KEYS, Keys

Make = Callable[[Path], Path]


def _dataset(root: Path) -> Dataset:
    found = []
    for number, ids in enumerate(([0, 1], [1, 0], [0], [1])):
        path = root / f"c{number % 2 + 1}s1_{number:06}.jpg"
        root.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (number, 0, 0)).save(path)
        boxes = np.array([[3 + 20 * k, 5, 15 + 20 * k, 40] for k in range(len(ids))], np.float32)
        ids = np.array(ids)
        found.append(Scene(path.name, path, (64, 48), boxes, ids, camera=number % 2 + 1))
    test = found[2:]
    return Dataset("mine", root, {"train": found[:2], "test": test}, {"all": all_protocol(test)})


def _as_scenes(root: Path) -> Path:
    scenes.write(_dataset(root), root)
    return root / scenes.FILE_NAME


def _as_cuhk(root: Path) -> Path:
    cuhk_sysu_writer.write(_dataset(root / "in"), root / "out")
    return root / "out"


def _as_prw(root: Path) -> Path:
    prw_writer.write(_dataset(root / "in"), root / "out")
    return root / "out"


def test_coco_style_annotations(tmp_path: Path) -> None:
    path = _as_scenes(tmp_path / "a")
    seeds = changed_json([json.loads(path.read_text(encoding="utf-8"))])

    def check(data: bytes) -> None:
        path.write_bytes(data)
        dataset = open_dataset(path.parent)
        for protocol in dataset.protocols.values():
            assert len(protocol.queries) == len(protocol.galleries)

    fuzz("scenes", check, seeds, 250)


@pytest.mark.parametrize("make", [_as_cuhk, _as_prw])
def test_matlab_files(tmp_path: Path, make: Make) -> None:
    root = make(tmp_path)
    files = sorted(path for path in root.rglob("*") if path.suffix in (".mat", ".txt"))
    originals = {path: path.read_bytes() for path in files}
    seeds = st.tuples(st.sampled_from(range(len(files))), changed_bytes(list(originals.values())))
    names = seeds.map(lambda pair: bytes([pair[0]]) + pair[1])

    def check(data: bytes) -> None:
        path = files[data[0] % len(files)] if data else files[0]
        path.write_bytes(data[1:])
        try:
            for protocol in open_dataset(root).protocols.values():
                len(protocol.queries)
        finally:
            path.write_bytes(originals[path])

    fuzz(make.__name__[1:], check, names, 120)


def test_lines_of_boxes(tmp_path: Path) -> None:
    (tmp_path / "img1").mkdir()
    for number in (1, 2):
        Image.new("RGB", (64, 48)).save(tmp_path / "img1" / f"{number:06}.jpg")
        Image.new("RGB", (64, 48)).save(tmp_path / f"{number}.jpg")
    (tmp_path / "gt").mkdir()
    (tmp_path / "train").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "train" / "1.jpg")
    crowd = b'{"ID": "1", "gtboxes": [{"tag": "person", "fbox": [1, 2, 30, 40], "extra": {}}]}\n'
    files = {
        "mot": ("gt/gt.txt", b"1,3,10,20,30,40,1,1,1\n2,3,12,20,30,40,1,1,0.5\n"),
        "wider-pedestrian": ("train_annotations.txt", b"1.jpg 1 3 4 10 20 2 4 9 10 22\n"),
        "crowdhuman": ("annotation_train.odgt", crowd),
    }
    seeds = st.tuples(
        st.sampled_from(range(len(files))), changed_bytes([text for _, text in files.values()])
    )

    def check(data: bytes) -> None:
        format = list(files)[data[0] % len(files) if data else 0]
        (tmp_path / files[format][0]).write_bytes(data[1:])
        open_dataset(tmp_path, format)

    fuzz("lines", check, seeds.map(lambda pair: bytes([pair[0]]) + pair[1]), 200)


def _odd_toml(texts: list[bytes]) -> st.SearchStrategy[bytes]:
    """TOML in which the value of a line is another one."""
    odd = [json.dumps(one, allow_nan=True).encode() for one in ODD_VALUES]
    odd += [b"nan", b"-inf", b"1979-05-27T07:32:00Z", b"[[[", b"{a = {b = 1}}", b"1_0", b"'''"]

    @st.composite
    def made(draw: st.DrawFn) -> bytes:
        lines = draw(st.sampled_from(texts)).splitlines()
        for _ in range(draw(st.integers(1, 3))):
            row = draw(st.sampled_from(range(len(lines))))
            key, sign, _ = lines[row].partition(b" = ")
            lines[row] = key + sign + draw(st.sampled_from(odd)) if sign else b""
        return b"\n".join(lines)

    return made() | changed_bytes(texts)


def test_recipes(tmp_path: Path) -> None:
    names = ("seqnet", "oim", "rdlr", "trident")
    texts = [find(f"synthetic-small/{name}").read_bytes() for name in names]
    path = tmp_path / "recipe.toml"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        read_recipe(path)

    fuzz("recipes", check, _odd_toml(texts), 80)


def test_descriptions_and_ablations(tmp_path: Path) -> None:
    text = (
        b'name = "x"\nconfidence_weighted = false\n[detector]\nfile = "a.xml"\n'
        b'size = { width = 512, height = 512 }\nscale = 255\nlayout = "ssd"\nnms = 0.5\n'
        b'[embedder]\nfile = "b.onnx"\nmean = [0.4, 0.4, 0.4]\nstd = [0.2, 0.2, 0.2]\nbatch = 3\n'
    )
    import personsearch.bench.ablation as bench

    ablations = [(bench.FOLDER / f"{name}.toml").read_bytes() for name in ablation_names()[:3]]
    path = tmp_path / "a.toml"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        if b"detector" in data:
            read_description(path)
        else:
            read_ablation(str(path))

    fuzz("toml", check, _odd_toml([text, *ablations]), 150)


def _archive(arrays: dict[str, np.ndarray], compression: int) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.save(part, array)
            archive.writestr(f"{name}.npy", part.getvalue())
    return written.getvalue()


def test_detections(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    found = {"a": Detections([[0, 0, 1, 1]], [0.5], [[1, 0]]), "b": Detections([], [], None)}
    save_detections(path, SavedDetections(found, {"all": np.eye(2, dtype=np.float32)}, True))
    with np.load(path) as arrays:
        plain = dict(arrays)
    seeds = [path.read_bytes(), _archive(plain, zipfile.ZIP_STORED)]

    def check(data: bytes) -> None:
        path.write_bytes(data)
        load_detections(path)

    fuzz("detections", check, changed_bytes(seeds), 150)


def test_files_of_a_store(tmp_path: Path) -> None:
    Keys(tmp_path).make("desk", ["search"])
    log = AuditLog(tmp_path)
    for number in range(3):
        log.append("search", "desk", {"number": number})
    curve = [0.0] * 201
    calibration = {
        **{"format": FORMAT, "model": {"name": "m", "fingerprint": "f", "dim": 8}},
        **{"data": ["x"], "made": "now", "across": "cameras", "counts": {"same": 1}},
        **{"method": "beta", "losses": {"beta": 0.5}, "errors": {"1": 0.1}},
        "bins": [{"predicted": 0.1, "found": 0.2, "weight": 1.0}],
        **{"log_ratios": curve, "false_rates": curve, "true_rates": curve},
    }
    calibration["model"]["weighted"] = False
    parts = {
        KEYS: [json.loads((tmp_path / KEYS).read_text(encoding="utf-8"))],
        FILE: [calibration],
        HEAD: [json.loads((tmp_path / HEAD).read_text(encoding="utf-8"))],
        LOG: [json.loads((tmp_path / LOG).read_text(encoding="utf-8").splitlines()[0])],
    }
    originals = {name: (tmp_path / name).read_bytes() for name in (KEYS, HEAD, LOG)}
    inputs = st.one_of(
        *(
            changed_json(seeds).map(lambda text, number=number: bytes([number]) + text)
            for number, seeds in enumerate(parts.values())
        )
    )
    model = ModelIdentity("m", "f", 8)

    def check(data: bytes) -> None:
        name = list(parts)[data[0] % len(parts) if data else 0]
        (tmp_path / name).write_bytes(data[1:])
        try:
            if name == KEYS:
                keys = Keys(tmp_path)
                keys.holder("psk_x")
                [(key.name.lower(), sorted(key.scopes), float(key.made)) for key in keys.all()]
            elif name == FILE:
                read = read_calibration(tmp_path, model)
                assert read is not None
                json.dumps(read.as_json(), allow_nan=False)
                read.probability([0.5], 10)
            else:
                log.verify()
                list(log.entries())
                log.append("search", "desk", {})
        finally:
            for other, content in originals.items():
                (tmp_path / other).write_bytes(content)

    fuzz("store-files", check, inputs, 200)


def test_networks_with_data_outside(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content) & 127]) + content

    seed = field(7, field(5, field(13, field(1, b"location") + field(2, b"weights.bin"))))
    path = tmp_path / "n.onnx"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        assert external_files(path) == []

    fuzz("onnx-data", check, changed_bytes([seed]), 100)


def test_facts_of_exported_systems(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content

    facts = ExportedFacts("oim", 256, "cosine", True).to_metadata()[KEY].encode()
    seed = field(7, b"") + field(14, field(1, KEY.encode()) + field(2, facts))
    path = tmp_path / "n.onnx"
    path.write_bytes(seed)
    assert read_facts(path).embedding_dim == 256

    def check(data: bytes) -> None:
        path.write_bytes(data)
        read_facts(path)

    fuzz("onnx-facts", check, changed_bytes([seed]), 100)


def test_name_patterns() -> None:
    places = ["{camera}", "{any}", "{date}", "{time}", "{epoch}", "{", "}", "/", "-", "1", "(", ""]
    names = st.text(st.sampled_from("ab1-_/. \n\u202e"), min_size=1, max_size=400)
    pairs = st.tuples(st.lists(st.sampled_from(places), max_size=9).map("".join), names)

    def check(data: bytes) -> None:
        pattern, _, name = data.decode().partition("\0")
        NamePattern(pattern).read(Path(f"/{name}x.jpg"))

    fuzz("name-patterns", check, pairs.map("\0".join).map(str.encode), 100)
