"""What every region system keeps: named losses, detections in order, memories that are saved.

One training step of each is pinned by value, here or in the system's own file: a change there is a
changed result.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from drawn import REGIONS, build, nobody, scenes, total

from personsearch.errors import ModelError
from personsearch.systems.base import Target
from personsearch.systems.dc_inet import DCINet
from personsearch.systems.inet import INet
from personsearch.systems.nae import NAE
from personsearch.systems.oim import OIM
from personsearch.systems.regions import RegionSystem
from personsearch.systems.seqnet import SeqNet
from personsearch.systems.trident import Trident
from personsearch.systems.xiao2016 import Xiao2016

BatchNorm = torch.nn.modules.batchnorm._BatchNorm
DETECTION = frozenset({"rpn_objectness", "rpn_box", "detection", "box"})


@dataclass(frozen=True)
class Case:
    """A system, its losses and memories, and its losses around one pinned step.

    A case without `first` has all that goes beyond this file in its own.
    """

    constructor: type[RegionSystem]
    detection: frozenset[str]
    identity: frozenset[str]
    memories: tuple[str, ...]
    first: dict[str, float] = field(default_factory=dict)
    second: dict[str, float] = field(default_factory=dict)
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
        {"queue_size": 8},
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
        {"queue_size": 8},
    ),
}
SETTINGS: dict[str, Any] = REGIONS | {"embedding_dim": 16, "roi_size": (8, 4)}
LAYERS: dict[str, Any] = {"hidden": 24, "embedding_grid": (3, 2), "roi_size": (6, 4)}
PAIRS: dict[str, Any] = {"dictionary_size": 64, "priority_classes": 3}
DICTIONARY = ("reid.dictionary.values", "reid.dictionary.ids", "reid.dictionary.position")
ALL_CASES = CASES | {
    "oim": Case(OIM, DETECTION, frozenset({"oim"}), OIM_MEMORY, settings={"queue_size": 8}),
    "xiao2016": Case(
        Xiao2016,
        DETECTION - {"detection"},
        frozenset({"identity"}),
        (),
        settings=LAYERS | {"rss_sampled": 3},
    ),
    "inet": Case(
        INet,
        DETECTION,
        frozenset({"olp", "hep"}),
        DICTIONARY,
        settings=LAYERS | PAIRS | {"identity_loss": "hep"},
    ),
    "dc-inet": Case(
        DCINet,
        DETECTION,
        frozenset({"olp", "c2hep"}),
        (*DICTIONARY, "reid.centers.values"),
        settings=LAYERS | PAIRS | {"identity_loss": "c2hep", "reid_roi_size": (8, 4)},
    ),
}
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every = pytest.mark.parametrize("case", ALL_CASES.values(), ids=ALL_CASES)


def _model(case: Case, **changes: Any) -> RegionSystem:
    return build(case.constructor, SETTINGS | case.settings | changes)


def _changes(case: Case, kind: str) -> dict[str, Any]:
    changes: dict[str, dict[str, Any]] = {"apart": case.apart, "grid": {"embedding_grid": (3, 1)}}
    return changes.get(kind, {})


@each
@pytest.mark.parametrize("kind", ["as published", "apart", "grid"])
def test_losses_are_named_finite_and_reach_every_weight(case: Case, kind: str) -> None:
    model = _model(case, **_changes(case, kind))
    images, targets = scenes(unlabelled=True)
    model(images, targets)  # fills the memories: before, the identity loss has no direction
    losses = model(images, targets)
    assert losses.keys() == case.detection | case.identity
    assert all(v.ndim == 0 and torch.isfinite(v) for v in losses.values())
    total(losses).backward()
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
    images, targets = scenes(unlabelled=True)
    if shown == "one picture empty":
        targets[1] = nobody()
    elif shown == "all empty":
        targets = [nobody() for _ in targets]
    elif shown == "nobody labelled":
        targets = [Target(t.boxes, torch.full_like(t.ids, -1)) for t in targets]
    else:
        images, targets = images[:1], targets[:1]
    losses = model(images, targets)
    total(losses).backward()
    assert losses.keys() == case.detection | case.identity
    assert all(torch.isfinite(v) for v in losses.values())
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)


@every
def test_losses_do_not_depend_on_the_mode(case: Case) -> None:
    model = _model(case)
    images, targets = scenes()
    model(images, targets)  # fills the memories
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    values = []
    for training in (False, True):
        model.train(training)
        torch.manual_seed(3)
        values.append({k: v.item() for k, v in model(images, targets).items()})
    assert values[0] == pytest.approx(values[1], rel=1e-5)


@every
@pytest.mark.parametrize("value", [(0, 1), (2,), (1, 2, 3)])
@pytest.mark.parametrize("name", ["embedding_grid", "detection_grid", "roi_size"])
def test_a_grid_is_two_numbers(case: Case, name: str, value: tuple[int, ...]) -> None:
    changes = case.apart | {name: value}
    if case.constructor is Xiao2016:
        changes["detection_score"] = "classifier"
    with pytest.raises(ModelError, match=rf"{name} is .*, expected two numbers, rows and columns"):
        _model(case, **changes)


@every
def test_evaluation_mode_leaves_the_memories(case: Case) -> None:
    model = _model(case).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model(*scenes(unlabelled=True))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@every
def test_the_memories_are_saved(case: Case) -> None:
    model, copy = _model(case), _model(case)
    model(*scenes(unlabelled=True))
    copy.load_state_dict(model.state_dict())
    for name in case.memories:
        assert torch.equal(copy.state_dict()[name], model.state_dict()[name])
        assert model.state_dict()[name].any(), name


@every
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


@every
def test_nothing_sure_enough_is_no_detection(case: Case) -> None:
    found = _model(case, score_threshold=1.0).eval().detect([torch.rand(3, 64, 64)])[0]
    assert len(found) == 0
    assert found.embeddings.shape == (0, 16)


@every
def test_embeddings_do_not_depend_on_the_batch(case: Case) -> None:
    model = _model(case).eval()
    images, targets = scenes(unlabelled=True)
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
    images, targets = scenes(unlabelled=True)
    losses = model.crop_losses(images, targets)
    assert losses.keys() == case.detection | expected
    assert model.state_dict()[case.memories[0]].norm(dim=1).tolist() == pytest.approx([1] * 4)
    total(model.crop_losses(images, targets)).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.head.parameters())


@each
def test_half_an_embedding_comes_from_each_map(case: Case) -> None:
    with pytest.raises(ModelError, match="embedding_dim is 15, expected an even number"):
        _model(case, embedding_dim=15)


@each
def test_a_step_is_pinned(case: Case) -> None:
    """Two sums of losses around one step; a change here is a changed result."""
    model = _model(case)
    images, targets = scenes(unlabelled=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    torch.manual_seed(1)
    losses = model(images, targets)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(case.first, rel=1e-3, abs=1e-5)
    total(losses).backward()
    optimizer.step()
    losses = model(images, targets)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(
        case.second, rel=1e-3, abs=1e-5
    )
