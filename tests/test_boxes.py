"""Box arithmetic against figures worked out by hand, and its laws on random boxes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from personsearch.boxes import area, clip, from_xywh, intersection, iou, to_xywh

CORNERS = arrays.arrays(
    np.float64,
    st.tuples(st.integers(0, 5), st.just(4)),
    elements=st.integers(-50, 50).map(float),
)


def _sorted_corners(values: np.ndarray) -> np.ndarray:
    low, high = (
        np.minimum(values[:, :2], values[:, 2:]),
        np.maximum(values[:, :2], values[:, 2:]) + 1,
    )
    return np.concatenate([low, high], axis=1)


def test_xywh_is_converted() -> None:
    boxes = from_xywh(np.array([[10.0, 20.0, 5.0, 8.0]]))
    np.testing.assert_array_equal(boxes, [[10, 20, 15, 28]])
    np.testing.assert_array_equal(to_xywh(boxes), [[10, 20, 5, 8]])


def test_small_integers_do_not_wrap_round() -> None:
    narrow = np.array([[200, 100, 100, 200]], dtype=np.uint8)
    np.testing.assert_array_equal(from_xywh(narrow), [[200, 100, 300, 300]])
    corners = np.array([[0, 0, 200, 200]], dtype=np.uint8)
    assert area(corners).tolist() == [40000]
    np.testing.assert_array_equal(to_xywh(corners[:, [2, 3, 0, 1]]), [[200, 200, -200, -200]])
    np.testing.assert_array_equal(clip(corners, (500, 100)), [[0, 0, 200, 100]])


def test_float32_stays_float32() -> None:
    boxes = np.array([[1, 2, 3, 4]], dtype=np.float32)
    for result in (from_xywh(boxes), to_xywh(boxes), clip(boxes, (2, 2)), iou(boxes, boxes)):
        assert result.dtype == np.float32


def test_clip_cuts_and_drops_nothing() -> None:
    boxes = np.array([[-5.0, -5, 5, 5], [90, 40, 130, 60], [200, 200, 210, 210], [1, 2, 3, 4]])
    clipped = clip(boxes, (100, 50))
    np.testing.assert_array_equal(
        clipped, [[0, 0, 5, 5], [90, 40, 100, 50], [100, 50, 100, 50], [1, 2, 3, 4]]
    )
    assert area(clipped).tolist() == [25, 100, 0, 4]
    assert boxes[0, 0] == -5


def test_an_inverted_box_has_no_area() -> None:
    assert area(np.array([[10.0, 10, 5, 5], [0, 0, 4, -1]])).tolist() == [0, 0]


def test_intersection_and_iou_by_hand() -> None:
    a = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    b = np.array([[5.0, 5, 15, 15], [0, 0, 10, 10], [10, 0, 20, 10]])
    np.testing.assert_array_equal(intersection(a, b), [[25, 100, 0], [0, 0, 0]])
    np.testing.assert_allclose(iou(a, b), [[25 / 175, 1, 0], [0, 0, 0]])


def test_iou_of_integers_and_of_lists() -> None:
    assert iou(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2]])).tolist() == [[2 / 6]]


def test_nothing_and_empty_boxes() -> None:
    nothing = np.zeros((0, 4))
    assert iou(nothing, np.ones((3, 4))).shape == (0, 3)
    assert from_xywh(np.zeros((1, 0))).shape == to_xywh(nothing).shape == (0, 4)
    point = np.array([[5.0, 5, 5, 5]])
    assert iou(point, point).tolist() == [[0]]


@settings(deadline=None, max_examples=50)
@given(CORNERS, CORNERS)
def test_iou_obeys_its_laws(first: np.ndarray, second: np.ndarray) -> None:
    a, b = _sorted_corners(first), _sorted_corners(second)
    ratio = iou(a, b)
    assert ratio.shape == (len(a), len(b))
    np.testing.assert_array_equal(ratio, iou(b, a).T)
    assert ((ratio >= 0) & (ratio <= 1)).all()
    np.testing.assert_array_equal(np.diag(iou(a, a)), np.ones(len(a)))
    np.testing.assert_array_equal(from_xywh(to_xywh(a)), a)
    np.testing.assert_allclose(iou(a + 7, b + 7), ratio)
