"""What every region system keeps: named losses, detections in order, memories that are saved.

One training step of each is pinned by value: a change there is a changed result.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import pytest
import torch
from torch import Tensor

from personsearch.errors import ModelError
from personsearch.systems.backbones import build_backbone
from personsearch.systems.nae import NAE
from personsearch.systems.regions import RegionSettings, RegionSystem
from personsearch.systems.seqnet import SeqNet
from personsearch.systems.trident import Trident
from personsearch.types import Target

DETECTION = frozenset({"rpn_objectness", "rpn_box", "detection", "box"})


@dataclass(frozen=True)
class Case:
    """A system, its losses and memories, and its losses around one pinned step."""

    constructor: type[RegionSystem]
    detection: frozenset[str]
    identity: frozenset[str]
    memories: tuple[str, ...]
    first: dict[str, float]
    second: dict[str, float]
    own_crop: frozenset[str] = frozenset()
    settings: dict[str, Any] = field(default_factory=dict)
    apart: dict[str, Any] = field(
        default_factory=lambda: {"detection_hidden": 16, "detection_grid": (3, 2)}
    )


OIM_MEMORY = ("oim.lookup.values", "oim.queue.values", "oim.queue.position")
CASES = {
    "trident": Case(
        Trident,
        DETECTION,
        frozenset({"identity", "binary", "unlabelled", "part"}),
        ("lookup.values", "queue.values", "queue.position"),
        {
            "rpn_objectness": 0.696121,
            "rpn_box": 0.0510396,
            "detection": 0.589471,
            "box": 0.254405,
            "identity": 4.21951,
            "binary": 0.974077,
            "unlabelled": 0.160944,
            "part": 1.78502,
        },
        {
            "rpn_objectness": 0.693969,
            "rpn_box": 0.0482,
            "detection": 0.447919,
            "box": 0.212452,
            "identity": 3.14252,
            "binary": 0.927469,
            "unlabelled": 0.144932,
            "part": 0.873261,
        },
        frozenset({"identity", "binary", "unlabelled"}),
        {"queue_size": 64, "roi_size": (12, 4)},
    ),
    "nae": Case(
        NAE,
        DETECTION,
        frozenset({"oim"}),
        OIM_MEMORY,
        {
            "rpn_objectness": 0.696121,
            "rpn_box": 0.0510396,
            "detection": 0.81314,
            "box": 1.02053,
            "oim": 2.48491,
        },
        {
            "rpn_objectness": 0.694504,
            "rpn_box": 0.0483206,
            "detection": 0.580676,
            "box": 1.99033,
            "oim": 1.17104,
        },
        frozenset({"oim"}),
    ),
    "seqnet": Case(
        SeqNet,
        DETECTION | {"proposal", "proposal_box"},
        frozenset({"oim"}),
        OIM_MEMORY,
        {
            "rpn_objectness": 0.696121,
            "rpn_box": 0.0510396,
            "proposal": 0.816975,
            "proposal_box": 1.00997,
            "detection": 0.87594,
            "box": 0.101116,
            "oim": 2.48491,
        },
        {
            "rpn_objectness": 0.694273,
            "rpn_box": 0.0482269,
            "proposal": 0.503898,
            "proposal_box": 2.98144,
            "detection": 0.737861,
            "box": 0.171552,
            "oim": 8.45152,
        },
        frozenset({"oim"}),
    ),
}
SETTINGS: dict[str, Any] = {
    "embedding_dim": 16,
    "queue_size": 8,
    "min_size": 96,
    "max_size": 160,
    "anchor_sizes": (24, 40),
    "aspect_ratios": (2.0,),
    "rpn_train_proposals": 40,
    "rpn_test_proposals": 20,
    "rpn_anchors_per_image": 32,
    "roi_size": (8, 4),
    "rois_per_image": 16,
}
COLORS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.1, 0.2, 0.9], [0.9, 0.9, 0.1]])
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _model(case: Case, **changes: Any) -> RegionSystem:
    torch.manual_seed(0)
    settings = SETTINGS | case.settings | changes
    shared = {f.name: settings.pop(f.name) for f in fields(RegionSettings) if f.name in settings}
    constructor: Any = case.constructor
    model: RegionSystem = constructor(
        build_backbone("small", width=8), 4, regions=RegionSettings(**shared), **settings
    )
    return model


def _scenes() -> tuple[list[Tensor], list[Target]]:
    """Four scenes with two rectangles each, a color an identity, and one without a name."""
    images, targets = [], []
    for k in range(4):
        image = torch.full((3, 96, 128), 0.5)
        boxes = torch.tensor([[12.0 + 6 * k, 20, 34 + 6 * k, 64], [76 + 4 * k, 30, 98 + 4 * k, 74]])
        ids = torch.tensor([k, (k + 1) % 4])
        for (x1, y1, x2, y2), i in zip(boxes.int().tolist(), ids.tolist(), strict=True):
            image[:, y1:y2, x1:x2] = COLORS[i][:, None, None]
        images.append(image)
        targets.append(Target(boxes, ids))
    targets[3] = Target(targets[3].boxes, torch.tensor([3, -1]))
    return images, targets


def _nobody() -> Target:
    return Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def _total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _changes(case: Case, kind: str) -> dict[str, Any]:
    changes: dict[str, dict[str, Any]] = {"apart": case.apart, "grid": {"embedding_grid": (3, 1)}}
    return changes.get(kind, {})


@each
@pytest.mark.parametrize("kind", ["as published", "apart", "grid"])
def test_losses_are_named_finite_and_reach_every_weight(case: Case, kind: str) -> None:
    model = _model(case, **_changes(case, kind))
    images, targets = _scenes()
    model(images, targets)  # fills the memories: before, the identity loss has no direction
    losses = model(images, targets)
    assert losses.keys() == case.detection | case.identity
    assert all(v.ndim == 0 and torch.isfinite(v) for v in losses.values())
    _total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@each
@pytest.mark.parametrize("kind", ["as published", "apart"])
@pytest.mark.parametrize(
    "shown", ["one picture empty", "all empty", "nobody labelled", "one region"]
)
def test_pictures_without_people_or_names(case: Case, kind: str, shown: str) -> None:
    model = _model(
        case, **_changes(case, kind) | ({"rois_per_image": 1} if shown == "one region" else {})
    )
    images, targets = _scenes()
    if shown == "one picture empty":
        targets[1] = _nobody()
    elif shown == "all empty":
        targets = [_nobody() for _ in targets]
    elif shown == "nobody labelled":
        targets = [Target(t.boxes, torch.full_like(t.ids, -1)) for t in targets]
    else:
        images, targets = images[:1], targets[:1]
    losses = model(images, targets)
    _total(losses).backward()
    assert losses.keys() == case.detection | case.identity
    assert all(torch.isfinite(v) for v in losses.values())
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)


@each
def test_evaluation_mode_leaves_the_memories(case: Case) -> None:
    model = _model(case).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model(*_scenes())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@each
def test_the_memories_are_saved(case: Case) -> None:
    model, copy = _model(case), _model(case)
    model(*_scenes())
    copy.load_state_dict(model.state_dict())
    for name in case.memories:
        assert torch.equal(copy.state_dict()[name], model.state_dict()[name])
        assert model.state_dict()[name].any(), name


@each
def test_detections_are_sorted_and_in_the_pictures_own_pixels(case: Case) -> None:
    model = _model(case, score_threshold=0.0, max_detections=7).eval()
    torch.manual_seed(1)
    images = [torch.rand(3, 48, 64), torch.rand(3, 300, 200), torch.rand(3, 96, 128)]
    found = model.detect(images)
    for image, one in zip(images, found, strict=True):
        height, width = image.shape[1:]
        assert 0 < len(one) <= 7
        assert (one.scores[:-1] >= one.scores[1:]).all()
        assert one.boxes.min() >= 0
        assert one.boxes[:, 2].max() <= width + 1e-3
        assert one.boxes[:, 3].max() <= height + 1e-3
        assert one.embeddings.shape == (len(one), 16)
        assert torch.tensor(one.embeddings).norm(dim=1).allclose(torch.ones(len(one)))
    assert found[1].boxes[:, 3].max() > 160


@each
def test_nothing_sure_enough_is_no_detection(case: Case) -> None:
    found = _model(case, score_threshold=1.0).eval().detect([torch.rand(3, 64, 64)])[0]
    assert len(found) == 0
    assert found.embeddings.shape == (0, 16)


@each
def test_embeddings_do_not_depend_on_the_batch(case: Case) -> None:
    model = _model(case).eval()
    images, targets = _scenes()
    boxes = [t.boxes for t in targets]
    boxes[2] = boxes[2][:0]
    together = model.embed(images, boxes)
    assert [e.shape for e in together] == [(2, 16), (2, 16), (0, 16), (2, 16)]
    for image, box, embedding in zip(images, boxes, together, strict=True):
        torch.testing.assert_close(model.embed([image], [box])[0], embedding)
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(len(box)))
        assert not embedding.requires_grad


@each
@pytest.mark.parametrize("crop_loss", ["own", "softmax"])
def test_crop_losses_fill_the_table(case: Case, crop_loss: str) -> None:
    model = _model(case, crop_loss=crop_loss, crop_detection=True, **case.apart)
    expected = case.own_crop if crop_loss == "own" else {"softmax"}
    images, targets = _scenes()
    losses = model.crop_losses(images, targets)
    assert losses.keys() == case.detection | expected
    assert model.state_dict()[case.memories[0]].norm(dim=1).tolist() == pytest.approx([1] * 4)
    _total(model.crop_losses(images, targets)).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.head.parameters())


@each
def test_half_an_embedding_comes_from_each_map(case: Case) -> None:
    with pytest.raises(ModelError, match="embedding_dim is 15, expected an even number"):
        _model(case, embedding_dim=15)


@each
def test_a_step_is_pinned(case: Case) -> None:
    """Two sums of losses around one step; a change here is a changed result."""
    model = _model(case)
    images, targets = _scenes()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    torch.manual_seed(1)
    losses = model(images, targets)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(case.first, rel=1e-3, abs=1e-5)
    _total(losses).backward()
    optimizer.step()
    losses = model(images, targets)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(
        case.second, rel=1e-3, abs=1e-5
    )
