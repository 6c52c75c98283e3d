"""OIM end to end on small drawn pictures: its losses, its detections, its memory."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from drawn import REGIONS, build, nobody, scenes, total
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou, roi_align

from personsearch.systems.base import Target
from personsearch.systems.oim import OIM
from personsearch.systems.regions import FeatureMaps
from personsearch.types import Detections

DETECTION = {"rpn_objectness", "rpn_box", "detection", "box"}
LOSSES = DETECTION | {"oim"}
APART = {"detection_hidden": 16, "detection_grid": (3, 2)}
SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "queue_size": 8,
    "roi_size": (6, 4),
}
CROP_LOSS = {"oim": "own", "softmax": "softmax"}


def _model(**changes: Any) -> OIM:
    return build(OIM, SETTINGS | changes)


def test_an_embedding_grid_sees_top_and_bottom_apart() -> None:
    seen = torch.rand(3, 64, 6, 4)
    for grid, same in (((1, 1), True), ((2, 1), False), ((1, 2), True)):
        model = _model(embedding_grid=grid)
        upright, turned = model.embedding(seen), model.embedding(seen.flip(2))
        assert torch.allclose(upright, turned, atol=1e-5) is same


def test_regions_are_sampled_as_asked() -> None:
    features = torch.rand(1, 3, 12, 16)
    view = FeatureMaps([], ImageList(features, []), features)
    boxes = [torch.tensor([[3.0, 5, 100, 90]])]
    pooled = []
    for points in (1, 4):
        pooled.append(_model(sampling_ratio=points, roi_size=(2, 3)).pool(view, boxes))
        expected = roi_align(features, boxes, (2, 3), 1 / 8, points, aligned=True)
        assert torch.equal(pooled[-1], expected)
    assert not torch.allclose(*pooled, atol=0.01)


@pytest.mark.parametrize(("changes", "reached"), [({}, True), (APART, False)])
def test_detection_apart_leaves_the_head_to_the_embedding(
    changes: dict[str, object], reached: bool
) -> None:
    model = _model(**changes)
    images, targets = scenes()
    model(images, targets)
    losses = model(images, targets)
    identity = losses.pop("oim")
    total(losses).backward(retain_graph=True)
    for part in (model.stem, model.box_predictor):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all((p.grad is not None) is reached for p in model.head.parameters())
    assert all(p.grad is None for p in model.embedder.parameters())
    model.zero_grad()
    identity.backward()
    for part in (model.stem, model.head, model.embedder):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all(p.grad is None for p in model.box_predictor.parameters())


def _found_and_embedded(model: OIM, images: list[Tensor]) -> list[tuple[Detections, Tensor]]:
    """Detections of each picture, some suppressed, and what `embed` says of their boxes."""
    found = model.eval().detect(images)
    assert all(1 < len(one) < SETTINGS["rpn_post_nms_top_n_test"] for one in found)
    assert len({len(one) for one in found}) > 1
    embeddings = model.embed(images, [torch.tensor(one.boxes) for one in found])
    return list(zip(found, embeddings, strict=True))


@pytest.mark.parametrize("apart", [{}, APART])
@pytest.mark.parametrize("embed_boxes", [False, True])
def test_what_is_embedded(embed_boxes: bool, apart: dict[str, object]) -> None:
    images = [torch.rand(3, 96, 128), torch.rand(3, 120, 96), torch.rand(3, 48, 70)]
    changes = apart | {"embed_boxes": embed_boxes, "score_threshold": 0.0}
    model = _model(**changes)
    with torch.no_grad():
        model.box_predictor.regressor.bias += 1.0
    near = [
        torch.allclose(torch.tensor(one.embeddings), expected, atol=1e-4)
        for one, expected in _found_and_embedded(model, images)
    ]
    assert near == [embed_boxes] * 3
    # Where boxes are not moved, a proposal is the box, and each row has its own embedding.
    model = _model(**changes)
    nn.init.zeros_(model.box_predictor.regressor.weight)
    for one, expected in _found_and_embedded(model, images):
        torch.testing.assert_close(torch.tensor(one.embeddings), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("apart", [{}, APART])
def test_regions_too_far_from_a_person_are_not_embedded(
    apart: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, targets = scenes()
    counts = []
    for least in (0.5, 0.7, 1.01):
        model = _model(oim_min_iou=least, **apart)
        # People on all sides of the threshold.
        near = [torch.cat([t.boxes, t.boxes + 2, t.boxes + 5, t.boxes + 20]) for t in targets]
        forward = model.proposals.forward
        monkeypatch.setattr(
            model.proposals, "forward", lambda *a, f=forward, n=near: replace(f(*a), boxes=n)
        )
        given: list[Tensor] = []
        model.oim.register_forward_pre_hook(lambda _, args, g=given: g.extend(args))
        losses = model(images, targets)
        embeddings, ids = given
        assert embeddings.shape == (len(ids), 16)
        assert (ids >= 0).all()
        counts.append(len(ids))
    # Of each of 8 people: the box twice, moved by 2 (IoU 0.76), moved by 5 (0.52).
    assert counts == [32, 24, 0]
    assert losses["oim"].item() == 0
    assert not model.oim.lookup.values.any()
    assert all(losses[name] > 0 for name in DETECTION)


@pytest.mark.parametrize("kind", ["oim", "softmax"])
def test_crop_losses(kind: str) -> None:
    model = _model(crop_loss=CROP_LOSS[kind])
    images, targets = scenes()
    targets[3] = nobody()
    losses = model.crop_losses(images, targets)
    assert losses.keys() == {kind}
    assert model.oim.lookup.values.norm(dim=1).tolist() == pytest.approx([1] * 4)
    losses = model.crop_losses(images, targets)
    losses[kind].backward()
    for part in (model.stem, model.head, model.embedder):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all(p.grad is None for p in model.proposals.parameters())
    before = model.oim.lookup.values.clone()
    model.eval()
    model.crop_losses(images, targets)
    assert torch.equal(model.oim.lookup.values, before)


def test_the_memory_learns_from_crops_whatever_the_loss() -> None:
    images, targets = scenes()
    targets[0] = Target(targets[0].boxes, torch.tensor([-1, 2]))
    memories = []
    for kind in ("own", "softmax"):
        torch.manual_seed(2)
        model = _model(crop_loss=kind, crop_jitter=0.0)
        model.eval().crop_losses(images, targets)
        assert not model.oim.lookup.values.any()
        assert int(model.oim.queue.position) == 0
        model.train().crop_losses(images, targets)
        assert int(model.oim.queue.position) == 1
        memories.append(model.oim.state_dict())
    for name, value in memories[0].items():
        torch.testing.assert_close(memories[1][name], value)
        assert value.any()


@pytest.mark.parametrize("kind", ["oim", "softmax"])
@pytest.mark.parametrize("apart", [{}, APART])
def test_crop_detection_adds_the_detection_losses(kind: str, apart: dict[str, object]) -> None:
    images, targets = scenes()
    settings = apart | {
        "crop_loss": CROP_LOSS[kind],
        "crop_detection": True,
    }
    model, whole = _model(**settings), _model(**settings)
    torch.manual_seed(4)
    losses = model.crop_losses(images, targets)
    assert losses.keys() == DETECTION | {kind}
    torch.manual_seed(4)
    expected = whole(images, targets)
    for name in DETECTION:
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=1e-4)
    # The memory is filled by now, so the identity loss has a direction.
    total(model.crop_losses(images, targets)).backward()
    for part in (model.proposals, model.box_predictor, model.head):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())


def _pooled(model: OIM, monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """Where the boxes of every later pooling are kept."""
    pool, seen = model.pool, []

    def keep(view: FeatureMaps, boxes: list[Tensor]) -> Tensor:
        seen.append(boxes)
        return pool(view, boxes)

    monkeypatch.setattr(model, "pool", keep)
    return seen


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_crop_jitter_moves_every_side_within_bounds(
    jitter: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(crop_jitter=jitter)
    images, targets = scenes()
    before = [t.boxes.clone() for t in targets]
    seen = _pooled(model, monkeypatch)
    for _ in range(6):
        model.crop_losses(images, targets)
    assert len(seen) == 6
    true = torch.cat(before)
    sides = (true[:, 2:] - true[:, :2]).repeat(1, 2)
    moved = torch.stack([(torch.cat(boxes) - true) / sides for boxes in seen])
    assert moved.abs().max() <= jitter + 1e-6
    assert moved.flatten(0, 1).amax(dim=0).min() >= 0.7 * jitter
    assert moved.flatten(0, 1).amin(dim=0).max() <= -0.7 * jitter
    assert all(torch.equal(t.boxes, b) for t, b in zip(targets, before, strict=True))


def test_crop_jitter_is_of_the_crop_stage_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets = scenes()
    boxes = [t.boxes for t in targets]
    results = []
    for jitter in (0.0, 0.3):
        model = _model(crop_jitter=jitter, crop_detection=True)
        torch.manual_seed(6)
        losses = model(images, targets)
        torch.manual_seed(6)
        on_crops = model.crop_losses(images, targets)
        seen = _pooled(model.eval(), monkeypatch)
        embeddings = model.embed(images, boxes)
        assert all(torch.equal(s, b) for s, b in zip(seen[0], boxes, strict=True))
        # The detection losses of the crop stage are of the true boxes, too.
        results.append([*losses.values(), *(on_crops[n] for n in DETECTION)])
        assert len(embeddings) == 4
    assert torch.equal(torch.stack(results[0]), torch.stack(results[1]))


# The first OIM loss is log(4 identities + 8 places in the queue), all still zero.
FIRST = {
    "rpn_objectness": 0.69572,
    "rpn_box": 0.05104,
    "detection": 0.73806,
    "box": 0.17718,
    "oim": 2.48491,
}
SECOND = {
    "rpn_objectness": 0.69439,
    "rpn_box": 0.04814,
    "detection": 0.62730,
    "box": 0.17079,
    "oim": 0.04761,
}


def test_one_step_is_pinned() -> None:
    model = _model()
    images, targets = scenes()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    torch.manual_seed(5)
    first = model(images, targets)
    total(first).backward()
    optimizer.step()
    optimizer.zero_grad()
    second = model(images, targets)
    assert {k: v.item() for k, v in first.items()} == pytest.approx(FIRST, abs=1e-4)
    assert {k: v.item() for k, v in second.items()} == pytest.approx(SECOND, abs=1e-3)


@pytest.mark.parametrize(
    ("steps", "changes"),
    [(150, {}), (60, {"detection_grid": (3, 2)}), (80, APART | {"detection_hidden": 128})],
)
def test_four_scenes_are_learned(steps: int, changes: dict[str, object]) -> None:
    model = _model(**changes)
    images, targets = scenes()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    totals = []
    for _ in range(steps):
        losses = model(images, targets)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        totals.append(total(losses).item())
    assert sum(totals[-5:]) < 0.4 * sum(totals[:5])
    # The statistics of a few steps lag behind the weights.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for _ in range(3):
            model(images, targets)
    model.eval()
    for one, target in zip(model.detect(images), targets, strict=True):
        sure = torch.tensor(one.boxes[one.scores > 0.5])
        assert len(sure) >= 2
        assert (box_iou(target.boxes, sure).amax(dim=1) > 0.6).all()
    rows = torch.cat(model.embed(images, [t.boxes for t in targets]))
    ids = torch.cat([t.ids for t in targets])
    similarity = rows @ rows.t() - 2 * torch.eye(8)
    assert torch.equal(ids[similarity.argmax(dim=1)], ids)
