"""RetinaNet's parts against torchvision's own network, and against plain loops."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet as Theirs
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou, clip_boxes_to_image

from personsearch.detectors.backbones import build_trunk
from personsearch.detectors.faster_rcnn import PictureTransform
from personsearch.detectors.retinanet import Predictions, RetinaNet, RetinaNetSettings
from personsearch.errors import ModelError

CHANNELS = {"C2": 4, "C3": 6, "C4": 8, "C5": 10}
SMALL: dict[str, Any] = {"pyramid_channels": 8, "anchor_sizes": (16, 32, 64)}
PEOPLE = [torch.tensor([[8.0, 10.0, 30.0, 60.0], [50.0, 20.0, 90.0, 90.0]]), torch.zeros(0, 4)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _network(**changes: Any) -> RetinaNet:
    torch.manual_seed(0)
    return RetinaNet(CHANNELS, RetinaNetSettings(**(SMALL | changes)))


def _input() -> tuple[ImageList, dict[str, Tensor]]:
    torch.manual_seed(1)
    batch = ImageList(torch.zeros(2, 3, 96, 128), [(96, 128), (90, 100)])
    strides = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
    maps = {k: torch.randn(2, c, 96 // strides[k], 128 // strides[k]) for k, c in CHANNELS.items()}
    return batch, maps


@pytest.fixture(scope="module")
def published() -> Theirs:
    torch.manual_seed(0)
    network = retinanet_resnet50_fpn(weights=None, weights_backbone=None).eval()
    # Their first logits are all alike; this makes detections.
    torch.nn.init.normal_(network.head.classification_head.cls_logits.weight, std=0.3)
    return network


def test_equals_torchvisions_network(published: Theirs, tmp_path: Any) -> None:
    """The same weights give the same anchors, logits of the person, deltas and detections."""
    file = tmp_path / "coco.pth"
    torch.save(published.state_dict(), file)
    trunk = build_trunk("resnet50", str(file))
    ours = RetinaNet(trunk.channels).eval()
    ours.load_published(trunk.detector)
    image = torch.rand(1, 3, 64, 64)
    batch, maps, x = ImageList(image, [(64, 64)]), {}, image
    with torch.no_grad():
        for name, block in trunk.blocks.eval().items():
            maps[name] = x = block(x)
        predictions, losses = ours(batch, maps)
        features = list(published.backbone(image).values())
        outputs = published.head(features)
    assert losses == {}
    anchors = published.anchor_generator(batch, features)
    assert torch.equal(predictions.anchors, anchors[0])
    assert torch.equal(predictions.deltas, outputs["bbox_regression"])
    # The published layer has 91 classes, whose product rounds otherwise than that of one.
    torch.testing.assert_close(predictions.logits, outputs["cls_logits"][:, :, 1])
    levels = list(predictions.levels)
    person = outputs["cls_logits"][:, :, 1:2].split(levels, dim=1)
    deltas = outputs["bbox_regression"].split(levels, dim=1)
    expected = published.postprocess_detections(
        {"cls_logits": list(person), "bbox_regression": list(deltas)},
        [list(anchors[0].split(levels))],
        batch.image_sizes,
    )[0]
    found = ours.postprocess(predictions, batch.image_sizes)[0]
    count = len(found.rows)
    assert 0 < count <= 100
    torch.testing.assert_close(found.scores, expected["scores"][:count])
    torch.testing.assert_close(found.boxes, expected["boxes"][:count])


def test_equals_torchvisions_network_of_one_class_exactly(published: Theirs) -> None:
    """Its whole detection, from the picture on, without any difference."""
    one = retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=1, min_size=96, max_size=128
    ).eval()
    layer = "head.classification_head.cls_logits."
    whole = dict(published.state_dict())
    whole[f"{layer}weight"] = whole[f"{layer}weight"] / 8  # so that no score is 1
    state = whole | {
        f"{layer}{name}": whole[f"{layer}{name}"].unflatten(0, (9, 91))[:, 1]
        for name in ("weight", "bias")
    }
    one.load_state_dict(state)
    trunk = build_trunk("resnet50")
    trunk.blocks.load_state_dict(_blocks(state))
    ours = RetinaNet(trunk.channels).eval()
    ours.load_published(whole)
    image = torch.rand(3, 96, 120)
    with torch.no_grad():
        batch = PictureTransform(96, 128).to_batch([image])
        maps, x = {}, batch.tensors
        for name, block in trunk.blocks.eval().items():
            maps[name] = x = block(x)
        found = ours.postprocess(ours(batch, maps)[0], batch.image_sizes)[0]
        expected = one([image])[0]
    assert 0 < len(found.scores) <= 100
    assert torch.equal(found.scores, expected["scores"])
    assert torch.equal(found.boxes, expected["boxes"])


def _blocks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a published body under the names of a trunk's blocks."""
    body, blocks = "backbone.body.", {f"layer{k}": f"C{k + 1}" for k in range(1, 5)}
    named = {k.removeprefix(body): v for k, v in state.items() if k.startswith(body)}
    return {
        f"{blocks[k.partition('.')[0]]}.{k.partition('.')[2]}" if "layer" in k else f"C1.{k}": v
        for k, v in named.items()
    }


