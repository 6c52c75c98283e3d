"""A model beside its bounds, on pictures whose answers are known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError, EvaluationError
from personsearch.evaluation.comparison import Comparison, compare, compare_saved
from personsearch.evaluation.files import SavedDetections, load_detections, save_detections
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.types import Detections, Query, Scene, SearchProtocol

COLORS = [(220, 30, 30), (30, 200, 40), (40, 60, 230)]


class KnowsColors(PersonSearchModel):
    """Finds the painted blocks by their colour; blind to the first one where `blind`.

    With `unsure`, the score of blocks in the last scene is low.
    """

    embedding_dim = 3

    def __init__(self, blind: bool, unsure: bool = False) -> None:
        super().__init__()
        self.blind, self.unsure = blind, unsure

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        raise AssertionError("is not trained")

    def detect(self, images: list[Tensor]) -> list[Detections]:
        found = []
        for image in images:
            boxes = []
            for color in COLORS[1:] if self.blind else COLORS:
                painted = torch.tensor(color).view(3, 1, 1) / 255.0
                rows, columns = torch.where((image - painted).abs().amax(dim=0) < 0.02)
                if len(rows):
                    boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            tensor = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
            (embeddings,) = self.embed([image], [tensor])
            scores = torch.ones(len(tensor))
            if self.unsure:
                scores[tensor[:, 1] > 12] = 0.3
            found.append(Detections(tensor, scores, embeddings))
        return found

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        embedded = []
        for image, given in zip(images, boxes, strict=True):
            means = [
                image[:, int(y1) : int(y2), int(x1) : int(x2)].mean(dim=(1, 2))
                for x1, y1, x2, y2 in given
            ]
            stacked = torch.stack(means) if means else torch.zeros(0, 3)
            embedded.append(torch.nn.functional.normalize(stacked, dim=1))
        return embedded


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Four scenes, each with the persons 0, 1, 2 painted in their own colours."""
    scenes = []
    for index in range(4):
        picture = np.full((60, 120, 3), 128, dtype=np.uint8)
        boxes = []
        for identity, color in enumerate(COLORS):
            x, y = 10 + 35 * identity, 5 + 3 * index
            picture[y : y + 40, x : x + 20] = color
            boxes.append([x, y, x + 20, y + 40])
        path = tmp_path / f"{index}.png"
        Image.fromarray(picture).save(path)
        scenes.append(
            Scene(path.name, path, (120, 60), np.array(boxes), np.arange(3), camera=index % 2)
        )
    queries = [Query("0.png", scenes[0].boxes[k], k) for k in range(3)]
    names = ["1.png", "2.png", "3.png"]
    targets = [{s.name: s.boxes[k] for s in scenes[1:]} for k in range(3)]
    protocol = SearchProtocol(name="all", queries=queries, galleries=[names] * 3, targets=targets)
    return Dataset("painted", tmp_path, {"test": scenes}, {"all": protocol})


def test_rows_and_metrics(dataset: Dataset) -> None:
    compared = compare(
        KnowsColors(blind=True),
        dataset,
        ["all"],
        score_thresholds=(0.5, 0.1),
        context=(2, 2),
        ranked=2,
    )
    assert [(r.embeddings, r.boxes) for r in compared.rows] == [
        ("model", "detected"),
        ("model", "ground truth"),
        ("HSV histogram", "ground truth"),
        ("model", "detected, with context"),
    ]
    assert [r.other is not None for r in compared.rows] == [True, False, False, False]
    # Person 0 is never detected: two of three queries are answered, and on true boxes all are.
    assert compared.row("all").search.mean_ap == pytest.approx(2 / 3)
    assert compared.row("all", boxes="ground truth").search.mean_ap == 1.0
    assert compared.row("all", "HSV histogram", "ground truth").search.mean_ap == 1.0
    assert list(compared.detection) == [0.5, 0.1]
    assert compared.detection[0.5].recall == pytest.approx(2 / 3)
    assert all(len(hits) == 2 for hits in compared.row("all").search.hits)
    assert {"detect", "HSV histograms"} <= set(compared.seconds)
    with pytest.raises(KeyError):
        compared.row("nowhere")


