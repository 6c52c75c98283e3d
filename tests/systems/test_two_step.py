"""Any detector and any embedder behind the one interface of all systems."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from personsearch.errors import DataError, ModelError
from personsearch.media.pictures import read_picture
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.systems.crop_embedders import ExtractorEmbedder, ModelEmbedder
from personsearch.systems.two_step import ModelDetector, TwoStep, from_toml, to_picture
from personsearch.types import Detections

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def image(width: int = 40, height: int = 30, seed: int = 0) -> Tensor:
    """As read from a file: 8 bits a channel."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (3, height, width), dtype=np.uint8)
    return torch.from_numpy(pixels).float() / 255


class Halves:
    """Finds the left half at score 0.4 and the right half at 0.9; nobody in a dark picture."""

    def __call__(self, pictures: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for picture in pictures:
            height, width = picture.shape[:2]
            rows = [[0, 0, width / 2, height], [width / 2, 0, width, height]]
            count = 2 if picture.any() else 0
            found.append(
                (
                    np.array(rows[:count], np.float32).reshape(-1, 4),
                    np.array([0.4, 0.9][:count], np.float32),
                )
            )
        return found


def mean_color(crop: np.ndarray) -> np.ndarray:
    mean: np.ndarray = crop.reshape(-1, 3).mean(axis=0)
    return mean


class Learned(PersonSearchModel):
    """A system with a weight: one box a picture, embedded by the whole picture's colour."""

    embedding_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        return {"loss": self.weight.sum()}

    def detect(self, images: list[Tensor]) -> list[Detections]:
        return [
            Detections(torch.tensor([[1.0, 2, 30, 20]]), torch.tensor([0.7]), torch.zeros(1, 3))
            for _ in images
        ]

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        return [
            (self.weight * image.mean(dim=(1, 2))).expand(len(part), 3)
            for image, part in zip(images, boxes, strict=True)
        ]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_vectors_keep_their_length_for_the_euclidean_metric() -> None:
    model = TwoStep(Halves(), ExtractorEmbedder(mean_color), metric="euclidean")
    assert model.metric == "euclidean"
    picture = image(seed=1)
    (found,) = model.detect([picture])
    right = 255 * picture[:, :, 20:].mean(dim=(1, 2)).numpy()
    np.testing.assert_allclose(found.embeddings[0], right, rtol=1e-5)
    (rows,) = model.embed([picture], [torch.from_numpy(found.boxes)])
    np.testing.assert_array_equal(rows.numpy(), found.embeddings)


def test_detect_orders_by_score_and_embeds_each_box() -> None:
    model = TwoStep(Halves(), ExtractorEmbedder(mean_color))
    images = [image(seed=1), torch.zeros(3, 8, 8), image(60, 20, seed=2)]
    first, dark, last = model.detect(images)
    np.testing.assert_allclose(first.scores, [0.9, 0.4])
    np.testing.assert_allclose(first.boxes, [[20, 0, 40, 30], [0, 0, 20, 30]])
    right = unit(images[0][:, :, 20:].mean(dim=(1, 2)).numpy())
    assert first.embeddings is not None
    np.testing.assert_allclose(first.embeddings[0], right, rtol=1e-5)
    assert len(dark) == 0
    assert dark.embeddings is not None
    assert dark.embeddings.shape == (0, 3)
    np.testing.assert_allclose(last.boxes[0], [30, 0, 60, 20])


def test_embed_gives_unit_rows_for_given_boxes() -> None:
    model = TwoStep(None, ExtractorEmbedder(mean_color))
    images = [image(seed=1), image(seed=2)]
    boxes = [torch.zeros(0, 4), torch.tensor([[0.0, 0, 10, 10], [10, 10, 40, 30]])]
    none, two = model.embed(images, boxes)
    assert none.shape == (0, 3)
    assert two.dtype == torch.float32
    np.testing.assert_allclose(two.norm(dim=1), [1, 1], rtol=1e-6)
    expected = unit(images[1][:, 10:30, 10:40].mean(dim=(1, 2)).numpy())
    np.testing.assert_allclose(two[1], expected, rtol=1e-5)


def test_detections_embed_as_given_boxes_do() -> None:
    model = TwoStep(Halves(), ExtractorEmbedder(mean_color))
    images = [image(seed=4)]
    (found,) = model.detect(images)
    (given,) = model.embed(images, [torch.from_numpy(found.boxes)])
    np.testing.assert_array_equal(found.embeddings, given.numpy())


def test_no_boxes_anywhere() -> None:
    model = TwoStep(Halves(), ExtractorEmbedder(mean_color))
    (dark,) = model.detect([torch.zeros(3, 8, 8)])
    assert len(dark) == 0
    assert model.detect([]) == []


def test_a_trained_model_is_either_half() -> None:
    learned = Learned()
    as_detector = TwoStep(ModelDetector(learned), ExtractorEmbedder(mean_color))
    (found,) = as_detector.detect([image()])
    np.testing.assert_allclose(found.boxes, [[1, 2, 30, 20]])
    np.testing.assert_allclose(found.scores, [0.7])
    as_embedder = TwoStep(Halves(), ModelEmbedder(learned))
    (found,) = as_embedder.detect([image()])
    assert found.embeddings is not None
    np.testing.assert_allclose(
        found.embeddings[0], unit(image().mean(dim=(1, 2)).numpy()), rtol=1e-5
    )
    # Its weights belong to the whole, so that .to(device) moves them.
    assert [name for name, _ in as_embedder.named_parameters()] == ["embedder.model.weight"]
    assert [name for name, _ in as_detector.named_parameters()] == ["detector.model.weight"]


def test_settings_reach_the_model() -> None:
    model = TwoStep(
        None, ExtractorEmbedder(mean_color), confidence_weighted=True, class_name="vehicle"
    )
    assert model.confidence_weighted
    assert model.class_name == "vehicle"
    assert model.embedding_dim == 3
    assert not model.training


def test_there_is_nothing_to_train() -> None:
    model = TwoStep(None, ExtractorEmbedder(mean_color))
    with pytest.raises(ModelError, match="no training losses"):
        model([image()], [])


def test_without_a_detector_detect_says_so() -> None:
    with pytest.raises(ModelError, match="has no detector"):
        TwoStep(None, ExtractorEmbedder(mean_color)).detect([image()])


def test_a_zero_vector_is_like_nobody_and_nan_is_an_error() -> None:
    zero = TwoStep(None, ExtractorEmbedder(lambda crop: np.zeros(4)))
    (row,) = zero.embed([image()], [torch.tensor([[0.0, 0, 9, 9]])])
    np.testing.assert_array_equal(row, np.zeros((1, 4)))
    broken = TwoStep(None, ExtractorEmbedder(lambda crop: np.full(4, np.nan)))
    with pytest.raises(ModelError, match="NaN or infinity"):
        broken.embed([image()], [torch.tensor([[0.0, 0, 9, 9]])])


def test_every_8_bit_value_survives_the_way_to_a_picture() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, axis=0)
    as_image = torch.from_numpy(values).float() / 255
    np.testing.assert_array_equal(to_picture(as_image), values.transpose(1, 2, 0))
    assert to_picture(torch.full((3, 2, 2), 1.7)).max() == 255
    assert to_picture(torch.full((3, 2, 2), -0.3)).max() == 0


