"""Checkpoints: folders of tensors and text. Nothing is ever unpickled.

    model.safetensors     weights and memories
    recipe.toml           what trained it
    metrics.json          how long it was trained, and how good it was
    README.md             the model card
    training.safetensors  optimizer state      } only in checkpoints that a run can resume from
    training.json         stage and iteration  }

A folder is written beside its final path and then moved, so a full disk or a kill leaves the last
good checkpoint. What is missing, damaged, of another system or cannot be written is a
`CheckpointError`.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from personsearch.durable import sync
from personsearch.errors import CheckpointError, RecipeError
from personsearch.parsing import parse_json
from personsearch.systems.base import PersonSearchModel
from personsearch.training.recipe import Recipe, read_recipe
from personsearch.training.renamed_keys import current_tensors

FORMAT = "personsearch-checkpoint-1"
RUN_FORMAT = 2
"""Version of the training state. Version 0.1 wrote none, and trained differently."""


@dataclass(frozen=True)
class Progress:
    """State of a run when its checkpoint was written."""

    stage: str
    iteration: int  # iterations of that stage that are done
    best: float | None  # the best validation score so far
    optimizer: Mapping[str, Tensor]  # see `optimizer_tensors`


def save_checkpoint(
    folder: Path,
    model: PersonSearchModel,
    recipe: Recipe,
    num_ids: int,
    metrics: Mapping[str, Any],
    progress: Progress | None = None,
) -> None:
    """Write a checkpoint folder."""
    folder = Path(folder)
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        metadata = {"format": FORMAT, "system": recipe.system, "num_ids": str(num_ids)}
        save_file(state, fresh / "model.safetensors", metadata)
        (fresh / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
        (fresh / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        card = _model_card(recipe, num_ids, metrics, sum(v.numel() for v in state.values()))
        (fresh / "README.md").write_text(card, encoding="utf-8")
        if progress is not None:
            save_file(dict(progress.optimizer), fresh / "training.safetensors")
            state_of_run = {k: v for k, v in vars(progress).items() if k != "optimizer"}
            state_of_run["format"] = RUN_FORMAT
            text = json.dumps(state_of_run) + "\n"
            (fresh / "training.json").write_text(text, encoding="utf-8")
        for file in (*fresh.iterdir(), fresh):
            sync(file)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            recover_checkpoint(folder)
        shutil.rmtree(fresh, ignore_errors=True)
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be written ({error}); free space or choose another "
            "folder. The last good checkpoint is kept"
        ) from None


def load_checkpoint(folder: Path) -> tuple[PersonSearchModel, Recipe]:
    """Load the model of a checkpoint, in evaluation mode, and the recipe that trained it."""
    folder = find_checkpoint(folder)
    try:
        recipe = read_recipe(folder / "recipe.toml", trained=True)
    except RecipeError as error:
        raise CheckpointError(f"{folder}: the recipe is damaged: {error}") from None
    metadata = _metadata(folder / "model.safetensors")
    # The systems of networks that only version 0.1 trained have names of their own today.
    if metadata.get("system") not in (recipe.system, recipe.system.removesuffix("-0.1")):
        raise CheckpointError(
            f"{folder}: model.safetensors is of system {metadata.get('system')!r}, recipe.toml of "
            f"{recipe.system!r}; the two belong to different checkpoints"
        )
    # The weights come from the checkpoint, so the backbone's initial weights are not needed.
    blank = recipe.model_copy(update={"weights": "none"})
    model = blank.build(int(metadata["num_ids"]))
    restore(model, folder)
    return model.eval(), recipe


def recover_checkpoint(folder: Path) -> None:
    """Put back the last good checkpoint of a save that ended between its two moves."""
    old = folder.with_name(folder.name + ".old")
    if old.is_dir() and not folder.exists():
        old.rename(folder)


def find_checkpoint(folder: Path) -> Path:
    """Return the folder itself, or the best or last checkpoint of the run in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    parts = ("model.safetensors", "recipe.toml")
    if not any((folder / part).exists() for part in parts):
        for name in ("best", "best.old", "last", "last.old"):
            if (folder / name / "model.safetensors").is_file():
                return find_checkpoint(folder / name)
    missing = [part for part in parts if not (folder / part).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: {' and '.join(missing)} missing; a checkpoint is a folder with "
            "model.safetensors, recipe.toml, metrics.json and README.md"
        )
    return folder


