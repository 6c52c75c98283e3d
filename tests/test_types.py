"""The values check themselves when they are made, and say what is wrong."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import personsearch
import personsearch.types
from personsearch import UNLABELLED
from personsearch.errors import DataError
from personsearch.types import Detections, Query, Scene, SearchProtocol, as_boxes

BOXES = [[0, 0, 10, 20], [5, 5, 6, 7]]
BOX = np.array([1.0, 2, 5, 8])


def _scene(**changes: Any) -> Scene:
    values: dict[str, Any] = {
        "name": "a.jpg",
        "path": "a.jpg",
        "size": (30, 40),
        "boxes": BOXES,
        "ids": [3, UNLABELLED],
    }
    return Scene(**(values | changes))


def test_a_scene_holds_checked_arrays() -> None:
    scene = _scene(boxes=np.array(BOXES, dtype=np.float64), ids=np.array([3, -1], dtype=np.int16))
    assert scene.boxes.dtype == np.float32
    assert scene.ids.dtype == np.int64
    assert scene.ids.tolist() == [3, -1]
    assert scene.path == Path("a.jpg")
    assert scene.camera is scene.time is scene.frame is None


def test_a_scene_may_be_empty() -> None:
    scene = _scene(boxes=[], ids=[])
    assert scene.boxes.shape == (0, 4)
    assert scene.ids.shape == (0,)
    assert (scene.boxes.dtype, scene.ids.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [[0, 0, 10]]}, r"shape \(1, 3\), expected \(N, 4\)"),
        ({"boxes": [0, 0, 10, 20]}, r"shape \(4,\)"),
        ({"boxes": [[0, 0, 10, 20], [5, 5, 5, 7]]}, "box 1 is .*x1 < x2"),
        ({"boxes": [[0, 9, 10, 2], [5, 5, 6, 7]]}, "box 0 is"),
        ({"boxes": [[0, 0, 10, float("nan")], [5, 5, 6, 7]]}, "box 0 is .*finite"),
        ({"boxes": [[0, 0, float("inf"), 4], [5, 5, 6, 7]]}, "box 0 is .*finite"),
        ({"ids": [1]}, r"2 boxes but ids of shape \(1,\)"),
        ({"ids": []}, r"2 boxes but ids of shape \(0,\)"),
        ({"ids": [[1, 2]]}, r"ids of shape \(1, 2\)"),
        ({"ids": [1.0, 2.0]}, "float64, expected integers"),
        ({"ids": [1, -2]}, r"id -2, expected >= 0, or -1 \(unlabelled\)"),
        ({"size": (0, 40)}, r"\(0, 40\), expected positive"),
        ({"size": (30, -1)}, "expected positive"),
    ],
)
def test_a_bad_scene_names_itself_and_the_fault(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _scene(**changes)
    assert "'a.jpg'" in str(caught.value)


def test_boxes_come_from_tensors_of_any_kind() -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int64):
        boxes = as_boxes(torch.tensor(BOXES, dtype=dtype), "here")
        np.testing.assert_array_equal(boxes, np.array(BOXES, dtype=np.float32))
    held = torch.tensor(BOXES, dtype=torch.float32, requires_grad=True)
    assert as_boxes(held, "here").dtype == np.float32


def test_a_query_has_one_box() -> None:
    query = Query("a.jpg", [1, 2, 3, 4], 7)  # type: ignore[arg-type]
    assert query.box.dtype == np.float32
    assert query.box.shape == (4,)
    for box in ([[1, 2, 3, 4]], [1, 2, 3], [3, 2, 1, 4]):
        with pytest.raises(DataError, match=r"query in scene 'a\.jpg'"):
            Query("a.jpg", box, 7)  # type: ignore[arg-type]


def _protocol(**changes: Any) -> SearchProtocol:
    box = np.array([0, 0, 5, 5], dtype=np.float32)
    targets: Mapping[str, Any] = {"b.jpg": box}
    values: dict[str, Any] = {
        "name": "test",
        "queries": [Query("a.jpg", box, 0)],
        "galleries": [["b.jpg", "c.jpg"]],
        "targets": [targets],
    }
    return SearchProtocol(**(values | changes))


def test_a_protocol_has_one_gallery_and_one_target_map_a_query() -> None:
    protocol = _protocol()
    assert (protocol.average_precision, protocol.ignored, protocol.annotated) == ("step", (), None)
    assert _protocol(ignored=[{}]).ignored == [{}]
    annotated = {"b.jpg": np.array(BOXES, dtype=np.float32)}
    assert _protocol(annotated=annotated).annotated is annotated


@pytest.mark.parametrize("box", [BOX, [1, 2, 5, 8], torch.tensor([1, 2, 5, 8])])
def test_targets_are_boxes_of_any_kind(box: Any) -> None:
    targets = {"b.jpg": BOX, "c.jpg": box}
    assert _protocol(targets=[targets]).targets == [targets]
    assert _protocol(targets=[{}]).targets == [{}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"galleries": []}, "1 queries, 0 galleries and 1 target maps"),
        ({"targets": [{}, {}]}, "2 target maps"),
        ({"ignored": [{}, {}]}, "2 ignored maps for 1 queries"),
        ({"known_only": True}, "known_only without ignored people"),
        ({"average_precision": "area"}, "'area', expected 'step' or 'trapezoid'"),
        ({"targets": [{"b.jpg": [3, 3, 1, 1]}]}, r"target 'b\.jpg'.*x1 < x2"),
        ({"targets": [{"b.jpg": [[0, 0, 1, 1]]}]}, r"box has shape \(1, 4\)"),
        ({"targets": [{"b.jpg": BOX, "c.jpg": np.ones(4)}]}, r"target 'c\.jpg'.*x1 < x2"),
        ({"targets": [{"b.jpg": BOX, "c.jpg": BOX * np.nan}]}, r"target 'c\.jpg'.*finite"),
        ({"targets": [{"b.jpg": BOX, "c.jpg": BOX[:3]}]}, r"target 'c\.jpg'.*shape \(3,\)"),
        # Different in float64, the same in the float32 that boxes are kept in.
        ({"targets": [{"b.jpg": BOX + 2.0**30}]}, r"target 'b\.jpg'.*x1 < x2"),
    ],
)
def test_a_bad_protocol_says_so(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _protocol(**changes)


def test_detections_take_arrays_or_tensors() -> None:
    for make in (np.array, torch.tensor):
        found = Detections(make(BOXES), make([0.5, 0.25]), make([[1.0], [0.0]]))
        assert len(found) == 2
        for values in (found.boxes, found.scores, found.embeddings):
            assert isinstance(values, np.ndarray)
            assert values.dtype == np.float32
        assert found.scores.tolist() == [0.5, 0.25]
    on_graph = torch.ones(2, 3, requires_grad=True) * 2
    assert Detections(BOXES, [1, 1], on_graph).embeddings.tolist() == [[2] * 3] * 2


def test_detections_without_embeddings_or_without_anyone() -> None:
    assert Detections(BOXES, [1, 1]).embeddings.shape == (2, 0)
    nobody = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 256))
    assert len(nobody) == 0
    assert nobody.embeddings.shape == (0, 256)


@pytest.mark.parametrize(
    ("scores", "embeddings", "message"),
    [
        ([0.5], None, r"2 boxes but scores of shape \(1,\)"),
        ([0.5, float("nan")], None, "score is NaN"),
        ([float("inf"), 0.5], None, "score is NaN or infinite; the network has diverged"),
        ([0.5, 0.5], [[1.0]], r"embeddings of shape \(1, 1\), expected \(N, D\)"),
        ([0.5, 0.5], [1.0, 1.0], r"expected \(N, D\)"),
        ([0.5, 0.5], [[1.0], [float("inf")]], "embedding holds NaN or infinity"),
    ],
)
def test_bad_detections_say_so(scores: Any, embeddings: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Detections(BOXES, scores, embeddings)


@pytest.mark.parametrize("module", ["personsearch", "personsearch.types", "personsearch.boxes"])
def test_importing_loads_no_network_library(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'scipy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_target_is_still_found_at_its_former_place() -> None:
    with pytest.warns(DeprecationWarning, match="import it from personsearch") as warned:
        assert personsearch.types.Target is personsearch.Target  # type: ignore[attr-defined]
    assert len(warned) == 1
    assert not hasattr(personsearch.types, "nonsense")
