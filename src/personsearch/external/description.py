"""The TOML that describes a user's own detector and embedder.

name = "omz"                            # printed in tables; default: the file's name
confidence_weighted = false             # rank by similarity x detection score

[detector]
file = "person-detection-0202.xml"      # relative to this TOML
size = { width = 512, height = 512 }    # of the network's input
color = "bgr"
scale = 255                             # a white pixel is 255 before mean and std
layout = "ssd"

[embedder]
file = "osnet_x0_25_msmt17.onnx"
size = { width = 128, height = 256 }
mean = [0.485, 0.456, 0.406]            # in the order of `color`
std = [0.229, 0.224, 0.225]
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from personsearch.errors import ModelError
from personsearch.parsing import parse_toml

Runtime = Literal["openvino", "onnxruntime"]
Device = Literal["auto", "cpu", "cuda", "tensorrt", "gpu"]
"""Where a network runs: cuda and tensorrt of onnxruntime, gpu of OpenVINO; see `runtime`."""
Layout = Literal["ssd", "boxes", "yolo", "detr"]
Activation = Literal["none", "sigmoid", "softmax"]
Coordinates = Literal["pixels", "unit"]

_OUTPUT_KEYS: dict[str, tuple[str, ...]] = {
    "ssd": ("output",),
    "yolo": ("output",),
    "boxes": ("boxes_output", "scores_output", "labels_output"),
    "detr": ("boxes_output", "scores_output"),
}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputSize(_Table):
    """The input size of a network in pixels. Both sides are named, so none can be swapped."""

    width: int = Field(gt=0, le=8192)
    height: int = Field(gt=0, le=8192)


class NetworkDescription(_Table):
    """What both networks have: a file, and how a picture becomes its input."""

    file: str = Field(min_length=1)  # `.onnx`, or OpenVINO `.xml`; starts at the TOML's folder
    runtime: Runtime | None = None  # by default OpenVINO where installed, else onnxruntime
    # "auto" is an accelerator that keeps the results, cuda or gpu, where there is one, else the CPU
    device: Device = "auto"
    size: InputSize | None = None  # required if the network leaves it open, else checked
    color: Literal["rgb", "bgr"] = "rgb"  # order of the channels
    scale: float = 1.0  # value of a white pixel before `mean` and `std`: 1 or 255
    # subtracted after scaling, then divided by; in the order of `color`
    mean: list[float] = Field(default=[0.0, 0.0, 0.0], min_length=3, max_length=3)
    std: list[float] = Field(default=[1.0, 1.0, 1.0], min_length=3, max_length=3)
    # `stretch` to the input, or `letterbox`: keep the aspect ratio and pad the rest
    resize: Literal["stretch", "letterbox"] = "stretch"
    # value of letterbox's padding, 0..255 (before `scale`, `mean` and `std`)
    pad_value: int = Field(default=114, ge=0, le=255)
    placement: Literal["center", "top-left"] = "center"  # where letterbox puts the picture
    # most pictures or crops a run, if the network leaves the batch open
    batch: int = Field(default=1, ge=1, le=4096)

    @field_validator("scale")
    @classmethod
    def _one_or_255(cls, value: float) -> float:
        if value not in (1.0, 255.0):
            raise ValueError("expected 1 (pixels in 0..1) or 255 (pixels in 0..255)")
        return value

    @field_validator("std")
    @classmethod
    def _positive(cls, value: list[float]) -> list[float]:
        if min(value) <= 0:
            raise ValueError("expected three positive numbers")
        return value

    @model_validator(mode="after")
    def _padding_needs_letterbox(self) -> Self:
        stray = {"pad_value", "placement"} & self.model_fields_set
        if stray and self.resize != "letterbox":
            raise ValueError(f"{sorted(stray)[0]!r} needs resize = 'letterbox'")
        return self


class DetectorDescription(NetworkDescription):
    """A network that finds people, or objects of another class."""

    layout: Layout  # of its outputs; see `personsearch.external.decoding`
    class_name: str = Field(default="person", min_length=1)  # the objects that it finds
    class_index: int | None = Field(default=None, ge=0)  # None keeps every class
    score_threshold: float = Field(default=0.3, ge=0, le=1)  # weaker detections are left out
    # IoU above which the weaker of two boxes is left out. None: no suppression, but 0.7 for
    # `yolo`, whose raw output repeats every person.
    nms: float | None = Field(default=None, gt=0, le=1)
    # `pixels` of the input or `unit` (0..1). None: pixels for `boxes` and `yolo`, unit for
    # `ssd` and `detr`.
    coordinates: Coordinates | None = None
    # turns class outputs into scores: by default `none`, for `detr` `sigmoid`. With
    # `softmax` the last class is "nothing".
    activation: Activation | None = None
    output: str | None = None  # of `ssd` and `yolo`, if the network has several
    # names of the outputs of `boxes` and `detr`, whose scores are logits
    boxes_output: str | None = None
    scores_output: str | None = None
    labels_output: str | None = None

    @model_validator(mode="after")
    def _outputs_of_the_layout(self) -> Self:
        valid = _OUTPUT_KEYS[self.layout]
        for key in ("output", "boxes_output", "scores_output", "labels_output"):
            if key in self.model_fields_set and key not in valid:
                raise ValueError(
                    f"{key!r} does not belong to layout {self.layout!r}, "
                    f"which takes {', '.join(map(repr, valid))}"
                )
        if self.layout == "ssd" and self.activation not in (None, "none"):
            raise ValueError("layout 'ssd' holds scores already, drop 'activation'")
        return self


class EmbedderDescription(NetworkDescription):
    """A network that embeds crops; `output` names the output if the network has several."""

    batch: int = Field(default=32, ge=1, le=4096)
    output: str | None = None


class NetworksDescription(_Table):
    """A whole TOML; `name` is printed in tables."""

    detector: DetectorDescription
    embedder: EmbedderDescription
    name: str = ""
    confidence_weighted: bool = False


def read_description(path: Path) -> NetworksDescription:
    """Read and check a TOML.

    Raises:
        ModelError: missing, not TOML, or a key that is unknown, missing or of another type.
    """
    path = Path(path)
    try:
        table = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; expected a TOML that names two networks") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{path}: is not TOML: {error}") from None
    return parse_description(table, str(path))


def parse_description(table: Mapping[str, Any], where: str) -> NetworksDescription:
    """Check a table read from TOML; `where` is named in errors.

    Raises:
        ModelError: a key that is unknown, missing or of another type.
    """
    try:
        return NetworksDescription.model_validate(dict(table))
    except ValidationError as error:
        problems = [_problem(dict(item)) for item in error.errors()]
        raise ModelError(f"{where}: " + "; ".join(problems)) from None


def _problem(error: Mapping[str, Any]) -> str:
    """Return one pydantic error as a sentence that names the key and what is expected."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(location) or "the file"
    value = error["input"]
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key {key!r}; {_valid_keys(location)}"
        case "missing":
            return f"{key!r} is missing"
        case "literal_error":
            expected = str(error["ctx"]["expected"])
            nearest = _nearest(str(value), expected.replace(" or ", ", ").split(", "))
            return f"{key!r} is {value!r}, expected {expected}{nearest}"
        case "value_error":
            text = str(error["ctx"]["error"])
            return (
                f"{key!r}: {text}"
                if isinstance(value, Mapping)
                else f"{key!r} is {value!r}, {text}"
            )
        case _:
            text = str(error["msg"]).removeprefix("Input ").replace("should be", "expected")
            return f"{key!r} is {value!r}, {text}"


def _valid_keys(location: list[str]) -> str:
    table: Any = NetworksDescription
    for part in location[:-1]:
        table = InputSize if part == "size" else table.model_fields[part].annotation
    names = list(table.model_fields)
    nearest = _nearest(location[-1], names)
    return f"valid keys are {', '.join(names)}{nearest}"


def _nearest(given: str, names: list[str]) -> str:
    bare = [name.strip("'") for name in names]
    close = difflib.get_close_matches(given, bare, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
