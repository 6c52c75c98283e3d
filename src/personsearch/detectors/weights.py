"""Weights files and published weights of networks, by name."""

import re
import warnings
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from personsearch.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET = ("imagenet", "imagenet-v1", "imagenet-v2")
"""Names of torchvision's published weights; the first stands for its newest."""
COCO = {"coco": "retinanet_resnet50_fpn", "coco-faster-rcnn": "fasterrcnn_resnet50_fpn"}
"""Names of torchvision's weights of whole detectors, and the detectors."""
COCO_PERSON = 1
"""The class of people among their classes."""
_WRAPPED = 4  # dictionaries around the tensors, at most


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file by name; nothing in it is executed.

    They may be wrapped as ``state_dict`` or ``model``, and begin with ``module.``.

    Raises:
        ModelError: the file is missing, damaged or packed, or holds something else than dense
            tensors.
    """
    if not path.is_file():
        names = "" if path.suffix else ", or a name such as 'none' or 'imagenet-v1'"
        raise ModelError(
            f"{path}: no such weights file; expected a .pth that torch.save wrote, or a "
            f".safetensors{names}"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        _check_unpacked(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that torch.save did not write
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except Exception as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise ModelError(
                f"{path}: holds Python objects ({refused[1].rstrip('.')}), expected tensors and "
                "numbers only; nothing of it was executed. Save model.state_dict() instead"
            ) from None
        raise ModelError(
            f"{path}: cannot be read ({type(error).__name__}), expected a whole file of weights "
            "(.safetensors, or a .pth that torch.save wrote); download or copy it again"
        ) from None
    for _ in range(_WRAPPED):
        if isinstance(state, dict) and (inner := state.keys() & {"state_dict", "model"}):
            state = state[min(inner)]
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise ModelError(f"{path}: holds no state dictionary of tensors; save model.state_dict()")
    for name, tensor in state.items():
        dense = tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_meta)
        if not dense or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ModelError(
                f"{path}: {name} of shape {list(tensor.shape)} does not hold all its numbers, "
                "expected dense tensors; save model.state_dict()"
            )
    while state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return dict(state)


def _check_unpacked(path: Path) -> None:
    """Refuse a ZIP file of more bytes than it has itself; torch.save writes it unpacked."""
    if is_zipfile(path):
        with ZipFile(path) as archive:
            size, found = sum(one.file_size for one in archive.infolist()), path.stat().st_size
        if size > found:
            raise ModelError(
                f"{path}: has {found:,} bytes and unpacks to {size:,}, expected a .pth as "
                "torch.save writes it, not compressed"
            )


def published_weights(name: str, version: str = "imagenet") -> dict[str, Tensor]:
    """Return torchvision's published tensors of the network `name`, fetched once.

    Papers up to 2021 started from ``imagenet-v1``; a detector has one version.

    Raises:
        ModelError: there are no such weights, or they cannot be fetched.
    """
    known = get_model_weights(name)
    kind = "DEFAULT" if version == "imagenet" else f"IMAGENET1K_{version[-2:].upper()}"
    if kind not in known.__members__:
        raise ModelError(
            f"torchvision has no weights {version!r} of {name}; use 'imagenet', its newest"
        )
    weights = known[kind]
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


def fit_weights(network: nn.Module, tensors: Mapping[str, Tensor], weights: str, name: str) -> None:
    """Load `tensors` into a classifier; those of its last layers may be missing.

    Raises:
        ModelError: they do not fit.
    """
    # The last layer is cut off anyway, and so are all fully connected ones but those of a VGG.
    classifier = ("fc.", "classifier.")
    own = network.state_dict()
    state = {
        k: v
        for k, v in tensors.items()
        if not k.startswith(classifier) or (k in own and own[k].shape == v.shape)
    }
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


def fit_detector(
    parts: Mapping[str, nn.Module],  # by how their published names begin
    tensors: Mapping[str, Tensor],  # of a whole published detector
    expected: str,  # the network that they are expected to be of, for the error
) -> None:
    """Load the parts of a torchvision detector.

    Raises:
        ModelError: they do not fit.
    """
    try:
        for start, part in parts.items():
            own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            part.load_state_dict(own)
    except RuntimeError as error:
        first = str(error).split("\n\t")[1:2] or [str(error)]
        raise ModelError(
            f"the published detector does not fit these settings: {first[0]}; expected {expected}"
        ) from None
