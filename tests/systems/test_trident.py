"""Trident: three branches, alpha between them, background in the queue."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from drawn import REGIONS, build, scenes, total
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou

from personsearch.detectors.backbones import build_backbone
from personsearch.detectors.faster_rcnn import Proposals
from personsearch.errors import ModelError, TrainingError
from personsearch.losses import agwf
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.base import Target
from personsearch.systems.nae import NAE
from personsearch.systems.oim import OIM
from personsearch.systems.trident import Trident

DETECTION = {"rpn_objectness", "rpn_box", "detection", "box"}
LOSSES = DETECTION | {"identity", "binary", "unlabelled", "part"}

SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "queue_size": 64,
    "roi_size": (12, 4),
}
OWN_HEAD = {"detection_hidden": 16, "detection_grid": (3, 2)}
"""The detection head of a small backbone."""


def _model(**changes: Any) -> Trident:
    return build(Trident, SETTINGS | changes)


def test_three_branches_as_published() -> None:
    """Linear layers alone, of normal weights of 0.01; biases are 0, and the foreground
    classifiers' stay so.
    """
    torch.manual_seed(0)
    model = Trident(build_backbone("resnet50"), 10)
    assert model.shallow_foreground is not None
    assert model.shallow_foreground.weight.shape == (2, 1024)
    assert model.foreground.weight.shape == (2, 2048)
    assert model.regressor.weight.shape == (4, 2048)
    assert model.shallow_encoder.weight.shape == (128, 1024)
    assert model.deep_encoder.weight.shape == (128, 2048)
    assert model.part_classifier is not None
    assert model.part_classifier.weight.shape == (5, 2048)
    foreground = (model.foreground, model.shallow_foreground)
    others = (model.regressor, model.shallow_encoder, model.deep_encoder, model.part_classifier)
    for layer in (*foreground, *others):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not layer.bias.any()
        assert layer.bias.requires_grad is (layer in others)
    assert model.roi_size == (24, 8)
    assert len(model.queue.values) == 5000
    assert model.confidence_weighted


@pytest.mark.parametrize("both", [True, False])
def test_foreground_classifiers_are_added(both: bool) -> None:
    """One on g-hat and one on g, both max-pooled, or the latter alone."""
    model = _model(shallow_foreground=both)
    features = model.roi_features(
        model.extract_features([torch.rand(3, 96, 128)]), [torch.tensor([[8.0, 8, 40, 80]])]
    )
    logits, deltas = model.predict(features)
    g = features.deep.amax(dim=(2, 3))
    expected = g @ model.foreground.weight.t()
    if model.shallow_foreground is not None:
        expected = expected + features.pooled.amax(dim=(2, 3)) @ model.shallow_foreground.weight.t()
    assert (model.shallow_foreground is not None) is both
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(deltas, model.regressor(g))


def test_box_loss_and_background_are_those_of_nae() -> None:
    """Weight 10 and smooth L1 from 1; regions with an IoU of 0.1 to 0.5 are in no loss."""
    ours = _losses()
    assert ours["box"] == pytest.approx(10 * _losses(box_weight=1.0)["box"], rel=1e-4)
    assert _losses(box_beta=1 / 9)["box"] > ours["box"]
    model, (images, targets) = _model(rois_per_image=200), scenes(unlabelled=True)
    maps = model.extract_features(images)
    step = model.detection_step(maps, *model.scale(maps, targets))
    starts = 0
    for regions, boxes in zip(step.regions.boxes, step.boxes, strict=True):
        best = box_iou(regions, boxes).amax(dim=1)
        person = step.regions.foreground[starts : starts + len(regions)]
        starts += len(regions)
        assert ((best < 0.1) | (best >= 0.5)).all()
        assert torch.equal(person, best >= 0.5)


def _losses(seed: int = 3, **changes: Any) -> dict[str, float]:
    model = _model(**changes)
    images, targets = scenes(unlabelled=True)
    model(images, targets)
    torch.manual_seed(seed)
    return {k: v.item() for k, v in model(images, targets).items()}


def test_each_ablation_changes_its_terms_alone() -> None:
    whole = _losses()
    assert _losses(binary_weight=0.0, unlabelled_weight=0.0).keys() == DETECTION | {
        "identity",
        "part",
    }
    assert _losses(parts=0).keys() == LOSSES - {"part"}
    plain = _losses(adaptive=False)
    changed = {name for name in LOSSES if plain[name] != pytest.approx(whole[name], rel=1e-3)}
    assert changed == {"identity", "binary", "unlabelled", "part"}
    # Weights are factors.
    halved = _losses(identity_weight=0.5, part_weight=0.5, unlabelled_weight=0.2)
    for name, factor in (("identity", 0.5), ("binary", 0.5), ("unlabelled", 1.0), ("part", 0.5)):
        assert halved[name] == pytest.approx(whole[name] * factor, rel=1e-3)


def test_no_gradient_goes_through_alpha_or_the_reference() -> None:
    model = _model()
    images, targets = scenes(unlabelled=True)
    model(images, targets)
    losses = model(images, targets)
    total({k: v for k, v in losses.items() if k not in DETECTION}).backward()
    assert model.foreground.weight.grad is None
    embeddings = functional.normalize(torch.randn(3, 16), dim=1).requires_grad_()
    loss = model._memory_losses(embeddings, torch.ones(3), torch.tensor([0, 1, -1]))["unlabelled"]
    (gradient,) = torch.autograd.grad(loss, embeddings)
    assert gradient[2].any()
    assert not gradient[:2].any()


@pytest.mark.parametrize("background", [True, False])
def test_background_goes_into_the_queue_and_the_labelled_into_the_table(background: bool) -> None:
    model = _model(queue_background=background)
    images, targets = scenes(unlabelled=True)
    named = [Target(t.boxes, torch.clamp(t.ids, min=0)) for t in targets]
    assert not model.lookup.values.any()
    model(images, named)
    assert model.lookup.values.norm(dim=1).tolist() == pytest.approx([1] * 4)
    assert bool(model.queue.values.any()) is background
    before = int(model.queue.position)
    model(images, targets)
    assert int(model.queue.position) != before


def test_parts_of_background_are_of_the_class_after_the_last() -> None:
    model = _model(parts=3)
    deep = torch.rand(4, 64, 6, 2)
    foreground = torch.tensor([True, False, True, False])
    assert model.part_classifier is not None
    h = torch.stack([deep[:, :, 2 * j : 2 * j + 2].amax(dim=(2, 3)) for j in range(3)], dim=1)
    logits = model.part_classifier(h) / model.part_temperature
    targets = torch.tensor([[0, 1, 2], [3, 3, 3], [0, 1, 2], [3, 3, 3]])
    expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss = model._part_losses(deep, torch.ones(4), foreground)["part"]
    torch.testing.assert_close(loss, expected)


def test_more_parts_than_rows_is_an_error() -> None:
    model = _model(parts=9)
    with pytest.raises(ModelError, match="parts is 9, but the head's output has 6 rows"):
        model(*scenes(unlabelled=True))


def test_parts_that_do_not_divide_the_rows_share_one() -> None:
    assert _losses(parts=4)["part"] > 0


def test_without_a_labelled_person_there_is_no_reference() -> None:
    model = _model()
    images, targets = scenes(unlabelled=True)
    model(images, targets)
    unlabelled = [Target(t.boxes, torch.full_like(t.ids, -1)) for t in targets]
    losses = model(images, unlabelled)
    assert losses["unlabelled"].item() == 0
    assert losses["identity"].item() == 0


@pytest.mark.parametrize("head", [{}, OWN_HEAD])
def test_without_agwf_and_further_terms_the_identity_loss_is_oim(head: dict[str, Any]) -> None:
    """Table 1's "w/o AGWF" with table 2's "w/o L_bin & L_un"."""
    model = _model(adaptive=False, binary_weight=0.0, unlabelled_weight=0.0, **head)
    images, targets = scenes(unlabelled=True)
    model(images, targets)
    oim = OnlineInstanceMatching(4, 16, 64)
    memories = {k: v for k, v in model.state_dict().items() if k.startswith(("lookup", "queue"))}
    oim.load_state_dict(memories)
    seen: list[tuple[Tensor, Tensor]] = []
    memory_losses = model._memory_losses

    def keep(embeddings: Tensor, alpha: Tensor, ids: Tensor) -> dict[str, Tensor]:
        assert (alpha == 1).all()
        seen.append((embeddings, ids))
        return memory_losses(embeddings, alpha, ids)

    model._memory_losses = keep  # type: ignore[method-assign]
    loss = model(images, targets)["identity"]
    torch.testing.assert_close(loss, oim(*seen[0]))


@pytest.mark.parametrize("sure", [0.5, 0.9])
def test_alpha_is_the_probability_of_a_person(sure: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figure 2: p_i1 of the detection branch goes into the losses of the other two."""
    model = _model(shallow_foreground=False)
    logit = math.log(sure / (1 - sure))
    model.foreground.register_forward_hook(
        lambda _, args, out: torch.tensor([0.0, logit]).expand_as(out)
    )
    seen: list[Tensor] = []
    for name in ("identity_loss", "binary_loss", "unlabelled_loss", "part_loss"):
        loss = getattr(agwf, name)

        def keep(*args: Any, loss: Callable[..., Tensor] = loss) -> Tensor:
            seen.append(args[1])
            return loss(*args)

        monkeypatch.setattr(agwf, name, keep)
    model(*scenes(unlabelled=True))
    assert len(seen) == 4
    for alpha in seen:
        torch.testing.assert_close(alpha, torch.full_like(alpha, sure))
    # Background is in the part classification alone.
    assert len(seen[3]) > len(seen[0]) + len(seen[2])


