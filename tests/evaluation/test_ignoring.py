"""PRW's original protocol: who is ignored, and the trapezoidal average precision."""

import numpy as np
import pytest

from personsearch.errors import EvaluationError
from personsearch.evaluation import evaluate_search
from personsearch.types import Detections, Query, SearchProtocol

TARGET = np.array([0, 0, 100, 100], np.float32)
OTHER = np.array([200, 0, 300, 100], np.float32)
UNKNOWN = np.array([400, 0, 500, 100], np.float32)
QUERY = np.ones((1, 1), np.float32)


def moved(box: np.ndarray, share: float) -> np.ndarray:
    """The box moved to the right until the IoU with itself is `share`."""
    step = 100 * (1 - share) / (1 + share)
    return box + np.array([step, 0, step, 0], np.float32)


def evaluate(
    *rows: tuple[np.ndarray, float], annotated: bool = True, convention: str = "standard"
) -> float:
    boxes, similarities = zip(*rows, strict=True)
    gallery = {
        "a": Detections(np.array(boxes), np.ones(len(rows)), np.array(similarities)[:, None])
    }
    protocol = SearchProtocol(
        name="original",
        queries=[Query("q", TARGET, 1)],
        galleries=[["a"]],
        targets=[{"a": TARGET}],
        ignored=[{"a": UNKNOWN[None], "elsewhere": UNKNOWN[None]}],
        annotated={"a": np.stack([TARGET, OTHER, UNKNOWN])} if annotated else None,
        average_precision="trapezoid",
    )
    return evaluate_search(protocol, gallery, QUERY, convention=convention).mean_ap


SECOND = (1 / 2 + 0) / 2  # right at rank 2: precision 1/2 there and 0 before


def test_first_rank_is_one() -> None:
    assert evaluate((TARGET, 0.9), (OTHER, 0.8)) == 1


@pytest.mark.parametrize("annotated", [True, False])
@pytest.mark.parametrize(
    ("box", "ignored"),
    [
        (OTHER, False),
        (np.array([600, 0, 700, 100], np.float32), False),
        (UNKNOWN, True),
        (moved(UNKNOWN, 0.55), True),
        (moved(UNKNOWN, 0.45), True),
        (moved(UNKNOWN, 0.25), False),
        (moved(TARGET, 0.45), True),
        (moved(TARGET, 0.25), False),
        (moved(TARGET, 0.7), True),  # the same person again, with less overlap
    ],
)
def test_what_stands_before_the_right_answer(
    box: np.ndarray, ignored: bool, annotated: bool
) -> None:
    expected = 1 if ignored else SECOND
    assert evaluate((box, 0.9), (TARGET, 0.8), annotated=annotated) == pytest.approx(expected)


def test_near_another_person_is_ignored_where_that_is_known() -> None:
    rows = ((moved(OTHER, 0.4), 0.9), (TARGET, 0.8))
    assert evaluate(*rows) == 1
    assert evaluate(*rows, annotated=False) == pytest.approx(SECOND)
    # Two detections of another person: the better one is wrong, the other one is ignored.
    assert evaluate((OTHER, 0.95), (moved(OTHER, 0.8), 0.9), (TARGET, 0.8)) == pytest.approx(SECOND)


def test_the_best_overlap_is_the_right_answer_whatever_its_similarity() -> None:
    rows = ((moved(TARGET, 0.6), 0.9), (OTHER, 0.8), (moved(TARGET, 0.9), 0.7))
    assert evaluate(*rows) == pytest.approx(SECOND)


def test_a_detection_belongs_to_whom_it_overlaps_most() -> None:
    beside = np.array([40, 0, 140, 100], np.float32)
    gallery = {"a": Detections([[30, 0, 130, 100]], [1], [[1.0]])}
    protocol = SearchProtocol(
        name="crowd",
        queries=[Query("q", TARGET, 1)],
        galleries=[["a"]],
        targets=[{"a": TARGET}],
        ignored=[{}],
        annotated={"a": np.stack([TARGET, beside])},
    )
    assert evaluate_search(protocol, gallery, QUERY).mean_ap == 0


def test_trapezoid_equals_the_sum_over_every_rank() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(1, 12))
        names = [f"s{k}" for k in range(count)]
        shown = [bool(flag) for flag in rng.random(count) < 0.5]
        similarity = rng.permutation(count) / count + 0.1
        gallery = {
            name: Detections(TARGET[None], [1], [[value]])
            for name, value in zip(names, similarity, strict=True)
        }
        targets = {n: TARGET for n, flag in zip(names, shown, strict=True) if flag}
        if not targets:
            continue
        protocol = SearchProtocol(
            name="t",
            queries=[Query("q", TARGET, 1)],
            galleries=[names],
            targets=[targets],
            average_precision="trapezoid",
        )
        area, recall, precision, right = 0.0, 0.0, 1.0, 0
        for rank, place in enumerate(np.argsort(-similarity), 1):
            right += shown[place]
            now = right / rank
            area += (right / len(targets) - recall) * (precision + now) / 2
            recall, precision = right / len(targets), now
        result = evaluate_search(protocol, gallery, QUERY)
        assert result.mean_ap == pytest.approx(area, abs=1e-12)


def test_refuses_contradictions() -> None:
    with pytest.raises(EvaluationError, match="does not know; use 'standard'"):
        evaluate((TARGET, 1), convention="seqnet")
    protocol = SearchProtocol(
        name="wrong",
        queries=[Query("q", TARGET, 1)],
        galleries=[["a"]],
        targets=[{"a": TARGET}],
        ignored=[{}],
        annotated={"a": OTHER[None]},
    )
    gallery = {"a": Detections(TARGET[None], [1], [[1.0]])}
    with pytest.raises(EvaluationError, match="not among its annotated boxes"):
        evaluate_search(protocol, gallery, QUERY)
