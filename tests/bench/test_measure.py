"""Every figure of a model that knows the answers, and of one that knows half of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from personsearch.bench.measure import (
    CURVE,
    identity_accuracy,
    measure,
    same_camera,
    threshold_at,
    threshold_of,
    without_detection,
)
from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError, ModelError
from personsearch.evaluation.detection import evaluate_detection
from personsearch.evaluation.runner import embed_scenes
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.systems.pairing import PairingLosses, PairingSettings
from personsearch.types import Detections


class KnowsColors(PersonSearchModel):
    """Finds the painted people, the left one with score 0.9, the right one with 0.6."""

    embedding_dim = 3
    confidence_weighted = False

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        raise AssertionError("is not trained")

    def detect(self, images: list[Tensor]) -> list[Detections]:
        boxes = torch.tensor([[8.0, 12, 24, 52], [54, 12, 70, 52]])
        vectors = self.embed(images, [boxes] * len(images))
        return [Detections(boxes, torch.tensor([0.9, 0.6]), v) for v in vectors]

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        embedded = []
        for image, given in zip(images, boxes, strict=True):
            cut = [image[:, int(b[1]) : int(b[3]), int(b[0]) : int(b[2])] for b in given]
            means = torch.stack([part.mean(dim=(1, 2)) for part in cut]) - 0.4
            embedded.append(torch.nn.functional.normalize(means, dim=1))
        return embedded


def test_a_model_that_knows_everyone_finds_everyone(drawn: Dataset) -> None:
    steps: list[str] = []
    figures = measure(KnowsColors(), drawn, progress=lambda step, *_: steps.append(step))
    for name in ("mean_ap", "top_1", "mean_ap@truth", "mean_ap@same-camera"):
        assert figures[name] == 1.0, name
    assert figures["detection_ap"] == figures["detection_recall"] == 1.0
    assert figures["parameters"] == 0
    assert figures["search_images_per_second"] > 0
    assert set(steps) == {"search", "ground truth"}


def test_at_half_the_recall_half_is_found(drawn: Dataset) -> None:
    figures = measure(KnowsColors(), drawn, score_threshold=0.7)
    assert figures["detection_recall"] == 0.5
    assert figures["mean_ap"] < 1.0
    # Every left box is kept at a recall of 50 %, and everyone from 60 % on.
    assert figures["mean_ap@recall-50"] == figures["mean_ap"]
    assert figures["mean_ap@recall-60"] == 1.0
    assert figures["mean_ap@truth"] == 1.0


@pytest.mark.parametrize("weighted", [True, False])
def test_both_weightings_are_of_the_same_detections(drawn: Dataset, weighted: bool) -> None:
    class Unsure(KnowsColors):
        """Half as sure of a person as of the grey that it takes for the other one."""

        def detect(self, images: list[Tensor]) -> list[Detections]:
            return [
                Detections(
                    np.concatenate([one.boxes, one.boxes + np.float32(20)]),
                    np.array([0.4, 0.4, 0.9, 0.9]),
                    np.concatenate([one.embeddings, 0.9 * one.embeddings]),
                )
                for one in super().detect(images)
            ]

    model = Unsure()
    model.confidence_weighted = weighted
    figures = measure(model, drawn, score_threshold=0.3)
    assert figures["score_threshold"] == 0.3
    for name in ("mean_ap", "top_1", "mean_ap@same-camera"):
        assert figures[f"{name}@plain"] == 1.0, name
        assert figures[f"{name}@weighted"] < 1.0, name
        assert figures[name] == figures[f"{name}@{'weighted' if weighted else 'plain'}"]


def test_curves_of_precision(drawn: Dataset) -> None:
    every = measure(KnowsColors(), drawn)
    half = measure(KnowsColors(), drawn, score_threshold=0.7)
    for percent in CURVE:
        assert every[f"precision_{percent}"] == 1.0
        # That of detection is of all detections, whatever their score.
        assert every[f"detection_precision_{percent}"] == 1.0
        assert half[f"detection_precision_{percent}"] == 1.0
    falling = [half[f"precision_{percent}"] for percent in CURVE]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 1.0


def test_people_are_classified_by_the_classes_of_the_identity_loss(drawn: Dataset) -> None:
    scenes = drawn.split("train")
    model = KnowsColors()
    with pytest.raises(ModelError, match="KnowsColors has no classes of identities"):
        identity_accuracy(model, scenes)
    ids = {int(i) for scene in scenes for i in scene.ids if i >= 0}
    model.reid = PairingLosses(max(ids) + 1, 3, PairingSettings(identity_loss="c2hep"))
    assert identity_accuracy(model, scenes)["identity_accuracy"] <= 1 / len(ids)
    for scene, vectors in zip(
        scenes, embed_scenes(model, scenes, [s.boxes for s in scenes]), strict=True
    ):
        model.reid.update_memory(torch.from_numpy(vectors), torch.from_numpy(scene.ids))
    assert identity_accuracy(model, scenes) == {"identity_accuracy": 1.0}


def test_the_threshold_of_a_recall(drawn: Dataset) -> None:
    scenes = drawn.split("test")
    model = KnowsColors()
    picture = torch.rand(3, 64, 96)
    found = {scene.name: model.detect([picture])[0] for scene in scenes}
    every = evaluate_detection(scenes, found, score_threshold=0.0)
    assert threshold_at(every, 0.5) == pytest.approx(0.9)
    assert threshold_at(every, 0.51) == pytest.approx(0.6)
    nobody = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 3)))
    none = evaluate_detection(scenes, {s.name: nobody for s in scenes}, score_threshold=0.0)
    assert threshold_at(none, 0.5) is None


def test_the_same_camera_is_searched_without_the_querys_own_scene(drawn: Dataset) -> None:
    usual, scenes = drawn.protocols["cross-camera"], drawn.split("test")
    made = same_camera(usual, scenes)
    assert made is not None
    cameras = {scene.name: scene.camera for scene in scenes}
    for query, gallery in zip(made.queries, made.galleries, strict=True):
        assert query.scene not in gallery
        assert {cameras[name] for name in gallery} == {query.camera}
    from dataclasses import replace

    assert same_camera(usual, [replace(scene, camera=None) for scene in scenes]) is None


def test_whole_pictures_are_right_when_they_show_the_person(drawn: Dataset) -> None:
    figures = without_detection(KnowsColors(), drawn)
    assert set(figures) == {f"{name}@without-detection" for name in KEYS}
    # Both people of a picture are in its mean colour, and others' pictures are like it, too.
    assert 0.0 < figures["mean_ap@without-detection"] < 1.0


KEYS = ("mean_ap", "top_1", "top_5", "top_10")


def test_without_queries_nothing_is_measured(drawn: Dataset) -> None:
    empty = Dataset("empty", drawn.root, drawn.splits)
    with pytest.raises(DataError, match="no search protocol with queries"):
        measure(KnowsColors(), empty)


def test_search_at_an_average_number_of_boxes(drawn: Dataset) -> None:
    """Thresholds over all pictures, not the same number in each."""
    found = [
        Detections(
            torch.zeros(n, 4) + torch.tensor([0, 0, 9, 9]), torch.tensor(s), torch.ones(n, 1)
        )
        for n, s in ((3, [0.9, 0.8, 0.7]), (1, [0.2]))
    ]
    assert threshold_of(found, 1) == pytest.approx(0.8)
    assert threshold_of(found, 3) == pytest.approx(0.2)
    assert threshold_of([Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 1)))], 3) == 0.0
    # Two people are found in each picture; both thresholds keep them all.
    figures = measure(KnowsColors(), drawn)
    assert figures["mean_ap@boxes-3"] == figures["mean_ap@boxes-5"] == 1.0
    assert figures["mean_ap@boxes-best"] == figures["top_1@boxes-best"] == 1.0


def test_galleries_on_true_boxes(drawn: Dataset) -> None:
    usual = next(iter(drawn.protocols.values()))
    gallery = replace(usual, name="gallery-2")
    figures = measure(KnowsColors(), replace(drawn, protocols={"all": usual, "gallery-2": gallery}))
    assert figures["mean_ap@gallery-2@truth"] == figures["mean_ap@truth"] == 1.0
