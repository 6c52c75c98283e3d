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
    """A system: its losses, memories and settings.

    Attributes:
        identity: names of the identity losses; `silent` are those that are zero without labelled
            people.
        weights: settings, and the factor by which they change each loss.
        kinds: more settings, each with the names of its identity losses.
        first, second: losses around one pinned step, if not pinned in the system's own file.
    """

    constructor: type[RegionSystem]
    identity: frozenset[str]
    memories: tuple[str, ...]
    settings: dict[str, Any]
    weights: tuple[dict[str, float], dict[str, float]]
    silent: frozenset[str] = frozenset({"oim"})
    detection: frozenset[str] = DETECTION
    apart: dict[str, Any] = field(default_factory=lambda: APART)
    kinds: dict[str, tuple[dict[str, Any], frozenset[str]]] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    second: dict[str, float] = field(default_factory=dict)


APART = {"detection_hidden": 16, "detection_grid": (3, 2)}
OIM_MEMORY = ("oim.lookup.values", "oim.queue.values", "oim.queue.position")
SETTINGS: dict[str, Any] = REGIONS | {"embedding_dim": 16, "roi_size": (8, 4), "roi_aligned": True}
LAYERS: dict[str, Any] = {"embedding_grid": (3, 2), "roi_size": (6, 4)}
PAIRS: dict[str, Any] = {"dictionary_size": 64, "priority_classes": 3}
DICTIONARY = ("reid.dictionary.values", "reid.dictionary.ids", "reid.dictionary.position")
GRID: dict[str, tuple[dict[str, Any], frozenset[str]]] = {
    "grid": ({"embedding_grid": (3, 1)}, frozenset({"oim"}))
}


def _pairing(own: str, other: str) -> dict[str, tuple[dict[str, Any], frozenset[str]]]:
    """Settings of I-Net and DC-I-Net."""
    return {
        "grid": ({"embedding_grid": (2, 1)}, frozenset({"olp", own})),
        "triplets": (
            {"identity_loss": other, "pairing_loss": "triplet"},
            frozenset({"triplet", other}),
        ),
        "pairs alone": ({"identity_loss": "none"}, frozenset({"olp"})),
        "contrastive": (
            {"identity_loss": "softmax", "pairing_loss": "contrastive"},
            frozenset({"contrastive", "softmax"}),
        ),
    }


