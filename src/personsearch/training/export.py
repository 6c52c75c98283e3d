"""Export a checkpoint as one ONNX file, checked against torch, with a model card beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from personsearch.durable import replace_file
from personsearch.errors import ModelError
from personsearch.external.description import Runtime
from personsearch.external.runtime import installed_runtimes
from personsearch.media.pictures import read_picture, read_scene
from personsearch.synthetic.benchmark import make_benchmark
from personsearch.systems.base import PersonSearchModel
from personsearch.systems.export import write_onnx
from personsearch.systems.exported import INPUTS, OUTPUTS, ExportedFacts, ExportedSystem
from personsearch.systems.inference import to_tensor, unit_length
from personsearch.training.checkpoint import load_checkpoint
from personsearch.training.recipe import Recipe
from personsearch.types import Detections, FloatArray

LIMITS = {"scores": 0.01, "embeddings": 0.01}
"""The largest differences from torch that are not an error. Boxes are paired within a pixel."""
MAX_UNPAIRED = 0.02
"""The largest share of unpaired detections. Scores at a threshold and overlaps at that of
suppression may fall on either side.
"""


@dataclass(frozen=True)
class Differences:
    """How much a runtime's results differ from torch's, at most."""

    runtime: Runtime
    version: str
    pictures: int
    detections: int  # of torch
    unpaired: int  # detections of one of the two alone
    boxes: float  # in pixels
    scores: float
    embeddings: float  # of their numbers, at unit length


def export_checkpoint(
    checkpoint: Path, file: Path, pictures: Sequence[Path] = (), opset: int = 17
) -> list[Differences]:
    """Write ``FILE.onnx`` and its card ``FILE.md``; return how runtimes differ from torch.

    Args:
        checkpoint: a checkpoint folder, or the folder of a run.
        file: the file to write; neither it nor the card may exist.
        pictures: what the runtimes are checked on; drawn pictures of two sizes if not given.
        opset: version of ONNX's operators.

    Raises:
        ModelError: the system or the opset cannot be exported, a file exists, a package is missing,
            or a runtime cannot load the file or differs from torch; no file is left.
        PictureError: a picture cannot be read.
    """
    card = file.with_suffix(".md")
    for path in (file, card):
        if path.exists():
            raise ModelError(f"{path}: exists already; choose another name or remove it")
    if not file.parent.is_dir():
        raise ModelError(f"{file.parent}: no such folder")
    if checkpoint.suffix == ".toml":
        raise ModelError(
            f"{checkpoint}: only the checkpoint of an end-to-end system can be exported; the "
            "networks of a pair are files already"
        )
    runtimes = installed_runtimes()
    if not find_spec("onnx") or not runtimes:
        raise ModelError(
            "an export needs onnx, and onnxruntime or openvino to check it; "
            "pip install 'personsearch[onnx]'"
        )
    model, recipe = load_checkpoint(checkpoint)
    images = [to_tensor(read_picture(path)) for path in pictures] or _drawn()
    facts = ExportedFacts(
        recipe.system,
        model.embedding_dim,
        model.metric,
        model.confidence_weighted,
        recipe.object_class,
    )
    fresh = file.with_name(f".{file.name}.partial.onnx")
    try:
        write_onnx(model, fresh, facts, opset)
        # Torch one by one: of several sizes it makes one batch, padded to the largest.
        expected = [result for image in images for result in _results(model, [image])]
        found = [_differences(fresh, runtime, images, expected) for runtime in runtimes]
        replace_file(card, _model_card(file, recipe, facts, opset, found))
        fresh.rename(file)
    except ModelError as error:
        raise ModelError(str(error).replace(str(fresh), str(file))) from None
    finally:
        fresh.unlink(missing_ok=True)
    return found


def _drawn() -> list[Tensor]:
    """Return drawn pictures of two sizes."""
    with TemporaryDirectory() as folder:
        scenes = make_benchmark(Path(folder), size="tiny", workers=1).splits["test"][:2]
        images = [to_tensor(read_scene(scene)) for scene in scenes]
    return images + [image[:, :, : image.shape[2] * 3 // 4].contiguous() for image in images]


def _results(
    model: PersonSearchModel, images: Sequence[Tensor]
) -> list[tuple[Detections, FloatArray]]:
    """Return the detections of each picture, and the embedding (1, D) of a box in its middle."""
    sides = [torch.tensor([image.shape[2], image.shape[1]] * 2) for image in images]
    boxes = [(side * torch.tensor([0.31, 0.17, 0.64, 0.83]))[None] for side in sides]
    embedded = [rows.numpy() for rows in model.embed(list(images), boxes)]
    return list(zip(model.detect(list(images)), embedded, strict=True))


def _differences(
    file: Path,
    runtime: Runtime,
    images: Sequence[Tensor],
    expected: Sequence[tuple[Detections, FloatArray]],
) -> Differences:
    found = _results(ExportedSystem(file, runtime, "cpu"), images)
    largest = {"boxes": 0.0, "scores": 0.0, "embeddings": 0.0}
    count = unpaired = 0
    for (ours, own), (theirs, other) in zip(expected, found, strict=True):
        pairs = _pairs(ours, theirs)
        count += len(ours)
        unpaired += len(ours) + len(theirs) - 2 * len(pairs)
        rows, columns = pairs.T
        for name, a, b in (
            ("boxes", ours.boxes[rows], theirs.boxes[columns]),
            ("scores", ours.scores[rows], theirs.scores[columns]),
            (
                "embeddings",
                unit_length(np.concatenate([own, ours.embeddings[rows]])),
                unit_length(np.concatenate([other, theirs.embeddings[columns]])),
            ),
        ):
            largest[name] = max(largest[name], float(np.abs(a - b).max(initial=0.0)))
    wrong = [f"{name} by {largest[name]:.2g}" for name in LIMITS if largest[name] > LIMITS[name]]
    if unpaired > max(1.0, MAX_UNPAIRED * 2 * count):
        wrong.append(f"{unpaired} detections of {count}")
    if wrong:
        raise ModelError(f"{runtime} differs from torch: {', '.join(wrong)}; nothing is exported")
    return Differences(runtime, version(runtime), len(images), count, unpaired, **largest)


def _pairs(ours: Detections, theirs: Detections) -> NDArray[np.intp]:
    """Return the rows (K, 2) of detections that are each other's nearest, within a pixel."""
    if not len(ours) or not len(theirs):
        return np.zeros((0, 2), np.intp)
    gaps = np.abs(ours.boxes[:, None] - theirs.boxes[None]).max(axis=2)
    rows, nearest = np.arange(len(ours)), gaps.argmin(axis=1)
    mutual = (gaps.argmin(axis=0)[nearest] == rows) & (gaps[rows, nearest] < 1.0)
    pairs: NDArray[np.intp] = np.stack([rows, nearest], axis=1)[mutual]
    return pairs


