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
from personsearch.errors import ModelError, TrainingError
from personsearch.losses import agwf
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.base import Target
from personsearch.systems.trident import Trident

DETECTION = {"rpn_objectness", "rpn_box", "detection", "box"}
LOSSES = DETECTION | {"identity", "binary", "unlabelled", "part"}

SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "queue_size": 64,
    "roi_size": (12, 4),
}
APART = {"detection_hidden": 16, "detection_grid": (3, 2)}


def _model(**changes: Any) -> Trident:
    return build(Trident, SETTINGS | changes)


def test_three_branches_as_published() -> None:
    """Linear layers alone; the foreground classifier has no bias; normal weights of 0.01."""
    torch.manual_seed(0)
    model = Trident(build_backbone("resnet50"), 10)
    assert model.foreground.weight.shape == (2, 2048)
    assert model.foreground.bias is None
    assert model.regressor.weight.shape == (4, 2048)
    assert model.shallow_encoder.weight.shape == (128, 1024)
    assert model.deep_encoder.weight.shape == (128, 2048)
    assert model.part_classifier is not None
    assert model.part_classifier.weight.shape == (7, 2048)
    for layer in (model.foreground, model.regressor, model.shallow_encoder, model.part_classifier):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert layer.bias is None or not layer.bias.any()
    assert model.roi_size == (24, 8)
    assert len(model.queue.values) == 5000
    assert model.confidence_weighted


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


def test_background_goes_into_the_queue_and_the_labelled_into_the_table() -> None:
    model = _model()
    images, targets = scenes(unlabelled=True)
    seen: list[tuple[Tensor, Tensor]] = []
    update = model.update_memory
    model.update_memory = lambda e, i: (seen.append((e, i)), update(e, i))[1]  # type: ignore[method-assign]
    model(images, targets)
    ((embeddings, ids),) = seen
    others = int((ids < 0).sum())
    assert len(embeddings) == len(ids) > others > len(targets)
    assert int(model.queue.position) == others % 64
    torch.testing.assert_close(model.queue.values[:others], embeddings[ids < 0].detach())
    assert model.lookup.values.norm(dim=1).tolist() == pytest.approx([1] * 4)


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


@pytest.mark.parametrize("background", [True, False])
def test_background_stays_out_of_the_queue_if_asked(background: bool) -> None:
    model = _model(queue_background=background)
    images, targets = scenes(unlabelled=True)
    named = [Target(t.boxes, torch.clamp(t.ids, min=0)) for t in targets]
    model(images, named)
    assert bool(model.queue.values.any()) is background


@pytest.mark.parametrize("apart", [{}, APART])
def test_without_agwf_and_further_terms_the_identity_loss_is_oim(apart: dict[str, Any]) -> None:
    """Table 1's "w/o AGWF" with table 2's "w/o L_bin & L_un"."""
    model = _model(adaptive=False, binary_weight=0.0, unlabelled_weight=0.0, **apart)
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
    model = _model()
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


@pytest.mark.parametrize("apart", [{}, APART])
@pytest.mark.parametrize("embed_boxes", [False, True])
def test_what_is_embedded(embed_boxes: bool, apart: dict[str, Any]) -> None:
    """Final boxes, or the proposals that they come from."""
    images = [torch.rand(3, 96, 128), torch.rand(3, 120, 96), torch.rand(3, 48, 70)]
    model = _model(embed_boxes=embed_boxes, score_threshold=0.0, **apart).eval()
    regressor = model.regressor if model.detection is None else model.detection.regressor
    for moved in (True, False):
        nn.init.zeros_(regressor.weight)
        nn.init.constant_(regressor.bias, 1.0 if moved else 0.0)
        found = model.detect(images)
        assert len({len(one) for one in found}) > 1
        expected = model.embed(images, [torch.tensor(one.boxes) for one in found])
        for one, rows in zip(found, expected, strict=True):
            same = torch.allclose(torch.tensor(one.embeddings), rows, atol=1e-4)
            assert same is (embed_boxes or not moved)


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
    model = _model(queue_size=16, identity_temperature=0.1)
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
