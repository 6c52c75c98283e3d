"""Loads whatever can find people: a checkpoint folder, someone's networks, published networks."""

from pathlib import Path

import torch

from personsearch.errors import ModelError
from personsearch.systems.base import PersonSearchModel


def load(path: Path | str, device: torch.device | str = "cpu") -> PersonSearchModel:
    """A model ready to `detect` and `embed`.

    Args:
        path: a checkpoint folder, the folder of a training run (its best checkpoint), a TOML
            that names a detector and an embedder, or the name of a pair of published networks
            (`zoo.zoo`) that was pulled; a folder of the same name goes before a pair.
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
    if not path.exists() and path.parts == (path.name,):
        from personsearch.zoo import load_pair, zoo

        if path.name in zoo().pairs:
            return load_pair(path.name)
        raise ModelError(
            f"{path}: no such checkpoint folder here, and no pair of published networks; expected "
            f"a folder, a .toml, or {', '.join(zoo().pairs)}"
        )
    from personsearch.training.checkpoint import load_checkpoint

    model, _ = load_checkpoint(path)
    return model.to(device)
