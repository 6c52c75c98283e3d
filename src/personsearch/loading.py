"""Loads whatever can find people: a checkpoint folder, or a TOML that names someone's networks."""

from pathlib import Path

import torch

from personsearch.errors import ModelError
from personsearch.systems.base import PersonSearchModel


def load(path: Path | str, device: torch.device | str = "cpu") -> PersonSearchModel:
    """A model ready to `detect` and `embed`.

    Args:
        path: a checkpoint folder, the folder of a training run (its best checkpoint), or a TOML
            that names a detector and an embedder.
        device: where a checkpoint's network runs.

    Raises:
        ModelError: nothing there, or it cannot be used.
        CheckpointError: a checkpoint that is incomplete or damaged.
    """
    path = Path(path)
    if path.suffix == ".toml":
        from personsearch.systems.two_step import from_toml

        return from_toml(path)
    if path.is_file():
        raise ModelError(
            f"{path}: is a file, expected a checkpoint folder or a .toml that names a detector "
            "and an embedder"
        )
    from personsearch.training.checkpoint import load_checkpoint

    model, _ = load_checkpoint(path)
    return model.to(device)
