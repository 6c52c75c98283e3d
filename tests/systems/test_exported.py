"""A file of `personsearch export` is a model, and any other file one clear error."""

import json
from pathlib import Path

import onnx
import pytest
import torch
from exportable import exportable, noise
from onnx import TensorProto, helper

from personsearch.errors import ModelError
from personsearch.external import runtime
from personsearch.loading import load
from personsearch.systems.base import Target
from personsearch.systems.export import write_onnx
from personsearch.systems.exported import KEY, ExportedFacts, ExportedSystem, read_facts


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, model = exportable("xiao2016")
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    write_onnx(model, path, ExportedFacts("xiao2016", 16, "euclidean", True, "tattoo"))
    return path


def test_the_file_says_what_the_system_is(file: Path) -> None:
    assert read_facts(file) == ExportedFacts("xiao2016", 16, "euclidean", True, "tattoo")
    model = load(str(file))
    assert isinstance(model, ExportedSystem)
    assert (model.embedding_dim, model.metric, model.confidence_weighted) == (16, "euclidean", True)
    assert not model.training


def test_it_cannot_be_trained(file: Path) -> None:
    target = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ModelError, match=r"model\.onnx: an exported system cannot be trained"):
        load(file)(noise(1, 96, 128), [target])


def test_pictures_of_several_sizes_keep_their_order(file: Path) -> None:
    model = load(file)
    images = [noise(1, *size)[0] for size in ((96, 128), (80, 60), (96, 128), (80, 60))]
    images[2] = images[0].flip(2)
    boxes = [torch.tensor([[4.0, 4, 30, 50]] * count) for count in (1, 0, 2, 1)]
    together = model.detect(images)
    assert [len(rows) for rows in model.embed(images, boxes)] == [1, 0, 2, 1]
    for image, own, found in zip(images, boxes, together, strict=True):
        (alone,) = model.detect([image])
        torch.testing.assert_close(torch.tensor(found.scores), torch.tensor(alone.scores))
        (rows,) = model.embed([image], [own])
        assert rows.shape == (len(own), 16)
    assert model.detect([]) == []


def test_a_picture_of_another_shape_is_an_error(file: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot run on an input of shape \(1, 1, 96, 128\)"):
        load(file).detect([torch.zeros(1, 96, 128)])


def test_a_file_that_is_cut_or_missing_is_an_error(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 9):
        (tmp_path / "cut.onnx").write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"cut\.onnx: was not written by .*, or is damaged"):
            load(tmp_path / "cut.onnx")
    with pytest.raises(ModelError, match=r"gone\.onnx: no such file"):
        load(tmp_path / "gone.onnx")


def other_network(file: Path, inputs: int, facts: str) -> None:
    """A network of another kind, with these facts."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xyz"]
    node = helper.make_node("Sum", list("xy"[:inputs]), ["z"])
    graph = helper.make_graph([node], "g", ports[:inputs], ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {KEY: facts})
    onnx.save(model, file)


def test_another_network_with_the_right_words_is_an_error(tmp_path: Path) -> None:
    facts = ExportedFacts("oim", 16, "cosine", True).to_metadata()[KEY]
    for inputs, message in (
        (1, "has 1 inputs .*, expected 2"),
        (2, r"has outputs z \(1\); expected picture, detections"),
    ):
        other_network(tmp_path / "n.onnx", inputs, facts)
        with pytest.raises(ModelError, match=rf"n\.onnx: {message}"):
            load(tmp_path / "n.onnx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "another version of personsearch"),
        ({"embedding_dim": "16"}, "was not written by"),
        ({"embedding_dim": 0}, "was not written by"),
        ({"metric": "manhattan"}, "was not written by"),
        ({"stranger": 1}, "was not written by"),
        (None, "was not written by"),
    ],
)
def test_wrong_metadata_is_an_error(
    tmp_path: Path, changes: dict[str, object] | None, message: str
) -> None:
    stated = json.loads(ExportedFacts("oim", 16, "cosine", True).to_metadata()[KEY])
    other_network(
        tmp_path / "n.onnx", 1, "[1]" if changes is None else json.dumps(stated | changes)
    )
    with pytest.raises(ModelError, match=rf"n\.onnx: .*{message}"):
        load(tmp_path / "n.onnx")


def test_without_a_runtime_the_error_says_what_to_install(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'personsearch\[openvino\]'"):
        load(file)
