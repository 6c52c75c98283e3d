"""Output layouts on plain arrays: which output is which, and what the numbers mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personsearch.errors import ModelError
from personsearch.external.decoding import Decoder
from personsearch.external.description import DetectorDescription
from personsearch.external.runtime import Network, Port


class Fake(Network):
    """Says that it has some outputs."""

    def __init__(self, **shapes: tuple[int | None, ...] | None) -> None:
        self.file = Path("fake.onnx")
        self.outputs = tuple(Port(name, shape) for name, shape in shapes.items())

    def __call__(self, batch: Any) -> Mapping[str, Any]:
        raise AssertionError("not run here")


def decoder(network: Fake, **keys: Any) -> Decoder:
    return Decoder(network, DetectorDescription(file="f", **keys), (200, 100))


def decode(outputs: dict[str, np.ndarray], count: int = 1, **keys: Any) -> list[Any]:
    shapes = {name: value.shape for name, value in outputs.items()}
    return decoder(Fake(**shapes), **keys)(outputs, count)


@pytest.mark.parametrize(
    ("shapes", "keys", "expected"),
    [
        ({"a": (1, 9, 4), "b": (1, 9, 80)}, {"layout": "detr"}, ("a", "b", None)),
        ({"logits": (1, 9, 4), "boxes": (1, 9, 4)}, {"layout": "detr"}, ("boxes", "logits", None)),
        ({"x": (9, 4), "y": (9,)}, {"layout": "boxes"}, ("x", "y", None)),
        ({"x": (9, 5), "y": (9,)}, {"layout": "boxes"}, ("x", None, None)),
        (
            {"labels": (1, None), "boxes": (1, None, 4), "scores": (1, None)},
            {"layout": "boxes"},
            ("boxes", "scores", "labels"),
        ),
        ({"boxes": None, "scores": None}, {"layout": "boxes"}, ("boxes", "scores", None)),
        (
            {"p": (1, 9, 4), "q": (1, 9, 4), "r": (1, 9)},
            {"layout": "boxes", "boxes_output": "q", "scores_output": "r"},
            ("q", "r", None),
        ),
        (
            {"one": (1, 84, None), "two": (1, 32, 160, 160)},
            {"layout": "yolo", "output": "one"},
            ("one", None, None),
        ),
    ],
)
def test_outputs_are_told_apart(shapes: Any, keys: Any, expected: Any) -> None:
    names = decoder(Fake(**shapes), **keys).names
    assert (names.boxes, names.scores, names.labels) == expected


@pytest.mark.parametrize(
    ("shapes", "keys", "message"),
    [
        ({"p": (1, 9, 4), "q": (1, 9, 4)}, {"layout": "boxes"}, "needs 'boxes_output'"),
        ({"p": (1, 9, 4), "q": (1, 9, 4)}, {"layout": "detr"}, "needs 'boxes_output'"),
        (
            {"boxes": (1, 9, 4), "p": (1, 9, 3), "q": (1, 9, 3)},
            {"layout": "detr"},
            "needs 'scores_output'",
        ),
        (
            {"one": (1, 84, None), "two": (1, 32, 160, 160)},
            {"layout": "yolo"},
            "name it with 'output'",
        ),
        ({"one": (1, 8400, 84)}, {"layout": "yolo"}, r"is 1 x 8400 x 84; .*4 \+ classes"),
        ({"one": (1, 4, 8400)}, {"layout": "yolo"}, r"is 1 x 4 x 8400; .*4 \+ classes"),
    ],
)
def test_what_cannot_be_told_apart_asks_for_a_name(shapes: Any, keys: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        decoder(Fake(**shapes), **keys)
    assert all(name in str(caught.value) for name in shapes)


def test_softmax_leaves_the_last_class_to_nothing() -> None:
    logits = np.log(np.array([[[0.2, 0.5, 0.3], [0.05, 0.05, 0.9]]]))
    boxes = np.array([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]]])
    ((found, scores),) = decode({"boxes": boxes, "logits": logits}, layout="detr",
                                activation="softmax", score_threshold=0.0)  # fmt: skip
    np.testing.assert_allclose(scores, [0.5, 0.05])
    np.testing.assert_allclose(found[0], [80, 30, 120, 70])


def test_extreme_logits_do_not_overflow() -> None:
    logits, boxes = np.array([[[-2000.0], [2000.0]]]), np.full((1, 2, 4), 0.5)
    ((_, scores),) = decode({"boxes": boxes, "logits": logits}, layout="detr", score_threshold=0)
    np.testing.assert_allclose(scores, [0, 1], atol=1e-12)


@pytest.mark.parametrize("layout", ["ssd", "boxes", "yolo", "detr"])
def test_coordinates_can_be_said(layout: str) -> None:
    """The same box, in pixels and in 0..1 of an input of 200 x 100."""
    pixels = np.array([20.0, 10, 60, 90])
    unit = pixels / [200, 100, 200, 100]
    for coordinates, box in (("pixels", pixels), ("unit", unit)):
        center = np.array([*(box[:2] + box[2:]) / 2, *(box[2:] - box[:2])])
        outputs = {
            "ssd": {"o": np.array([[[[0, 1, 0.9, *box]]]])},
            "boxes": {"o": np.array([[[*box, 0.9]]])},
            "yolo": {"o": np.array([[*center, 0.9]]).T[None]},
            "detr": {"boxes": center[None, None], "logits": np.array([[[3.0]]])},
        }[layout]
        ((found, _),) = decode(outputs, layout=layout, coordinates=coordinates)
        np.testing.assert_allclose(found, pixels[None])


@pytest.mark.parametrize("empty", [(1, 0, 5), (0, 5)])
def test_nobody_is_no_error(empty: tuple[int, ...]) -> None:
    ((boxes, scores),) = decode({"o": np.zeros(empty)}, layout="boxes")
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)


def test_a_score_that_is_nan_does_not_vanish() -> None:
    rows = np.array([[[0, 0, 9, 9, np.nan], [0, 0, 9, 9, 0.9]]])
    with pytest.raises(ModelError, match="NaN or infinite"):
        decode({"o": rows}, layout="boxes")


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_yolo_agrees_with_a_plain_loop(batch: int, classes: int, number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    output = rng.random((batch, 4 + classes, number))
    wanted = int(rng.integers(classes))
    found = decode({"o": output}, batch, layout="yolo", class_index=wanted, score_threshold=0.5)
    for picture in range(batch):
        expected = []
        for n in range(number):
            cx, cy, w, h = output[picture, :4, n]
            score = output[picture, 4 + wanted, n]
            if score >= 0.5:
                expected.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score])
        boxes, scores = found[picture]
        rows = np.column_stack([boxes, scores])
        np.testing.assert_allclose(rows, np.array(expected).reshape(-1, 5), atol=1e-12)
