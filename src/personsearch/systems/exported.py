"""Run a system that `personsearch export` wrote as one ONNX file.

model = load("model.onnx")  # detects and embeds, without the checkpoint; cannot be trained
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from personsearch.errors import ModelError
from personsearch.external.description import Runtime
from personsearch.external.onnx_data import properties
from personsearch.external.runtime import installed_runtimes, open_network
from personsearch.parsing import parse_json
from personsearch.systems.base import Metric, PersonSearchModel, Target
from personsearch.types import Detections, FloatArray

KEY = "personsearch"
"""The entry of an ONNX file's metadata."""
FORMAT = 1
INPUTS = ("pictures", "boxes")
"""RGB in 0..1 (B, 3, H, W); boxes to embed (K, 5): index of the picture, x1, y1, x2, y2."""
OUTPUTS = ("picture", "detections", "scores", "embeddings", "box_embeddings")
"""Of the N detections, those of picture 0 first: index of the picture (N,), boxes (N, 4) in its
pixels, scores (N,) and embeddings (N, D); embeddings (K, D) of the boxes given.
"""


@dataclass(frozen=True)
class ExportedFacts:
    """What a file says of the system in it."""

    system: str  # key of the recipe, such as seqnet
    embedding_dim: int
    metric: Metric
    confidence_weighted: bool
    object_class: str = "person"

    def to_metadata(self) -> dict[str, str]:
        """Return the entry of the file's metadata."""
        return {KEY: dumps({"format": FORMAT} | asdict(self))}


def read_facts(file: Path) -> ExportedFacts:
    """Read the facts of a file that `personsearch export` wrote.

    Raises:
        ModelError: it was not written by it, is damaged, or of another version.
    """
    try:
        facts = parse_json(properties(file).get(KEY, ""))
        if facts.pop("format") != FORMAT:
            raise ModelError(f"{file}: was exported by another version of personsearch; export it")
        read = ExportedFacts(**facts)
        whole = isinstance(read.embedding_dim, int) and read.embedding_dim > 0
        if not whole or read.metric not in get_args(Metric):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ModelError(
            f"{file}: was not written by `personsearch export`, or is damaged; a network of your "
            "own needs a .toml that names a detector and an embedder"
        ) from None
    return read


class ExportedSystem(PersonSearchModel):
    """An exported system. onnxruntime runs it if installed, else OpenVINO.

    Raises:
        ModelError: the file is missing, damaged or not an exported system, or there is no runtime.
    """

    inference_precision = "float32"

    def __init__(self, file: Path, runtime: Runtime | None = None, device: str = "auto") -> None:
        super().__init__()
        if not file.is_file():
            raise ModelError(f"{file}: no such file; expected an .onnx of `personsearch export`")
        self.facts = read_facts(file)
        self.embedding_dim, self.metric = self.facts.embedding_dim, self.facts.metric
        self.confidence_weighted = bool(self.facts.confidence_weighted)
        if runtime is None and device != "gpu" and "onnxruntime" in installed_runtimes():
            runtime = "onnxruntime"
        self.network = open_network(file, runtime, len(INPUTS), device)
        self.devices = (self.network.device,)
        if {port.name for port in self.network.outputs} != set(OUTPUTS):
            raise ModelError(
                f"{file}: has outputs {self.network.describe_outputs()}; expected "
                f"{', '.join(OUTPUTS)}"
            )
        self.eval()

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Raise a `ModelError`: an exported system has no losses."""
        raise ModelError(
            f"{self.network.file}: an exported system cannot be trained; train its checkpoint and "
            "export that"
        )

    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Return the people in each picture, in its own pixels, by descending score.

        Raises:
            ModelError: the network fails, as it does on a picture that is not (3, H, W).
        """
        none = np.zeros((0, 4), np.float32)
        return [found for found, _ in self._run(images, [none] * len(images))]

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Return the embeddings (N_i, D) of given boxes (N_i, 4) in each picture.

        Raises:
            ModelError: the network fails.
        """
        given = [b.detach().float().cpu().numpy().reshape(-1, 4) for b in boxes]
        embedded = self._run(images, given)
        return [
            torch.from_numpy(rows).to(image.device)
            for (_, rows), image in zip(embedded, images, strict=True)
        ]

    def _run(
        self, images: Sequence[Tensor], boxes: Sequence[FloatArray]
    ) -> list[tuple[Detections, FloatArray]]:
        """Return the detections and the embeddings of the boxes of each picture."""
        results: dict[int, tuple[Detections, FloatArray]] = {}
        for shape in dict.fromkeys(image.shape for image in images):
            # Pictures of one size are a batch.
            batch = [k for k, image in enumerate(images) if image.shape == shape]
            pixels = torch.stack([images[k].detach().float().cpu() for k in batch]).numpy()
            owners = np.repeat(np.arange(len(batch)), [len(boxes[k]) for k in batch])
            given = np.concatenate([boxes[k] for k in batch])
            rows = np.concatenate([owners[:, None], given], axis=1).astype(np.float32)
            outputs = self.network(pixels, rows)
            picture, *found, embedded = (outputs[name] for name in OUTPUTS)
            for index, k in enumerate(batch):
                own = np.flatnonzero(picture == index)
                own = own[np.argsort(-found[1][own], kind="stable")]
                results[k] = (Detections(*(part[own] for part in found)), embedded[owners == index])
        return [results[k] for k in range(len(images))]
