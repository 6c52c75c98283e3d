"""The search evaluator against a slow one that follows the written rules word by word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from personsearch.datasets.galleries import Excluding
from personsearch.errors import EvaluationError
from personsearch.evaluation import ContextMatching, evaluate_search
from personsearch.evaluation.search import SearchResult
from personsearch.types import Detections, Query, SearchProtocol

TOP_K = (1, 2, 5)
QUERY_PEOPLE = np.array([[1.0, 0.0]], np.float32)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    a, b = [float(v) for v in a], [float(v) for v in b]
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def reached(target: Sequence[float], box: Sequence[float]) -> bool:
    w, h = float(target[2] - target[0]), float(target[3] - target[1])
    return iou(box, target) >= min(0.5, w * h / ((w + 10) * (h + 10)))


@dataclass
class Entry:
    """One detection of a gallery picture, as the slow evaluators see it."""

    picture: str
    row: int
    similarity: float
    right: bool = False


@dataclass
class SlowScore:
    average_precision: float
    first_rank: int
    num_targets: int
    num_found: int
    ranking: list[Entry]


def slow_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([[float(np.dot(x, y)) for y in b] for x in a])


def slow_context(
    entries: dict[str, list[Entry]],
    gallery: dict[str, np.ndarray],
    people: np.ndarray,
    k1: int,
) -> None:
    """Every assignment is tried; the best total wins."""
    everyone = [entry for listed in entries.values() for entry in listed]
    nearest = sorted(everyone, key=lambda entry: -entry.similarity)[:k1]
    for picture in {entry.picture for entry in nearest}:
        products = slow_products(people, gallery[picture])
        size, others = products.shape
        best, pairs = -np.inf, []
        for columns in permutations(range(others), min(size, others)):
            for rows in permutations(range(size), len(columns)) if size > others else [range(size)]:
                total = sum(products[r, c] for r, c in zip(rows, columns, strict=True))
                if total > best:
                    best, pairs = total, list(zip(rows, columns, strict=True))
        own = [c for r, c in pairs if r == 0]
        if own:
            entries[picture][own[0]].similarity = float(
                np.float32(max(products[r, c] for r, c in pairs))
            )


def slow_score(
    protocol: SearchProtocol,
    index: int,
    gallery: dict[str, Detections],
    query: np.ndarray,
    *,
    threshold: float = 0.5,
    published: bool = False,
    weighted: bool = False,
    context: ContextMatching | None = None,
    euclidean: bool = False,
) -> SlowScore:
    """Steps 1 to 4 of the search metric for one query, in float64, one detection at a time."""
    own = protocol.queries[index].scene
    listed = [name for name in protocol.galleries[index] if published or name != own]
    targets = {n: b for n, b in protocol.targets[index].items() if published or n != own}
    if published:  # x and y are cut before the sides are added
        targets = {
            n: np.concatenate([np.maximum(b[:2], 0), np.maximum(b[:2], 0) + b[2:] - b[:2]])
            for n, b in targets.items()
        }
    times = listed if published else list(dict.fromkeys(listed))
    num_targets = sum(name in targets for name in times)

    entries: dict[str, list[Entry]] = {}
    embeddings: dict[str, np.ndarray] = {}
    rows: dict[str, list[int]] = {}
    for name in dict.fromkeys(listed):
        found = gallery[name]
        rows[name] = [r for r in range(len(found)) if found.scores[r] >= np.float32(threshold)]
        embeddings[name] = found.embeddings[rows[name]].astype(np.float64)
        if weighted:
            embeddings[name] *= found.scores[rows[name], None].astype(np.float64)
        exact = query.astype(np.float64)
        similarities = [
            -np.sum((exact - vector) ** 2) if euclidean else np.dot(vector, exact)
            for vector in embeddings[name]
        ]
        entries[name] = [Entry(name, k, float(np.float32(s))) for k, s in enumerate(similarities)]
    if context is not None:
        people = context.people[index][: context.k2].astype(np.float64)
        slow_context(entries, embeddings, people, context.k1)

    for name, target in targets.items():
        for entry in sorted(entries[name], key=lambda entry: -entry.similarity):
            if reached(target, gallery[name].boxes[rows[name][entry.row]]):
                entry.right = True
                break
    ranking = sorted((e for name in entries for e in entries[name]), key=lambda e: -e.similarity)
    right = [rank for rank, entry in enumerate(ranking, 1) if entry.right]
    total = 0.0
    for number, rank in enumerate(right, 1):
        if published:  # all equal similarities are one threshold
            level = ranking[rank - 1].similarity
            number = sum(e.right and e.similarity >= level for e in ranking)
            rank = sum(e.similarity >= level for e in ranking)
        total += number / rank
    return SlowScore(
        average_precision=total / num_targets if num_targets else float("nan"),
        first_rank=right[0] if right else 0,
        num_targets=num_targets,
        num_found=len(right),
        ranking=ranking,
    )


@dataclass
class Case:
    protocol: SearchProtocol
    gallery: dict[str, Detections]
    queries: np.ndarray
    context: ContextMatching


def vectors(rng: np.random.Generator, count: int, tied: bool) -> np.ndarray:
    if tied:  # few values: many exact ties
        return rng.integers(-1, 2, (count, 3)).astype(np.float32)
    return rng.standard_normal((count, 3)).astype(np.float32)


def random_case(seed: int) -> Case:
    """A few pictures with a few detections around one box each; some empty, some listed twice."""
    rng = np.random.default_rng(seed)
    tied = seed % 2 == 0
    names = [f"s{k}" for k in range(rng.integers(2, 8))]
    truth, gallery = {}, {}
    for name in names:
        corner = rng.integers(-4, 20, 2)
        truth[name] = np.concatenate([corner, corner + rng.integers(4, (40, 80))])
        count = rng.integers(0, 5)
        boxes = truth[name] + rng.integers(-4, 5, (count, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = rng.choice([0.2, 0.5, 0.7, 1.0], count)
        gallery[name] = Detections(boxes, scores, vectors(rng, count, tied))
    queries, galleries, targets = [], [], []
    for _ in range(3):
        scene = str(rng.choice(names))
        listed: list[str] = [str(n) for n in rng.permutation(names) if rng.random() < 0.8]
        if rng.random() < 0.3:
            listed += listed[: rng.integers(0, 3)]
        shown = [n for n in dict.fromkeys(listed) if n != scene and rng.random() < 0.6]
        if rng.random() < 0.5:
            gallery_names: Sequence[str] = Excluding(names, frozenset(names) - set(listed))
        else:
            gallery_names = listed
        queries.append(Query(scene, truth[scene].astype(np.float32), 0))
        galleries.append(gallery_names)
        targets.append({n: truth[n].astype(np.float32) for n in shown})
    embedded = vectors(rng, 3, tied)
    people = [np.concatenate([e[None], vectors(rng, rng.integers(0, 4), False)]) for e in embedded]
    return Case(
        SearchProtocol(name="random", queries=queries, galleries=galleries, targets=targets),
        gallery,
        embedded,
        ContextMatching(people, k1=int(rng.integers(1, 6)), k2=int(rng.integers(1, 4))),
    )


def assert_same(result: SearchResult, slow: list[SlowScore], seed: int) -> None:
    counted = [score for score in slow if score.num_targets]
    precisions = [score.average_precision for score in slow]
    np.testing.assert_allclose(
        result.average_precisions, precisions, rtol=0, atol=1e-12, err_msg=f"case {seed}"
    )
    assert result.first_ranks.tolist() == [score.first_rank for score in slow], seed
    assert result.num_targets.tolist() == [score.num_targets for score in slow], seed
    assert result.num_found.tolist() == [score.num_found for score in slow], seed
    assert result.num_skipped == len(slow) - len(counted)
    assert result.mean_ap == pytest.approx(np.mean([s.average_precision for s in counted]))
    for k in TOP_K:
        assert result.top_k[k] == pytest.approx(np.mean([0 < s.first_rank <= k for s in counted]))
    if result.convention == "standard":
        recalls = [0.0, 0.3, 0.5, 1.0]
        expected = [np.mean([slow_precision(s, recall) for s in counted]) for recall in recalls]
        np.testing.assert_allclose(result.precision_at(recalls), expected)


def slow_precision(score: SlowScore, recall: float) -> float:
    """The highest precision of the first entries, however many, with at least this recall."""
    best, right = 0.0, 0
    for rank, entry in enumerate(score.ranking, 1):
        right += entry.right
        if entry.right and right / score.num_targets >= recall:
            best = max(best, right / rank)
    return best


@pytest.mark.parametrize("convention", ["standard", "seqnet"])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_slow_evaluator(convention: str, weighted: bool) -> None:
    seen = {"skipped": 0, "tied": 0, "missed": 0}
    for seed in range(400):
        case = random_case(seed)
        slow = [
            slow_score(
                case.protocol,
                index,
                case.gallery,
                query,
                published=convention == "seqnet",
                weighted=weighted,
            )
            for index, query in enumerate(case.queries)
        ]
        if not any(score.num_targets for score in slow):
            continue
        result = evaluate_search(
            case.protocol,
            case.gallery,
            case.queries,
            convention=convention,
            confidence_weighted=weighted,
            top_k=TOP_K,
            ranked=4,
        )
        assert_same(result, slow, seed)
        for hits, score in zip(result.hits, slow, strict=True):
            similarities = [hit.similarity for hit in hits]
            expected = [e.similarity for e in score.ranking[:4]]
            assert similarities == pytest.approx(expected, rel=0, abs=1e-5)
            assert [hit.scene for hit in hits] == [e.picture for e in score.ranking[:4]]
            assert [hit.correct for hit in hits] == [e.right for e in score.ranking[:4]]
            levels = [entry.similarity for entry in score.ranking]
            seen["tied"] += len(set(levels)) < len(levels)
        seen["skipped"] += result.num_skipped
        seen["missed"] += int((result.num_found < result.num_targets).sum())
    # The cases are worth something only if they hold what they are about.
    assert min(seen.values()) > 100, seen


def test_equals_the_slow_evaluator_by_euclidean_distance() -> None:
    different = 0
    for seed in range(200):
        case = random_case(seed)
        slow = [
            slow_score(case.protocol, index, case.gallery, query, euclidean=True)
            for index, query in enumerate(case.queries)
        ]
        if not any(score.num_targets for score in slow):
            continue
        settings = {"top_k": TOP_K, "ranked": 4}
        result = evaluate_search(
            case.protocol, case.gallery, case.queries, metric="euclidean", **settings
        )
        assert_same(result, slow, seed)
        for hits, score in zip(result.hits, slow, strict=True):
            expected = [-e.similarity for e in score.ranking[:4]]
            assert [-hit.similarity for hit in hits] == pytest.approx(expected, rel=1e-6)
        cosine = evaluate_search(case.protocol, case.gallery, case.queries, **settings)
        different += result.first_ranks.tolist() != cosine.first_ranks.tolist()
    assert different > 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confidence_weighted": True}, "confidence_weighted = True needs cosines"),
        ({"convention": "seqnet"}, "convention 'seqnet' needs cosines"),
        ({"context": ContextMatching([QUERY_PEOPLE])}, "context matching needs cosines"),
        ({"metric": "manhattan"}, "metric is 'manhattan', expected one of 'cosine', 'euclidean'"),
    ],
)
def test_what_only_cosines_allow(changes: dict[str, Any], message: str) -> None:
    gallery = {"a": detections((BOX, 1, (0.9, 0)))}
    with pytest.raises(EvaluationError, match=message):
        evaluate_search(
            protocol_of("a", "a"), gallery, QUERY, **({"metric": "euclidean"} | changes)
        )


@pytest.mark.parametrize("convention", ["standard", "seqnet"])
def test_context_matching_equals_trying_every_assignment(convention: str) -> None:
    changed = 0
    for seed in range(1, 400, 2):  # without ties: a tie leaves several best assignments
        case = random_case(seed)
        settings = {"published": convention == "seqnet", "context": case.context}
        slow = [
            slow_score(case.protocol, index, case.gallery, query, **settings)
            for index, query in enumerate(case.queries)
        ]
        if not any(score.num_targets for score in slow):
            continue
        plain = evaluate_search(case.protocol, case.gallery, case.queries, convention=convention)
        result = evaluate_search(
            case.protocol,
            case.gallery,
            case.queries,
            convention=convention,
            context=case.context,
            top_k=TOP_K,
        )
        assert_same(result, slow, seed)
        changed += not np.array_equal(
            plain.average_precisions, result.average_precisions, equal_nan=True
        )
    assert changed > 25


BOX = np.array([10, 10, 50, 110], np.float32)
FAR = np.array([200, 10, 240, 110], np.float32)


def detections(*rows: tuple[np.ndarray, float, Sequence[float]]) -> Detections:
    boxes, scores, embeddings = zip(*rows, strict=True)
    return Detections(np.array(boxes), np.array(scores), np.array(embeddings))


NOBODY = Detections(np.zeros((0, 4)), np.zeros(0))
QUERY = np.array([[1.0, 0.0]], np.float32)


def protocol_of(gallery: Sequence[str], *targets: str, box: np.ndarray = BOX) -> SearchProtocol:
    return SearchProtocol(
        name="small",
        queries=[Query("q", BOX, 7)],
        galleries=[gallery],
        targets=[dict.fromkeys(targets, box)],
    )


def test_average_precision_by_hand() -> None:
    # Ranking: wrong .9, right .8, wrong .7, right .6; a third target was never detected.
    gallery = {
        "a": detections((FAR, 1, (0.9, 0)), (BOX, 1, (0.8, 0))),
        "b": detections((FAR, 1, (0.7, 0)), (BOX, 1, (0.6, 0))),
        "c": NOBODY,
    }
    result = evaluate_search(protocol_of("abc", "a", "b", "c"), gallery, QUERY)
    assert result.mean_ap == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert result.top_k == {1: 0.0, 5: 1.0, 10: 1.0}
    assert (result.num_queries, result.num_skipped) == (1, 0)
    assert result.first_ranks.tolist() == [2]
    assert (result.num_targets.tolist(), result.num_found.tolist()) == ([3], [2])


def test_a_second_detection_of_the_target_is_wrong() -> None:
    gallery = {
        "a": detections((BOX, 1, (0.9, 0)), (BOX + 1, 1, (0.8, 0))),
        "b": detections((BOX, 1, (0.7, 0))),
    }
    result = evaluate_search(protocol_of("ab", "a", "b"), gallery, QUERY)
    assert result.mean_ap == pytest.approx((1 + 2 / 3) / 2)


def test_small_people_need_less_overlap() -> None:
    small = np.array([0, 0, 10, 10], np.float32)
    shifted = np.array([5, 0, 15, 10], np.float32)  # IoU 1/3, and 10 * 10 / (20 * 20) = 1/4
    gallery = {"a": detections((shifted, 1, (1, 0)))}
    assert evaluate_search(protocol_of("a", "a", box=small), gallery, QUERY).mean_ap == 1
    large = small * 10
    gallery = {"a": detections((shifted * 10, 1, (1, 0)))}
    assert evaluate_search(protocol_of("a", "a", box=large), gallery, QUERY).mean_ap == 0


def test_ties_follow_the_gallery() -> None:
    gallery = {"a": detections((FAR, 1, (1, 0))), "b": detections((BOX, 1, (1, 0)))}
    assert evaluate_search(protocol_of("ab", "b"), gallery, QUERY).mean_ap == 1 / 2
    assert evaluate_search(protocol_of("ba", "b"), gallery, QUERY).mean_ap == 1
    # The published average precision takes both at once, whatever the order.
    for order in ("ab", "ba"):
        result = evaluate_search(protocol_of(order, "b"), gallery, QUERY, convention="seqnet")
        assert result.mean_ap == 1 / 2


def test_a_picture_listed_twice() -> None:
    gallery = {"a": detections((BOX, 1, (0.9, 0))), "b": detections((FAR, 1, (0.8, 0)))}
    protocol = protocol_of("aab", "a")
    assert evaluate_search(protocol, gallery, QUERY).mean_ap == 1
    published = evaluate_search(protocol, gallery, QUERY, convention="seqnet")
    assert published.mean_ap == 1 / 2
    assert published.num_targets.tolist() == [2]


def test_published_targets_keep_their_size_when_cut() -> None:
    # A box from -30 to 10 is read as 0 to 40: the left half of the detection 0..80 is enough.
    target = np.array([-30, 0, 10, 100], np.float32)
    gallery = {"a": detections((np.array([0, 0, 40, 100]), 1, (1, 0)))}
    protocol = protocol_of("a", "a", box=target)
    assert evaluate_search(protocol, gallery, QUERY).mean_ap == 0
    assert evaluate_search(protocol, gallery, QUERY, convention="seqnet").mean_ap == 1


def test_the_querys_own_picture_is_never_searched() -> None:
    gallery = {"q": detections((BOX, 1, (1, 0))), "a": detections((BOX, 1, (0.5, 0)))}
    result = evaluate_search(protocol_of("qa", "q", "a"), gallery, QUERY, ranked=5)
    assert result.mean_ap == 1
    assert result.num_targets.tolist() == [1]
    assert [hit.scene for hit in result.hits[0]] == ["a"]
    # The published code searches it where the list names it.
    gallery["q"] = detections((FAR, 1, (1, 0)))
    assert evaluate_search(protocol_of("qa", "a"), gallery, QUERY).mean_ap == 1
    published = evaluate_search(protocol_of("qa", "a"), gallery, QUERY, convention="seqnet")
    assert published.mean_ap == 1 / 2


def test_score_threshold_keeps_what_reaches_it() -> None:
    gallery = {"a": detections((FAR, 0.3, (0.9, 0)), (BOX, 0.5, (0.8, 0)))}
    results = evaluate_search(
        protocol_of("a", "a"), gallery, QUERY, score_threshold=[0.5, 0.1, 0.51]
    )
    assert {t: r.mean_ap for t, r in results.items()} == {0.5: 1.0, 0.1: 0.5, 0.51: 0.0}
    assert results[0.1].score_threshold == 0.1


def test_confidence_weights_the_gallery_side() -> None:
    gallery = {"a": detections((FAR, 0.5, (1, 0)), (BOX, 1, (0.6, 0)))}
    assert evaluate_search(protocol_of("a", "a"), gallery, QUERY).mean_ap == 1 / 2
    weighted = evaluate_search(protocol_of("a", "a"), gallery, QUERY, confidence_weighted=True)
    assert weighted.mean_ap == 1


def test_queries_without_a_target_are_left_out_and_counted() -> None:
    gallery = {"a": detections((BOX, 1, (1, 0)))}
    protocol = SearchProtocol(
        name="two",
        queries=[Query("q", BOX, 1), Query("q", BOX, 2)],
        galleries=["a", "a"],
        targets=[{}, {"a": BOX}],
    )
    for convention in ("standard", "seqnet"):
        result = evaluate_search(protocol, gallery, np.ones((2, 2)), convention=convention)
        assert (result.num_queries, result.num_skipped, result.mean_ap) == (2, 1, 1.0)
        assert np.isnan(result.average_precisions[0])
    nobody = replace_targets(protocol, [{}, {}])
    with pytest.raises(EvaluationError, match="none of its 2 queries has a target"):
        evaluate_search(nobody, gallery, np.ones((2, 2)))


def replace_targets(
    protocol: SearchProtocol, targets: list[dict[str, np.ndarray]]
) -> SearchProtocol:
    return replace(protocol, targets=targets)


def test_nothing_detected_anywhere() -> None:
    result = evaluate_search(protocol_of("a", "a"), {"a": NOBODY}, QUERY, ranked=3)
    assert (result.mean_ap, result.top_k[10]) == (0.0, 0.0)
    assert result.hits == [[]]


def test_takes_tensors() -> None:
    gallery = {"a": Detections(torch.tensor([[10, 10, 50, 110]]), torch.ones(1), torch.ones(1, 2))}
    query = torch.ones(1, 2, requires_grad=True, dtype=torch.bfloat16)
    assert evaluate_search(protocol_of("a", "a"), gallery, query).mean_ap == 1


def test_extra_pictures_in_the_gallery_change_nothing() -> None:
    gallery = {"a": detections((BOX, 1, (0.5, 0)))}
    more = {"z": detections((BOX, 1, (1, 0))), **gallery, "y": NOBODY}
    names = Excluding(["a"], frozenset({"z", "q"}))
    assert evaluate_search(protocol_of(names, "a"), more, QUERY).mean_ap == 1


@pytest.mark.parametrize(
    ("gallery", "queries", "message"),
    [
        ({}, QUERY, "no detections for 1 of 1 scenes"),
        ({"a": detections((BOX, 1, (1, 0, 0)))}, QUERY, "of length 3, the queries' have length 2"),
        ({"a": Detections(BOX[None], [1])}, QUERY, "embeddings are missing"),
        ({"a": NOBODY}, np.ones((2, 2)), r"shape \(2, 2\), expected \(1, D\)"),
        ({"a": NOBODY}, np.ones(2), "one row a query"),
        ({"a": NOBODY}, np.full((1, 2), np.nan), "1 of 1 query embeddings hold NaN"),
    ],
)
def test_refuses_what_cannot_be_scored(
    gallery: dict[str, Detections], queries: np.ndarray, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluate_search(protocol_of("a", "a"), gallery, queries)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"convention": "coco"}, "expected 'standard' or 'seqnet'"),
        ({"top_k": (0,)}, "whole numbers from 1"),
        ({"top_k": ()}, "whole numbers from 1"),
        ({"ranked": -1}, "expected 0 or more"),
        ({"score_threshold": []}, "expected a finite number or several"),
        ({"score_threshold": float("nan")}, "expected a finite number or several"),
        ({"context": ContextMatching([])}, "expected 1"),
        ({"context": ContextMatching([np.zeros((0, 2))])}, "query itself in the first row"),
        ({"context": ContextMatching([np.eye(2)[1:]])}, "must be the query's own embedding"),
    ],
)
def test_refuses_settings_out_of_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluate_search(protocol_of("a", "a"), {"a": NOBODY}, QUERY, **settings)


def test_refuses_a_target_outside_the_gallery() -> None:
    gallery = {"a": NOBODY, "b": NOBODY}
    for names in ("a", Excluding(["a", "b"], frozenset("b"))):
        with pytest.raises(EvaluationError, match="'b' is not in the query's gallery"):
            evaluate_search(protocol_of(names, "b"), gallery, QUERY)


def test_work_is_divided_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(11)
    whole = evaluate_search(case.protocol, case.gallery, case.queries)
    monkeypatch.setattr("personsearch.evaluation.scoring._BLOCK", 1)
    monkeypatch.setattr("personsearch.evaluation.gallery._ROWS", 2)
    parts = evaluate_search(case.protocol, case.gallery, case.queries)
    np.testing.assert_array_equal(whole.average_precisions, parts.average_precisions)
