"""Context bipartite graph matching: the people around the query help to find it again.

Li and Miao, "Sequential End-to-end Network for Efficient Person Search" (SeqNet), AAAI 2021,
section 3.4. The people around the query and the people in a gallery picture are assigned to each
other; the detection that the query is assigned to gets the similarity of the best pair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from personsearch import boxes as box_math
from personsearch.errors import EvaluationError
from personsearch.types import Detections, FloatArray, SearchProtocol


@dataclass(frozen=True, eq=False)
class ContextMatching:
    """Settings of context bipartite graph matching, and the people beside each query.

    The paper's settings are k1 = 10, k2 = 3 for CUHK-SYSU and k1 = 30, k2 = 4 for PRW.
    `people` are the embeddings (M, D) of those in each query's picture, the query first, then the
    others by descending score (see `query_context`).
    """

    people: Sequence[FloatArray]
    k1: int = 30  # most similar detections whose pictures are matched again, at least 1
    k2: int = 4  # people to match, the query included, at least 1

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1:
            raise EvaluationError(f"k1 is {self.k1} and k2 is {self.k2}, expected at least 1")

    def check(self, queries: FloatArray) -> None:
        """Raise `EvaluationError` unless `people` fits the queries (Q, D)."""
        if len(self.people) != len(queries):
            raise EvaluationError(
                f"context of {len(self.people)} queries given, expected {len(queries)}"
            )
        for index, (people, query) in enumerate(zip(self.people, queries, strict=True)):
            if people.ndim != 2 or people.shape[1] != len(query) or not len(people):
                raise EvaluationError(
                    f"context of query {index} has shape {people.shape}, "
                    f"expected (M, {len(query)}) with the query itself in the first row"
                )
            if not np.isfinite(people).all():
                raise EvaluationError(f"context of query {index} holds NaN or infinity")
            if not np.allclose(people[0], query, rtol=0, atol=1e-2):
                raise EvaluationError(
                    f"context of query {index}: the first row must be the query's own embedding"
                )


def query_context(
    protocol: SearchProtocol,
    query_embeddings: FloatArray,
    detections: Mapping[str, Detections],
    *,
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
) -> list[FloatArray]:
    """Return the people beside each query, from the detections in the queries' pictures.

    Args:
        protocol: Q queries.
        query_embeddings: (Q, D).
        detections: by scene name, with embeddings (N, D).
        score_threshold: lowest score of a detection.
        iou_threshold: a detection that overlaps the query's box more is the query itself.

    Returns:
        Embeddings (M, D) per query, the query first, then the others by descending score.

    Raises:
        EvaluationError: a query's scene has no entry in `detections`.
    """
    context = []
    for query, embedding in zip(protocol.queries, np.asarray(query_embeddings), strict=True):
        if query.scene not in detections:
            raise EvaluationError(
                f"no detections for query scene {query.scene!r}; context matching needs the people "
                "in every query's picture"
            )
        found = detections[query.scene]
        others = found.scores >= score_threshold
        others &= box_math.iou(found.boxes, query.box[None])[:, 0] <= iou_threshold
        rows = np.flatnonzero(others)
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        # Empty detections may have embeddings of length 0.
        beside = [found.embeddings[rows]] if len(rows) else []
        context.append(np.concatenate([embedding[None], *beside]))
    return context


def match_context(products: FloatArray) -> tuple[int, float] | None:
    """Assign the people around a query to the people of a gallery picture.

    Given similarities (M, N) with the query in row 0, return the detection that the query is
    assigned to and the largest similarity of all assigned pairs; None where the query has no pair.
    """
    rows, columns = linear_sum_assignment(products.astype(np.float64), maximize=True)
    own = np.flatnonzero(rows == 0)
    if not len(own):
        return None
    return int(columns[own[0]]), float(products[rows, columns].max())
