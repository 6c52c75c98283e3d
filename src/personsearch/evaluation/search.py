"""Mean average precision and top-k of person search.

For each query the detections of its gallery are ranked by similarity. In a picture that shows the
person, the highest ranked detection that overlaps the person enough is right; all others are
wrong. docs/protocols.md has every rule and what differs between published codes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from personsearch.errors import EvaluationError
from personsearch.evaluation.context_matching import ContextMatching
from personsearch.evaluation.detection import at_thresholds
from personsearch.evaluation.gallery import METRICS, Metric, PackedGallery
from personsearch.evaluation.ranking import interpolated_precision
from personsearch.evaluation.scoring import QueryScore, RankedHit, Scoring
from personsearch.types import Detections, FloatArray, IntArray, SearchProtocol


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Search metrics of Q queries, in the protocol's order.

    Under ``"seqnet"`` a picture counts in `num_targets` as often as it is listed.
    """

    protocol: str
    convention: str
    score_threshold: float
    mean_ap: float  # mean of `average_precisions` over the queries that have a target
    top_k: dict[int, float]  # by k: share of those queries with a right answer among the first k
    num_queries: int
    num_skipped: int  # queries without a target; they count nowhere
    average_precisions: NDArray[np.float64]  # (Q,) NaN where skipped
    first_ranks: IntArray  # (Q,) rank from 1 of the first right answer, 0 where there is none
    num_targets: IntArray  # (Q,) gallery pictures that show the person
    num_found: IntArray  # (Q,) those of them with a right detection
    ranks: Sequence[IntArray]  # of each query's right answers, from 1, ascending
    hits: Sequence[Sequence[RankedHit]]  # the first `ranked` detections of each query

    def precision_at(self, recalls: Sequence[float]) -> NDArray[np.float64]:
        """Return the precision (R,) at each recall, the mean over the queries with a target.

        The precision of a query is interpolated: the highest with at least that recall.
        """
        curves = [
            interpolated_precision(ranks, count, recalls)
            for ranks, count in zip(self.ranks, self.num_targets.tolist(), strict=True)
            if count
        ]
        mean: NDArray[np.float64] = np.mean(curves, axis=0)
        return mean


@overload
def evaluate_search(
    protocol: SearchProtocol,
    gallery: Mapping[str, Detections],
    query_embeddings: ArrayLike | torch.Tensor,
    *,
    score_threshold: float = 0.5,
    convention: str = "standard",
    confidence_weighted: bool = False,
    metric: str | Metric = "cosine",
    top_k: Sequence[int] = (1, 5, 10),
    context: ContextMatching | None = None,
    ranked: int = 0,
) -> SearchResult: ...


@overload
def evaluate_search(
    protocol: SearchProtocol,
    gallery: Mapping[str, Detections],
    query_embeddings: ArrayLike | torch.Tensor,
    *,
    score_threshold: Sequence[float],
    convention: str = "standard",
    confidence_weighted: bool = False,
    metric: str | Metric = "cosine",
    top_k: Sequence[int] = (1, 5, 10),
    context: ContextMatching | None = None,
    ranked: int = 0,
) -> dict[float, SearchResult]: ...


