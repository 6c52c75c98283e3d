"""Convolutional networks, cut in two or into blocks.

Any torchvision classifier whose features are a chain of stages can be cut into a stem, which runs
on the picture, and a head, which runs on each region: the stem ends where the stride reaches 16
(conv1-conv4 of a ResNet, conv1-conv5 of VGG16). A ResNet can also be cut into its blocks C1 to C5.
`small` is our own, for machines without a GPU.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models import get_model, list_models
from torchvision.ops import FrozenBatchNorm2d

from personsearch.detectors.faster_rcnn import fully_connected, grid
from personsearch.detectors.weights import (
    COCO,
    IMAGENET,
    fit_weights,
    published_weights,
    read_weights,
)
from personsearch.errors import ModelError


@dataclass(eq=False)
class Backbone:
    """A network cut in two: the stem runs on the picture, the head on each region.

    In published systems detection reads the head's output. A narrow network needs a detection head
    of its own, which reads the pooled region instead, and an embedding of several parts of it.
    """

    stem: nn.Module  # (B, 3, H, W) -> (B, stem_channels, H / stride, W / stride)
    # (N, stem_channels, h, w) -> (N, head_channels, h', w'): a ResNet's conv5, VGG16's fc6 and fc7
    head: nn.Sequential
    stem_channels: int
    head_channels: int
    stride: int  # pixels of the picture to one cell of the shared map
    flat: bool = False  # whether the head's output has one cell, as that of VGG16
    cells: tuple[int, int] = (1, 1)  # rows and columns that embeddings pool a map to
    own_detection_head: nn.Sequential | None = None  # (N, stem_channels, h, w) -> (N, width, 1, 1)
    own_detection_width: int = 0

    @property
    def detection_channels(self) -> int:
        """Channels of what detection reads."""
        return self.own_detection_width if self.own_detection_head else self.head_channels

    def copy_detection_head(self) -> nn.Sequential:
        """Return a copy of what runs on a region before detection: its own head, or the head."""
        return deepcopy(self.own_detection_head or self.head)


@dataclass(eq=False)
class Trunk:
    """A residual network cut into the blocks that feature pyramids are made of.

    Block Ck runs on the output of C(k-1), C1 on the picture (B, 3, H, W). Of a ResNet, C1 is conv1,
    bn1, relu and maxpool; C2 to C5 are layer1 to layer4, named as by Lin et al. (2017, FPN).
    `detector` holds the other tensors of published weights of a whole detector.
    """

    blocks: nn.ModuleDict
    channels: dict[str, int]
    strides: dict[str, int]  # pixels of the picture to one cell of each block's output
    detector: dict[str, Tensor] = field(default_factory=dict)
    cells: tuple[int, int] = (1, 1)  # rows and columns that embeddings pool the last map to

    def copies(self, first: str = "C1") -> nn.ModuleDict:
        """Return copies of the blocks from `first` on, for re-identification.

        All their weights are trained, batch normalisation included: `norm` and `frozen_stages` are
        for detectors, whose batches of a few pictures have poor statistics.
        """
        names = list(self.blocks)
        chosen = {name: deepcopy(self.blocks[name]) for name in names[names.index(first) :]}
        return nn.ModuleDict(chosen).apply(_thaw_children).requires_grad_(True)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class TopDownFusion(nn.Module):
    """Add two coarser maps to a map (Lin et al. 2017, FPN).

    The receptive field of a shallow stem is 70 pixels; with it, a cell covers a whole person.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down1 = ResidualBlock(channels, channels, 2)
        self.down2 = ResidualBlock(channels, channels, 2)
        self.merge1 = nn.Conv2d(channels, channels, 1)
        self.merge2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.down1(x)
        coarser = functional.interpolate(self.merge2(self.down2(coarse)), size=coarse.shape[-2:])
        return x + functional.interpolate(self.merge1(coarse + coarser), size=x.shape[-2:])


def small_backbone(
    width: int = 32,  # channels at stride 2; the map has four times as many, the head eight times
) -> Backbone:
    """Return a narrow residual network with a shared map of stride 8, for two cores."""
    first, layer1, layer2 = _small_blocks(width)
    fusion = TopDownFusion(4 * width)
    stem = nn.Sequential(first | OrderedDict(layer1=layer1, layer2=layer2, surroundings=fusion))
    head = nn.Sequential(
        ResidualBlock(4 * width, 8 * width, 2), ResidualBlock(8 * width, 8 * width)
    )
    _initialise(stem, head)
    return Backbone(stem, head, 4 * width, 8 * width, 8)