@pytest.mark.parametrize("head", [{}, OWN_HEAD])
@pytest.mark.parametrize("embed_boxes", [False, True])
def test_what_is_embedded(embed_boxes: bool, head: dict[str, Any]) -> None:
    """Final boxes, or the proposals that they come from."""
    images = [torch.rand(3, 96, 128), torch.rand(3, 120, 96), torch.rand(3, 48, 70)]
    model = _model(embed_boxes=embed_boxes, score_threshold=0.0, **head).eval()
    for moved in (True, False):
        nn.init.zeros_(model.regressor.weight)
        nn.init.constant_(model.regressor.bias, 1.0 if moved else 0.0)
        found = model.detect(images)
        assert len({len(one) for one in found}) > 1
        expected = model.embed(images, [torch.tensor(one.boxes) for one in found])
        for one, rows in zip(found, expected, strict=True):
            same = torch.allclose(torch.tensor(one.embeddings), rows, atol=1e-4)
            assert same is (embed_boxes or not moved)


@pytest.mark.parametrize("system", [OIM, NAE])
def test_agwf_on_networks_of_two_branches(system: type[OIM | NAE]) -> None:
    """Section 5.3: the identity loss is that of eq. 7 with the detection branch's confidence."""
    settings = REGIONS | {"embedding_dim": 16, "queue_size": 64, "roi_size": (12, 4)}
    plain = build(system, settings)
    model = build(system, settings | {"adaptive": True})
    images, targets = scenes(unlabelled=True)
    for one in (plain, model):
        torch.manual_seed(0)
        one(images, targets)
        one.eval()
    model.load_state_dict(plain.state_dict())
    torch.manual_seed(1)
    maps = model.extract_features(images)
    step = model.detection_step(maps, *model.scale(maps, targets))
    scores = model.score(step.features, step.logits, Proposals(step.regions.boxes, [], {}))
    near, alpha = step.regions.foreground, torch.cat(list(scores))
    memory = torch.cat([model.oim.lookup.values, model.oim.queue.values])
    labelled = near & (step.regions.ids >= 0)
    similarity = model.embed_features(step.features)[labelled] @ memory.t()
    ids = step.regions.ids[labelled]
    expected = agwf.identity_loss(similarity, alpha[labelled], ids, model.oim.temperature)
    loss = model.identity_losses(step)["oim"]
    torch.testing.assert_close(loss, expected)
    assert loss.item() != pytest.approx(plain.identity_losses(step)["oim"].item(), rel=1e-3)
    # No gradient goes through alpha.
    loss.backward()
    if isinstance(model, OIM):
        assert model.box_predictor.classifier is not None
        assert model.box_predictor.classifier.weight.grad is None


def test_what_cannot_be_is_an_error() -> None:
    with pytest.raises(ModelError, match="parts is -1, expected 0"):
        _model(parts=-1)
    with pytest.raises(ModelError, match="embedding_dim is 15, expected an even number"):
        _model(embedding_dim=15)
    images, targets = scenes(unlabelled=True)
    targets[0] = Target(targets[0].boxes, torch.tensor([0, 4]))
    with pytest.raises(TrainingError, match=r"identity 4 is out of range: the lookup table"):
        _model()(images, targets)


def test_four_scenes_are_learned() -> None:
    # A box loss of weight 10 takes more steps.
    model = _model(queue_size=16, identity_temperature=0.1, box_weight=1.0)
    images, targets = scenes(unlabelled=True)
    targets[3] = Target(targets[3].boxes, torch.tensor([3, 0]))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        losses = model(images, targets)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
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
        assert (box_iou(target.boxes, sure).amax(dim=1) > 0.6).all()
    rows = torch.cat(model.embed(images, [t.boxes for t in targets]))
    ids = torch.cat([t.ids for t in targets])
    similarity = rows @ rows.t() - 2 * torch.eye(8)
    assert torch.equal(ids[similarity.argmax(dim=1)], ids)
