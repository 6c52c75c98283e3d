"""Whole detectors from tiny ONNX networks with known outputs, through both runtimes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from personsearch.errors import ModelError
from personsearch.external.description import DetectorDescription
from personsearch.external.detector import ExternalDetector

RUNTIMES = ("openvino", "onnxruntime")
SIDE = 64
"""Pixels of the tiny networks' square input."""


def constant_network(
    path: Path, outputs: dict[str, np.ndarray], *, batch: int | None = 1, side: int | None = SIDE
) -> Path:
    """A network that gives the same outputs whatever the picture.

    A dynamic batch repeats them once a picture.
    """
    shape = [batch or "n", 3, side or "h", side or "w"]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    weights = [numpy_helper.from_array(np.float32(0), "zero")]
    infos = []
    for name, value in outputs.items():
        weights.append(numpy_helper.from_array(value.astype(np.float32), f"{name}_value"))
        weights.append(
            numpy_helper.from_array(np.array([-1] + [1] * (value.ndim - 1)), f"{name}_s")
        )
        if batch == 1:
            nodes.append(helper.make_node("ReduceMean", ["nothing"], [f"{name}_0"], keepdims=0))
        else:
            nodes.append(helper.make_node("Reshape", ["nothing", f"{name}_s"], [f"{name}_0"]))
        nodes.append(helper.make_node("Add", [f"{name}_value", f"{name}_0"], [name]))
        first = [batch or "n"] if batch != 1 else [value.shape[0]]
        infos.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [*first, *value.shape[1:]])
        )
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        infos,
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def detector(path: Path, **keys: Any) -> ExternalDetector:
    return ExternalDetector(DetectorDescription(file=path.name, **keys), path.parent)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Two people in input pixels, and a third of another class.
BOXES = np.array([[8, 4, 24, 60], [32, 16, 48, 48], [0, 0, 16, 16]], dtype=np.float64)
SCORES = np.array([0.6, 0.9, 0.8])
LABELS = np.array([1, 1, 0])


def centers(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def ssd() -> dict[str, np.ndarray]:
    rows = np.column_stack([np.zeros(3), LABELS, SCORES, BOXES / SIDE])
    rows = np.concatenate([rows, [[-1, 0, 0, 0, 0, 0, 0]], rows])  # the rows end at -1
    return {"detection_out": rows[None, None]}


def plain_boxes() -> dict[str, np.ndarray]:
    return {"boxes": BOXES[None], "scores": SCORES[None], "labels": LABELS[None]}


def five_columns() -> dict[str, np.ndarray]:
    return {"boxes": np.column_stack([BOXES, SCORES]), "labels": LABELS}


def six_columns() -> dict[str, np.ndarray]:
    return {"output0": np.column_stack([BOXES, SCORES, LABELS])[None]}


def class_columns() -> np.ndarray:
    scores = np.full((3, 3), 0.05)
    scores[np.arange(3), LABELS] = SCORES
    return scores


def score_matrix() -> dict[str, np.ndarray]:
    return {"b": BOXES[None] / SIDE, "s": class_columns()[None]}


def yolo() -> dict[str, np.ndarray]:
    return {"output0": np.column_stack([centers(BOXES), class_columns()]).T[None]}


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def detr_sigmoid() -> dict[str, np.ndarray]:
    return {"logits": logit(class_columns())[None], "pred_boxes": centers(BOXES)[None] / SIDE}


def detr_softmax() -> dict[str, np.ndarray]:
    p = class_columns()
    p = np.column_stack([p[:, :2], 1 - p[:, :2].sum(axis=1)])  # the last class is "nothing"
    return {"logits": np.log(p)[None] + 3.0, "pred_boxes": centers(BOXES)[None] / SIDE}


LAYOUTS = [
    pytest.param(ssd, {"layout": "ssd"}, id="ssd"),
    pytest.param(plain_boxes, {"layout": "boxes"}, id="boxes"),
    pytest.param(five_columns, {"layout": "boxes"}, id="boxes-five-columns"),
    pytest.param(six_columns, {"layout": "boxes"}, id="boxes-six-columns"),
    pytest.param(
        score_matrix,
        {"layout": "boxes", "coordinates": "unit", "boxes_output": "b", "scores_output": "s"},
        id="boxes-score-matrix",
    ),
    pytest.param(yolo, {"layout": "yolo"}, id="yolo"),
    pytest.param(detr_sigmoid, {"layout": "detr"}, id="detr-sigmoid"),
    pytest.param(detr_softmax, {"layout": "detr", "activation": "softmax"}, id="detr-softmax"),
]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("outputs", "keys"), LAYOUTS)
def test_stretch_brings_boxes_back(tmp_path: Path, runtime: str, outputs: Any, keys: Any) -> None:
    network = constant_network(tmp_path / "n.onnx", outputs())
    find = detector(network, runtime=runtime, class_index=1, **keys)
    # 128 x 192 on 64 x 64: x doubles, y triples.
    ((boxes, scores),) = find([picture(128, 192)])
    np.testing.assert_allclose(boxes, [[64, 48, 96, 144], [16, 12, 48, 180]], atol=1e-4)
    np.testing.assert_allclose(scores, [0.9, 0.6], atol=1e-6)
    assert boxes.dtype == scores.dtype == np.float32


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("outputs", "keys"), LAYOUTS)
def test_letterbox_brings_boxes_back(tmp_path: Path, runtime: str, outputs: Any, keys: Any) -> None:
    network = constant_network(tmp_path / "n.onnx", outputs())
    find = detector(network, runtime=runtime, class_index=1, resize="letterbox", **keys)
    # 64 x 192 on 64 x 64: a third, 21 pixels wide after 21 of padding; y triples.
    ((boxes, scores),) = find([picture(64, 192)])
    x = 64 / 21
    expected = [[(32 - 21) * x, 48, 64, 144], [0, 12, (24 - 21) * x, 180]]
    np.testing.assert_allclose(boxes, expected, atol=1e-4)
    np.testing.assert_allclose(scores, [0.9, 0.6], atol=1e-6)