def _small_blocks(width: int) -> tuple[OrderedDict[str, nn.Module], nn.Module, nn.Module]:
    """Return the first layers of the small networks, to strides 2, 4 and 8."""
    first: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, width, 3, 2, 1, bias=False),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(inplace=True),
    )
    second = ResidualBlock(width, 2 * width, 2)
    third = (ResidualBlock(2 * width, 4 * width, 2), ResidualBlock(4 * width, 4 * width))
    return first, second, nn.Sequential(*third)


def _initialise(*parts: nn.Module) -> None:
    for module in (m for part in parts for m in part.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _stages(network: nn.Module, name: str) -> OrderedDict[str, nn.Module]:
    """Return the chain of modules that a torchvision classifier runs before its classifier."""
    if hasattr(network, "layer4"):
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
        return OrderedDict((n, getattr(network, n)) for n in names)
    trunk, features = getattr(network, "trunk_output", None), getattr(network, "features", None)
    if isinstance(trunk, nn.Sequential):
        return OrderedDict([("stem", network.get_submodule("stem")), *trunk.named_children()])
    if isinstance(features, nn.Sequential):
        children = list(features.named_children())
        # VGG's last pooling is what RoI pooling replaces.
        if isinstance(children[-1][1], nn.MaxPool2d):
            children = children[:-1]
        # DenseNet applies its last activation outside of its features.
        if isinstance(children[-1][1], nn.BatchNorm2d):
            children.append(("relu", nn.ReLU(inplace=True)))
        return OrderedDict(children)
    raise _cannot_be_cut(name, "its features are not a chain of stages")


def _cannot_be_cut(name: str, reason: str) -> ModelError:
    return ModelError(
        f"backbone {name!r} cannot be cut into stem and head: {reason}; use a ResNet, ResNeXt, "
        "RegNet, VGG, MobileNet, EfficientNet or ConvNeXt"
    )


def _cut(stages: OrderedDict[str, nn.Module], name: str, max_stride: int = 16) -> Backbone:
    """Cut a chain where its stride passes `max_stride`, found by running a blank picture."""
    side = 128
    stem: OrderedDict[str, nn.Module] = OrderedDict()
    head: OrderedDict[str, nn.Module] = OrderedDict()
    x = torch.zeros(1, 3, side, side)
    stem_channels, stride = 3, 1
    modes = {name: module.training for name, module in stages.items()}
    with torch.no_grad():
        for stage, module in stages.items():
            x = module.eval()(x)
            if not head and x.shape[2] == x.shape[3] and side <= max_stride * x.shape[3]:
                stem[stage] = module
                stem_channels, stride = x.shape[1], side // x.shape[3]
            else:
                head[stage] = module
    for stage, module in stages.items():
        module.train(modes[stage])
    # Swin's maps end in channels; AlexNet's and SqueezeNet's lose cells at the border.
    if not stem or x.shape[2] != x.shape[3] or side % x.shape[3]:
        raise _cannot_be_cut(name, "its maps are not (B, C, H, W) at a whole stride")
    # A chain of stride 16 in all, such as VGG's, has no convolutional head.
    return Backbone(nn.Sequential(stem), nn.Sequential(head), stem_channels, x.shape[1], stride)


def _vgg_head(network: models.VGG) -> nn.Sequential:
    """Return fc6 and fc7 of a VGG on regions averaged to 7 x 7, without dropout."""
    layers = network.classifier
    return nn.Sequential(
        OrderedDict(
            pool=network.avgpool,
            flatten=nn.Flatten(),
            fc6=layers[0],
            relu6=nn.ReLU(),
            fc7=layers[3],
            relu7=nn.ReLU(),
            cell=nn.Unflatten(1, (layers[3].out_features, 1, 1)),
        )
    )


def freeze_norm(module: nn.Module) -> nn.Module:
    """Return the module with every BatchNorm2d replaced by a FrozenBatchNorm2d."""
    if isinstance(module, nn.BatchNorm2d):
        frozen = FrozenBatchNorm2d(module.num_features, module.eps)
        state = {k: v for k, v in module.state_dict().items() if k != "num_batches_tracked"}
        frozen.load_state_dict(state)
        return cast(nn.Module, frozen)
    for name, child in module.named_children():
        setattr(module, name, freeze_norm(child))
    return module


def _thaw_children(module: nn.Module) -> None:
    """Replace each frozen batch normalisation in a module by a trained one."""
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d):
            norm = nn.BatchNorm2d(len(child.weight), child.eps)
            norm.load_state_dict(child.state_dict(), strict=False)
            setattr(module, name, norm)


