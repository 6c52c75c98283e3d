"""One evaluator for every system: detection and search metrics that can be compared."""

from personsearch.evaluation.context_matching import ContextMatching, query_context
from personsearch.evaluation.detection import DetectionResult, SceneCounts, evaluate_detection
from personsearch.evaluation.scoring import RankedHit
from personsearch.evaluation.search import SearchResult, evaluate_search

__all__ = [
    "ContextMatching",
    "DetectionResult",
    "RankedHit",
    "SceneCounts",
    "SearchResult",
    "evaluate_detection",
    "evaluate_search",
    "query_context",
]
