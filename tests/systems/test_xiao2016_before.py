"""Networks of Xiao 2016 of version 0.1 detect and embed by the formulas that they had."""

from typing import Any

import pytest
import torch
from drawn import REGIONS, build, scenes
from torch.nn import functional

from personsearch.errors import ModelError, RecipeError
from personsearch.systems.xiao2016_before import Xiao2016Before
from personsearch.training.recipe import make_recipe
from personsearch.training.renamed_keys import current_keys

SETTINGS: dict[str, Any] = REGIONS | {"embedding_dim": 16, "score_threshold": 0.0, "nms_iou": 1.0}
OF_0_1: dict[str, Any] = {
    "system": "xiao2016",
    "iterations": 1,
    "lr": 0.1,
    "backbone": "small",
    "hidden": 0,
    "fc_weights": "none",
    "crop_loss": "own",
    "detection_score": "classifier",
    "identity_scale": 16.0,
    "identity_loss": "rss",
    "rss_sampled": 50,
    "identity_weight": 1.0,
    "reid_min_iou": 0.6,
    "classifier_jitter": 0.08,
}


@pytest.mark.parametrize("scale", [0.0, 8.0])
@pytest.mark.parametrize("kind", ["proposal", "identity", "classifier"])
def test_scores_and_unit_embeddings(kind: str, scale: float) -> None:
    model = build(
        Xiao2016Before, SETTINGS | {"detection_score": kind, "identity_scale": scale}
    ).eval()
    assert model.metric == "cosine"
    images = [torch.rand(3, 96, 128)]
    maps = model.extract_features(images)
    proposals = model.propose(maps)
    features = model.roi_features(maps, proposals.boxes)
    fc8 = model.fc8(functional.adaptive_avg_pool2d(features.deep, 1).flatten(1))
    scores = model.classifier(fc8)
    if scale:
        assert model.classifier.bias is None
        directions = functional.normalize(model.classifier.weight, dim=1)
        scores = scale * functional.normalize(fc8, dim=1) @ directions.T
    expected = {
        "proposal": proposals.scores[0],
        "identity": 1 - scores.softmax(dim=1)[:, 4],
        "classifier": model.predict(features)[0].softmax(dim=1)[:, 1],
    }[kind]
    (found,) = model.detect(images)
    torch.testing.assert_close(
        torch.tensor(found.scores), expected.sort(descending=True).values.detach()
    )
    rows = functional.normalize(fc8, dim=1)[expected.argsort(descending=True)]
    torch.testing.assert_close(torch.tensor(found.embeddings), rows.detach())


def test_it_is_not_trained() -> None:
    with pytest.raises(ModelError, match=r"of version 0\.1 is not trained any more"):
        build(Xiao2016Before, SETTINGS)(*scenes())


def test_trained_recipes_of_0_1_get_its_name() -> None:
    values = current_keys(OF_0_1, trained=True)
    assert values["system"] == "xiao2016-0.1"
    recipe = make_recipe(values)
    assert isinstance(recipe.build(3), Xiao2016Before)
    assert recipe.settings["roi_aligned"] is True


def test_recipes_of_0_1_are_not_trained_again() -> None:
    with pytest.raises(RecipeError, match=r"is of xiao2016 of version 0\.1, which is another"):
        current_keys(OF_0_1)