def build_backbone(
    name: str = "resnet50",  # "small", or the name of a torchvision classifier
    # "none", "imagenet-v1" or "-v2" (torchvision's published weights, fetched once), or the path of
    # a file with the classifier's state dictionary
    weights: str = "none",
    # "batch" trains batch normalisation, "frozen" does not, "frozen-stem" does in the head alone
    norm: str = "batch",
    frozen_stages: int = 0,  # how many children of the stem, from the picture on, are not trained
    width: int = 32,  # of "small" only
    *,
    embedding_grid: Sequence[int] = (1, 1),  # rows and columns that embeddings pool a map to
    # width of two fully connected layers of a detection head of its own; at 0 detection reads the
    # head's output, as published
    detection_hidden: int = 0,
    detection_grid: Sequence[int] = (1, 1),  # rows and columns of a region that it reads
) -> Backbone:
    """Return a backbone by name.

    Frozen stages keep their weights; `norm` says what batch normalisation does in all stages.

    Raises:
        ModelError: an unknown name, missing or misfit weights, or too many frozen stages.
    """
    _check_norm(norm, "batch", "frozen", "frozen-stem")
    if name == "small":
        backbone = small_backbone(width)
        _load_small(nn.ModuleDict({"stem": backbone.stem, "head": backbone.head}), weights)
    else:
        network = _classifier(name, weights)
        backbone = _cut(_stages(network, name), name)
        if isinstance(network, models.VGG):
            backbone.head, backbone.flat = _vgg_head(network), True
            backbone.head_channels = network.classifier[3].out_features
    backbone.cells = grid("embedding_grid", embedding_grid)
    cells = grid("detection_grid", detection_grid)
    if detection_hidden:
        layers, _ = fully_connected(backbone.stem_channels * math.prod(cells), detection_hidden)
        backbone.own_detection_head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(cells),
                flatten=nn.Flatten(),
                layers=layers,
                cell=nn.Unflatten(1, (detection_hidden, 1, 1)),
            )
        )
        backbone.own_detection_width = detection_hidden
    if norm != "batch":
        freeze_norm(backbone.stem)
    if norm == "frozen":
        freeze_norm(backbone.head)
    stages = list(backbone.stem.named_children())
    if not 0 <= frozen_stages <= len(stages):
        raise ModelError(
            f"frozen_stages is {frozen_stages}, the stem of {name!r} has {len(stages)} children: "
            f"{', '.join(stage for stage, _ in stages)}"
        )
    for _, module in stages[:frozen_stages]:
        module.requires_grad_(False)
    return backbone


def _check_norm(norm: str, *known: str) -> None:
    if norm not in known:
        raise ModelError(f"norm is {norm!r}, expected {' or '.join(map(repr, known))}")


def small_trunk(
    width: int = 32,  # channels of C1; C2 has twice, C3 four times, C4 and C5 eight times as many
) -> Trunk:
    """Return a narrow residual network of strides 2 to 32, for two cores."""
    first, second, third = _small_blocks(width)
    blocks = {
        "C1": nn.Sequential(first),
        "C2": second,
        "C3": third,
        "C4": ResidualBlock(4 * width, 8 * width, 2),
        "C5": ResidualBlock(8 * width, 8 * width, 2),
    }
    _initialise(*blocks.values())
    channels = dict(zip(blocks, (width, 2 * width, 4 * width, 8 * width, 8 * width), strict=True))
    return Trunk(nn.ModuleDict(blocks), channels, {f"C{k}": 2**k for k in range(1, 6)})


_RESNET_BLOCKS = {
    "C1": ("conv1", "bn1", "relu", "maxpool"),
    "C2": ("layer1",),
    "C3": ("layer2",),
    "C4": ("layer3",),
    "C5": ("layer4",),
}