def test_letterbox_at_the_top_left_has_no_offset(tmp_path: Path) -> None:
    network = constant_network(tmp_path / "n.onnx", plain_boxes())
    find = detector(
        network, layout="boxes", class_index=1, resize="letterbox", placement="top-left"
    )
    ((boxes, _),) = find([picture(192, 96)])
    # Scaled by three; the first person is cut at the picture's lower edge.
    np.testing.assert_allclose(boxes, [[96, 48, 144, 96], [24, 12, 72, 96]], atol=1e-4)


@pytest.mark.parametrize(("outputs", "keys"), LAYOUTS)
def test_without_a_class_every_class_is_found(tmp_path: Path, outputs: Any, keys: Any) -> None:
    find = detector(constant_network(tmp_path / "n.onnx", outputs()), **keys)
    ((boxes, scores),) = find([picture(64, 64)])
    np.testing.assert_allclose(scores, [0.9, 0.8, 0.6], atol=1e-6)
    np.testing.assert_allclose(boxes, BOXES[[1, 2, 0]], atol=1e-4)


def test_weak_detections_and_boxes_outside_are_left_out(tmp_path: Path) -> None:
    boxes = np.array([[-20, 0, -4, 20], [-8, -8, 8, 8], [0, 0, 9, 9], [70, 0, 80, 9]])
    outputs = {"boxes": boxes[None], "scores": np.array([[0.9, 0.8, 0.4, 0.9]])}
    network = constant_network(tmp_path / "n.onnx", outputs)
    ((found, scores),) = detector(network, layout="boxes", score_threshold=0.5)([picture(64, 64)])
    np.testing.assert_allclose(found, [[0, 0, 8, 8]])
    np.testing.assert_allclose(scores, [0.8], atol=1e-6)


# Overlap of the first two: 12 x 16 shared, IoU 192 / 320 = 0.6.
OVERLAPPING = np.array([[0, 0, 16, 16], [4, 0, 20, 16], [40, 40, 60, 60]], dtype=np.float64)


@pytest.mark.parametrize(("nms", "kept"), [(None, 3), (0.59, 2), (0.61, 3)])
def test_nms_keeps_the_surest(tmp_path: Path, nms: float | None, kept: int) -> None:
    outputs = {"boxes": OVERLAPPING[None], "scores": np.array([[0.5, 0.7, 0.6]])}
    network = constant_network(tmp_path / "n.onnx", outputs)
    ((boxes, scores),) = detector(network, layout="boxes", nms=nms)([picture(64, 64)])
    expected = [0.7, 0.6, 0.5][:kept]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(boxes, OVERLAPPING[[1, 2, 0]][:kept])


def test_raw_yolo_is_suppressed_by_default(tmp_path: Path) -> None:
    near = np.array([[0, 0, 16, 16], [1, 0, 17, 16]], dtype=np.float64)
    outputs = {"o": np.column_stack([centers(near), [0.5, 0.7]]).T[None]}
    network = constant_network(tmp_path / "n.onnx", outputs)
    ((_, scores),) = detector(network, layout="yolo")([picture(64, 64)])
    np.testing.assert_allclose(scores, [0.7], atol=1e-6)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("batch", [1, 3, None])
