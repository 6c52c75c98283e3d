"""The TOML: what it accepts, and that each mistake names itself."""

from pathlib import Path

import pytest

from personsearch.errors import ModelError
from personsearch.external.description import read_description

GOOD = """
name = "pair"
confidence_weighted = true

[detector]
file = "d.xml"
runtime = "openvino"
size = { width = 512, height = 384 }
color = "bgr"
scale = 255
layout = "ssd"
class_index = 1
score_threshold = 0.25
nms = 0.6
class_name = "vehicle"

[embedder]
file = "e.onnx"
size = { width = 128, height = 256 }
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
resize = "letterbox"
pad_value = 0
batch = 8
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pair.toml"
    path.write_text(text)
    return path


def test_a_full_file_reads_as_written(tmp_path: Path) -> None:
    description = read_description(written(tmp_path, GOOD))
    assert description.name == "pair"
    assert description.confidence_weighted
    detector, embedder = description.detector, description.embedder
    assert (detector.file, detector.runtime, detector.layout) == ("d.xml", "openvino", "ssd")
    assert detector.size is not None
    assert (detector.size.width, detector.size.height) == (512, 384)
    assert (detector.color, detector.scale, detector.class_index) == ("bgr", 255, 1)
    assert (detector.score_threshold, detector.nms, detector.class_name) == (0.25, 0.6, "vehicle")
    assert embedder.mean == [0.485, 0.456, 0.406]
    assert (embedder.resize, embedder.pad_value, embedder.batch) == ("letterbox", 0, 8)


def test_what_is_left_out_has_defaults(tmp_path: Path) -> None:
    text = '[detector]\nfile = "d.onnx"\nlayout = "yolo"\n[embedder]\nfile = "e.onnx"\n'
    description = read_description(written(tmp_path, text))
    assert (description.detector.color, description.detector.scale) == ("rgb", 1)
    assert description.detector.nms is None
    assert description.detector.class_name == "person"
    assert description.embedder.batch == 32
    assert not description.confidence_weighted


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("score_threshold", "scor_threshold", r"unknown key 'detector.scor_threshold'.*did you "
         r"mean 'score_threshold'"),
        ("[embedder]", "[embeder]", r"'embedder' is missing.*unknown key 'embeder'.*'embedder'"),
        ("width = 512", "widht = 512", r"'detector.size.width' is missing.*'widht'|"
         r"unknown key 'detector.size.widht'.*did you mean 'width'"),
        ('layout = "ssd"', 'layout = "sdd"', r"'detector.layout' is 'sdd'.*did you mean 'ssd'"),
        ("= 0.25", '= "high"', r"'detector.score_threshold' is 'high', expected a valid number"),
        ("batch = 8", "batch = 8.5", r"'embedder.batch' is 8.5, expected a valid integer"),
        ("batch = 8", "batch = 0", r"'embedder.batch' is 0"),
        ("scale = 255", "scale = 2", r"'detector.scale' is 2(.0)?, expected 1 .*or 255"),
        ("[0.229, 0.224, 0.225]", "[0.229, 0.224]", r"'embedder.std'.*at least 3"),
        ("[0.229, 0.224, 0.225]", "[0.2, 0.0, 0.2]", r"'embedder.std'.*positive"),
        ('resize = "letterbox"\n', "", r"'pad_value' needs resize = 'letterbox'"),
        ('layout = "ssd"', 'layout = "ssd"\nscores_output = "s"', r"'scores_output' does not belong"
         r" to layout 'ssd'"),
        ('layout = "ssd"', 'layout = "ssd"\nactivation = "sigmoid"', r"'ssd' holds scores already"),
        ('layout = "ssd"\n', "", r"'detector.layout' is missing"),
        ("[detector]", "[detector", r"is not TOML"),
    ],
)  # fmt: skip
def test_a_mistake_names_itself(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ModelError, match=message) as caught:
        read_description(written(tmp_path, GOOD.replace(old, new, 1)))
    assert "pair.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('"bgr"', '"grb"').replace("batch = 8", "batches = 8")
    with pytest.raises(ModelError, match=r"(?s)'detector.color' is 'grb'.*'embedder.batches'"):
        read_description(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing\.toml: no such file"):
        read_description(tmp_path / "nothing.toml")
