"""Every system in an ONNX file gives what torch gives, for any batch and size of pictures."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exportable import SYSTEMS, exportable, noise
from torch import Tensor

from personsearch.detectors.backbones import _vgg_head
from personsearch.errors import ModelError
from personsearch.external.description import Runtime
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.systems.crop_embedders import ExtractorEmbedder
from personsearch.systems.export import OPSETS, _AdaptivePooling, _Transform, write_onnx
from personsearch.systems.exported import ExportedFacts, ExportedSystem
from personsearch.systems.two_step import TwoStep
from personsearch.training import catalogue
from personsearch.types import Detections

# 49 x 98 is a size whose scale is rounded down, so that the shorter side becomes 95 pixels.
BATCHES = [(1, 96, 128), (2, 97, 131), (2, 49, 98)]
BOXES = torch.tensor([[5.2, 5.1, 38.7, 60.3], [-3.0, 10.4, 70.2, 44.8]])


def facts(model: PersonSearchModel, name: str = "oim") -> ExportedFacts:
    return ExportedFacts(name, model.embedding_dim, model.metric, model.confidence_weighted)


def assert_same(found: Detections, expected: Detections) -> None:
    """Equal to 0.01 pixels in boxes, 1e-4 in scores and 5e-4 in embeddings, in any order."""
    assert len(found) == len(expected)
    if not len(found):
        return
    gaps = np.abs(expected.boxes[:, None] - found.boxes[None]).max(axis=2)
    order = gaps.argmin(axis=1)
    assert sorted(order) == list(range(len(found)))
    np.testing.assert_allclose(found.boxes[order], expected.boxes, atol=0.01)
    np.testing.assert_allclose(found.scores[order], expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.embeddings[order], expected.embeddings, atol=5e-4)
    assert (np.diff(found.scores) <= 0).all()


def compare(model: PersonSearchModel, exported: PersonSearchModel, images: list[Tensor]) -> int:
    """Compare both methods; return how many people were found."""
    found = exported.detect(images)
    boxes = [BOXES, *[BOXES[:1]] * (len(images) - 1)]
    embedded = exported.embed(images, boxes)
    expected = model.detect(images)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
    for rows, theirs in zip(embedded, model.embed(images, boxes), strict=True):
        torch.testing.assert_close(rows, theirs, atol=5e-4, rtol=0)
    return sum(map(len, expected))


def check(name: str, file: Path, runtime: Runtime) -> None:
    _, model = exportable(name)
    write_onnx(model, file, facts(model))
    exported = ExportedSystem(file, runtime)
    found = [compare(model, exported, noise(*batch)) for batch in BATCHES]
    assert min(found) > 0


def test_every_system_is_among_them() -> None:
    untrained = {"xiao2016-0.1"}
    assert {name.partition(",")[0] for name in SYSTEMS} == catalogue.SYSTEMS.keys() - untrained


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_in_onnxruntime_is_as_in_torch(tmp_path: Path, name: str) -> None:
    check(name, tmp_path / "model.onnx", "onnxruntime")


@pytest.mark.parametrize("name", ["seqnet", "oim, final boxes", "rdlr", "sequential"])
def test_systems_in_openvino_are_as_in_torch(tmp_path: Path, name: str) -> None:
    check(name, tmp_path / "model.onnx", "openvino")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["seqnet", "rdlr"])
def test_nobody_found_and_no_box_given(tmp_path: Path, name: str, runtime: Runtime) -> None:
    _, model = exportable(name, score_threshold=0.999)
    write_onnx(model, tmp_path / "model.onnx", facts(model))
    exported = ExportedSystem(tmp_path / "model.onnx", runtime)
    (image,) = noise(1, 96, 128)
    (found,) = exported.detect([image])
    assert found.embeddings.shape == (0, model.embedding_dim)
    (rows,) = exported.embed([image], [torch.zeros(0, 4)])
    assert rows.shape == (0, model.embedding_dim)


def test_the_layers_of_vgg_take_no_rows(tmp_path: Path) -> None:
    _, model = exportable("xiao2016", score_threshold=0.999)
    layers = [torch.nn.Linear(9 * 32, 64), None, None, torch.nn.Linear(64, 64)]
    pool = torch.nn.AdaptiveAvgPool2d((3, 3))
    network: Any = SimpleNamespace(avgpool=pool, classifier=layers)
    model.head = _vgg_head(network)
    write_onnx(model, tmp_path / "model.onnx", facts(model))
    images, none = noise(1, 96, 128), [torch.zeros(0, 4)]
    for runtime in ("onnxruntime", "openvino"):
        exported = ExportedSystem(tmp_path / "model.onnx", runtime)
        assert exported.detect(images)[0].embeddings.shape == (0, 16)
        assert exported.embed(images, none)[0].shape == (0, 16)
        compare(model, exported, images)


@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
def test_every_opset_is_read(tmp_path: Path, opset: int) -> None:
    _, model = exportable("oim")
    write_onnx(model, tmp_path / "model.onnx", facts(model), opset)
    assert compare(model, ExportedSystem(tmp_path / "model.onnx"), noise(1, 96, 128))


def test_the_model_stays_as_it_is_and_may_have_been_trained(tmp_path: Path) -> None:
    _, model = exportable("seqnet")
    images = noise(1, 96, 128)
    (before,) = model.detect(images)
    model(images, [Target(BOXES, torch.tensor([0, 1]))])
    write_onnx(model, tmp_path / "model.onnx", facts(model))
    compare(model, ExportedSystem(tmp_path / "model.onnx"), images)
    (after,) = model.detect(images)
    np.testing.assert_array_equal(before.embeddings, after.embeddings)


class Eigenvalues(torch.nn.Module):
    """A layer without an operator of ONNX."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.linalg.eigvalsh(x[0, 0, :2, :2]).sum()


