"""Which model it is: the same for the same bytes and settings, another for any other."""

from pathlib import Path

import pytest
from blocks import Blocks

from personsearch import zoo
from personsearch.errors import ModelError
from personsearch.external.onnx_data import external_files
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


def test_an_exported_file_counts_by_its_bytes(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx", "c.onnx"):
        (tmp_path / name).write_bytes(name[:1].replace("b", "a").encode())
    first, same, other = (identify(str(path), Blocks()) for path in sorted(tmp_path.iterdir()))
    assert first.name == str(tmp_path / "a.onnx")
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_published_networks_count_by_their_checksums() -> None:
    found = {name: identify(name, Blocks()) for name in zoo.zoo().pairs}
    assert [one.name for one in found.values()] == ["omz", "omz-small"]
    assert found["omz"].fingerprint != found["omz-small"].fingerprint
    with pytest.raises(ModelError, match="expected omz, omz-small"):
        identify("omx", Blocks())


def _with_external_data(folder: Path, seed: float) -> Path:
    """An embedder whose weights lie in a file of their own, one of them in a node's attribute."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    toml = pair(folder)
    weights = numpy_helper.from_array(np.full((3, 5), seed, np.float32), "w")
    constant = helper.make_node(
        "Constant", [], ["c"], value=numpy_helper.from_array(np.full(5, seed, np.float32))
    )
    ports = [
        helper.make_tensor_value_info("x", 1, [1, 3]),
        helper.make_tensor_value_info("y", 1, [1, 5]),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        constant,
        helper.make_node("Add", ["z", "c"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:], [weights]))
    onnx.save_model(
        *(model, folder / "emb.onnx"),
        **{"save_as_external_data": True, "all_tensors_to_one_file": False},
        **{"size_threshold": 0, "convert_attribute": True},
    )
    return toml


def test_weights_outside_of_an_onnx_file_count(tmp_path: Path) -> None:
    ones = _with_external_data(tmp_path / "a", 1.0)
    outside = external_files(tmp_path / "a" / "emb.onnx")
    assert len(outside) == 2
    assert {file.parent for file in outside} == {tmp_path / "a"}
    first = identify(str(ones), Blocks()).fingerprint
    for file in outside:
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + b"\x41")
        assert identify(str(ones), Blocks()).fingerprint != first
        file.write_bytes(whole)
    assert identify(str(ones), Blocks()).fingerprint == first


def test_networks_in_one_file_keep_the_fingerprint_of_0_1(tmp_path: Path) -> None:
    known = "6cf8c4ab4916cd985e398db647b7b41f7037711860cf9cdb36f6022b08a8f717"
    assert identify(str(pair(tmp_path)), Blocks()).fingerprint == known


def test_only_a_device_that_changes_results_is_another_model(tmp_path: Path) -> None:
    first = identify(str(pair(tmp_path / "a")), Blocks()).fingerprint
    toml = pair(tmp_path / "b")
    toml.write_text(toml.read_text().replace("[embedder]", "[embedder]\ndevice = 'cuda'"))
    found = []
    for devices in (("cpu", "cuda"), ("gpu", "cuda:1"), ("cpu", "tensorrt"), ("tensorrt", "cpu")):
        model = Blocks()
        model.devices = devices  # type: ignore[assignment]
        found.append(identify(str(toml), model).fingerprint)
    assert found[0] == found[1] == first
    assert len({first, *found[2:]}) == 3
