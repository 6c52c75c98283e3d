"""Pictures as arrays in, detections and embeddings as arrays out."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from personsearch.errors import OutOfMemoryError
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.systems.inference import detect, device_of, embed, to_images, unit_length
from personsearch.types import Detections


class Mirror(PersonSearchModel):
    """Finds one box, the whole picture; an embedding is the mean colour of the picture."""

    embedding_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        return {}

    def detect(self, images: list[Tensor]) -> list[Detections]:
        boxes = [torch.tensor([[0.0, 0.0, i.shape[2], i.shape[1]]]) for i in images]
        rows = self.embed(images, boxes)
        return [Detections(b, torch.ones(1), r) for b, r in zip(boxes, rows, strict=True)]

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        assert all(b.dtype == torch.float32 for b in boxes)
        return [
            (self.weight * i.mean(dim=(1, 2))).expand(len(b), 3)
            for i, b in zip(images, boxes, strict=True)
        ]


def _pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((6, 4), (5, 9))]


def test_pictures_become_tensors() -> None:
    pictures = _pictures()
    pictures[0].flags.writeable = False
    for picture, image in zip(pictures, to_images(pictures, torch.device("cpu")), strict=True):
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        assert torch.equal(image.permute(1, 2, 0), torch.tensor(picture) / 255.0)


def test_a_module_without_weights_is_on_the_cpu() -> None:
    assert device_of(nn.ReLU()) == torch.device("cpu")
    assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"


def test_detections_and_embeddings_are_arrays_without_gradient() -> None:
    picture = _pictures()[1]
    mean = picture.reshape(-1, 3).mean(axis=0) / 255.0
    found = detect(Mirror(), picture)
    assert found.boxes.tolist() == [[0, 0, 9, 5]]
    rows = embed(Mirror(), picture, np.array([[0, 0, 3, 3], [1, 1, 2, 2]]))
    assert rows.shape == (2, 3)
    for row in (*found.embeddings, *rows):
        np.testing.assert_allclose(row, mean, rtol=1e-5)
    assert embed(Mirror(), picture, np.zeros((0, 4))).shape == (0, 3)


def test_embeddings_of_another_metric_come_at_unit_length() -> None:
    model, picture = Mirror(), _pictures()[0]
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3]], np.float32)
    raw = embed(model, picture, boxes)
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1)
    model.metric = "euclidean"
    for rows in (embed(model, picture, boxes), detect(model, picture).embeddings):
        np.testing.assert_allclose(rows[0], raw[0] / np.linalg.norm(raw[0]), rtol=1e-6)


def test_a_row_of_zeros_has_no_direction() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    assert unit_length(rows).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]


def test_a_lack_of_memory_names_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def detect_nothing(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model = Mirror()
    monkeypatch.setattr(model, "detect", detect_nothing)
    monkeypatch.setattr(model, "embed", detect_nothing)
    model.transform = SimpleNamespace(max_size=1500)  # type: ignore[assignment]
    for run in (
        lambda: detect(model, _pictures()[0]),
        lambda: embed(model, _pictures()[0], np.zeros((1, 4))),
    ):
        with pytest.raises(OutOfMemoryError, match=r"max_size \(1500\), device \(cpu\)"):
            run()