def test_published_weights_need_the_published_settings(published: Theirs) -> None:
    channels = {"C3": 512, "C4": 1024, "C5": 2048}
    for changes in ({"pyramid_channels": 128}, {"head_depth": 3}, {"anchor_octaves": 2}):
        network = RetinaNet(channels, RetinaNetSettings(**changes))  # type: ignore[arg-type]
        with pytest.raises(ModelError, match=r"does not fit these settings.*anchor_octaves"):
            network.load_published(published.state_dict())


def _slow_losses(network: RetinaNet, predictions: Predictions) -> tuple[float, float]:
    """Focal loss (eq. 5) and smooth L1 by loops over anchors."""
    settings, focal, box, objects = network.settings, 0.0, 0.0, 0
    for b, boxes in enumerate(PEOPLE):
        overlaps = box_iou(predictions.anchors, boxes)
        best = overlaps.amax(dim=0) if len(boxes) else torch.zeros(0)
        for a, anchor in enumerate(predictions.anchors.tolist()):
            near = overlaps[a].max().item() if len(boxes) else 0.0
            owner = int(overlaps[a].argmax()) if len(boxes) else -1
            # The nearest anchors of a box show the nearest box to them.
            forced = any(overlaps[a, n] == best[n] for n in range(len(boxes)))
            shows = near >= settings.fg_iou_threshold or forced
            if settings.bg_iou_threshold <= near < settings.fg_iou_threshold and not shows:
                continue
            p = 1 / (1 + math.exp(-predictions.logits[b, a].item()))
            p_t = p if shows else 1 - p
            alpha_t = settings.focal_alpha if shows else 1 - settings.focal_alpha
            focal += -alpha_t * (1 - p_t) ** settings.focal_gamma * math.log(p_t)
            if not shows:
                continue
            objects += 1
            width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
            x1, y1, x2, y2 = boxes[owner].tolist()
            wanted = (
                ((x1 + x2) - (anchor[0] + anchor[2])) / 2 / width,
                ((y1 + y2) - (anchor[1] + anchor[3])) / 2 / height,
                math.log((x2 - x1) / width),
                math.log((y2 - y1) / height),
            )
            for t, d in zip(wanted, predictions.deltas[b, a].tolist(), strict=True):
                off, beta = abs(t - d), settings.box_beta
                box += off * off / 2 / beta if off < beta else off - beta / 2
    return focal / objects, box / objects


@pytest.mark.parametrize("training", [False, True])
def test_losses_equal_the_equations(training: bool) -> None:
    network = _network().train(training)
    batch, maps = _input()
    predictions, losses = network(batch, maps, PEOPLE)
    focal, box = _slow_losses(network, predictions)
    assert losses.keys() == {"focal", "box"}
    assert losses["focal"].item() == pytest.approx(focal, rel=1e-3)
    assert losses["box"].item() == pytest.approx(box, rel=1e-3)