def saved_of(compared: Comparison) -> SavedDetections:
    return SavedDetections(
        compared.found, compared.queries, compared.confidence_weighted, compared.metric
    )


@pytest.mark.parametrize("weighted", [True, False])
def test_saved_detections_give_the_same_metrics(
    dataset: Dataset, tmp_path: Path, weighted: bool
) -> None:
    """Weighted or not, with context or without: as the model gives them, and another result."""
    model = KnowsColors(blind=True, unsure=True)
    model.confidence_weighted = weighted
    low: dict[str, Any] = {"score_thresholds": (0.1,)}
    direct = compare(model, dataset, ["all"], bounds=False, context=(2, 2), **low)
    save_detections(tmp_path / "d.npz", saved_of(direct))
    saved = compare_saved(
        load_detections(tmp_path / "d.npz"), dataset, ["all"], context=(2, 2), **low
    )
    assert [(row.boxes, row.confidence_weighted) for row in saved.rows] == [
        ("detected", weighted),
        ("detected, with context", weighted),
    ]
    for ours, theirs in zip(direct.rows, saved.rows, strict=True):
        assert ours.boxes == theirs.boxes
        np.testing.assert_array_equal(
            ours.search.average_precisions, theirs.search.average_precisions
        )
    assert saved.detection[0.1].average_precision == direct.detection[0.1].average_precision
    other = compare(model, dataset, ["all"], bounds=False, confidence_weighted=not weighted, **low)
    assert (other.row("all").search.mean_ap < direct.row("all").search.mean_ap) is not weighted
    # Either run has both.
    for one, two in ((other.rows[0], direct.rows[0]), (direct.rows[0], other.rows[0])):
        assert one.other is not None
        assert one.other.mean_ap == two.search.mean_ap


class FarColors(KnowsColors):
    """The first person's embedding points where the second's does, and is much longer."""

    metric = "euclidean"

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        units = super().embed(images, boxes)
        first, second = (torch.tensor(c) / torch.tensor(c).float().norm() for c in COLORS[:2])
        return [
            torch.where(((u - first).norm(dim=1) < 0.05)[:, None], 9 * second, u) for u in units
        ]


def test_the_metric_of_the_model_ranks(dataset: Dataset, tmp_path: Path) -> None:
    model = FarColors(blind=False)
    direct = compare(model, dataset, ["all"])
    # By their cosines the two people would be one.
    assert [row.search.mean_ap for row in direct.rows] == [1.0, 1.0, 1.0]
    save_detections(tmp_path / "d.npz", saved_of(direct))
    saved = load_detections(tmp_path / "d.npz")
    assert compare_saved(saved, dataset, ["all"]).rows[0].search.mean_ap == 1.0
    assert (
        compare_saved(replace(saved, metric="cosine"), dataset, ["all"]).rows[0].search.mean_ap < 1
    )
    with pytest.raises(EvaluationError, match="context matching needs cosines"):
        compare(model, dataset, ["all"], context=(2, 2))


def test_saved_detections_that_do_not_fit(dataset: Dataset) -> None:
    direct = saved_of(compare(KnowsColors(blind=False), dataset, ["all"], bounds=False))
    with pytest.raises(EvaluationError, match="no query embeddings for protocol 'all'"):
        compare_saved(replace(direct, queries={}), dataset, ["all"])
    strangers = {"stranger.png": direct.found["0.png"], **direct.found}
    with pytest.raises(EvaluationError, match=r"'stranger\.png'"):
        compare_saved(replace(direct, found=strangers), dataset, ["all"])
    alone = {name: found for name, found in direct.found.items() if name != "0.png"}
    with pytest.raises(EvaluationError, match=r"no detections for query scene '0\.png'; context"):
        compare_saved(replace(direct, found=alone), dataset, ["all"], context=(2, 2))


def test_unknown_protocol_lists_the_known(dataset: Dataset) -> None:
    with pytest.raises(DataError, match=r"no protocol 'nowhere'.*'all'"):
        compare(KnowsColors(blind=False), dataset, ["nowhere"])
