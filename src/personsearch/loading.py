"""Load a model: a checkpoint, an exported system, a user's own networks, or published ones."""

from pathlib import Path

import torch

from personsearch.errors import ModelError
from personsearch.systems.base import PersonSearchModel


def load(path: Path | str, device: torch.device | str | None = None) -> PersonSearchModel:
    """Load a model that can `detect` and `embed`.

    `path` is a checkpoint folder, the folder of a training run (its best checkpoint is used), an
    ``.onnx`` file of `personsearch export`, a TOML file that names a detector and an embedder, or
    the name of a pair of published networks (`zoo.zoo`) on this machine. A folder takes precedence
    over a pair.

    `device` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; for networks that onnxruntime or OpenVINO
    runs also ``tensorrt`` or ``gpu``, and ``auto`` is what their TOML says. By default checkpoints
    are on the CPU and other networks where ``auto`` puts them.

    Raises:
        ModelError: there is no such model, or it cannot be used.
        CheckpointError: a checkpoint is incomplete or damaged.
    """
    path, named = Path(path), "auto" if device is None else str(device)
    if path.suffix == ".toml":
        from personsearch.systems.two_step import from_toml

        return from_toml(path, named)
    if path.suffix == ".onnx":
        from personsearch.systems.exported import ExportedSystem

        return ExportedSystem(path, device=named)
    if path.is_file():
        raise ModelError(
            f"{path}: is a file, expected a checkpoint folder, an exported .onnx, or a .toml that "
            "names a detector and an embedder"
        )
    if not path.exists() and path.parts == (path.name,):
        from personsearch.zoo import load_pair, zoo

        if path.name in zoo().pairs:
            return load_pair(path.name, device=named)
        raise ModelError(
            f"{path}: no such checkpoint folder, and no such pair of published networks; expected "
            f"a folder, an .onnx, a .toml, or {', '.join(zoo().pairs)}"
        )
    from personsearch.training.checkpoint import load_checkpoint

    if named in ("tensorrt", "gpu"):
        raise ModelError(
            f"{path}: device {named!r} is one of onnxruntime or OpenVINO; a checkpoint runs on cpu "
            "or cuda, and `personsearch export` makes an .onnx of it"
        )
    if named.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"{path}: there is no CUDA device here for {named!r}; use --device cpu")
    if device == "auto":
        named = "cuda" if torch.cuda.is_available() else "cpu"
    model, _ = load_checkpoint(path)
    return model.to("cpu" if device is None else named)