def test_any_batch_keeps_pictures_apart(tmp_path: Path, runtime: str, batch: int | None) -> None:
    """Five pictures through a batch of one, of three (the last run is padded), or an open one."""
    outputs = {
        "boxes": np.repeat(BOXES[None], batch or 1, axis=0),
        "scores": np.repeat(SCORES[None], batch or 1, axis=0),
    }
    network = constant_network(tmp_path / "n.onnx", outputs, batch=batch)
    find = detector(network, layout="boxes", runtime=runtime, batch=2)
    pictures = [picture(64 * scale, 64) for scale in (1, 2, 3, 4, 5)]
    found = find(pictures)
    assert len(found) == 5
    for scale, (boxes, scores) in zip((1, 2, 3, 4, 5), found, strict=True):
        np.testing.assert_allclose(boxes, BOXES[[1, 2, 0]] * [scale, 1, scale, 1], atol=1e-3)
        np.testing.assert_allclose(scores, [0.9, 0.8, 0.6], atol=1e-6)


def test_ssd_rows_go_to_their_picture(tmp_path: Path) -> None:
    rows = np.array([[1, 0, 0.9, 0, 0, 0.5, 0.5], [0, 0, 0.8, 0.5, 0.5, 1, 1]])
    # A network of two pictures a run, whose rows say which picture they belong to.
    path = tmp_path / "n.onnx"
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["rows", "nothing"], ["out"]),
        ],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 1, 2, 7])],
        [
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(rows[None, None].astype(np.float32), "rows"),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    first, second = detector(path, layout="ssd")([picture(64, 64), picture(128, 128)])
    np.testing.assert_allclose(first[0], [[32, 32, 64, 64]])
    np.testing.assert_allclose(second[0], [[0, 0, 64, 64]])


@pytest.mark.parametrize(
    ("outputs", "keys", "message"),
    [
        (plain_boxes, {"layout": "ssd"}, r"reads one output, the network has boxes \(1 x 3 x 4\)"),
        (yolo, {"layout": "ssd"}, r"'output0' is 1 x 7 x 3; layout 'ssd' expects rows of seven"),
        (ssd, {"layout": "yolo"}, r"is 1 x 1 x 7 x 7; layout 'yolo' expects batch x \(4"),
        (ssd, {"layout": "detr"}, r"needs 'boxes_output'.*detection_out"),
        (ssd, {"layout": "boxes"}, r"needs 'boxes_output'"),
        (yolo, {"layout": "yolo", "class_index": 3}, r"has 3 classes, but class_index is 3"),
        (detr_softmax, {"layout": "detr", "activation": "softmax", "class_index": 2}, "2 classes"),
        (yolo, {"layout": "yolo", "output": "out"}, r"has no output 'out'; it has output0"),
        (lambda: {"boxes": BOXES[None]}, {"layout": "boxes"}, r"'scores_output'"),
        (
            lambda: {"boxes": BOXES[None], "scores": SCORES[None, :2]},
            {"layout": "boxes"},
            r"'scores' is 1 x 2; layout 'boxes' expects a score for 3 boxes",
        ),
        (
            lambda: {"o": np.zeros((1, 1600, 6))},
            {"layout": "yolo"},
            r"'o' is 1 x 1600 x 6; layout 'yolo' expects batch x \(4 \+ classes\) x N",
        ),
        (
            lambda: {"o": np.full((1, 1, 2, 7), 0.5)},
            {"layout": "ssd"},
            r"expects whole numbers in columns 0 and 1",
        ),
        (
            lambda: {"boxes": np.full((1, 3, 4), np.nan), "scores": SCORES[None]},
            {"layout": "boxes"},
            r"NaN or infinite; check 'scale'",
        ),
    ],
)  # fmt: skip
def test_outputs_that_do_not_fit_say_so(
    tmp_path: Path, outputs: Any, keys: Any, message: str
) -> None:
    network = constant_network(tmp_path / "n.onnx", outputs())
    with pytest.raises(ModelError, match=message) as caught:
        detector(network, **keys)([picture(64, 64)])
    assert "n.onnx" in str(caught.value)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_size_that_the_network_does_not_take_says_so(tmp_path: Path, runtime: str) -> None:
    network = constant_network(tmp_path / "n.onnx", plain_boxes())
    with pytest.raises(ModelError, match=r"takes width 64, height 64, but size says width 32, he"):
        detector(network, layout="boxes", runtime=runtime, size={"width": 32, "height": 64})


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_open_size_must_be_named(tmp_path: Path, runtime: str) -> None:
    network = constant_network(tmp_path / "n.onnx", plain_boxes(), side=None)
    with pytest.raises(ModelError, match=r"open in size; add size = \{ width"):
        detector(network, layout="boxes", runtime=runtime)
    size = {"width": 128, "height": 64}
    find = detector(network, layout="boxes", runtime=runtime, size=size)
    ((boxes, _),) = find([picture(64, 64)])
    np.testing.assert_allclose(boxes[0], [16, 16, 24, 48], atol=1e-4)
