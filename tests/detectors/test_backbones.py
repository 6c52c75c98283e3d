"""Backbones are cut where they should be, take weights from files, and say what does not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model, vgg11
from torchvision.ops import FrozenBatchNorm2d

from personsearch.detectors.backbones import (
    Backbone,
    TopDownFusion,
    build_backbone,
    build_trunk,
    freeze_norm,
)
from personsearch.errors import ModelError


def _norms(backbone: Backbone) -> list[nn.Module]:
    kinds = (nn.BatchNorm2d, FrozenBatchNorm2d)
    both = (*backbone.stem.modules(), *backbone.head.modules())
    return [m for m in both if isinstance(m, kinds)]


@pytest.mark.parametrize(
    ("name", "stride", "stem_channels", "head_channels"),
    [
        ("small", 8, 128, 256),
        ("resnet18", 16, 256, 512),
        ("resnet50", 16, 1024, 2048),
        ("vgg16", 16, 512, 4096),
        ("mobilenet_v3_small", 16, 48, 576),
        ("efficientnet_b0", 16, 112, 1280),
        ("convnext_tiny", 16, 384, 768),
        ("regnet_y_400mf", 16, 208, 440),
    ],
)
def test_the_cut(
    name: str, stride: int, stem_channels: int, head_channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The values of the weights do not matter here, and drawing VGG's takes seconds.
    for draw in ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_"):
        monkeypatch.setattr(nn.init, draw, lambda tensor, *_, **__: tensor.data.fill_(0.01))
    backbone = build_backbone(name)
    assert all(module.training for module in backbone.stem.modules())
    backbone.stem.eval()
    backbone.head.eval()
    with torch.no_grad():
        shared = backbone.stem(torch.rand(1, 3, 64, 96))
        seen = backbone.head(torch.rand(2, stem_channels, 8, 4))
    assert (backbone.stride, backbone.stem_channels) == (stride, stem_channels)
    assert shared.shape == (1, stem_channels, 64 // stride, 96 // stride)
    assert backbone.head_channels == head_channels
    assert seen.shape[:2] == (2, head_channels)


@pytest.mark.parametrize(("name", "last"), [("resnet18", "fc"), ("densenet121", "classifier")])
def test_stem_and_head_make_up_the_classifier(name: str, last: str) -> None:
    torch.manual_seed(0)
    network = get_model(name, weights=None).eval()
    torch.manual_seed(0)
    backbone = build_backbone(name)
    backbone.stem.eval()
    backbone.head.eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        seen = backbone.head(backbone.stem(image))
        scores = network.get_submodule(last)(seen.mean(dim=(2, 3)))
        torch.testing.assert_close(scores, network(image))
    assert seen.min() >= 0


@pytest.mark.parametrize("ending", ["safetensors", "pth", "wrapped.pth"])
def test_weights_come_from_a_file(ending: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = get_model("mobilenet_v3_small", weights=None).state_dict()
    path = tmp_path / f"weights.{ending}"
    if ending == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if "wrapped" in ending else state, path)
    backbone = build_backbone("mobilenet_v3_small", str(path))
    held = backbone.stem.state_dict() | backbone.head.state_dict()
    assert len(held) == sum(key.startswith("features.") for key in state)
    for key, value in held.items():
        assert torch.equal(value, state[f"features.{key}"])


def test_small_takes_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = build_backbone("small", width=4)
    parts = nn.ModuleDict({"stem": first.stem, "head": first.head})
    save_file(parts.state_dict(), tmp_path / "small.safetensors")
    second = build_backbone("small", str(tmp_path / "small.safetensors"), width=4)
    for key, value in first.stem.state_dict().items():
        assert torch.equal(second.stem.state_dict()[key], value)
    with pytest.raises(ModelError, match="does not fit backbone 'small'"):
        build_backbone("small", str(tmp_path / "small.safetensors"), width=8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5O", "unknown backbone 'resnet5O'.*'resnet50'"),
        ("smal", "'small'"),
        ("fasterrcnn_resnet50_fpn", "unknown backbone"),
        ("shufflenet_v2_x0_5", "cannot be cut into stem and head.*use a ResNet"),
        ("swin_t", "cannot be cut into stem and head"),
        ("alexnet", "cannot be cut into stem and head"),
    ],
)
def test_a_name_that_cannot_be_used_says_so(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetch)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    with pytest.raises(ModelError, match=message):
        build_backbone(name)


def test_frozen_norm_does_not_move_but_computes_the_same() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        values.uniform_(0.5, 2.0)
    x = torch.randn(2, 3, 4, 4)
    frozen = freeze_norm(norm).train()
    torch.testing.assert_close(frozen(x), norm.eval()(x))
    assert not list(frozen.parameters())
    backbone = build_backbone("small", norm="frozen", width=4)
    kinds = {type(m) for m in _norms(backbone)}
    assert kinds == {FrozenBatchNorm2d}
    assert {type(m) for m in _norms(build_backbone("small", width=4))} == {nn.BatchNorm2d}
    with pytest.raises(ModelError, match="'group', expected 'batch' or 'frozen'"):
        build_backbone("small", norm="group")


def test_frozen_stages_are_not_trained() -> None:
    backbone = build_backbone("resnet18", frozen_stages=5)
    trained = {n.split(".")[0] for n, p in backbone.stem.named_parameters() if p.requires_grad}
    assert trained == {"layer2", "layer3"}
    assert all(p.requires_grad for p in backbone.head.parameters())


@pytest.mark.parametrize(("name", "count"), [("small", 4), ("mobilenet_v3_small", 3)])
@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_statistics_of_frozen_stages_stay_live_unless_all_are_frozen(
    name: str, count: int, norm: str
) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, norm=norm, frozen_stages=count, width=4)
    stages = [stage for stage, _ in backbone.stem.named_children()]
    before = {k: v.clone() for k, v in backbone.stem.state_dict().items()}
    backbone.stem.train()(torch.rand(2, 3, 64, 64))
    after = backbone.stem.state_dict()
    moved = {k.split(".")[0] for k, v in after.items() if not torch.equal(v, before[k])}
    normalised = {s for s in stages if any(k.startswith(f"{s}.") and "mean" in k for k in after)}
    assert moved == (normalised if norm == "batch" else set())
    assert normalised & set(stages[:count])
    trained = {n.split(".")[0] for n, p in backbone.stem.named_parameters() if p.requires_grad}
    assert not trained & set(stages[:count])


@pytest.mark.parametrize("count", [7, -1])
def test_stages_that_are_not_there_cannot_be_frozen(count: int) -> None:
    message = rf"frozen_stages is {count}, the stem of 'small' has 6 children: conv1, bn1, .*layer2"
    with pytest.raises(ModelError, match=message):
        build_backbone("small", frozen_stages=count, width=4)
    assert build_backbone("small", frozen_stages=6, width=4).head_channels == 32


def test_surroundings_show_a_cell_more_of_the_picture() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("small", width=4)
    backbone.stem.eval()
    reach = {}
    for kind in ("with", "without"):
        image = torch.rand(1, 3, 256, 256, requires_grad=True)
        seen = backbone.stem(image)
        assert seen.shape == (1, 16, 32, 32)
        seen[0, :, 16, 16].sum().backward()
        assert image.grad is not None
        columns = image.grad[0].abs().sum(dim=(0, 1)).nonzero()
        reach[kind] = int(columns.max() - columns.min()) + 1
        backbone.stem.surroundings = nn.Identity()
    assert reach["without"] < 80
    assert reach["with"] > 120


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (7, 3)])
def test_surroundings_fit_a_map_of_any_size(size: tuple[int, int]) -> None:
    module = TopDownFusion(4).eval()
    x = torch.rand(2, 4, *size)
    assert module(x).shape == x.shape
    for merge in (module.merge1, module.merge2):
        nn.init.zeros_(merge.weight)
        assert merge.bias is not None
        nn.init.zeros_(merge.bias)
    assert torch.equal(module(x), x)


@pytest.mark.parametrize(
    ("name", "channels", "first_stride"),
    [
        ("small", (4, 8, 16, 32, 32), 2),
        ("resnet18", (64, 64, 128, 256, 512), 4),
        ("resnet50", (64, 256, 512, 1024, 2048), 4),
    ],
)
def test_a_trunk_says_what_its_blocks_give(
    name: str, channels: tuple[int, ...], first_stride: int
) -> None:
    trunk = build_trunk(name, width=4)
    assert list(trunk.blocks) == ["C1", "C2", "C3", "C4", "C5"]
    assert tuple(trunk.channels.values()) == channels
    assert tuple(trunk.strides.values()) == (first_stride, 4, 8, 16, 32)
    assert trunk.detector == {}
    x = torch.rand(1, 3, 64, 96)
    trunk.blocks.eval()
    for block, module in trunk.blocks.items():
        x = module(x)
        stride = trunk.strides[block]
        assert x.shape == (1, trunk.channels[block], 64 // stride, 96 // stride)


def test_a_trunk_is_the_classifier_without_its_end(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = get_model("resnet18", weights=None).eval()
    file = tmp_path / "resnet18.pth"
    torch.save(network.state_dict(), file)
    trunk = build_trunk("resnet18", str(file))
    x = image = torch.rand(1, 3, 64, 64)
    for module in trunk.blocks.eval().values():
        x = module(x)
    y = network.fc(x.mean(dim=(2, 3)))
    torch.testing.assert_close(y, network(image))


def test_a_trunk_takes_the_body_of_a_published_detector(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = get_model("resnet18", weights=None)
    state = {f"backbone.body.{k}": v for k, v in network.state_dict().items() if "fc." not in k}
    rest = {"head.x": torch.ones(2), "backbone.fpn.y": torch.ones(3)}
    file = tmp_path / "detector.pth"
    torch.save(state | rest, file)
    trunk = build_trunk("resnet18", str(file))
    assert torch.equal(trunk.blocks["C1"].conv1.weight, network.conv1.weight)
    assert trunk.detector.keys() == rest.keys()
    with pytest.raises(ModelError, match="does not fit backbone 'resnet50'"):
        build_trunk("resnet50", str(file))


@pytest.mark.parametrize("norm", ["batch", "frozen"])
@pytest.mark.parametrize("count", [0, 2, 5])
def test_frozen_blocks_of_a_trunk(count: int, norm: str) -> None:
    trunk = build_trunk("small", norm=norm, frozen_stages=count, width=4)
    before = {k: v.clone() for k, v in trunk.blocks.state_dict().items()}
    x = torch.rand(2, 3, 64, 64)
    for module in trunk.blocks.train().values():
        x = module(x)
    after = trunk.blocks.state_dict()
    moved = {k.split(".")[0] for k, v in after.items() if not torch.equal(v, before[k])}
    assert moved == (set(trunk.blocks) if norm == "batch" else set())
    trained = {n.split(".")[0] for n, p in trunk.blocks.named_parameters() if p.requires_grad}
    assert trained == set(list(trunk.blocks)[count:])


def test_a_vgg_keeps_its_fully_connected_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """fc6 and fc7 read 7 x 7 cells of conv5, as the classifier that was pretrained."""
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda tensor, *_, **__: tensor)
    monkeypatch.setattr(nn.init, "normal_", lambda tensor, *_, **__: tensor.data.fill_(1e-4))
    backbone = build_backbone("vgg11")
    assert backbone.flat
    network = vgg11()
    network.classifier[0].load_state_dict(backbone.head.fc6.state_dict())
    network.classifier[3].load_state_dict(backbone.head.fc7.state_dict())
    pooled = torch.rand(2, 512, 7, 7)
    expected = network.eval().classifier[:6](pooled.flatten(1))
    torch.testing.assert_close(backbone.head(pooled).flatten(1), expected)


def test_a_detection_head_of_its_own() -> None:
    plain = build_backbone("small", width=4)
    assert plain.own_detection_head is None
    assert plain.detection_channels == plain.head_channels
    assert [*plain.copy_detection_head().state_dict()] == [*plain.head.state_dict()]
    backbone = build_backbone("small", width=4, detection_hidden=12, detection_grid=(3, 2))
    assert backbone.own_detection_head is not None
    assert backbone.detection_channels == 12
    assert backbone.own_detection_head(torch.rand(5, 16, 8, 4)).shape == (5, 12, 1, 1)
    copied = backbone.copy_detection_head()
    assert copied is not backbone.own_detection_head
    assert torch.equal(copied.layers[0].weight, backbone.own_detection_head.layers[0].weight)


def test_a_trunk_can_hold_all_normalisation_still() -> None:
    trunk = build_trunk("resnet18", norm="frozen")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in trunk.blocks.modules())
    assert all(p.requires_grad for p in trunk.blocks.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg16"}, "backbone 'vgg16' has no blocks C1 to C5"),
        ({"name": "resnet51"}, "unknown backbone 'resnet51'.*'resnet50'"),
        ({"name": "resnet18", "weights": "coco"}, "published for backbone 'resnet50'"),
        ({"name": "small", "weights": "coco"}, "'small' has no published weights"),
        ({"name": "small", "norm": "none"}, "norm is 'none'"),
        ({"name": "small", "frozen_stages": 6}, "frozen_stages is 6, a trunk has 5 blocks"),
        ({"name": "resnet18", "weights": "nowhere.pth"}, "no such weights file"),
    ],
)
def test_trunks_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_trunk(**arguments)
