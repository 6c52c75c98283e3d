"""What colour alone finds, the floor that every learned figure has to beat."""

from pathlib import Path

from personsearch.bench.data import NOT_DRAWN, Source, opened
from personsearch.bench.files import read_json, write_json
from personsearch.bench.measure import usual_protocol
from personsearch.classical.hsv_histogram import extract
from personsearch.datasets.dataset import Dataset
from personsearch.evaluation.runner import embed_queries, ground_truth_detections
from personsearch.evaluation.search import evaluate_search
from personsearch.systems.crop_embedders import ExtractorEmbedder
from personsearch.systems.two_step import TwoStep


def floor(source: Source, runs: Path) -> dict[str, float]:
    """The floor of a data set, computed once and kept below the folder of runs.

    Returns:
        ``mean_ap`` and ``top_1`` of the usual protocol, 0..1; empty for one that is not drawn.
    """
    if source.fingerprint == NOT_DRAWN:
        return {}
    file = runs / "floors" / f"{source.fingerprint}.json"
    known = read_json(file)
    if known is None:
        known = hsv_floor(opened(source.folder))
        write_json(file, known)
    return {name: float(value) for name, value in known.items()}


def hsv_floor(dataset: Dataset) -> dict[str, float]:
    """``mean_ap`` and ``top_1`` of a colour histogram on true boxes, usual protocol.

    Raises:
        DataError: no test split, or no protocol with queries.
    """
    model = TwoStep(None, ExtractorEmbedder(extract))
    usual = usual_protocol(dataset)
    truth = ground_truth_detections(model, dataset.split("test"))
    queries = embed_queries(model, usual, dataset.split("test"))
    result = evaluate_search(usual, truth, queries)
    return {"mean_ap": float(result.mean_ap), "top_1": float(result.top_k[1])}