def _model_card(
    file: Path, recipe: Recipe, facts: ExportedFacts, opset: int, found: Sequence[Differences]
) -> str:
    about = found[0]
    lines = [
        f"# {recipe.system}, {recipe.backbone}",
        "",
        f"Written by `personsearch export`; a system that finds: {recipe.object_class}.",
        "",
        f"- trained on: {recipe.data or 'not recorded'}",
        f"- embeddings: {facts.embedding_dim} numbers, compared by {facts.metric}; similarities "
        f"are {'' if facts.confidence_weighted else 'not '}multiplied by detection scores",
        f"- ONNX opset {opset}, float32",
        "",
        "## Inputs and outputs",
        "",
        f"- `{INPUTS[0]}` (B, 3, H, W): RGB in 0..1, pictures of one size, as they are; scaling "
        "and normalising are in the file",
        f"- `{INPUTS[1]}` (K, 5): boxes to embed, index of the picture and x1, y1, x2, y2 in its "
        "pixels; K may be 0",
        f"- `{OUTPUTS[0]}` (N,), `{OUTPUTS[1]}` (N, 4), `{OUTPUTS[2]}` (N,), "
        f"`{OUTPUTS[3]}` (N, D): of each detection the index of its picture, box, score, embedding",
        f"- `{OUTPUTS[4]}` (K, D): embeddings of the boxes given",
        "",
        f'`personsearch.load("{file.name}")` runs it, and so does any runtime of ONNX.',
        "",
        "## Checked against torch",
        "",
        f"The largest differences on {about.pictures} pictures with {about.detections} detections:",
        "",
        "| runtime | unpaired detections | boxes, pixels | scores | embeddings |",
        "|---|---|---|---|---|",
        *(
            f"| {one.runtime} {one.version} | {one.unpaired} | {one.boxes:.2g} | "
            f"{one.scores:.2g} | {one.embeddings:.2g} |"
            for one in found
        ),
        "",
        "A match is a similarity, not an identity.",
    ]
    return "\n".join(lines) + "\n"
