"""Which model it is: the same for the same bytes and settings, another for any other."""

from pathlib import Path

import pytest
from blocks import Blocks

from personsearch import zoo
from personsearch.errors import ModelError
from personsearch.model_identity import identify

TOML = """
name = "mine"
[detector]
file = "det.xml"
layout = "ssd"
score_threshold = {threshold}
[embedder]
file = "emb.onnx"
"""


def pair(folder: Path, threshold: float = 0.3) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("det.xml", "det.bin", "emb.onnx"):
        (folder / name).write_bytes(name.encode())
    (folder / "pair.toml").write_text(TOML.format(threshold=threshold))
    return folder / "pair.toml"


def test_networks_count_by_their_bytes_and_settings(tmp_path: Path) -> None:
    first = identify(str(pair(tmp_path / "a")), Blocks())
    assert (first.dim, first.weighted) == (3, False)
    assert first.name == str(tmp_path / "a" / "pair.toml")
    # Elsewhere, and named otherwise, it is the same.
    other = pair(tmp_path / "b")
    other.write_text(other.read_text().replace('"mine"', '"yours"'))
    assert identify(str(other), Blocks()).fingerprint == first.fingerprint
    (tmp_path / "b" / "det.bin").write_bytes(b"other")
    assert identify(str(other), Blocks()).fingerprint != first.fingerprint
    third = pair(tmp_path / "c", threshold=0.4)
    assert identify(str(third), Blocks()).fingerprint != first.fingerprint
    (tmp_path / "c" / "emb.onnx").unlink()
    with pytest.raises(ModelError, match=r"emb\.onnx: cannot be read"):
        identify(str(third), Blocks())


def test_a_checkpoint_counts_by_its_weights_and_recipe(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("best", "last"):
        (run / name).mkdir(parents=True)
        (run / name / "model.safetensors").write_bytes(name.encode())
        (run / name / "recipe.toml").write_text("x = 1")
    whole = identify(str(run), Blocks())
    assert whole.fingerprint == identify(str(run / "best"), Blocks()).fingerprint
    assert whole.fingerprint != identify(str(run / "last"), Blocks()).fingerprint


def test_published_networks_count_by_their_checksums() -> None:
    found = {name: identify(name, Blocks()) for name in zoo.zoo().pairs}
    assert [one.name for one in found.values()] == ["omz", "omz-small"]
    assert found["omz"].fingerprint != found["omz-small"].fingerprint
    with pytest.raises(ModelError, match="expected omz, omz-small"):
        identify("omx", Blocks())