def test_a_layer_that_onnx_lacks_is_an_error(tmp_path: Path) -> None:
    _, model = exportable("oim")
    model.stem.append(Eigenvalues())
    with pytest.raises(ModelError, match=r"cannot be written with opset 17: .*linalg"):
        write_onnx(model, tmp_path / "model.onnx", facts(model))


def test_what_cannot_be_exported_is_an_error(tmp_path: Path) -> None:
    pair = TwoStep(None, ExtractorEmbedder(lambda crop: crop.mean(axis=(0, 1))))
    with pytest.raises(ModelError, match="TwoStep cannot be exported, expected an end-to-end"):
        write_onnx(pair, tmp_path / "model.onnx", facts(pair))
    _, model = exportable("oim")
    for opset in (15, 21, 99):
        with pytest.raises(ModelError, match=f"opset {opset} cannot be written, expected 16 to 20"):
            write_onnx(model, tmp_path / "model.onnx", facts(model), opset)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(("least", "most"), [(600, 1000), (900, 1500), (96, 160)])
def test_pictures_are_scaled_as_in_double_precision(least: int, most: int) -> None:
    _, model = exportable("oim", min_size=least, max_size=most)
    transform = _Transform(model.transform)
    draw = np.random.default_rng(0)
    sides = draw.integers(20, 4000, (1500, 2)).tolist()
    sides += [[49 * k, 98 * k] for k in range(1, 30)] + [[k, k] for k in range(50, 400)]
    shorter = 0
    for height, width in sides:
        scale = min(least / min(height, width), most / max(height, width))
        expected = [math.floor(side * scale) for side in (height, width)]
        size = transform._scaled_size(torch.empty(1).expand(1, 3, height, width))
        assert [int(side) for side in size] == expected
        shorter += least - 1 in expected or most - 1 in expected
    assert shorter > 50


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 5), (1, 3)])
def test_adaptive_pooling_is_torchs(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, 7, 4)
    for pool in (torch.nn.AdaptiveAvgPool2d(size), torch.nn.AdaptiveMaxPool2d(size)):
        expected = pool(x)
        with _AdaptivePooling():
            torch.testing.assert_close(pool(x), expected)
