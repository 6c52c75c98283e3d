"""Identify a model by everything that its embeddings depend on: weights, networks, settings."""

import hashlib
import json
from pathlib import Path

from personsearch.errors import ModelError
from personsearch.store import ModelIdentity
from personsearch.systems.base import PersonSearchModel


def identify(name: str, model: PersonSearchModel) -> ModelIdentity:
    """Return the identity of the model that `personsearch.load(name)` returned.

    Raises:
        ModelError: a file of the model cannot be read.
    """
    path = Path(name)
    if path.suffix == ".toml":
        from personsearch.external.description import read_description

        description = read_description(path)
        named = str(path.resolve())
        fingerprint = _of_networks(description.model_dump(mode="json"), path.parent)
    elif path.suffix == ".onnx":
        from personsearch.external.onnx_data import external_files

        named = str(path.resolve())
        fingerprint = _of_files([path, *external_files(path)])
    elif path.exists():
        from personsearch.training.checkpoint import find_checkpoint

        folder = find_checkpoint(path)
        named = str(path.resolve())
        fingerprint = _of_files([folder / "model.safetensors", folder / "recipe.toml"])
    else:
        from personsearch.zoo import zoo

        pair = zoo().pair(name)
        named = name
        digests = [file.expected.digest for file in pair.files]
        text = json.dumps([digests, pair.networks], sort_keys=True)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
    # All other devices compute in float32; see `external.runtime`.
    devices = getattr(model, "devices", ())
    if "tensorrt" in devices:
        fingerprint = hashlib.sha256(f"{fingerprint} {devices}".encode()).hexdigest()
    return ModelIdentity(named, fingerprint, model.embedding_dim, model.confidence_weighted)


def _of_networks(description: dict[str, object], folder: Path) -> str:
    """Hash a description and every byte of the networks that it names, wherever they keep it."""
    from personsearch.external.onnx_data import external_files

    files: list[Path] = []
    for part in ("detector", "embedder"):
        table = description[part]
        assert isinstance(table, dict)
        file = folder / str(table.pop("file"))
        table.pop("device")  # where it runs is no setting of it
        openvino = file.suffix.lower() == ".xml"
        files += [file, *([file.with_suffix(".bin")] if openvino else external_files(file))]
    description.pop("name")
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256((text + _of_files(files)).encode()).hexdigest()


def _of_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()
