"""Sequential end to end on small drawn pictures: what is shared, its losses, its detections."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import nobody, scenes, total
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.ops import box_iou, roi_align, roi_pool

from personsearch.detectors.backbones import build_trunk
from personsearch.detectors.retinanet import RetinaNetSettings
from personsearch.errors import ModelError
from personsearch.systems.base import Target
from personsearch.systems.sequential import SHARED, Sequential
from personsearch.types import Detections

BLOCKS = ("C1", "C2", "C3", "C4", "C5")
LOSSES = {"focal", "box", "triplet"}
SETTINGS: dict[str, Any] = {
    "min_size": 96,
    "max_size": 160,
    "stretch": False,
    "region_size": (64, 32),
    "crop_size": (64, 32),
    "pyramid_channels": 16,
    "head_depth": 1,
    "head_norm": "group",
    "anchor_sizes": (20, 30),
    "anchor_octaves": 2,
    "aspect_ratios": (2.0,),
}


def _model(name: str = "small", **changes: Any) -> Sequential:
    torch.manual_seed(0)
    settings = SETTINGS | changes
    own = {f.name: settings.pop(f.name) for f in fields(RetinaNetSettings) if f.name in settings}
    trunk = build_trunk(name, width=8, embedding_grid=settings.pop("embedding_grid", (1, 1)))
    return Sequential(trunk, 4, detector=RetinaNetSettings(**own), **settings)


@pytest.mark.parametrize(
    ("sharing", "shared", "grid"),
    [
        ("J2", ("C1", "C2"), (16, 8)),
        ("J3", ("C1", "C2", "C3"), (8, 4)),
        ("J4", ("C1", "C2", "C3", "C4"), (4, 2)),
        ("disjoint", (), (64, 32)),
    ],
)
def test_shares_the_blocks_of_figure_1(
    sharing: str, shared: tuple[str, ...], grid: tuple[int, int]
) -> None:
    model = _model(sharing=sharing)
    assert SHARED[sharing] == shared
    assert tuple(model.trunk) == BLOCKS
    # Replicated are the others, as copies of their own.
    assert tuple(model.branch) == BLOCKS[len(shared) :]
    ours = {id(p) for p in model.branch.parameters()}
    assert not ours & {id(p) for p in model.trunk.parameters()}
    for name, block in model.branch.items():
        twin = model.trunk[name].state_dict()
        assert all(torch.equal(twin[k], v) for k, v in block.state_dict().items())
    # The branch reads exactly the output of the last shared block.
    images, targets = scenes()
    ran = [n for n in BLOCKS if _runs(model.trunk[n], lambda: model.features(images, [_box()] * 4))]
    assert tuple(ran) == shared
    assert model.features(images, [_box()] * 4).shape[2:] == grid
    ran = [n for n in model.branch if _runs(model.branch[n], lambda: model(images, targets))]
    assert tuple(ran) == BLOCKS[len(shared) :]


def _box() -> Tensor:
    return torch.tensor([[10.0, 20.0, 40.0, 80.0]])


def _runs(block: nn.Module, call: Any) -> bool:
    seen = []
    handle = block.register_forward_hook(lambda *_: seen.append(1))
    call()
    handle.remove()
    return bool(seen)


def test_resnet50_has_the_papers_sizes() -> None:
    """Table 1: ResNet-50, embeddings of 2048 numbers; pooled maps of one size at the end."""
    channels = {"J2": 256, "J3": 512, "J4": 1024, "disjoint": 3}
    for sharing, count in channels.items():
        trunk = build_trunk("resnet50")
        model = Sequential(trunk, 2, sharing=sharing, min_size=64, max_size=64).eval()  # type: ignore[arg-type]
        features = model.features([torch.rand(3, 64, 64)], [_box()])
        assert features.shape[1] == count
        assert model.embedding_dim == 2048
        with torch.no_grad():
            embedding = model.embed_features(features)
        assert embedding.shape == (1, 2048)
        assert embedding.norm().item() == pytest.approx(1, abs=1e-5)
        with torch.no_grad():
            for block in model.branch.values():
                features = block(features)
        assert features.shape[2:] == ((8, 4) if sharing == "disjoint" else (4, 2))


@pytest.mark.parametrize("sharing", list(SHARED))
def test_losses_are_named_finite_and_reach_every_weight(sharing: str) -> None:
    model = _model(sharing=sharing, margin=2.0)
    losses = model(*scenes())
    assert losses.keys() == LOSSES
    assert all(v.ndim == 0 and torch.isfinite(v) for v in losses.values())
    total(losses).backward()
    for name, parameter in model.named_parameters():
        # Two anchor sizes leave P5, and so C5, out.
        if name.startswith("trunk.C5"):
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("sharing", list(SHARED))
def test_the_identity_loss_does_not_reach_what_is_shared(sharing: str) -> None:
    model = _model(sharing=sharing)
    losses = model(*scenes())
    losses["triplet"].backward()
    assert all(p.grad is None for p in (*model.trunk.parameters(), *model.detector.parameters()))
    assert all(p.grad is not None for p in model.branch.parameters())


def test_the_branch_is_trained_where_the_detector_is_frozen() -> None:
    """Normalisation of the branch included; only what is shared stays frozen."""
    torch.manual_seed(0)
    trunk = build_trunk("small", norm="frozen", frozen_stages=4, width=8)
    model = Sequential(trunk, 4, sharing="J2", region_size=(64, 32), min_size=96, max_size=128)
    assert all(p.requires_grad for p in model.branch.parameters())
    norms = [m for m in model.branch.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.trunk.modules())
    images, targets = scenes()
    features = model.features(images, [t.boxes for t in targets])
    before = [m.running_mean.clone() for m in norms]  # type: ignore[union-attr]
    model.branch.train()
    loss = model.identity_losses(features, torch.cat([t.ids for t in targets]))["triplet"]
    loss.backward()
    assert all(m.weight.grad is not None for m in norms)
    assert not any(torch.equal(m.running_mean, b) for m, b in zip(norms, before, strict=True))  # type: ignore[arg-type]


def test_a_trunk_starts_from_the_reid_network_of_a_disjoint_pair(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pair = Sequential(build_trunk("small", width=8), 4, sharing="disjoint")
    save_file(pair.state_dict(), tmp_path / "model.safetensors")
    trunk = build_trunk("small", weights=str(tmp_path), width=8)
    for key, tensor in trunk.blocks.state_dict().items():
        assert torch.equal(tensor, pair.branch.state_dict()[key])
    joint = Sequential(build_trunk("small", width=8), 4, sharing="J3")
    save_file(joint.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"does not fit backbone 'small'.*first 'C1"):
        build_trunk("small", weights=str(tmp_path), width=8)


def test_the_detection_losses_are_those_of_the_whole_and_leave_the_branch() -> None:
    model = _model()
    images, targets = scenes()
    whole, alone = model(images, targets), model.detection_losses(images, targets)
    assert alone.keys() == {"focal", "box"}
    assert all(alone[k].item() == pytest.approx(whole[k].item(), rel=1e-4) for k in alone)
    total(alone).backward()
    assert all(p.grad is None for p in model.branch.parameters())
    trained = {id(p) for p in model.detection_parameters()}
    assert trained == {id(p) for n, p in model.named_parameters() if not n.startswith("branch.")}


@pytest.mark.parametrize("sharing", ["J3", "disjoint"])
@pytest.mark.parametrize(
    "case", ["one picture empty", "all empty", "nobody labelled", "one person"]
)
def test_pictures_without_people_or_names(case: str, sharing: str) -> None:
    model = _model(sharing=sharing, margin=2.0)
    images, targets = scenes()
    if case == "one picture empty":
        targets[1] = nobody()
    elif case == "all empty":
        targets = [nobody() for _ in targets]
    elif case == "one person":
        targets = [Target(targets[0].boxes[:1], targets[0].ids[:1])] + [nobody()] * 3
    else:
        targets = [Target(t.boxes, torch.full_like(t.ids, -1)) for t in targets]
    losses = model(images, targets)
    assert losses.keys() == LOSSES
    assert all(torch.isfinite(v) for v in losses.values())
    assert (losses["triplet"].item() == 0) == (case != "one picture empty")
    assert (losses["box"].item() == 0) == (case == "all empty")
    total(losses).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("sharing", ["J2", "disjoint"])
def test_detections_are_sorted_and_in_the_pictures_own_pixels(sharing: str) -> None:
    # RoI pooling rounds boxes, so that a rounding error on the way there and back moves a cell.
    changes = {"score_threshold": 0.0, "max_detections": 7, "region_pooling": "align"}
    model = _model(sharing=sharing, **changes).eval()
    torch.manual_seed(1)
    images = [torch.rand(3, 48, 64), torch.rand(3, 300, 200), torch.rand(3, 96, 128)]
    found = model.detect(images)
    assert len(found) == 3
    for one, image in zip(found, images, strict=True):
        assert isinstance(one, Detections)
        assert 0 < len(one) <= 7
        assert one.embeddings.shape == (len(one), model.embedding_dim)
        assert (abs((one.embeddings**2).sum(axis=1) - 1) < 1e-5).all()
        assert (one.scores[:-1] >= one.scores[1:]).all()
        assert (one.boxes >= 0).all()
        assert one.boxes[:, 2].max() <= image.shape[2] + 1e-3
        assert one.boxes[:, 3].max() <= image.shape[1] + 1e-3
    # What was found is embedded as a box that is given.
    alone = model.detect(images[1:2])[0]
    again = model.embed(images[1:2], [torch.tensor(alone.boxes)])[0]
    torch.testing.assert_close(again, torch.tensor(alone.embeddings), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("stretch", [True, False])
def test_pictures_are_stretched_or_keep_their_proportions(stretch: bool) -> None:
    """640 x 640 in the paper: a wide picture gets more rows than it would keep."""
    model = _model(min_size=96, max_size=96, stretch=stretch, sharing="J2").eval()
    wide = torch.rand(3, 54, 96)
    batch = model.transform.to_batch([wide])
    assert batch.image_sizes == [(96, 96) if stretch else (54, 96)]
    box = torch.tensor([[12.0, 9.0, 36.0, 45.0]])
    scaled = model.transform.scale([box], [wide], batch)
    rows = 96 / 54 if stretch else 1.0
    assert scaled[0].tolist() == [pytest.approx([12, 9 * rows, 36, 45 * rows])]
    back = model.transform.unscale(scaled, [wide], batch)
    torch.testing.assert_close(back[0], box)
    # Boxes are given and found in the picture's own pixels.
    stretched = torch.nn.functional.interpolate(wide[None], (96, 96), mode="bilinear")[0]
    again = model.embed([stretched], scaled) if stretch else model.embed([wide], [box])
    torch.testing.assert_close(model.embed([wide], [box])[0], again[0], atol=1e-4, rtol=1e-3)


def test_a_person_is_found_where_it_is_in_a_stretched_picture() -> None:
    model = _model(min_size=96, max_size=96, score_threshold=0.0, max_detections=5).eval()
    found = model.detect([torch.rand(3, 54, 96)])[0]
    assert len(found)
    assert (found.boxes[:, [1, 3]] <= 54 + 1e-3).all()
    assert (found.boxes[:, [0, 2]] <= 96 + 1e-3).all()


def test_nothing_found_and_nothing_asked() -> None:
    model = _model(score_threshold=1.0).eval()
    images = [torch.rand(3, 96, 128)]
    assert len(model.detect(images)[0]) == 0
    assert model.detect(images)[0].embeddings.shape == (0, model.embedding_dim)
    assert model.embed(images, [torch.zeros(0, 4)])[0].shape == (0, model.embedding_dim)
    rows = model.embed(images * 2, [torch.zeros(0, 4), _box()])
    assert [len(r) for r in rows] == [0, 1]


def test_embeddings_are_those_of_the_features() -> None:
    for sharing in SHARED:
        model = _model(sharing=sharing).eval()
        images, targets = scenes()
        boxes = [t.boxes for t in targets]
        features = model.features(images, boxes)
        assert not features.requires_grad
        assert features.dtype == torch.float32
        with torch.no_grad():
            embedded = model.embed_features(features)
        assert torch.equal(embedded, torch.cat(model.embed(images, boxes)))
        assert embedded.shape == (8, 64)


def test_crops_are_the_pictures_pixels() -> None:
    """A crop of a box as large as the crop is that part of the picture, normalised."""
    model = _model(sharing="disjoint", crop_size=(32, 16))
    image = torch.rand(3, 60, 80)
    crop = model.features([image], [torch.tensor([[8.0, 4.0, 24.0, 36.0]])])
    expected = model.transform.normalize(image)[:, 4:36, 8:24]
    torch.testing.assert_close(crop[0], expected)


@pytest.mark.parametrize("pooling", ["max", "align"])
def test_pooling_reads_the_shared_map(pooling: str) -> None:
    model = _model(sharing="J2", region_pooling=pooling).eval()
    images = [torch.rand(3, 96, 128)]
    batch = model.transform.to_batch(images)
    with torch.no_grad():
        shared = model.trunk["C2"](model.trunk["C1"](batch.tensors))
    if pooling == "max":
        expected = roi_pool(shared, [_box()], (16, 8), 1 / 4)
    else:
        expected = roi_align(shared, [_box()], (16, 8), 1 / 4, 2, aligned=True)
    assert torch.equal(model.features(images, [_box()]), expected)


def test_strips_and_mining_are_settings() -> None:
    model = _model(embedding_grid=(3, 1))
    assert model.embedding_dim == 3 * 64
    images, targets = scenes()
    features = model.features(images, [t.boxes for t in targets])
    ids = torch.cat([t.ids for t in targets])
    values = {m: model.identity_losses(features, ids, m) for m in ("semi-hard", "batch-hard")}  # type: ignore[arg-type]
    assert all(v.keys() == {"triplet"} for v in values.values())
    assert values["batch-hard"]["triplet"].item() != values["semi-hard"]["triplet"].item()


def test_the_identity_loss_is_the_paper_s() -> None:
    """The mean over anchors of max(0, farthest positive - nearest negative + margin)."""
    model = _model(margin=0.7).eval()
    images, targets = scenes()
    features = model.features(images, [t.boxes for t in targets])
    ids = torch.cat([t.ids for t in targets])
    with torch.no_grad():
        x = model.embed_features(features).double()
        value = model.identity_losses(features, ids)["triplet"].item()
    terms = []
    for a in range(8):
        near = max((x[a] - x[p]).norm().item() for p in range(8) if p != a and ids[p] == ids[a])
        far = min((x[a] - x[n]).norm().item() for n in range(8) if ids[n] != ids[a])
        terms.append(max(0.0, near - far + 0.7))
    assert value == pytest.approx(sum(terms) / 8, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sharing": "J5"}, r"sharing is 'J5', expected one of 'J2', 'J3', 'J4', 'disjoint'"),
        ({"sharing": "J4", "region_size": (64, 8)}, r"a cell every 16 pixels"),
        ({"region_size": (64,)}, r"region_size is \[64\], expected two positive numbers"),
        ({"embedding_grid": (0, 1)}, r"embedding_grid is \[0, 1\]"),
        ({"anchor_sizes": (1, 2, 3, 4)}, r"expected 1, 2, 3 or 5 sizes"),
    ],
)
def test_impossible_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        _model(**changes)


FIRST = {"focal": 1.14688, "box": 0.41269, "triplet": 0.21337}
SECOND = {"focal": 1.09947, "box": 0.46365, "triplet": 0.11494}


def test_one_step_is_pinned() -> None:
    model = _model()
    images, targets = scenes()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    values = []
    for _ in range(2):
        losses = model(images, targets)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        values.append({k: v.item() for k, v in losses.items()})
    assert values[0] == pytest.approx(FIRST, rel=1e-3)
    assert values[1] == pytest.approx(SECOND, rel=1e-3)


@pytest.mark.parametrize("sharing", ["J3", "disjoint"])
def test_four_scenes_are_learned_task_by_task(sharing: str) -> None:
    model = _model(sharing=sharing)
    images, targets = scenes()
    boxes, ids = [t.boxes for t in targets], torch.cat([t.ids for t in targets])
    optimizer = torch.optim.Adam(model.detection_parameters(), 3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        total(model.detection_losses(images, targets)).backward()
        optimizer.step()
    _settle(model, lambda: model.detection_losses(images, targets))
    model.eval()
    for one, target in zip(model.detect(images), targets, strict=True):
        sure = torch.tensor(one.boxes[one.scores > 0.5])
        assert len(sure) >= 2
        assert (box_iou(target.boxes, sure).amax(dim=1) > 0.6).all()
    features = model.features(images, boxes)
    optimizer = torch.optim.Adam(model.branch.parameters(), 1e-3)
    model.branch.train()
    for step in range(60):
        optimizer.zero_grad()
        mining = "semi-hard" if step < 20 else "batch-hard"
        loss = model.identity_losses(features, ids, mining)["triplet"]  # type: ignore[arg-type]
        loss.backward()
        optimizer.step()
    _settle(model.branch, lambda: model.embed_features(features))
    model.eval()
    rows = torch.cat(model.embed(images, boxes))
    similarity = rows @ rows.t() - 2 * torch.eye(8)
    assert torch.equal(ids[similarity.argmax(dim=1)], ids)


def _settle(module: nn.Module, call: Any) -> None:
    """The statistics of a few steps lag behind the weights."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None
    module.train()
    with torch.no_grad():
        for _ in range(2):
            call()


def test_semi_hard_triplets_are_tensorflow_s_loss() -> None:
    """Squared distances, the margin of its own; every pair is in the mean."""
    model = _model(semi_hard_margin=0.8).eval()
    images, targets = scenes()
    features = model.features(images, [t.boxes for t in targets])
    ids = torch.cat([t.ids for t in targets])
    with torch.no_grad():
        x = model.embed_features(features).double()
        value = model.identity_losses(features, ids, "semi-hard")["triplet"].item()
    d = (x[:, None] - x[None]).pow(2).sum(dim=2)
    terms = []
    for a in range(8):
        for p in (p for p in range(8) if p != a and ids[p] == ids[a]):
            others = d[a][ids != ids[a]]
            farther = others[others > d[a, p]]
            negative = farther.min() if len(farther) else others.max()
            terms.append(max(0.0, (0.8 + d[a, p] - negative).item()))
    assert value == pytest.approx(sum(terms) / len(terms), abs=1e-5)
