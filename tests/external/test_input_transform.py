"""What a network is fed: checked against plain arithmetic, and through real networks."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from personsearch.errors import ModelError
from personsearch.external.description import EmbedderDescription
from personsearch.external.input_transform import InputTransform
from personsearch.external.runtime import Network, Port, open_network


class Fake(Network):
    """Only its input is looked at."""

    def __init__(self, *shape: int | None, dtype: Any = np.float32) -> None:
        self.file, self.input, self.outputs = Path("fake.onnx"), Port("x", shape), ()
        self.dtype = dtype

    def __call__(self, batch: Any) -> Any:
        raise AssertionError("not run here")


def transform(*shape: int | None, dtype: Any = np.float32, **keys: Any) -> InputTransform:
    return InputTransform(Fake(*shape, dtype=dtype), EmbedderDescription(file="f", **keys))


def picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def channel_mean_network(path: Path, height: Any, width: Any) -> Path:
    """Gives the mean of each channel of what it is fed."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        "means",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, height, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        # A picture of red 255, green 51, blue 0.
        ({}, [1.0, 0.2, 0.0]),
        ({"color": "bgr"}, [0.0, 0.2, 1.0]),
        ({"scale": 255}, [255, 51, 0]),
        ({"color": "bgr", "scale": 255, "mean": [103.0, 1.0, 5.0]}, [-103.0, 50.0, 250.0]),
        ({"mean": MEAN, "std": STD}, [(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, -0.406 / 0.225]),
        # mean and std are in the order of `color`: the first belongs to blue here.
        (
            {"color": "bgr", "mean": MEAN, "std": STD},
            [-0.485 / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225],
        ),
    ],
)
def test_colours_reach_the_network(
    tmp_path: Path, runtime: Any, keys: Any, expected: list[float]
) -> None:
    network = open_network(channel_mean_network(tmp_path / "n.onnx", 8, 4), runtime)
    feed = InputTransform(network, EmbedderDescription(file="f", **keys))
    plain = np.empty((16, 16, 3), dtype=np.uint8)
    plain[:] = (255, 51, 0)
    black = np.zeros_like(plain)
    resized = [feed.resize(p)[0] for p in (plain, black)]
    means = network(feed.to_input(resized))["y"]
    np.testing.assert_allclose(means[0], expected, rtol=1e-5, atol=1e-5)
    assert means.shape == (2, 3)


def test_every_pixel_is_normalised() -> None:
    feed = transform(None, 3, 5, 7, mean=MEAN, std=STD)
    p = picture(7, 5)
    expected = ((p / 255.0 - MEAN) / STD).transpose(2, 0, 1)[None]
    given = feed.to_input([feed.resize(p)[0]])
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)


def test_raw_pixels_are_exact() -> None:
    feed = transform(1, 3, 5, 7, scale=255, color="bgr")
    p = picture(7, 5)
    np.testing.assert_array_equal(feed.to_input([p])[0], p[..., ::-1].transpose(2, 0, 1))


def test_channels_may_come_last_and_as_bytes() -> None:
    feed = transform(1, 5, 7, 3, dtype=np.uint8, scale=255)
    p = picture(7, 5)
    given = feed.to_input([p])
    assert given.dtype == np.uint8
    np.testing.assert_array_equal(given[0], p)


def test_a_fixed_batch_is_filled_with_zeros() -> None:
    feed = transform(3, 3, 5, 7, scale=255)
    given = feed.to_input([picture(7, 5)])
    assert given.shape == (3, 3, 5, 7)
    assert given[0].any()
    assert not given[1:].any()
    assert (feed.batch, feed.fixed_batch) == (3, True)


def test_letterbox_keeps_the_shape_and_pads_the_rest() -> None:
    feed = transform(1, 3, 40, 40, resize="letterbox", pad_value=7)
    white = np.full((20, 10, 3), 255, dtype=np.uint8)
    resized, placement = feed.resize(white)
    assert placement.scale == (2.0, 2.0)
    assert placement.offset == (10, 0)
    assert (resized[:, 10:30] == 255).all()
    assert (resized[:, :10] == 7).all()
    assert (resized[:, 30:] == 7).all()
    corner, placement = transform(
        1, 3, 40, 40, resize="letterbox", pad_value=7, placement="top-left"
    ).resize(white)
    assert placement.offset == (0, 0)
    assert (corner[:, :20] == 255).all()
    assert (corner[:, 20:] == 7).all()


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(1920, 1080), (333, 517), (1, 300), (40, 40)])
def test_boxes_go_there_and_back(resize: str, size: tuple[int, int]) -> None:
    feed = transform(1, 3, 96, 64, resize=resize)
    width, height = size
    resized, placement = feed.resize(np.zeros((height, width, 3), dtype=np.uint8))
    assert resized.shape == (96, 64, 3)
    whole = np.array([0.0, 0.0, width, height])
    there = whole * (placement.scale * 2) + np.array(placement.offset * 2)
    np.testing.assert_allclose(placement.to_picture(there[None])[0], whole, atol=1e-9)
    assert (there[:2] >= 0).all()
    assert (there[2:] <= [64, 96]).all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 64, 64), r"input is x \(1 x 1 x 64 x 64\), expected a colour picture"),
        ((1, 3), r"input is x \(1 x 3\), expected a colour picture"),
        ((1, 3, None, 64), r"open in size; add size"),
    ],
)
def test_an_input_that_is_no_picture_says_so(shape: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        transform(*shape)
