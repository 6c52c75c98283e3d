"""Recipes: one flat TOML file with everything that a training run depends on.

The keys are the fields of `Recipe`, plus the keyword arguments of what builds the system, its
backbone and its stages. A keyword argument that is a dataclass stands for its fields. Nothing is
inherited; an unknown key is an error that names the nearest valid one.
"""

import importlib
import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from personsearch.errors import RecipeError
from personsearch.parsing import parse_toml
from personsearch.systems.base import PersonSearchModel
from personsearch.training.catalogue import STAGES, SYSTEMS
from personsearch.training.renamed_keys import current_keys

OTHER_NAMES = {
    "amp": "precision",
    "batch_size": "images_per_iteration",
    "epochs": "iterations",
    "grad_clip": "clip_norm",
    "learning_rate": "lr",
    "lr_schedule": "schedule",
    "max_iterations": "iterations",
    "model": "system",
    "num_workers": "loader_workers",
    "pretrained": "weights",
    "random_seed": "seed",
    "steps": "iterations",
    "warmup_iterations": "warmup",
}
"""What other programs call some keys, to suggest ours."""


CURVED = ("cosine", "linear-cosine")
"""Schedules whose every learning rate depends on the length of the run."""


RANGES: dict[str, dict[str, float]] = {
    "(anchor_sizes|aspect_ratios|box_coder)": {"gt": 0},
    "(min_size|max_size|embedding_dim|pyramid_channels|anchor_octaves|proxy_slots)": {"gt": 0},
    "(rois_per_image|rpn_batch_size_per_image|rpn_.*_top_n_.*|max_detections|topk_.*)": {"gt": 0},
    ".*_temperature": {"gt": 0},
    "(.*_iou|.*_iou_threshold|.*_fraction|.*_momentum)": {"ge": 0, "le": 1},
    "(score_threshold|focal_alpha|reid_erase)": {"ge": 0, "le": 1},
    "dropout": {"ge": 0, "lt": 1},
    ".*_jitter": {"ge": 0, "lt": 0.5},  # from 0.5 on, sides of a box may meet
}
"""Ranges of numbers among a system's own keys, by patterns; no other number is negative."""
LENGTHS = {"anchor_sizes": (1, None), "aspect_ratios": (1, None), "box_coder": (4, 4)}
"""Least and largest length of some lists among them."""


