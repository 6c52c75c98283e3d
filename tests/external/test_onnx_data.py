"""The files that an ONNX network names as its data, whatever the file holds."""

from pathlib import Path

import onnx
import pytest
from onnx import helper

from personsearch.errors import ModelError
from personsearch.external.onnx_data import external_files, properties


@pytest.mark.parametrize(
    "content", [b"", b"\x3a", b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\x03\x2a\xff", b"\xff" * 99]
)
def test_a_file_that_is_no_network_has_no_data_outside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "n.onnx").write_bytes(content)
    assert external_files(tmp_path / "n.onnx") == []
    assert properties(tmp_path / "n.onnx") == {}


def test_properties_are_those_of_the_file_and_none_of_a_cut_one(tmp_path: Path) -> None:
    graph = helper.make_graph([], "g", [], [])
    model = helper.make_model(graph)
    helper.set_model_props(model, {"author": "me", "größe": "1 m"})
    onnx.save(model, tmp_path / "n.onnx")
    assert properties(tmp_path / "n.onnx") == {"author": "me", "größe": "1 m"}
    content = (tmp_path / "n.onnx").read_bytes()
    (tmp_path / "n.onnx").write_bytes(content[:-1])
    assert properties(tmp_path / "n.onnx") == {"author": "me"}
    with pytest.raises(ModelError, match=r"gone\.onnx: cannot be read"):
        properties(tmp_path / "gone.onnx")


def test_only_regular_files_count_as_data(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        return bytes([number << 3 | 2, size & 127 | 128, size >> 7]) + content

    for location in (b"/dev/zero", b"..", b"a\0b", b"x" * 300, b"x" * 99):
        entry = field(1, b"location") + field(2, location)
        graph = field(5, field(13, entry))
        (tmp_path / "n.onnx").write_bytes(field(7, graph))
        assert external_files(tmp_path / "n.onnx") == []
    (tmp_path / ("x" * 99)).write_bytes(b"weights")
    assert external_files(tmp_path / "n.onnx") == [tmp_path / ("x" * 99)]