def evaluate_search(
    protocol: SearchProtocol,
    gallery: Mapping[str, Detections],
    query_embeddings: ArrayLike | torch.Tensor,
    *,
    score_threshold: float | Sequence[float] = 0.5,
    convention: str = "standard",
    confidence_weighted: bool = False,
    metric: str | Metric = "cosine",
    top_k: Sequence[int] = (1, 5, 10),
    context: ContextMatching | None = None,
    ranked: int = 0,
) -> SearchResult | dict[float, SearchResult]:
    """Compute mean average precision and top-k under a search protocol.

    Args:
        protocol: queries, galleries and targets.
        gallery: detections with embeddings (N, D) by scene name, empty where nobody was found. It
            may hold more scenes than the protocol asks for.
        query_embeddings: (Q, D) of the queries' annotated boxes.
        score_threshold: lowest score of a detection; several thresholds give results by threshold.
        convention: ``"standard"``, or ``"seqnet"`` to reproduce the metrics of that code.
        confidence_weighted: multiply each similarity by the detection's score.
        metric: ``"cosine"``, of embeddings of unit length, ``"euclidean"``, or a `Metric`. Only
            cosines can be weighted, matched with context, or ranked as ``"seqnet"`` ranks.
        top_k: values of k to report.
        context: also match the people around each query (see `query_context`).
        ranked: number of detections of each ranking to return in `SearchResult.hits`.

    Raises:
        EvaluationError: embeddings of another shape or number, or with NaN; a gallery scene
            without an entry in `gallery`; a target outside its gallery; no query with a target;
            a setting out of range.
    """
    if convention not in ("standard", "seqnet"):
        raise EvaluationError(f"convention is {convention!r}, expected 'standard' or 'seqnet'")
    if not top_k or any(int(k) != k or k < 1 for k in top_k):
        raise EvaluationError(f"top_k is {top_k!r}, expected whole numbers from 1")
    if ranked < 0:
        raise EvaluationError(f"ranked is {ranked}, expected 0 or more")
    if convention == "seqnet" and (protocol.ignored or protocol.average_precision != "step"):
        raise EvaluationError(
            f"protocol {protocol.name!r} ignores people or has a trapezoidal average precision, "
            "which the published code of convention 'seqnet' does not know; use 'standard'"
        )
    if isinstance(metric, str):
        if metric not in METRICS:
            known = ", ".join(map(repr, METRICS))
            raise EvaluationError(f"metric is {metric!r}, expected one of {known}")
        metric = METRICS[metric]
    if metric is not METRICS["cosine"]:
        _check_plain(convention, confidence_weighted, context)
    queries = _as_queries(query_embeddings, protocol)
    if context is not None:
        context.check(queries)
    ks = sorted({int(k) for k in top_k})

    def evaluate(threshold: float) -> SearchResult:
        packed = PackedGallery(gallery, threshold, queries.shape[1])
        scoring = Scoring(
            protocol,
            packed,
            queries,
            convention == "seqnet",
            confidence_weighted,
            context,
            ranked,
            metric,
        )
        return _summary(protocol, convention, threshold, ks, list(scoring.scores()))

    return at_thresholds(score_threshold, evaluate)


def _check_plain(
    convention: str, confidence_weighted: bool, context: ContextMatching | None
) -> None:
    """Raise `EvaluationError` on a setting that only cosines allow."""
    for setting, given in (
        ("confidence_weighted = True", confidence_weighted),
        ("context matching", context is not None),
        ("convention 'seqnet'", convention == "seqnet"),
    ):
        if given:
            raise EvaluationError(
                f"{setting} needs cosines, the metric of these embeddings is another; search "
                "without it, or with embeddings of unit length and metric 'cosine'"
            )


def _as_queries(embeddings: ArrayLike | torch.Tensor, protocol: SearchProtocol) -> FloatArray:
    if isinstance(embeddings, torch.Tensor):
        embeddings = embeddings.detach().cpu().float().numpy()
    queries = np.asarray(embeddings, dtype=np.float32)
    expected = len(protocol.queries)
    if not expected:
        raise EvaluationError(f"protocol {protocol.name!r} has no queries")
    if queries.ndim != 2 or len(queries) != expected or not queries.shape[1]:
        raise EvaluationError(
            f"query embeddings have shape {queries.shape}, expected ({expected}, D): "
            f"one row a query of protocol {protocol.name!r}"
        )
    invalid = np.flatnonzero(~np.isfinite(queries).all(axis=1))
    if len(invalid):
        raise EvaluationError(
            f"{len(invalid)} of {expected} query embeddings hold NaN or infinity, the first is row "
            f"{invalid[0]}; the network has diverged"
        )
    return queries


def _summary(
    protocol: SearchProtocol,
    convention: str,
    score_threshold: float,
    top_k: Sequence[int],
    scores: Sequence[QueryScore],
) -> SearchResult:
    average_precisions, *counts, ranks, hits = zip(*scores, strict=True)
    precisions = np.array(average_precisions, dtype=np.float64)
    first, num_targets, num_found = np.array(counts, dtype=np.int64)
    counted = num_targets > 0
    if not counted.any():
        raise EvaluationError(
            f"protocol {protocol.name!r}: none of its {len(scores)} queries has a target in its "
            "gallery, so there is nothing to average"
        )
    hit = first[counted] > 0
    return SearchResult(
        protocol=protocol.name,
        convention=convention,
        score_threshold=score_threshold,
        mean_ap=float(precisions[counted].mean()),
        top_k={k: float((hit & (first[counted] <= k)).mean()) for k in top_k},
        num_queries=len(scores),
        num_skipped=int((~counted).sum()),
        average_precisions=precisions,
        first_ranks=first,
        num_targets=num_targets,
        num_found=num_found,
        ranks=list(ranks),
        hits=list(hits),
    )