CASES = {
    "oim": Case(
        OIM,
        frozenset({"oim"}),
        OIM_MEMORY,
        {"queue_size": 8},
        ({"oim_weight": 3.0}, {"oim": 3.0}),
        kinds=GRID,
    ),
    "nae": Case(
        NAE,
        frozenset({"oim"}),
        OIM_MEMORY,
        {"queue_size": 8},
        ({"oim_weight": 3.0, "box_weight": 5.0}, {"oim": 3.0, "box": 0.5}),
        kinds=GRID,
        first={
            "rpn_objectness": 0.696121,
            "rpn_box": 0.0510396,
            "detection": 0.81314,
            "box": 1.02053,
            "oim": 2.48491,
        },
        second={
            "rpn_objectness": 0.694504,
            "rpn_box": 0.0483206,
            "detection": 0.580676,
            "box": 1.99033,
            "oim": 1.17104,
        },
    ),
    "seqnet": Case(
        SeqNet,
        frozenset({"oim"}),
        OIM_MEMORY,
        {"queue_size": 8},
        (
            {"oim_weight": 3.0, "box_weight": 0.5, "proposal_box_weight": 5.0},
            {"oim": 3.0, "box": 0.5, "proposal_box": 0.5},
        ),
        detection=DETECTION | {"proposal", "proposal_box"},
        kinds=GRID,
        first={
            "rpn_objectness": 0.696121,
            "rpn_box": 0.0510396,
            "proposal": 0.8575,
            "proposal_box": 6.05588,
            "detection": 0.841803,
            "box": 0.273974,
            "oim": 2.48491,
        },
        second={
            "rpn_objectness": 0.694341,
            "rpn_box": 0.0509546,
            "proposal": 0.558144,
            "proposal_box": 14.0365,
            "detection": 0.775657,
            "box": 0.0789823,
            "oim": 3.93501,
        },
    ),
    "trident": Case(
        Trident,
        frozenset({"identity", "binary", "unlabelled", "part"}),
        ("lookup.values", "queue.values", "queue.position"),
        {"queue_size": 64, "roi_size": (12, 4)},
        (
            {"identity_weight": 0.5, "part_weight": 0.25},
            {"identity": 0.5, "binary": 0.5, "unlabelled": 0.5, "part": 0.25},
        ),
        silent=frozenset({"identity", "binary", "unlabelled"}),
        kinds={
            "grid": (
                {"embedding_grid": (3, 1)},
                frozenset({"identity", "binary", "unlabelled", "part"}),
            )
        },
        # Pinned anew: two foreground classifiers, four parts, a box loss of weight 10.
        first={
            "rpn_objectness": 0.696121,
            "rpn_box": 0.0510396,
            "detection": 0.58618,
            "box": 1.15953,
            "identity": 4.21951,
            "binary": 0.974077,
            "unlabelled": 0.160944,
            "part": 1.88335,
        },
        second={
            "rpn_objectness": 0.694948,
            "rpn_box": 0.0484982,
            "detection": 0.697609,
            "box": 4.63503,
            "identity": 4.07969,
            "binary": 0.968523,
            "unlabelled": 0.160499,
            "part": 0.964036,
        },
    ),
    "xiao2016": Case(
        Xiao2016,
        frozenset({"identity"}),
        (),
        LAYERS | {"rss_sampled": 3},
        ({}, {}),  # the sum of four
        silent=frozenset(),  # background is a class, too
        detection=DETECTION - {"detection"},
        kinds={
            "softmax": ({"identity_loss": "softmax"}, frozenset({"identity"})),
            "RoIAlign": ({"roi_pooling": "align"}, frozenset({"identity"})),
        },
    ),
    "inet": Case(
        INet,
        frozenset({"olp", "hep"}),
        DICTIONARY,
        LAYERS | PAIRS,
        ({"alpha": 3.0, "beta": 0.25}, {"olp": 3.0, "hep": 0.25}),
        silent=frozenset({"olp", "hep"}),
        kinds=_pairing("hep", "c2hep"),
    ),
    "dc-inet": Case(
        DCINet,
        frozenset({"olp", "c2hep"}),
        (*DICTIONARY, "reid.centers.values"),
        LAYERS | PAIRS | {"hidden": 24, "reid_roi_size": (8, 4), "identity_loss": "c2hep"},
        ({"alpha": 3.0, "beta": 0.25}, {"olp": 3.0, "c2hep": 0.25}),
        silent=frozenset({"olp", "c2hep"}),
        kinds=_pairing("c2hep", "hep"),
    ),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
KINDS = [
    pytest.param(case, settings, names, id=f"{name}, {kind}")
    for name, case in CASES.items()
    for kind, (settings, names) in {
        "as published": ({}, case.identity),
        "apart": (case.apart, case.identity),
        **case.kinds,
    }.items()
]


def _model(case: Case, **changes: Any) -> RegionSystem:
    return build(case.constructor, SETTINGS | case.settings | changes)


@pytest.mark.parametrize(("case", "changes", "names"), KINDS)
def test_losses_are_named_finite_and_reach_every_weight(
    case: Case, changes: dict[str, Any], names: frozenset[str]
) -> None:
    model = _model(case, **changes)
    images, targets = scenes(unlabelled=True)
    model(images, targets)  # fills the memories: before, the identity loss has no direction
    losses = model(images, targets)
    assert losses.keys() == case.detection | names
    assert all(v.ndim == 0 and torch.isfinite(v) for v in losses.values())
    total(losses).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:  # but for the biases of Trident's foreground classifiers
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@every
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    "shown", ["one picture empty", "all empty", "nobody labelled", "one region"]
)
def test_pictures_without_people_or_names(case: Case, apart: bool, shown: str) -> None:
    changes = case.apart if apart else {}
    one = {"rois_per_image": 1, "rpn_post_nms_top_n_train": 1} if shown == "one region" else {}
    model = _model(case, **changes | one)
    images, targets = scenes(unlabelled=True)
    if shown == "one picture empty":
        targets[1] = nobody()
    elif shown == "all empty":
        targets = [nobody() for _ in targets]
    elif shown == "nobody labelled":
        targets = [Target(t.boxes, torch.full_like(t.ids, -1)) for t in targets]
    else:
        images, targets = images[:1], targets[:1]
    before = {name: model.state_dict()[name].clone() for name in case.memories}
    for _ in range(2):
        losses = model(images, targets)
    total(losses).backward()
    assert losses.keys() == case.detection | case.identity
    assert all(torch.isfinite(v) for v in losses.values())
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
    labelled = shown in ("one picture empty", "one region")
    assert labelled or all(losses[name].item() == 0 for name in case.silent)
    # Trident's queue takes background.
    changed = {n for n, v in before.items() if not torch.equal(v, model.state_dict()[n])}
    if shown == "all empty" and case.constructor is not Trident:
        assert not changed
    elif shown == "nobody labelled":
        assert not changed & {"oim.lookup.values", "lookup.values", "reid.centers.values"}
        assert bool(changed) is bool(case.memories)


@every
def test_weights_scale_the_losses(case: Case) -> None:
    images, targets = scenes(unlabelled=True)
    changes, factors = case.weights
    values = []
    for settings in ({}, changes):
        model = _model(case, **settings)
        for _ in range(2):  # the second time with filled memories
            torch.manual_seed(7)
            losses = model(images, targets)
        values.append(losses)
    for name, value in values[0].items():
        expected = value.item() * factors.get(name, 1.0)
        assert values[1][name].item() == pytest.approx(expected, rel=1e-4), name


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
    with pytest.raises(ModelError, match=rf"{name} is .*, expected two positive numbers: rows and"):
        _model(case, **case.apart | {name: value})


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
        if model.metric == "cosine":
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
        if model.metric == "cosine":
            torch.testing.assert_close(embedding.norm(dim=1), torch.ones(len(box)))
        assert not embedding.requires_grad


@pytest.mark.parametrize("name", ["nae", "seqnet", "trident"])
def test_half_an_embedding_comes_from_each_map(name: str) -> None:
    with pytest.raises(ModelError, match="embedding_dim is 15, expected an even number"):
        _model(CASES[name], embedding_dim=15)


@pytest.mark.parametrize("case", [pytest.param(c, id=n) for n, c in CASES.items() if c.first])
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
