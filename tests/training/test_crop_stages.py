"""The stages on people packed onto canvases."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from staged import assert_same, crop_stage, draw_scenes, rates
from torch import Tensor

from personsearch.errors import RecipeError
from personsearch.training.checkpoint import optimizer_tensors, restore_optimizer
from personsearch.training.training_set import Batch
from personsearch.types import Scene


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    return draw_scenes(tmp_path_factory.mktemp("pictures"))


def test_the_first_stage_falls_to_a_tenth(scenes: list[Scene]) -> None:
    stage = crop_stage(scenes, crop_iterations=40, crop_lr=2.0)
    got = rates(stage)
    assert got[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert got[4] == pytest.approx(2.0)
    assert got[22] == pytest.approx(2.0 * 0.55)
    assert got[-1] == pytest.approx(2.0 * (0.1 + 0.45 * (1 + math.cos(math.pi * 35 / 36))))
    assert all(b < a for a, b in itertools.pairwise(got[4:]))


def test_a_short_first_stage_needs_no_warm_up(scenes: list[Scene]) -> None:
    assert rates(crop_stage(scenes, crop_iterations=3))[0] == pytest.approx(1.0)


def test_canvases_go_on_where_they_stopped_and_processes_share_them(
    scenes: list[Scene],
) -> None:
    stage = crop_stage(scenes, erase=0.5, color_jitter=0.3)
    whole = list(stage.batches(0, 0, 1))
    assert len(whole) == 6
    for a, b in zip(whole[4:], stage.batches(4, 0, 1), strict=True):
        assert_same(a, b)
    shares = [list(stage.batches(0, rank, 2)) for rank in (0, 1)]
    for joined, a, b in zip(whole, *shares, strict=True):
        assert_same(joined, Batch(a.images + b.images, a.targets + b.targets, a.names + b.names))
    with pytest.raises(RecipeError, match=r"multiple of 7 .*change canvases_per_iteration"):
        next(stage.batches(0, 0, 7))


def test_a_canvas_has_the_usual_size_and_shows_labelled_people(scenes: list[Scene]) -> None:
    large = Scene("large", scenes[0].path, (96, 640), scenes[0].boxes, scenes[0].ids)
    batch = next(crop_stage([*scenes, large], crops_per_canvas=3).batches(0, 0, 1))
    assert len(batch.images) == 2
    for image, target in zip(batch.images, batch.targets, strict=True):
        assert image.shape == (3, 64, 96)
        assert 1 <= len(target.boxes) <= 3
        assert set(target.ids.tolist()) <= {0, 1, 2}


def test_a_person_wider_than_a_canvas_is_shrunk_to_fit(scenes: list[Scene]) -> None:
    boxes = np.array([[0, 20, 96, 40]], np.float32)
    wide = [Scene(s.name, s.path, s.size, boxes, s.ids[:1]) for s in scenes]
    for batch in crop_stage(wide).batches(0, 0, 1):
        assert all(len(target.boxes) for target in batch.targets)


@pytest.mark.parametrize("detection", [False, True])
def test_the_first_stage_has_a_classifier_of_its_own(scenes: list[Scene], detection: bool) -> None:
    stage = crop_stage(scenes, crop_detection=detection)
    model = stage.recipe.build(3)
    before = torch.get_rng_state()
    stage.prepare(model, torch.device("cpu"), Path())
    assert torch.equal(torch.get_rng_state(), before)
    assert stage.module is not None
    parameters = stage.parameters(model)
    assert {id(p) for p in stage.module.parameters()} <= {id(p) for p in parameters}
    assert len(parameters) == len(list(model.parameters())) + 1
    batch = next(stage.batches(0, 0, 1)).to(torch.device("cpu"))
    losses = stage.losses(model, batch.images, batch)
    found = {"rpn_objectness", "rpn_box", "detection", "box"} if detection else set()
    assert losses.keys() == found | {"softmax"}
    sum(losses.values()).backward()
    for part in (stage.module, model.head, model.stem):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert not model.oim.lookup.values.any()


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_true_boxes_move_within_bounds(
    scenes: list[Scene], jitter: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = crop_stage(scenes, crop_jitter=jitter)
    model = stage.recipe.build(3)
    stage.prepare(model, torch.device("cpu"), Path())
    batch = next(stage.batches(0, 0, 1)).to(torch.device("cpu"))
    embedded: list[list[Tensor]] = []
    embed = model.embed_regions
    monkeypatch.setattr(
        model, "embed_regions", lambda maps, boxes: (embedded.append(boxes), embed(maps, boxes))[1]
    )
    stage.losses(model, batch.images, batch)
    true, _ = model.scale(model.extract_features(batch.images), batch.targets)
    for moved, boxes in zip(embedded[0], true, strict=True):
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        share = ((moved - boxes) / sides).abs()
        assert share.max() <= jitter + 1e-5
        assert bool(share.max() > 0.05) is (jitter > 0)


def test_the_classifier_is_kept_in_the_checkpoints_of_its_stage(scenes: list[Scene]) -> None:
    """An interrupted run goes on with the classifier that it had."""
    stage = crop_stage(scenes)
    model = stage.recipe.build(3)
    stage.prepare(model, torch.device("cpu"), Path())
    assert stage.module is not None
    optimizer = stage.make_optimizer(stage.parameters(model))
    with torch.no_grad():
        stage.module.weight.add_(1.0)
    saved = optimizer_tensors(optimizer, stage.module)
    again = crop_stage(scenes)
    again.prepare(model, torch.device("cpu"), Path())
    assert again.module is not None
    assert not torch.equal(again.module.weight, stage.module.weight)
    restore_optimizer(again.make_optimizer(again.parameters(model)), saved, again.module)
    assert torch.equal(again.module.weight, stage.module.weight)


def test_a_system_without_such_losses_has_no_first_stage(scenes: list[Scene]) -> None:
    stage = crop_stage(scenes)
    without: Any = torch.nn.Identity()
    with pytest.raises(
        RecipeError, match=r"'crops' cannot train Identity, which is not a RegionSystem"
    ):
        stage.check(without)