def load_progress(folder: Path) -> Progress:
    """Load the state of the run of this checkpoint."""
    try:
        where = parse_json((folder / "training.json").read_text(encoding="utf-8"))
        optimizer = load_file(folder / "training.safetensors")
        progress = Progress(str(where["stage"]), int(where["iteration"]), where["best"], optimizer)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: cannot resume from this checkpoint ({error}); only the 'last' checkpoint "
            "of a run holds its training state"
        ) from None
    if where.get("format") != RUN_FORMAT:
        raise CheckpointError(
            f"{folder}: this run is of version 0.1, whose training differs; finish it with that "
            "version, or start a new run from its weights with the recipe key init"
        )
    return progress


def restore(model: PersonSearchModel, folder: Path) -> None:
    """Load a checkpoint's tensors into a model of the same recipe."""
    try:
        model.load_state_dict(current_tensors(load_tensors(folder), model))
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise CheckpointError(
            f"{folder}: model.safetensors does not fit recipe.toml: {first[0].strip()}"
        ) from None


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Load the tensors of a checkpoint by name."""
    folder = find_checkpoint(folder)
    try:
        return load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: model.safetensors cannot be read ({error})") from None


def restore_matching(model: PersonSearchModel, folder: Path) -> list[str]:
    """Load the tensors that agree with the model's in name and shape; return their names."""
    saved, state = current_tensors(load_tensors(folder), model), model.state_dict()
    fitting = {k: v for k, v in saved.items() if k in state and state[k].shape == v.shape}
    if not fitting:
        raise CheckpointError(
            f"{folder}: none of its {len(saved)} tensors has a name and shape of this system; "
            "set init to a checkpoint of the same system and backbone"
        )
    model.load_state_dict(fitting, strict=False)
    return sorted(fitting)


def describe_start(model: PersonSearchModel, restored: Collection[str]) -> str:
    """Return how many of a model's weights were `restored`, and the layers of those that were not.

    Example: ``119,000,000 of 120,100,000 weights; not embedder, reid.classifier``.
    """
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    given = sum(size for name, size in sizes.items() if name in restored)
    layers = dict.fromkeys(name.rpartition(".")[0] for name in sizes if name not in restored)
    return f"{given:,} of {sum(sizes.values()):,} weights" + (
        f"; not {', '.join(layers)}" if layers else ""
    )


_MODULE = "module."


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, module: nn.Module | None = None
) -> dict[str, Tensor]:
    """Return the state of an optimizer, and of a stage's own module, as named tensors."""
    own = module.state_dict() if module else {}
    return {_MODULE + name: value.detach().cpu().contiguous() for name, value in own.items()} | {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], module: nn.Module | None = None
) -> None:
    """Load named tensors into an optimizer over the same parameters, and a stage's own module."""
    if module:
        own = {k.removeprefix(_MODULE): v for k, v in tensors.items() if k.startswith(_MODULE)}
        module.load_state_dict(own)
    tensors = {k: v for k, v in tensors.items() if not k.startswith(_MODULE)}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        like = parameters[int(index)]
        # In the memory format of the parameter (channels last): another one is slower and may
        # round differently.
        if value.shape == like.shape:
            value = torch.empty_like(like, dtype=value.dtype, device="cpu").copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _metadata(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, framework="pt") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: is damaged or not a safetensors file ({error})") from None
    if metadata.get("format") != FORMAT or not metadata.get("num_ids", "").isdecimal():
        raise CheckpointError(f"{file}: was not written by personsearch; expected {FORMAT}")
    return metadata


def _metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            lines += _metric_lines({f"{name}, {inner}": v for inner, v in value.items()})
        else:
            lines.append(f"- {name}: {value}")
    return lines


def _model_card(recipe: Recipe, num_ids: int, metrics: Mapping[str, Any], numbers: int) -> str:
    lines = [
        f"# {recipe.system}, {recipe.backbone}",
        "",
        f"A personsearch checkpoint that finds: {recipe.object_class}.",
        "",
        f"- system: {recipe.system}; backbone: {recipe.backbone}; {numbers:,} numbers",
        f"- trained on: {recipe.data or 'not recorded'}, {num_ids} identities",
        f"- seed: {recipe.seed}; everything else: recipe.toml",
        "",
        "## Measured",
        "",
        *_metric_lines(metrics),
        "",
        "A match is a similarity, not an identity. Metrics hold for data like the data that they",
        "were measured on.",
    ]
    return "\n".join(lines) + "\n"
