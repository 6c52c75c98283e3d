"""Pictures as arrays in, detections and embeddings as arrays out."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from personsearch.errors import OutOfMemoryError
from personsearch.recipes import find
from personsearch.systems.base import PersonSearchModel, Target, device_of
from personsearch.systems.inference import detect, embed, to_images, unit_length
from personsearch.training.recipe import read_recipe
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


SYSTEMS = (
    *("oim", "nae", "seqnet", "trident", "dc-inet", "inet"),
    *("xiao2016", "sequential", "rdlr"),
)


def _network(system: str) -> Any:
    """Return an untrained narrow network whose normalisation does something."""
    recipe = read_recipe(find(f"synthetic-small/{system}"))
    small = {"backbone_width": 8, "min_size": 96, "max_size": 160, "score_threshold": 0.0}
    changed = {k: v for k, v in small.items() if k in recipe.settings}
    recipe = recipe.model_copy(
        update={"settings": recipe.settings | changed, "backbone_width": 8, "init": ""}
    )
    torch.manual_seed(0)
    model = recipe.build(num_ids=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.train()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_form_for_inference_finds_the_same(system: str) -> None:
    model = _network(system)
    picture = np.kron(
        np.random.default_rng(0).integers(0, 256, (6, 10, 3)), np.ones((16, 16, 1))
    ).astype(np.uint8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    form = model.for_inference("float32")
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert form.for_inference("bfloat16") is form
    found, expected = detect(form, picture), detect(model.eval(), picture)
    assert len(found.boxes)
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=2e-2)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=0, atol=1e-3)
    boxes = np.array([[10, 10, 60, 90], [70, 5, 150, 95]], dtype=np.float32)
    np.testing.assert_allclose(
        embed(form, picture, boxes), embed(model, picture, boxes), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("system", ["seqnet", "rdlr"])
def test_convolutions_are_kept_in_bfloat16_where_they_run_in_it(system: str) -> None:
    model = _network(system)
    form = model.for_inference("bfloat16")
    assert form.inference_precision == "bfloat16"
    stem = form.stem if system == "seqnet" else form.trunk
    assert {p.dtype for p in stem.parameters()} == {torch.bfloat16}
    if system == "rdlr":  # narrow crops are computed in float32
        assert {p.dtype for p in form.reid.parameters()} == {torch.float32}
    picture = np.full((96, 160, 3), 90, dtype=np.uint8)
    boxes = np.array([[10, 10, 60, 90]], dtype=np.float32)
    cosine = embed(form, picture, boxes) @ embed(model.eval(), picture, boxes).T
    assert cosine > 0.98
    assert len(detect(form, picture).boxes)