@pytest.mark.parametrize(
    "wrong", [torch.zeros(1, 8, 8), torch.zeros(8, 8, 3), torch.zeros(3, 8, 8, dtype=torch.uint8)]
)
def test_what_is_no_image_is_an_error(wrong: Tensor) -> None:
    with pytest.raises(DataError, match=r"expected float32 \(3, H, W\)"):
        to_picture(wrong)


def test_images_and_boxes_must_go_together() -> None:
    with pytest.raises(DataError, match="1 images and 2 sets of boxes"):
        TwoStep(None, ExtractorEmbedder(mean_color)).embed([image()], [torch.zeros(0, 4)] * 2)


def pair_toml(folder: Path) -> Path:
    path = folder / "pair.toml"
    path.write_text(
        f"""
confidence_weighted = true

[detector]
file = "{(DATA / "models" / "person-detection-0202.xml").resolve().as_posix()}"
size = {{ width = 512, height = 512 }}
color = "bgr"
scale = 255
layout = "ssd"
class_index = 0

[embedder]
file = "{(DATA / "models" / "osnet_x0_25_msmt17.onnx").resolve().as_posix()}"
size = {{ width = 128, height = 256 }}
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
"""
    )
    return path


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real samples in ../shared/data")
def test_a_real_pair_finds_and_recognises_real_people(tmp_path: Path) -> None:
    model = from_toml(pair_toml(tmp_path))
    assert model.embedding_dim == 512
    assert model.confidence_weighted
    frames = [DATA / "prw-frames" / f"c1s1_00{n}.jpg" for n in (2326, 2351)]
    images = [torch.tensor(read_picture(path)).permute(2, 0, 1).float() / 255 for path in frames]
    found = model.detect(images)
    for detections in found:
        assert len(detections) >= 4
        assert (np.diff(detections.scores) <= 0).all()
        assert (detections.boxes >= 0).all()
        assert (detections.boxes <= [1920, 1080, 1920, 1080]).all()
    # One woman walks through both frames: her box is found, and nobody is more like her.
    her = torch.tensor([[781.0, 447, 883, 733]])
    (query,) = model.embed(images[:1], [her])
    assert found[1].embeddings is not None
    similarity = found[1].embeddings @ query[0].numpy()
    np.testing.assert_allclose(found[1].boxes[similarity.argmax()], [708, 448, 805, 755], atol=20)
    assert similarity.max() > 0.9
