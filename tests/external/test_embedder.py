"""A user's embedding network: what is cut out, how it is batched, and what its file must have."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from personsearch.errors import DataError, ModelError
from personsearch.external.description import EmbedderDescription
from personsearch.external.embedder import ExternalEmbedder, cut


def picture(width: int = 40, height: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


def pooling_network(path: Path, batch: Any, *, outputs: int = 1, keep_axes: bool = True) -> Path:
    """Gives the mean of each channel, (batch, 3, 1, 1) or (batch, 3); input 16 high, 8 wide."""
    nodes, infos = [], []
    for number in range(outputs):
        node = helper.make_node(
            "ReduceMean", ["x"], [f"y{number}"], axes=[2, 3], keepdims=int(keep_axes)
        )
        nodes.append(node)
        shape = [batch, 3, 1, 1] if keep_axes else [batch, 3]
        infos.append(helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, shape))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 16, 8])
    graph = helper.make_graph(nodes, "pool", [x], infos)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((2, 3, 10, 20), (2, 3, 10, 20)),
        ((2.4, 3.6, 10.4, 19.6), (2, 4, 10, 20)),  # to the nearest pixel
        ((-5, -5, 10, 10), (0, 0, 10, 10)),
        ((30, 20, 90, 90), (30, 20, 40, 30)),
        ((5.2, 5.2, 5.4, 5.4), (5, 5, 6, 6)),  # never empty
        ((39.9, 29.9, 41, 31), (39, 29, 40, 30)),
    ],
)
def test_cut_takes_the_pixels_of_the_box(box: Any, expected: Any) -> None:
    p = picture()
    x1, y1, x2, y2 = expected
    np.testing.assert_array_equal(cut(p, np.array(box, np.float32)), p[y1:y2, x1:x2])


@pytest.mark.parametrize("box", [(40, 0, 50, 10), (0, -9, 10, 0), (-3, 0, 0, 5)])
def test_a_box_outside_is_an_error(box: Any) -> None:
    with pytest.raises(DataError, match=r"outside of its picture of 40 x 30 pixels"):
        cut(picture(), np.array(box, np.float32))


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_a_network_sees_each_crop_stretched_by_opencv(
    tmp_path: Path, runtime: Any, batch: Any
) -> None:
    """Five boxes over three pictures, one without any, in batches of two, one or three."""
    file = pooling_network(tmp_path / "e.onnx", batch)
    embedder = ExternalEmbedder(
        EmbedderDescription(file=file.name, runtime=runtime, batch=2, color="bgr", scale=255),
        tmp_path,
    )
    pictures = [picture(seed=1), picture(50, 60, seed=2), picture(seed=3)]
    given = [boxes((0, 0, 20, 30), (5, 5, 15, 25)), boxes(), boxes((0, 0, 8, 16), (1, 1, 3, 3))]
    given[1] = boxes((10, 10, 50, 60)) if batch == 3 else given[1]
    expected = []
    for p, part in zip(pictures, given, strict=True):
        for x1, y1, x2, y2 in part.astype(int):
            crop = cv2.resize(p[y1:y2, x1:x2], (8, 16), interpolation=cv2.INTER_LINEAR)
            expected.append(crop[..., ::-1].reshape(-1, 3).mean(axis=0))
    assert embedder.dim == 3
    np.testing.assert_allclose(embedder(pictures, given), expected, rtol=1e-4)


def test_without_boxes_there_are_no_rows(tmp_path: Path) -> None:
    pooling_network(tmp_path / "e.onnx", "n")
    embedder = ExternalEmbedder(EmbedderDescription(file="e.onnx"), tmp_path)
    assert embedder([picture()], [boxes()]).shape == (0, 3)


def test_several_outputs_must_be_named(tmp_path: Path) -> None:
    pooling_network(tmp_path / "e.onnx", "n", outputs=2, keep_axes=False)
    with pytest.raises(ModelError, match=r"several outputs \(y0 .*y1 .*name the embedding"):
        ExternalEmbedder(EmbedderDescription(file="e.onnx"), tmp_path)
    with pytest.raises(ModelError, match=r"no output 'z'; it has y0"):
        ExternalEmbedder(EmbedderDescription(file="e.onnx", output="z"), tmp_path)
    assert ExternalEmbedder(EmbedderDescription(file="e.onnx", output="y1"), tmp_path).dim == 3


def test_an_output_that_is_no_vector_says_so(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 16, 8])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "map", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "e.onnx")
    with pytest.raises(ModelError, match=r"\(1, 3, 16, 8\) for 1 crops, expected one vector a c"):
        ExternalEmbedder(EmbedderDescription(file="e.onnx"), tmp_path)