def test_nobody_in_any_picture() -> None:
    network = _network()
    batch, maps = _input()
    _, losses = network(batch, maps, [torch.zeros(0, 4)] * 2)
    (losses["focal"] + losses["box"]).backward()
    assert losses["focal"].item() > 0
    assert losses["box"].item() == 0
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("changes", "levels"),
    [({}, 3), ({"anchor_sizes": (24,)}, 1), ({"anchor_sizes": (8, 16, 32, 64, 128)}, 5)],
)
def test_levels_are_as_many_as_anchor_sizes(changes: dict[str, Any], levels: int) -> None:
    network = _network(**changes)
    batch, maps = _input()
    predictions, losses = network(batch, maps, PEOPLE)
    assert len(predictions.levels) == levels
    assert sum(predictions.levels) == len(predictions.anchors) == predictions.logits.shape[1]
    (losses["focal"] + losses["box"]).backward()
    assert all(p.grad is not None for p in network.parameters())
    sides = predictions.anchors[:, 2:] - predictions.anchors[:, :2]
    smallest = network.settings.anchor_sizes[0]
    assert sides.prod(dim=1).min().sqrt().item() == pytest.approx(smallest, rel=0.05)


def test_head_depth_and_norm() -> None:
    for depth in (0, 2, 4):
        head = _network(head_depth=depth, head_norm="group").head
        assert len(head.classification_head.conv) == len(head.regression_head.conv) == depth
        norms = [m for m in head.modules() if isinstance(m, torch.nn.GroupNorm)]
        assert len(norms) == 2 * depth


def test_gradients_of_found_boxes_reach_the_deltas() -> None:
    """For losses on what is cut out of the picture at the found boxes."""
    network = _network(score_threshold=0.0)
    batch, maps = _input()
    predictions, _ = network(batch, maps)
    predictions.deltas.retain_grad()
    found = network.postprocess(predictions, batch.image_sizes)
    # Sides that lie on the picture's border do not move.
    weights = [torch.rand(len(f.rows), 4) for f in found]
    total = torch.stack([(f.boxes * w).sum() for f, w in zip(found, weights, strict=True)]).sum()
    total.backward()
    assert predictions.deltas.grad is not None
    for b, one in enumerate(found):
        touched = predictions.deltas.grad[b].abs().sum(dim=1).nonzero()[:, 0]
        assert set(touched.tolist()) <= set(one.rows.tolist())
        assert len(touched)
        # By central differences, through decoding and clipping alone.
        row = one.rows[int(one.rows.tolist().index(int(touched[0])))]
        place = one.rows.tolist().index(int(row))
        for side in range(4):
            values = []
            for step in (1e-2, -1e-2):
                moved = predictions.deltas[b, row].detach().clone()
                moved[side] += step
                box = network.coder.decode_single(moved[None], predictions.anchors[row][None])
                box = clip_boxes_to_image(box, batch.image_sizes[b])[0]
                values.append((box * weights[b][place]).sum().item())
            slope = (values[0] - values[1]) / 2e-2
            got = predictions.deltas.grad[b, row, side].item()
            assert got == pytest.approx(slope, rel=0.05, abs=0.2)


def test_found_is_sorted_cut_to_the_picture_and_limited() -> None:
    network = _network(score_threshold=0.0, max_detections=5, topk_candidates=20)
    batch, maps = _input()
    predictions, _ = network(batch, maps)
    for one, (height, width) in zip(
        network.postprocess(predictions, batch.image_sizes), batch.image_sizes, strict=True
    ):
        assert len(one.rows) == 5
        assert (one.scores[:-1] >= one.scores[1:]).all()
        assert (one.boxes >= 0).all()
        assert (one.boxes[:, 2] <= width).all()
        assert (one.boxes[:, 3] <= height).all()
        assert box_iou(one.boxes, one.boxes).fill_diagonal_(0).max() <= 0.5
    strict = _network(score_threshold=1.0).postprocess(predictions, [(96, 128)] * 2)
    assert all(len(f.rows) == 0 for f in strict)


def test_a_network_that_diverged_is_named() -> None:
    network = _network()
    batch, maps = _input()
    predictions, _ = network(batch, {k: v * math.nan for k, v in maps.items()})
    with pytest.raises(ModelError, match="NaN as a score"):
        network.postprocess(predictions, batch.image_sizes)


def test_predictions_are_float32_under_autocast() -> None:
    network = _network()
    batch, maps = _input()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions, losses = network(batch, maps, PEOPLE)
    assert predictions.logits.dtype == predictions.deltas.dtype == torch.float32
    assert losses["focal"].dtype == losses["box"].dtype == torch.float32


@pytest.mark.parametrize(
    "changes",
    [{"head_depth": 5}, {"anchor_sizes": ()}, {"anchor_octaves": 0}, {"aspect_ratios": ()}],
)
def test_impossible_settings(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="expected"):
        _network(**changes)
