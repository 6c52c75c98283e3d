"""Faster R-CNN's parts against torchvision's own forward pass, and against plain loops."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou

from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    PictureTransform,
    Pooling,
    ProposalNetwork,
    RegionPooling,
    RegionSampler,
    SampledRegions,
    decode_boxes,
    detection_losses,
    grid,
    select_detections,
)
from personsearch.detectors.weights import IMAGENET_MEAN, IMAGENET_STD
from personsearch.errors import ModelError
from personsearch.types import UNLABELLED


def _random_boxes(n: int, side: float = 100.0) -> Tensor:
    corner = torch.rand(n, 2) * side * 0.6
    return torch.cat([corner, corner + 8 + torch.rand(n, 2) * side * 0.3], dim=1)


def _network() -> ProposalNetwork:
    torch.manual_seed(0)
    return ProposalNetwork(8, (16, 32), (1.0, 2.0), 6, 4, 20, pre_nms_top_n_train=36)


@pytest.mark.parametrize("with_people", [True, False])
def test_losses_and_proposals_equal_torchvisions(with_people: bool) -> None:
    ours = _network()
    images = ImageList(torch.zeros(2, 3, 96, 128), [(96, 128), (80, 100)])
    features = torch.randn(2, 8, 12, 16)
    boxes = [_random_boxes(3), torch.zeros(0, 4)] if with_people else [torch.zeros(0, 4)] * 2
    theirs = RegionProposalNetwork(
        ours.anchor_generator,
        ours.head,
        0.7,
        0.3,
        20,
        0.5,
        {"training": 36, "testing": 80},
        {"training": 6, "testing": 4},
        0.7,
    )
    torch.manual_seed(1)
    expected, losses = theirs.train()(images, {"0": features}, [{"boxes": b} for b in boxes])
    for training in (True, False):
        ours.train(training)
        torch.manual_seed(1)
        found = ours(images, features, boxes)
        own = found.losses
        assert own["rpn_objectness"].item() == pytest.approx(losses["loss_objectness"].item())
        assert own["rpn_box"].item() == pytest.approx(losses["loss_rpn_box_reg"].item())
        assert all(torch.equal(p, e) for p, e in zip(found.boxes, expected, strict=True))
    expected, _ = theirs.eval()(images, {"0": features})
    for training in (True, False):
        found = ours.train(training)(images, features)
        assert found.losses == {}
        assert all(torch.equal(p, e) for p, e in zip(found.boxes, expected, strict=True))
    assert [len(p) for p in found.boxes] == [4, 4]


@pytest.mark.parametrize("with_people", [True, False])
def test_anchors_across_the_border_may_have_no_part_in_the_losses(with_people: bool) -> None:
    """Label and true box of each anchor by loops, as py-faster-rcnn assigns them."""
    torch.manual_seed(0)
    network = ProposalNetwork(8, (16, 32), (1.0, 2.0), inside=True)
    images = ImageList(torch.zeros(1, 3, 96, 128), [(80, 100)])
    (anchors,) = network.anchor_generator(images, [torch.zeros(1, 8, 12, 16)])
    boxes = _random_boxes(3, 80.0) if with_people else torch.zeros(0, 4)
    (labels,), (matched,) = network._match_inside([anchors], [boxes], images.image_sizes)
    overlaps = box_iou(boxes, anchors)
    inside = [x1 >= 0 and y1 >= 0 and x2 <= 100 and y2 <= 80 for x1, y1, x2, y2 in anchors.tolist()]
    assert 20 < sum(inside) < len(inside) - 20
    overlaps[:, ~torch.tensor(inside)] = -1
    for row, (x, within) in enumerate(zip(overlaps.T.tolist(), inside, strict=True)):
        best = max(x, default=0.0)
        highest = any(x[k] == overlaps[k].max() for k in range(len(x)))
        expected = -1 if not within else 1 if highest or best >= 0.7 else 0 if best < 0.3 else -1
        assert labels[row] == expected
        if expected == 1:
            assert torch.equal(matched[row], boxes[x.index(best)])
    assert (labels == 1).any() == with_people


def test_anchors_of_a_picture_that_is_smaller_than_all_count() -> None:
    network = ProposalNetwork(8, (200,), (1.0,), inside=True)
    images = ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)])
    losses = network(images, torch.randn(1, 8, 12, 16), [_random_boxes(2)]).losses
    assert all(torch.isfinite(value) for value in losses.values())


def test_small_proposals_may_be_dropped() -> None:
    torch.manual_seed(0)
    network = ProposalNetwork(8, (16, 32), (1.0, 2.0), min_size=20.0)
    images = ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)])
    (found,) = network(images, torch.randn(1, 8, 12, 16)).boxes
    assert len(found)
    assert (found[:, 2:] - found[:, :2]).min() >= 20


def test_anchors_are_exact_under_autocast() -> None:
    """bfloat16 would round 1,000 pixels to steps of four."""
    network, images = _network(), ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)])
    given = []
    network.anchor_generator.register_forward_hook(lambda *a: given.extend(a[-1]))
    network(images, torch.randn(1, 8, 12, 16).bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):
        network(images, torch.randn(1, 8, 12, 16).bfloat16())
    assert given[1].dtype == torch.float32
    assert torch.equal(given[0], given[1])


def test_proposals_come_with_the_probability_of_a_person() -> None:
    ours = _network()
    found = ours(ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)]), torch.randn(1, 8, 12, 16))
    assert found.boxes[0].shape == (4, 4)
    assert found.scores[0].shape == (4,)
    assert (found.scores[0].diff() <= 0).all()
    assert 0 < found.scores[0].min() <= found.scores[0].max() < 1


def test_losses_are_float32_under_autocast() -> None:
    ours = _network()
    images = ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ours(images, torch.randn(1, 8, 12, 16), [_random_boxes(2)])
    values = (*found.boxes, *found.scores, *found.losses.values())
    assert all(v.dtype == torch.float32 for v in values)


def test_the_transform_scales_and_normalises() -> None:
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    transform = PictureTransform(40, 100)
    wide, tall = torch.rand(3, 20, 60), torch.rand(3, 80, 40)
    for training in (True, False):
        state = torch.random.get_rng_state()
        batch = transform.train(training).to_batch([wide, tall])
        # What is drawn later may not depend on the mode.
        assert torch.equal(state, torch.random.get_rng_state())
        assert batch.image_sizes == [(33, 100), (80, 40)]
        assert batch.tensors.shape == (2, 3, 96, 128)
        expected = (tall - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        torch.testing.assert_close(batch.tensors[1, :, :80, :40], expected)
        assert not batch.tensors[1, :, 80:].any()


def test_unscale_undoes_scale() -> None:
    torch.manual_seed(0)
    transform = PictureTransform(50, 90)
    images = [torch.rand(3, 37, 101), torch.rand(3, 64, 20)]
    batch = transform.to_batch(images)
    boxes = [_random_boxes(4), torch.tensor([[0.0, 0, 20, 64]])]
    scaled = transform.scale(boxes, images, batch)
    height, width = batch.image_sizes[1]
    torch.testing.assert_close(scaled[1], torch.tensor([[0.0, 0, width, height]]))
    for back, box in zip(transform.unscale(scaled, images, batch), boxes, strict=True):
        torch.testing.assert_close(back, box)


def test_the_sampler_draws_what_it_says() -> None:
    torch.manual_seed(0)
    boxes = [_random_boxes(4), torch.zeros(0, 4), _random_boxes(2)]
    ids = [torch.tensor([5, UNLABELLED, 7, 9]), torch.zeros(0, dtype=torch.int64)]
    ids.append(torch.tensor([2, 3]))
    near = [b.repeat(10, 1) + torch.randn(len(b) * 10, 4) for b in boxes]
    proposals = [torch.cat([n, _random_boxes(60)]) for n in near]
    regions = RegionSampler(24, 0.25)(proposals, boxes, ids)
    assert [len(b) for b in regions.boxes] == [24, 24, 24]
    counts = [24] * 3
    for found, person, owner, iou, delta, true, names in zip(
        regions.boxes,
        regions.foreground.split(counts),
        regions.ids.split(counts),
        regions.ious.split(counts),
        regions.deltas.split(counts),
        boxes,
        ids,
        strict=True,
    ):
        assert person.sum() == (6 if len(true) else 0)
        assert (owner[~person] == UNLABELLED).all()
        assert not delta[~person].any()
        assert not iou[~person].any()
        if len(true):
            best, match = box_iou(true, found).max(dim=0)
            assert torch.equal(person, best >= 0.5)
            assert torch.equal(owner[person], names[match[person]])
            assert torch.equal(iou[person], best[person])
            decoded = BoxCoder((10.0, 10.0, 5.0, 5.0)).decode_single(delta[person], found[person])
            torch.testing.assert_close(decoded, true[match[person]], atol=1e-3, rtol=1e-4)


def test_true_boxes_are_among_the_regions_and_the_gap_is_left_out() -> None:
    box = torch.tensor([[0.0, 0, 10, 10]])
    proposals = torch.tensor([[0.0, 0, 10, 4], [50, 50, 60, 60]])
    regions = RegionSampler(10, 0.5, 0.5, 0.3)([proposals], [box], [torch.tensor([1])])
    assert regions.boxes[0].tolist() == [[50, 50, 60, 60], [0, 0, 10, 10]]
    assert regions.foreground.tolist() == [False, True]
    assert regions.ids.tolist() == [UNLABELLED, 1]
    assert regions.ious.tolist() == [0, 1]


def test_detection_losses_by_hand() -> None:
    regions = SampledRegions(
        [torch.rand(3, 4)],
        torch.tensor([True, False, True]),
        torch.tensor([0, -1, -1]),
        torch.tensor([0.8, 0, 0.6]),
        torch.tensor([[0.5, 0, 0, 0], [9, 9, 9, 9], [0, 0, 0, 0.05]]),
    )
    logits = torch.tensor([[0.0, 0], [2, 0], [0, 1]])
    losses = detection_losses(logits, torch.zeros(3, 4), regions)
    terms = [torch.tensor(2.0).log(), (1 + torch.tensor(-2.0).exp()).log()]
    terms.append((1 + torch.tensor(-1.0).exp()).log())
    assert losses["detection"].item() == pytest.approx(float(sum(terms)) / 3)
    # Beyond beta = 1/9: |d| - beta / 2; below: d^2 / (2 beta). Over all three regions.
    assert losses["box"].item() == pytest.approx((0.5 - 1 / 18 + 0.05**2 * 9 / 2) / 3)


def test_losses_without_people_are_finite() -> None:
    nobody = SampledRegions(
        [torch.rand(2, 4)],
        torch.zeros(2, dtype=torch.bool),
        torch.tensor([UNLABELLED] * 2),
        torch.zeros(2),
        torch.zeros(2, 4),
    )
    losses = detection_losses(torch.zeros(2, 2), torch.ones(2, 4), nobody)
    assert losses["box"].item() == 0
    assert torch.isfinite(losses["detection"])


def test_decode_undoes_encode_and_cuts() -> None:
    torch.manual_seed(0)
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    regions, boxes = [_random_boxes(5), _random_boxes(3)], [_random_boxes(5), _random_boxes(3)]
    deltas = torch.cat([coder.encode_single(b, r) for b, r in zip(boxes, regions, strict=True)])
    whole = decode_boxes(coder, deltas, regions, [(500, 500), (500, 500)])
    for decoded, box in zip(whole, boxes, strict=True):
        torch.testing.assert_close(decoded, box, atol=1e-3, rtol=1e-4)
    cut = decode_boxes(coder, deltas, regions, [(20, 30), (500, 500)])
    assert cut[0][:, 0::2].max() <= 30
    assert cut[0][:, 1::2].max() <= 20


@pytest.mark.parametrize("pooling", ["max", "align"])
def test_regions_with_the_index_of_their_image_are_pooled_as_those_of_each_image(
    pooling: Pooling,
) -> None:
    features, boxes = torch.rand(2, 3, 20, 20), [_random_boxes(4), _random_boxes(3)]
    rows = torch.cat([torch.tensor([0.0] * 4 + [1] * 3)[:, None], torch.cat(boxes)], dim=1)
    expected = RegionPooling(boxes, (4, 2), 8, pooling)(features)
    assert torch.equal(RegionPooling(rows, (4, 2), 8, pooling)(features), expected)


def test_select_detections() -> None:
    boxes = torch.tensor(
        [
            [0.0, 0, 10, 10],
            [0, 0, 10, 9],  # suppressed by the one before
            [50, 50, 60, 60],
            [80, 80, 80.005, 99],  # too thin
            [20, 20, 30, 30],  # not sure enough
            [70, 0, 90, 20],
        ]
    )
    scores = torch.tensor([0.6, 0.5, 0.9, 0.99, 0.1, 0.3])
    assert select_detections(boxes, scores, 0.2, 0.4, 10).tolist() == [2, 0, 5]
    assert select_detections(boxes, scores, 0.2, 0.95, 10).tolist() == [2, 0, 1, 5]
    assert select_detections(boxes, scores, 0.2, 0.4, 2).tolist() == [2, 0]
    assert select_detections(boxes, scores, 0.09, 0.4, 10).tolist() == [2, 0, 5, 4]
    assert select_detections(boxes, scores, 1.0, 0.4, 10).tolist() == []


def test_a_score_that_is_no_number_says_so() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    with pytest.raises(ModelError, match="NaN as a score; it has diverged"):
        select_detections(boxes, torch.tensor([0.9, float("nan")]), 0.2, 0.4, 10)


def test_a_predictor_of_no_grid_and_no_layers_reads_the_average() -> None:
    torch.manual_seed(0)
    predictor, pooled = BoxPredictor(6), torch.randn(5, 6, 4, 3)
    logits, deltas = predictor(pooled)
    average = pooled.mean(dim=(2, 3))
    torch.testing.assert_close(logits, average @ predictor.classifier.weight.t())
    torch.testing.assert_close(deltas, average @ predictor.regressor.weight.t())
    assert (logits.shape, deltas.shape) == ((5, 2), (5, 4))


@pytest.mark.parametrize("hidden", [0, 16])
def test_a_predictor_with_a_grid_sees_where_things_are(hidden: int) -> None:
    pooled = torch.rand(5, 6, 4, 3)
    for cells, same in (((1, 1), True), ((2, 1), False), ((1, 3), True), ((4, 3), False)):
        torch.manual_seed(0)
        predictor = BoxPredictor(6, cells, hidden)
        for upright, turned in zip(predictor(pooled), predictor(pooled.flip(2)), strict=True):
            assert torch.allclose(upright, turned, atol=1e-7) is same


def test_a_predictor_without_a_classifier_gives_equal_logits() -> None:
    logits, deltas = BoxPredictor(6, classify=False)(torch.randn(5, 6, 4, 3))
    assert logits.shape == (5, 2)
    assert not logits.any()
    assert deltas.shape == (5, 4)


@pytest.mark.parametrize("value", [(), (1,), (0, 2), (1, 2, 3)])
def test_a_grid_is_two_positive_numbers(value: tuple[int, ...]) -> None:
    assert grid("g", [2, 3]) == (2, 3)
    with pytest.raises(ModelError, match=r"g is .*, expected two positive numbers: rows and col"):
        grid("g", value)


def test_a_predictor_starts_unsure_and_close_to_the_region() -> None:
    torch.manual_seed(0)
    predictor = BoxPredictor(500, hidden=0)
    assert predictor.classifier.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert predictor.regressor.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not predictor.classifier.bias.any()
    assert not predictor.regressor.bias.any()
    layers = BoxPredictor(500, (2, 1), 8).layers
    widths = [layer.weight.shape for layer in layers if isinstance(layer, nn.Linear)]
    assert widths == [(8, 1000), (8, 8)]


def test_true_boxes_may_be_left_out_of_the_sample() -> None:
    boxes, ids = [torch.tensor([[10.0, 10, 40, 90]]), torch.zeros(0, 4)], [torch.tensor([3])] * 2
    near, far = [12.0, 10, 40, 90], [60.0, 10, 90, 60]
    proposals = [torch.tensor([near, far]), torch.tensor([far])]
    for add, expected in ((True, [3, 1]), (False, [2, 1])):
        sampled = RegionSampler(8, add_true_boxes=add)(proposals, boxes, [ids[0], ids[0][:0]])
        assert [len(b) for b in sampled.boxes] == expected
        assert (sampled.ious == 1.0).any() == add
    none = RegionSampler(8, add_true_boxes=False)([torch.zeros(0, 4)], boxes[:1], ids[:1])
    assert [len(b) for b in none.boxes] == [0]
