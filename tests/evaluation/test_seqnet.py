"""SeqNet's arithmetic: single precision products, and target boxes as that code reads them."""

import numpy as np
import pytest

from personsearch.evaluation import evaluate_search
from personsearch.evaluation.seqnet import published_targets
from personsearch.types import Detections, Query, SearchProtocol


def test_near_ties_are_decided_as_in_single_precision() -> None:
    """Similarities a rounding apart: the published order is that of each picture's product."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal(256)
    base /= np.linalg.norm(base)
    names = [f"s{k}" for k in range(60)]
    differences = 0
    for _ in range(20):
        query = base.astype(np.float32)
        gallery = {}
        for name in names:
            # Orthogonal noise changes every product by rounding alone.
            noise = rng.standard_normal((3, 256))
            noise -= np.outer(noise @ base, base)
            embeddings = (base + 0.1 * noise / np.linalg.norm(noise, axis=1, keepdims=True)) * 0.99
            boxes = np.array([[0, 0, 40, 80], [100, 0, 140, 80], [200, 0, 240, 80]])
            gallery[name] = Detections(boxes, np.ones(3), embeddings)
        box = np.array([0, 0, 40, 80], np.float32)
        protocol = SearchProtocol(
            name="near",
            queries=[Query("elsewhere", box, 0)],
            galleries=[names],
            targets=[dict.fromkeys(names[::3], box)],
        )
        result = evaluate_search(protocol, gallery, query[None], convention="seqnet")
        products = [gallery[name].embeddings.dot(query) for name in names]
        right = sorted(products[k][0] for k in range(0, 60, 3))
        everyone = np.concatenate(products)
        expected = np.mean([sum(r >= v for r in right) / (everyone >= v).sum() for v in right])
        assert result.average_precisions[0] == pytest.approx(expected, abs=1e-12)
        standard = evaluate_search(protocol, gallery, query[None])
        differences += abs(standard.mean_ap - expected) > 1e-6
    assert differences > 10


def test_target_boxes_move_into_the_picture_and_keep_their_size() -> None:
    boxes = np.array([[-30, 0, 10, 100], [5, -2, 25, 8], [1, 2, 3, 4]], np.float32)
    expected = [[0, 0, 40, 100], [5, 0, 25, 10], [1, 2, 3, 4]]
    assert published_targets(boxes).tolist() == expected
