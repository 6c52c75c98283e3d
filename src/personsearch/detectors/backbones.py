"""Convolutional networks, cut in two or into blocks.

Any torchvision classifier whose features are a chain of stages can be cut into a stem, which runs
on the picture, and a head, which runs on each region: the stem ends where the stride reaches 16
(conv1-conv4 of a ResNet, conv1-conv5 of VGG16). A ResNet can also be cut into its blocks C1 to C5.
`small` is our own, for machines without a GPU.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.ops import FrozenBatchNorm2d

from personsearch.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(eq=False)
class Backbone:
    """A network cut in two."""

    stem: nn.Module  # (B, 3, H, W) -> (B, stem_channels, H / stride, W / stride)
    head: nn.Module  # (N, stem_channels, h, w) -> (N, head_channels, h', w'), run on each region
    stem_channels: int
    head_channels: int
    stride: int  # pixels of the picture to one cell of the shared map


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


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file by name.

    Raises:
        ModelError: the file is missing, or holds something else than tensors.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file; give 'none', 'imagenet' or a file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{path}: cannot be read as weights ({type(error).__name__}: {error}); expected a "
            ".safetensors file, or a .pth file that holds tensors only"
        ) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{path}: holds no state dictionary of tensors")
    return state


def published_weights(name: str) -> dict[str, Tensor]:
    """Return torchvision's published tensors of the network `name`, fetched once.

    Raises:
        ModelError: they cannot be fetched.
    """
    weights = get_model_weights(name).DEFAULT
    try:
        state: dict[str, Tensor] = weights.get_state_dict(
            progress=True, check_hash=True, weights_only=True
        )
    except (URLError, HTTPException, OSError, RuntimeError) as error:  # the last: a bad checksum
        raise ModelError(
            f"the published weights of {name} cannot be fetched from {weights.url} ({error}); "
            "fetch that file on a machine with a network and give its path as 'weights', "
            "or start from weights = 'none'"
        ) from None
    return state


def build_backbone(
    name: str = "resnet50",  # "small", or the name of a torchvision classifier
    # "none", "imagenet" (torchvision's published weights, fetched once) or the path of a
    # file with the classifier's state dictionary
    weights: str = "none",
    norm: str = "batch",  # "batch" trains batch normalisation, "frozen" does not
    frozen_stages: int = 0,  # how many children of the stem, from the picture on, are not trained
    width: int = 32,  # of "small" only
) -> Backbone:
    """Return a backbone by name.

    Raises:
        ModelError: an unknown name, missing or misfit weights, or too many frozen stages.
    """
    _check_norm(norm)
    if name == "small":
        backbone = small_backbone(width)
        _fit_small(nn.ModuleDict({"stem": backbone.stem, "head": backbone.head}), weights)
    else:
        backbone = _cut(_stages(_classifier(name, weights), name), name)
    if norm == "frozen":
        backbone.stem, backbone.head = freeze_norm(backbone.stem), freeze_norm(backbone.head)
    stages = list(backbone.stem.named_children())
    if not 0 <= frozen_stages <= len(stages):
        raise ModelError(
            f"frozen_stages is {frozen_stages}, the stem of {name!r} has {len(stages)} children: "
            f"{', '.join(stage for stage, _ in stages)}"
        )
    for stage, module in stages[:frozen_stages]:
        # Frozen stages keep their statistics, too.
        setattr(backbone.stem, stage, freeze_norm(module).requires_grad_(False))
    return backbone


def _check_norm(norm: str) -> None:
    if norm not in ("batch", "frozen"):
        raise ModelError(f"norm is {norm!r}, expected 'batch' or 'frozen'")


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
    # "none", "imagenet" (torchvision's published weights of the classifier), "coco" (of
    # its RetinaNet, ResNet-50 only), or the path of a file with the state dictionary of either kind
    weights: str = "none",
    norm: str = "batch",  # as for `build_backbone`
    frozen_stages: int = 0,  # how many blocks, from C1 on, are not trained
    width: int = 32,
) -> Trunk:
    """Return a trunk by name.

    Raises:
        ModelError: an unknown name, missing or misfit weights, or too many frozen blocks.
    """
    _check_norm(norm)
    if name == "small":
        trunk = small_trunk(width)
        _fit_small(trunk.blocks, weights)
    else:
        trunk = _resnet_trunk(name, weights)
    if not 0 <= frozen_stages <= len(trunk.blocks):
        raise ModelError(
            f"frozen_stages is {frozen_stages}, a trunk has {len(trunk.blocks)} blocks: "
            f"{', '.join(trunk.blocks)}"
        )
    for place, (key, block) in enumerate(list(trunk.blocks.items())):
        if place < frozen_stages or norm == "frozen":
            trunk.blocks[key] = freeze_norm(block)
        if place < frozen_stages:
            trunk.blocks[key].requires_grad_(False)
    return trunk


def _resnet_trunk(name: str, weights: str) -> Trunk:
    """Return a ResNet's blocks, with the weights of a classifier or of a detector's body."""
    body = "backbone.body."
    if weights in ("none", "imagenet"):
        network, detector = _classifier(name, weights), {}
    else:
        if weights == "coco" and name != "resnet50":
            raise ModelError(
                f"weights = 'coco' are published for backbone 'resnet50', not {name!r}; use "
                "'imagenet', 'none' or a file"
            )
        network = _classifier(name, "none")
        whole = (
            published_weights("retinanet_resnet50_fpn")
            if weights == "coco"
            else read_weights(Path(weights))
        )
        features = {k.removeprefix(body): v for k, v in whole.items() if k.startswith(body)}
        detector = {k: v for k, v in whole.items() if features and not k.startswith(body)}
        _fit(network, features or whole, weights, name)
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
    if weights == "imagenet":
        try:
            network.load_state_dict(published_weights(name))
        except RuntimeError as error:
            raise ModelError(f"the published weights of {name} do not fit it: {error}") from None
    elif weights != "none":
        _fit(network, read_weights(Path(weights)), weights, name)
    return network


def _fit_small(network: nn.Module, weights: str) -> None:
    if weights in ("imagenet", "coco"):
        raise ModelError("backbone 'small' has no published weights; use weights = 'none'")
    if weights != "none":
        _fit(network, read_weights(Path(weights)), weights, "small")


def _fit(network: nn.Module, tensors: Mapping[str, Tensor], weights: str, name: str) -> None:
    # The classifier is cut off anyway, so only the features matter.
    classifier = ("fc.", "classifier.")
    state = {k: v for k, v in tensors.items() if not k.startswith(classifier)}
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        first = str(error).split("\n\t")[1:2] or [str(error)]
        raise ModelError(f"{weights}: does not fit backbone {name!r}: {first[0]}") from None
    missing = [key for key in missing if not key.startswith(classifier)]
    if missing:
        raise ModelError(
            f"{weights}: does not fit backbone {name!r}: {len(missing)} tensors are missing "
            f"(first {missing[0]!r}) and {len(unexpected)} are unknown"
            + (f" (first {unexpected[0]!r})" if unexpected else "")
        )
