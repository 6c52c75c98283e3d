"""Protocols of PRW that ignore people, and the trapezoidal average precision."""

from dataclasses import replace

import numpy as np
import pytest

from personsearch.boxes import iou
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


def known_only(*rows: tuple[np.ndarray, float], annotated: bool = True) -> float:
    boxes, similarities = zip(*rows, strict=True)
    gallery = {
        "a": Detections(np.array(boxes), np.ones(len(rows)), np.array(similarities)[:, None])
    }
    protocol = SearchProtocol(
        name="regular-labelled",
        queries=[Query("q", TARGET, 1)],
        galleries=[["a"]],
        targets=[{"a": TARGET}],
        ignored=[{"a": UNKNOWN[None]}],
        annotated={"a": np.stack([TARGET, OTHER, UNKNOWN])} if annotated else None,
        known_only=True,
    )
    return evaluate_search(protocol, gallery, QUERY).mean_ap


@pytest.mark.parametrize(
    ("box", "ignored"),
    [
        (OTHER, False),
        (moved(OTHER, 0.55), False),
        (moved(OTHER, 0.45), True),
        (UNKNOWN, True),
        (moved(UNKNOWN, 0.55), True),
        (moved(TARGET, 0.45), True),
        (np.array([600, 0, 700, 100], np.float32), True),  # of nobody
    ],
)
def test_only_detections_of_the_labelled_are_searched(box: np.ndarray, ignored: bool) -> None:
    expected = 1 if ignored else 1 / 2
    assert known_only((box, 0.9), (TARGET, 0.8)) == pytest.approx(expected)


def test_right_answers_are_those_of_the_usual_rules() -> None:
    """The most similar of two detections of the person, not the better placed one."""
    assert known_only((moved(TARGET, 0.6), 0.9), (OTHER, 0.85), (TARGET, 0.8)) == 1
    assert known_only((moved(TARGET, 0.3), 0.9)) == 0
    # Without all boxes, another person is nobody.
    assert known_only((OTHER, 0.9), (TARGET, 0.8), annotated=False) == 1


def test_known_only_equals_a_gallery_without_the_other_detections() -> None:
    """Whoever overlaps a labelled person most and by half stays: the published rule, in a loop."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> np.ndarray:
        corner = rng.uniform(0, 60, (count, 2))
        return np.hstack([corner, corner + rng.uniform(20, 60, (count, 2))]).astype(np.float32)

    for _ in range(30):
        annotated = {name: draw(5) for name in "abc"}
        ids = {name: np.array([1, 2, 3, -1, -1]) for name in "abc"}
        gallery, filtered = {}, {}
        for name, boxes in annotated.items():
            near = boxes.repeat(4, axis=0) + rng.normal(0, 6, (20, 4)).astype(np.float32)
            near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 5)
            one = Detections(near, np.ones(20), rng.normal(size=(20, 4)))
            gallery[name] = one
            stays = []
            for box in near:
                overlaps = [iou(box[None], other[None]).item() for other in boxes]
                best = int(np.argmax(overlaps))
                stays.append(overlaps[best] >= 0.5 and ids[name][best] >= 0)
            filtered[name] = Detections(near[stays], one.scores[stays], one.embeddings[stays])
        queries = [Query("q", TARGET, k) for k in (1, 2, 3)]
        targets = [{name: annotated[name][k] for name in "abc"} for k in range(3)]
        unlabelled = {name: boxes[ids[name] < 0] for name, boxes in annotated.items()}
        vectors = rng.normal(size=(3, 4)).astype(np.float32)
        plain = SearchProtocol(
            name="regular", queries=queries, galleries=[["a", "b", "c"]] * 3, targets=targets
        )
        labelled = replace(plain, ignored=[unlabelled] * 3, annotated=annotated, known_only=True)
        ours = evaluate_search(labelled, gallery, vectors)
        expected = evaluate_search(plain, filtered, vectors)
        np.testing.assert_array_equal(ours.average_precisions, expected.average_precisions)
        np.testing.assert_array_equal(ours.first_ranks, expected.first_ranks)


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