class Recipe(BaseModel):
    """The keys that all systems share.

    Durations (`warmup`, `decay_at`, `evaluate_every`, `checkpoint_every`) are in iterations; an
    iteration is one optimizer step.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    system: str = Field(description="system to train")
    object_class: str = Field("person", description="class of the boxes")

    # data
    data: str = Field("", description="data set folder; --data replaces it")
    data_format: str = Field("", description="format of the data set; empty: detected")
    validation_fraction: float = Field(
        0.1, ge=0, lt=1, description="share of the training ids held out to choose the checkpoint"
    )
    sampler: Literal["random", "identity", "pairs"] = Field(
        "random", description="random pictures, a few identities' pictures, or pairs that share one"
    )
    pictures_per_identity: int = Field(2, ge=2, description="for 'identity' and 'pairs'")
    cache_pictures: bool = Field(False, description="keep decoded pictures in memory")
    loader_workers: int = Field(2, ge=0, description="processes that decode pictures")

    # augmentation
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    scale_jitter: float = Field(
        0.0, ge=0, lt=1, description="pictures are scaled by 1 +- this, then cut or padded"
    )
    color_jitter: float = Field(
        0.0, ge=0, lt=1, description="channel gains, brightness and gamma vary by 1 +- this"
    )
    erase: float = Field(
        0.0, ge=0, le=1, description="probability that part of a person is covered"
    )

    # network
    backbone: str = Field("resnet50", description="'small' or a torchvision classifier")
    backbone_width: int = Field(32, gt=0, description="channels of 'small' at stride 2")
    weights: str = Field("none", description="'none', 'imagenet-v1', 'imagenet-v2' or a file")
    norm: Literal["batch", "frozen", "frozen-stem"] = Field(
        "batch", description="batch normalisation: trained, frozen, or trained in the head alone"
    )
    frozen_stages: int = Field(0, ge=0, description="leading children of the stem that are frozen")
    init: str = Field("", description="checkpoint to start from: tensors of equal name and shape")

    # first stage: people cut out and packed onto canvases
    crop_iterations: int = Field(0, ge=0, description="length of the first stage")
    crop_lr: float = Field(0.0, ge=0, description="its learning rate")
    crops_per_canvas: int = Field(24, gt=0, description="largest number of people on a canvas")
    canvases_per_iteration: int = Field(4, gt=0, description="canvases in a step")

    # schedule
    iterations: int = Field(ge=0, description="length of the main stage")
    images_per_iteration: int = Field(4, gt=0, description="pictures in a forward pass")
    accumulate: int = Field(1, gt=0, description="forward passes in an iteration")
    optimizer: Literal["sgd", "adam", "adamw"] = Field(
        "sgd", description="otherwise with PyTorch's defaults"
    )
    lr: float = Field(gt=0, description="learning rate after the warm-up")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="of every weight")
    bias_decay: bool = Field(True, description="whether weight decay is of biases, too")
    bias_lr_factor: float = Field(1.0, gt=0, description="biases learn at this times lr")
    warmup: int = Field(0, ge=0, description="iterations of linear warm-up")
    schedule: Literal["constant", "step", "cosine", "linear-cosine"] = Field(
        "step", description="of the learning rate after the warm-up"
    )
    decay_at: tuple[int, ...] = Field((), description="iterations at which 'step' decays")
    decay_factor: float = Field(0.1, gt=0, le=1, description="of each decay")
    clip_norm: float = Field(0.0, ge=0, description="largest gradient norm; 0: not clipped")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="bfloat16 autocast where the device is fast at it ('auto')"
    )

    # supervision of the run
    seed: int = Field(0, ge=0, description="of all random numbers")
    evaluate_every: int = Field(1000, gt=0, description="iterations between validations")
    checkpoint_every: int = Field(500, gt=0, description="iterations between checkpoints")
    log_every: int = Field(20, gt=0, description="iterations between reports")
    eval_score_threshold: float = Field(
        0.5, ge=0, le=1, description="score threshold of detections in search"
    )
    tensorboard: bool = Field(False, description="also write TensorBoard files (an extra)")

    settings: dict[str, Any] = Field({}, exclude=True, description="the system's own keys")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.schedule == "step" and any(
            b <= a for a, b in zip(self.decay_at, self.decay_at[1:], strict=False)
        ):
            raise ValueError(f"decay_at is {list(self.decay_at)}, expected rising iterations")
        if self.schedule != "step" and self.decay_at:
            raise ValueError(f"decay_at is only for schedule 'step', schedule is {self.schedule!r}")
        if self.warmup > self.iterations:
            raise ValueError(f"warmup {self.warmup} is longer than iterations {self.iterations}")
        if self.crop_iterations and not self.crop_lr:
            raise ValueError("crop_iterations is set but crop_lr is 0; set crop_lr")
        least, most = (self.settings.get(f"{kind}_iou_threshold") for kind in ("fg", "bg"))
        if least is not None and most is not None and least < most:
            raise ValueError(f"fg_iou_threshold {least} is below bg_iou_threshold {most}")
        return self

    def build(self, num_ids: int) -> PersonSearchModel:
        """Build the untrained system for `num_ids` labelled identities.

        Raises:
            ModelError: the backbone or its weights cannot be loaded.
        """
        constructor = _named(SYSTEMS[self.system].constructor)
        build = backbone_builder(constructor)
        backbone = build(
            *(self.backbone, self.weights, self.norm, self.frozen_stages, self.backbone_width),
            **self.keywords(build),
        )
        model: PersonSearchModel = constructor(
            backbone, num_ids, **self.keywords(constructor.__init__)
        )
        return model

    def keywords(self, function: Any) -> dict[str, Any]:
        """Return the keyword arguments that the recipe holds for a constructor."""
        given: dict[str, Any] = {}
        for name, kind, keys in _keyword_only(function):
            values = {key: self.settings[key] for key in keys}
            given[name] = kind(**values) if kind else values[name]
        return given

    def to_toml(self) -> str:
        """Format the recipe, one documented key per line; it reads back as an equal recipe."""
        lines = []
        for key, value in self.model_dump().items():
            about = type(self).model_fields[key].description
            lines.append(f"{key} = {_toml(value)}" + (f"  # {about}" if about else ""))
        lines += ["", f"# {self.system}; each key is described at its constructor"]
        lines += [f"{key} = {_toml(value)}" for key, value in self.settings.items()]
        return "\n".join(lines) + "\n"


def read_recipe(path: Path, *, trained: bool = False) -> Recipe:
    """Read a recipe from a TOML file; `trained`: that of a trained model.

    Raises:
        RecipeError: no such file, not TOML, or a wrong key or value.
    """
    path = Path(path)
    try:
        values = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"{path}: no such recipe; give a .toml file or a name from 'personsearch recipes list'"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: is not TOML ({error})") from None
    return make_recipe(values, str(path), trained=trained)


def make_recipe(
    values: Mapping[str, Any], where: str = "recipe", *, trained: bool = False
) -> Recipe:
    """Make a recipe from keys and values; missing keys have their defaults.

    Raises:
        RecipeError: an unknown key, a wrong type, or a contradiction.
    """
    values = current_keys(values, where, trained=trained)
    system = values.get("system")
    if not isinstance(system, str) or system not in SYSTEMS:
        raise RecipeError(
            f"{where}: system is {system!r}, expected one of {', '.join(map(repr, SYSTEMS))}"
        )
    own = _settings_model(system)
    common = set(Recipe.model_fields) - {"settings"}
    known = common | set(own.model_fields)
    for key in values:
        if key not in known:
            near = [OTHER_NAMES[key]] if key in OTHER_NAMES else []
            near += get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RecipeError(f"{where}: unknown key {key!r}{hint}")
    lists_as_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        settings = own.model_validate({k: v for k, v in lists_as_tuples.items() if k not in common})
        return Recipe.model_validate(
            {k: v for k, v in lists_as_tuples.items() if k in common}
            | {"settings": settings.model_dump()}
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        # A missing key has no value to show, nor has a contradiction between keys.
        came = f" (received {first['input']!r})" if key and first["type"] != "missing" else ""
        message = first["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{where}: {f'{key}: ' if key else ''}{message}{came}") from None


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def backbone_builder(constructor: Any) -> Any:
    """Return the function that builds the first argument of a system's constructor."""
    from personsearch.detectors import backbones

    first = next(iter(inspect.signature(constructor).parameters))
    cut = get_type_hints(constructor.__init__)[first] is backbones.Backbone
    return backbones.build_backbone if cut else backbones.build_trunk


