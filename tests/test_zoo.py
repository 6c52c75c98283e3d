"""Published networks: the manifest, a pair made for the test, and the real files where they are."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from loopback import loopback

from personsearch import zoo
from personsearch.errors import ModelError
from personsearch.external.description import parse_description
from personsearch.loading import load
from personsearch.zoo import Pair, check, copy, load_pair, models_folder, pull, read_zoo

REAL = Path(__file__).parents[2] / "shared" / "data" / "models"
NETS = {"r1/det/det.xml": b"<net/>" * 50, "r1/det/det.bin": b"\x01" * 900, "r2/emb.onnx": b"e" * 99}
MANIFEST = """
base = "http://127.0.0.1:9"
default = "made"

[pairs.made]
title = "det and emb"
license = "CC0"
work = "little"
stated = "nothing"

[pairs.made.detector]
file = "det.xml"
layout = "ssd"

[pairs.made.embedder]
file = "emb.onnx"
""" + "".join(
    f'[[pairs.made.files]]\npath = "{path}"\nsize = {len(content)}\n'
    f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n'
    for path, content in NETS.items()
)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    made = read_zoo(MANIFEST)
    monkeypatch.setattr(zoo, "zoo", lambda: made)
    return made.pair("made")


def test_the_manifest_is_whole() -> None:
    known = zoo.zoo()
    assert known.default == "omz"
    assert set(known.pairs) == {"omz", "omz-small"}
    assert known.base.startswith("https://")
    sizes = {"omz": 10_883_936, "omz-small": 6_859_939}
    for name, pair in known.pairs.items():
        assert pair.size == sizes[name]
        description = parse_description({**pair.networks, "name": name}, name)
        names = {file.name for file in pair.files}
        for network in (description.detector.file, description.embedder.file):
            assert {network, network.replace(".xml", ".bin")} <= names
        for file in pair.files:
            digits = {"sha256": 64, "sha384": 96}[file.expected.algorithm]
            assert len(file.expected.digest) == digits
            assert file.path.split("/")[-2:] == ["FP16", file.name]


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/models")
def test_a_real_file_has_the_checksum_of_the_manifest() -> None:
    files = {file.name: file for pair in zoo.zoo().pairs.values() for file in pair.files}
    weights = REAL / "person-detection-0202.bin"
    assert files[weights.name].expected.problem(weights) == ""
    # The .xml there is of another release.
    structure = REAL / "person-detection-0202.xml"
    assert "bytes, expected 200,631" in files[structure.name].expected.problem(structure)


def test_an_unknown_pair_names_the_known() -> None:
    with pytest.raises(ModelError, match=r"is named 'omx'; expected omz, omz-small"):
        zoo.zoo().pair("omx")


def test_the_folder_is_named_or_the_platforms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(zoo.FOLDER_VARIABLE, str(tmp_path))
    assert models_folder() == tmp_path
    monkeypatch.delenv(zoo.FOLDER_VARIABLE)
    assert models_folder().parts[-2:] == ("personsearch", "models")


def test_pull_fetches_what_is_missing_or_wrong(pair: Pair, tmp_path: Path) -> None:
    assert [p.reason for p in check(pair, tmp_path)] == ["missing"] * 3
    told: list[tuple[str, int, int]] = []
    with loopback(NETS) as server:
        pull(pair, tmp_path, base=server.address + "/", progress=lambda *how: told.append(how))
        assert check(pair, tmp_path) == []
        (tmp_path / "det.bin").write_bytes(b"\x02" * 900)
        (problem,) = check(pair, tmp_path)
        assert problem.path == tmp_path / "det.bin"
        assert "sha256 is " in problem.reason
        pull(pair, tmp_path, base=server.address)
    assert check(pair, tmp_path) == []
    assert [path for path, _ in server.asked] == [*NETS, "r1/det/det.bin"]
    assert {name for name, _, _ in told} == {"det.xml", "det.bin", "emb.onnx"}
    assert told[-1] == ("emb.onnx", 99, 99)


def test_copy_takes_all_or_nothing(pair: Pair, tmp_path: Path) -> None:
    source, folder = tmp_path / "stick", tmp_path / "models"
    (source / "deep").mkdir(parents=True)
    for path, content in NETS.items():
        (source / "deep" / path.split("/")[-1]).write_bytes(content)
    (source / "det.bin").write_bytes(b"another")  # beside the right one further down
    copy(pair, source, folder)
    assert check(pair, folder) == []
    assert sorted(path.name for path in folder.iterdir()) == ["det.bin", "det.xml", "emb.onnx"]
    shutil.rmtree(folder)
    (source / "deep" / "det.bin").unlink()
    with pytest.raises(ModelError, match="has 7 bytes, expected 900"):
        copy(pair, source, folder)
    (source / "det.bin").unlink()
    with pytest.raises(ModelError, match=r"has no det.bin; pair 'made' needs det.xml, det.bin"):
        copy(pair, source, folder)
    with pytest.raises(ModelError, match="no such folder"):
        copy(pair, tmp_path / "gone", folder)
    assert not folder.exists()


def test_a_pair_that_is_not_here_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(zoo.FOLDER_VARIABLE, str(tmp_path))
    for take in (load_pair, load):
        with pytest.raises(ModelError, match=r"missing.* download them .*models pull omz-small"):
            take("omz-small")
    with pytest.raises(ModelError, match=r"no such checkpoint folder .* or omz, omz-small|omz"):
        load("omz-large")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/models")
def test_a_pair_that_is_here_finds_people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real detector and embedder of ../shared as a pair of a manifest of the test's own."""
    known = zoo.zoo().pair("omz-small")
    entries = []
    for name in ("person-detection-0202.xml", "person-detection-0202.bin"):
        entries.append(REAL / name)
    entries.append(REAL / "osnet_x0_25_msmt17.onnx")
    text = (
        'base = "http://127.0.0.1:9"\ndefault = "real"\n[pairs.real]\ntitle = "t"\nlicense = "l"\n'
        'work = "w"\nstated = "s"\n[pairs.real.detector]\nfile = "person-detection-0202.xml"\n'
        'size = { width = 512, height = 512 }\ncolor = "bgr"\nscale = 255\nlayout = "ssd"\n'
        '[pairs.real.embedder]\nfile = "osnet_x0_25_msmt17.onnx"\n'
        "size = { width = 128, height = 256 }\n"
    )
    for path in entries:
        content = path.read_bytes()
        digest = hashlib.sha384(content).hexdigest()
        text += f'[[pairs.real.files]]\npath = "x/{path.name}"\nsize = {len(content)}\n'
        text += f'sha384 = "{digest}"\n'
    monkeypatch.setattr(zoo, "zoo", lambda: read_zoo(text))
    monkeypatch.setenv(zoo.FOLDER_VARIABLE, str(tmp_path))
    with loopback({f"x/{path.name}": path.read_bytes() for path in entries}) as server:
        pull(zoo.zoo().pair("real"), tmp_path, base=server.address)
    assert known.networks["detector"]["layout"] == "ssd"
    model = load("real")
    assert model.embedding_dim == 512
    import torch

    from personsearch.media.pictures import read_picture

    frame = sorted((REAL.parent / "prw-frames").rglob("*.jpg"))[0]
    image = torch.tensor(read_picture(frame)).permute(2, 0, 1).float().div(255)
    (found,) = model.detect([image])
    assert len(found) > 2
    assert found.embeddings is not None
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)