def build_trunk(
    name: str = "resnet50",  # "small", or a ResNet, ResNeXt or Wide ResNet of torchvision
    # "none", "imagenet-v1" or "-v2" (torchvision's weights of the classifier), "coco" or
    # "coco-faster-rcnn" (of its RetinaNet and Faster R-CNN with ResNet-50, the detector's head
    # included), the path of a file with the state dictionary of either kind,
    # or the checkpoint of a disjoint pair (`systems.sequential`), for its re-ID network's weights
    weights: str = "none",
    norm: str = "batch",  # "batch" or "frozen", as for `build_backbone`
    frozen_stages: int = 0,  # how many blocks, from C1 on, are not trained
    width: int = 32,
    *,
    embedding_grid: Sequence[int] = (1, 1),  # rows and columns that embeddings pool the last map to
) -> Trunk:
    """Return a trunk by name.

    Raises:
        ModelError: an unknown name, missing or misfit weights, or too many frozen blocks.
    """
    _check_norm(norm, "batch", "frozen")
    named = weights in ("none", *COCO, *IMAGENET)
    checkpoint = None if named or not Path(weights).is_dir() else Path(weights)
    given = "none" if checkpoint else weights
    if name == "small":
        trunk = small_trunk(width)
        _load_small(trunk.blocks, given)
    else:
        trunk = _resnet_trunk(name, given)
    if checkpoint:
        tensors = read_weights(checkpoint / "model.safetensors")
        of_reid = {k.removeprefix("branch."): v for k, v in tensors.items() if k[:7] == "branch."}
        fit_weights(trunk.blocks, of_reid, weights, name)
    trunk.cells = grid("embedding_grid", embedding_grid)
    if not 0 <= frozen_stages <= len(trunk.blocks):
        raise ModelError(
            f"frozen_stages is {frozen_stages}, a trunk has {len(trunk.blocks)} blocks: "
            f"{', '.join(trunk.blocks)}"
        )
    if norm == "frozen":
        freeze_norm(trunk.blocks)
    for block in list(trunk.blocks.values())[:frozen_stages]:
        block.requires_grad_(False)
    return trunk


def _resnet_trunk(name: str, weights: str) -> Trunk:
    """Return a ResNet's blocks, with the weights of a classifier or of a detector's body."""
    body = "backbone.body."
    if weights in ("none", *IMAGENET):
        network, detector = _classifier(name, weights), {}
    else:
        if weights in COCO and name != "resnet50":
            raise ModelError(
                f"weights = {weights!r} are published for backbone 'resnet50', not {name!r}; use "
                "'imagenet-v1', 'none' or a file"
            )
        network = _classifier(name, "none")
        whole = published_weights(COCO[weights]) if weights in COCO else read_weights(Path(weights))
        features = {k.removeprefix(body): v for k, v in whole.items() if k.startswith(body)}
        detector = {k: v for k, v in whole.items() if features and not k.startswith(body)}
        # The body published on COCO was trained with frozen statistics and divides by their root
        # alone; ours adds 1e-5 first.
        if detector and not any(k.endswith("num_batches_tracked") for k in features):
            features = {k: v - 1e-5 if "running_var" in k else v for k, v in features.items()}
        fit_weights(network, features or whole, weights, name)
    if not hasattr(network, "layer4"):
        raise ModelError(
            f"backbone {name!r} has no blocks C1 to C5; use 'small', or a ResNet, ResNeXt or "
            "Wide ResNet of torchvision"
        )
    stages = _stages(network, name)
    blocks = {
        block: nn.Sequential(OrderedDict((part, stages[part]) for part in parts))
        if len(parts) > 1
        else stages[parts[0]]
        for block, parts in _RESNET_BLOCKS.items()
    }
    channels = {block: _last_convolution(part).out_channels for block, part in blocks.items()}
    strides = dict(zip(blocks, (4, 4, 8, 16, 32), strict=True))
    return Trunk(nn.ModuleDict(blocks), channels, strides, detector)


def _last_convolution(block: nn.Module) -> nn.Conv2d:
    return [
        module
        for path, module in block.named_modules()
        if isinstance(module, nn.Conv2d) and "downsample" not in path
    ][-1]


def _classifier(name: str, weights: str) -> nn.Module:
    """Return a torchvision classifier: its detectors would fetch weights when built."""
    classifiers = list_models(module=models)
    if name not in classifiers:
        near = get_close_matches(name, ["small", *classifiers], n=3)
        raise ModelError(
            f"unknown backbone {name!r}; expected 'small' or a torchvision classifier"
            + (f", such as {', '.join(map(repr, near))}" if near else "")
        )
    build: Callable[..., nn.Module] = get_model
    network = build(name, weights=None)
    if weights in IMAGENET:
        try:
            network.load_state_dict(published_weights(name, weights))
        except RuntimeError as error:
            raise ModelError(f"the published weights of {name} do not fit it: {error}") from None
    elif weights != "none":
        fit_weights(network, read_weights(Path(weights)), weights, name)
    return network


def _load_small(network: nn.Module, weights: str) -> None:
    if weights in (*IMAGENET, *COCO):
        raise ModelError("backbone 'small' has no published weights; use weights = 'none'")
    if weights != "none":
        fit_weights(network, read_weights(Path(weights)), weights, "small")