def stage_constructors(system: str) -> list[Any]:
    """Return the stages of a system, in order."""
    return [_named(STAGES[name]) for name in SYSTEMS[system].stages]


def _keyword_only(function: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield each keyword-only argument: name, dataclass or None, type and default of its keys."""
    hints = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        kind, default = hints[name], parameter.default
        if is_dataclass(kind):
            types, keys = get_type_hints(kind), [field.name for field in fields(kind)]
            yield name, kind, {key: _field(key, types[key], getattr(default, key)) for key in keys}
        else:
            yield name, None, {name: _field(name, kind, default)}


@cache
def _settings_model(system: str) -> type[BaseModel]:
    """Make a strict model of the keyword arguments of a system, its backbone and its stages."""
    keys: dict[str, Any] = {}
    constructor = _named(SYSTEMS[system].constructor)
    functions = [stage.__init__ for stage in stage_constructors(system)]
    for function in (constructor.__init__, backbone_builder(constructor), *functions):
        for _, _, own in _keyword_only(function):
            keys |= own
    return create_model(
        f"{system}_settings",
        __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False),
        **keys,
    )


def _field(key: str, hint: Any, default: Any) -> tuple[Any, Any]:
    one = get_args(hint)[0] if get_origin(hint) is Sequence else hint
    if one in (int, float):
        fitting = (limits for pattern, limits in RANGES.items() if re.fullmatch(pattern, key))
        one = Annotated[one, Field(**next(fitting, {"ge": 0}))]
    if get_origin(hint) is not Sequence:
        return one, default
    # TOML has lists only; a tuple keeps the recipe hashable and unchangeable.
    least, most = LENGTHS.get(key, (0, None))
    several = tuple.__class_getitem__((one, ...))
    return Annotated[several, Field(min_length=least, max_length=most)], tuple(default)


def _toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON writes numbers, booleans and strings as TOML does, except that TOML has no surrogate
    # pairs and requires DEL to be escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
