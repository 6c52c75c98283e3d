"""A checkpoint is exported whole, checked against torch and described, or nothing is left."""

from pathlib import Path

import numpy as np
import pytest
from exportable import checkpoint, noise
from PIL import Image
from torch import Tensor

from personsearch.errors import CheckpointError, ModelError, PictureError
from personsearch.loading import load
from personsearch.systems.exported import ExportedFacts, ExportedSystem, read_facts
from personsearch.training import export
from personsearch.training.export import export_checkpoint
from personsearch.types import Detections


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("run") / "best", object_class="tattoo")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = (noise(1, 96, 128)[0] * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def test_the_card_has_the_differences_of_each_runtime(
    folder: Path, picture: Path, tmp_path: Path
) -> None:
    found = export_checkpoint(folder.parent, tmp_path / "model.onnx", [picture])
    assert {one.runtime for one in found} == {"onnxruntime", "openvino"}
    for one in found:
        assert (one.pictures, one.unpaired) == (1, 0)
        assert one.detections > 5
        assert 0 < one.boxes < 0.01
        assert max(one.scores, one.embeddings) < 1e-4
    assert read_facts(tmp_path / "model.onnx") == ExportedFacts(
        "oim", 16, "cosine", False, "tattoo"
    )
    card = (tmp_path / "model.md").read_text()
    assert card.startswith("# oim, small\n")
    assert f"| onnxruntime {found[-1].version} | 0 | {found[-1].boxes:.2g} |" in card
    assert f"On 1 pictures with {found[0].detections}" in card.replace("differences on", "On")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("model.md", "model.onnx", "noise.png")
    ]


def test_drawn_pictures_of_two_sizes_are_the_default(folder: Path, tmp_path: Path) -> None:
    found = export_checkpoint(folder, tmp_path / "model.onnx")
    assert [one.pictures for one in found] == [4, 4]
    assert len({image.shape for image in export._drawn()}) == 2


@pytest.mark.parametrize("name", ["model.onnx", "model.md"])
def test_nothing_is_overwritten(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ModelError, match=rf"{name}: exists already; choose another name"):
        export_checkpoint(folder, tmp_path / "model.onnx")
    assert (tmp_path / name).read_text() == "mine"


def test_what_cannot_be_exported_is_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.onnx"
    with pytest.raises(ModelError, match=r"pair\.toml: only the checkpoint of an end-to-end"):
        export_checkpoint(Path("pair.toml"), file)
    with pytest.raises(CheckpointError, match="omz: no such checkpoint folder"):
        export_checkpoint(Path("omz"), file)
    with pytest.raises(ModelError, match="gone: no such folder"):
        export_checkpoint(folder, tmp_path / "gone" / "model.onnx")
    with pytest.raises(PictureError, match=r"gone\.jpg"):
        export_checkpoint(folder, file, [tmp_path / "gone.jpg"])
    monkeypatch.setattr(export, "installed_runtimes", list)
    with pytest.raises(ModelError, match=r"needs onnx, .* pip install 'personsearch\[onnx\]'"):
        export_checkpoint(folder, file)
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_differs_is_an_error_and_leaves_nothing(
    folder: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ExportedSystem.detect

    def shifted(self: ExportedSystem, images: list[Tensor]) -> list[Detections]:
        return [
            Detections(one.boxes + np.float32(2.0), one.scores, one.embeddings)
            for one in plain(self, images)
        ]

    def surer(self: ExportedSystem, images: list[Tensor]) -> list[Detections]:
        return [
            Detections(one.boxes, one.scores + np.float32(0.02), one.embeddings)
            for one in plain(self, images)
        ]

    for wrong, message in ((shifted, r"\d+ detections of \d+"), (surer, r"scores by 0\.02")):
        monkeypatch.setattr(ExportedSystem, "detect", wrong)
        with pytest.raises(ModelError, match=rf"differs from torch: .*{message}"):
            export_checkpoint(folder, tmp_path / "model.onnx", [picture])
    assert list(tmp_path.iterdir()) == [picture]


def test_a_file_that_no_runtime_reads_is_an_error_that_names_it(
    folder: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*arguments: object) -> None:
        file = arguments[1]
        assert isinstance(file, Path)
        file.write_bytes(b"cut")

    monkeypatch.setattr(export, "write_onnx", write)
    with pytest.raises(ModelError, match=f"^{tmp_path}/model.onnx: was not written by"):
        export_checkpoint(folder, tmp_path / "model.onnx", [picture])
    assert list(tmp_path.iterdir()) == [picture]


def test_the_file_is_loaded_by_name(folder: Path, picture: Path, tmp_path: Path) -> None:
    export_checkpoint(folder, tmp_path / "model.onnx", [picture])
    assert isinstance(load(tmp_path / "model.onnx"), ExportedSystem)
