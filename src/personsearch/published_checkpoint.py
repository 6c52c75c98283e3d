"""Checkpoints of SeqNet's and NAE's published programs, turned into checkpoints of ours.

The published networks are ours with other names, so every tensor is copied as it is. Two things
differ: their box regressors also have rows for background, which neither a loss nor a detection
reads, and the position of OIM's queue was not saved.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from personsearch import recipes
from personsearch.detectors.weights import read_weights
from personsearch.errors import CheckpointError, ModelError
from personsearch.training.checkpoint import save_checkpoint
from personsearch.training.recipe import Recipe, read_recipe

Published = Literal["seqnet", "nae"]
"""Systems whose published checkpoints can be read."""

_EMBEDDING = "roi_heads.embedding_head."
_COMMON = {
    "backbone.": "stem.",
    "rpn.head.conv.": "proposals.head.conv.0.0.",  # torchvision before 0.14
    "rpn.head.conv.0.0.": "proposals.head.conv.0.0.",
    "rpn.head.cls_logits.": "proposals.head.cls_logits.",
    "rpn.head.bbox_pred.": "proposals.head.bbox_pred.",
    "roi_heads.box_predictor.bbox_pred.": "regressor.2.",
    f"{_EMBEDDING}projectors.feat_res4.": "embedder.projections.0.",
    f"{_EMBEDDING}projectors.feat_res5.": "embedder.projections.1.",
    f"{_EMBEDDING}rescaler.": "embedder.norm_aware.rescale.",
    "roi_heads.reid_loss.lut": "oim.lookup.values",
    "roi_heads.reid_loss.cq": "oim.queue.values",
}
NAMES: Mapping[Published, Mapping[str, str]] = {
    "nae": _COMMON | {"roi_heads.box_head.": "head."},
    "seqnet": _COMMON
    | {
        "roi_heads.box_head.": "first_head.",
        "roi_heads.reid_head.": "head.",
        "roi_heads.faster_rcnn_predictor.cls_score.": "first.classifier.",
        "roi_heads.faster_rcnn_predictor.bbox_pred.": "first.regressor.",
    },
}
"""How each published name begins, and how ours does instead."""

TWO_CLASSES = ("regressor.", "first.regressor.")
"""Our tensors that hold the last half of the published rows, those of people."""

LOOKUP, QUEUE, POSITION = "oim.lookup.values", "oim.queue.values", "oim.queue.position"
_RECIPES = {5532: "cuhk-sysu", 482: "prw", 483: "prw"}
"""The shipped recipes by the number of identities in the lookup table."""


@dataclass(frozen=True)
class Conversion:
    """What became of each tensor of a published file, by its name there."""

    recipe: str  # name of the recipe in the checkpoint
    matched: Mapping[str, str]  # published name -> ours
    left_out: Mapping[str, str]  # published name -> why


def convert_weights(
    file: Path,  # the .pth
    system: Published,
    out: Path,  # the checkpoint folder to write
    recipe: str | None = None,  # of the checkpoint; None: chosen by the number of identities
) -> Conversion:
    """Write a published file as a checkpoint folder and return what became of its tensors.

    Raises:
        ModelError: the file cannot be read, or is not of this system.
        CheckpointError: `out` exists, or cannot be written.
        RecipeError: there is no such recipe.
    """
    file, out = Path(file), Path(out)
    if out.exists():
        raise CheckpointError(f"{out}: exists already; choose another folder, or remove it")
    theirs = read_weights(file)
    state, matched, left_out = our_tensors(theirs, system, str(file))
    num_ids = len(state[LOOKUP])
    if recipe is None:
        if num_ids not in _RECIPES:
            raise ModelError(
                f"{file}: its lookup table has {num_ids} identities, expected 5,532 (CUHK-SYSU) or "
                f"482 (PRW); name a recipe of {system} with --recipe"
            )
        recipe = f"{_RECIPES[num_ids]}/{system}"
    model_recipe = _fitted(read_recipe(recipes.find(recipe)), system, recipe, state)
    model = model_recipe.model_copy(update={"weights": "none"}).build(num_ids)
    _load(model, state, str(file), recipe)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    metrics = {"converted from": {"file": file.name, "sha256": digest}}
    save_checkpoint(out, model, model_recipe, num_ids, metrics)
    return Conversion(recipe, matched, left_out)


def our_tensors(
    theirs: Mapping[str, Tensor],  # published tensors by name
    system: Published,
    where: str = "weights",  # for error messages
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """Return our tensors by name, the matched names, and why others are left out.

    Raises:
        ModelError: they are not of this system.
    """
    names = NAMES[system]
    other: Published = "nae" if system == "seqnet" else "seqnet"
    seqnets = any(k.startswith("roi_heads.reid_head.") for k in theirs)
    ours_too = any(k.startswith(_EMBEDDING) for k in theirs)
    if not ours_too or seqnets != (system == "seqnet"):
        hint = f"; these are of {other}: --system {other}" if ours_too else ""
        raise ModelError(
            f"{where}: has {len(theirs)} tensors, such as {', '.join(list(theirs)[:3]) or 'none'}, "
            f"expected those of {system}, such as {_EMBEDDING}rescaler.weight{hint}"
        )
    state: dict[str, Tensor] = {}
    matched: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name, tensor in theirs.items():
        begins = max((k for k in names if name.startswith(k)), key=len, default=None)
        if begins is None:
            left_out[name] = "the published network does not read it"
            continue
        own = names[begins] + name.removeprefix(begins)
        if own.startswith(TWO_CLASSES) and tensor.ndim and not len(tensor) % 2:
            tensor = tensor[len(tensor) // 2 :]
        state[own] = tensor.contiguous()
        matched[name] = own
    if LOOKUP not in state or QUEUE not in state:
        raise ModelError(
            f"{where}: has no lookup table or no queue (roi_heads.reid_loss.lut and .cq), expected "
            "both; save the whole network's state dictionary"
        )
    for own in (LOOKUP, QUEUE):
        shape = list(state[own].shape)
        if len(shape) != 2 or 0 in shape:
            theirs_name = next(name for name, ours in matched.items() if ours == own)
            raise ModelError(
                f"{where}: {theirs_name} is {shape}, expected rows of embeddings, such as "
                "[5532, 256]; save the whole network's state dictionary"
            )
    # Rows are written in turn, so the first that was never written is the next one.
    unwritten = (state[QUEUE] == 0).all(dim=1).nonzero()
    state[POSITION] = unwritten[0, 0] if len(unwritten) else torch.tensor(0)
    return state, matched, left_out


def _fitted(recipe: Recipe, system: str, name: str, state: Mapping[str, Tensor]) -> Recipe:
    """Return the recipe with the sizes of the file's memories."""
    if recipe.system != system:
        raise ModelError(f"recipe {name} is of {recipe.system}, expected one of {system}")
    sizes = {"queue_size": len(state[QUEUE]), "embedding_dim": state[LOOKUP].shape[1]}
    return recipe.model_copy(update={"settings": recipe.settings | sizes})


def _load(model: torch.nn.Module, state: Mapping[str, Tensor], where: str, recipe: str) -> None:
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys())
    unknown = sorted(state.keys() - own.keys())
    shapes = [
        f"{k} is {list(state[k].shape)}, expected {list(v.shape)}"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    damaged = []
    for k in (k for k in state if k in own):
        if state[k].is_floating_point() != own[k].is_floating_point():
            damaged.append(f"{k} has {state[k].dtype} numbers, expected {own[k].dtype}")
        elif not state[k].isfinite().all():
            damaged.append(f"{k} has numbers that are not finite")
    if damaged:
        raise ModelError(
            f"{where}: {damaged[0]} ({len(damaged)} such tensors); save the network again"
        )
    problems = [f"no {k}" for k in missing] + [f"unknown {k}" for k in unknown] + shapes
    if problems:
        raise ModelError(
            f"{where}: does not fit recipe {recipe}: {'; '.join(problems[:3])}"
            + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
            + "; name a fitting recipe with --recipe"
        )
    model.load_state_dict(dict(state))
