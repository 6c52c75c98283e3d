"""Loading: what goes wrong with files and runtimes, and what a loaded network says of itself."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from personsearch.errors import ModelError
from personsearch.external import runtime as runtime_module
from personsearch.external.runtime import Port, open_network


def network_file(path: Path, inputs: Sequence[str] = ("x",), kind: int = TensorProto.FLOAT) -> Path:
    """Doubles its first input of n x 3 x 4 x 5."""
    shape = ["n", 3, 4, 5]
    graph = helper.make_graph(
        [helper.make_node("Add", [inputs[0], inputs[-1]], ["y"])],
        "double",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_both_runtimes_say_and_do_the_same(tmp_path: Path, name: str) -> None:
    network = open_network(network_file(tmp_path / "n.onnx"), name)  # type: ignore[arg-type]
    assert network.input == Port("x", (None, 3, 4, 5))
    assert network.outputs == (Port("y", (None, 3, 4, 5)),)
    assert np.dtype(network.dtype) == np.float32
    assert network.describe_outputs() == "y (? x 3 x 4 x 5)"
    values = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    np.testing.assert_array_equal(network(values)["y"], 2 * values)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_an_earlier_output_survives_a_later_run(tmp_path: Path, name: str) -> None:
    network = open_network(network_file(tmp_path / "n.onnx"), name)  # type: ignore[arg-type]
    first = network(np.ones((1, 3, 4, 5), dtype=np.float32))["y"]
    network(np.zeros((1, 3, 4, 5), dtype=np.float32))
    assert (first == 2).all()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_run_on_another_shape_says_what_the_network_takes(tmp_path: Path, name: str) -> None:
    network = open_network(network_file(tmp_path / "n.onnx"), name)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"shape \(1, 3, 9, 9\); it takes x \(\? x 3 x 4 x 5\)"):
        network(np.zeros((1, 3, 9, 9), dtype=np.float32))


def test_openvino_is_the_first_choice(tmp_path: Path) -> None:
    network = open_network(network_file(tmp_path / "n.onnx"))
    assert type(network).__name__ == "_OpenVino"


def test_without_openvino_onnxruntime_runs_onnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "find_spec", lambda name: name == "onnxruntime")
    network = open_network(network_file(tmp_path / "n.onnx"))
    assert type(network).__name__ == "_OnnxRuntime"


@pytest.mark.parametrize(
    ("name", "extra"), [("openvino", "openvino"), ("onnxruntime", "onnx"), (None, "openvino")]
)
def test_a_runtime_that_is_not_installed_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, extra: str
) -> None:
    monkeypatch.setattr(runtime_module, "find_spec", lambda name: False)
    with pytest.raises(ModelError, match=rf"pip install 'personsearch\[{extra}\]'"):
        open_network(network_file(tmp_path / "n.onnx"), name)  # type: ignore[arg-type]


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: no such network file"):
        open_network(tmp_path / "gone.onnx")
    (tmp_path / "d.xml").write_text("<net/>")
    with pytest.raises(ModelError, match=r"weights d\.bin are not beside it"):
        open_network(tmp_path / "d.xml")


def test_an_xml_needs_openvino(tmp_path: Path) -> None:
    (tmp_path / "d.xml").write_text("<net/>")
    with pytest.raises(ModelError, match="set runtime = 'openvino'"):
        open_network(tmp_path / "d.xml", "onnxruntime")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.pth").write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"expected an \.onnx network or an OpenVINO \.xml"):
        open_network(tmp_path / "d.pth")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "d.onnx").write_bytes(b"this is no network")
    with pytest.raises(ModelError, match=r"d\.onnx: .* cannot load it") as caught:
        open_network(tmp_path / "d.onnx", name)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_two_inputs_are_refused(tmp_path: Path, name: str) -> None:
    file = network_file(tmp_path / "n.onnx", ("x", "size"))
    with pytest.raises(ModelError, match=r"has 2 inputs \(x .*size .*\), expected one"):
        open_network(file, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_signals_still_arrive_when_networks_came_and_went(tmp_path: Path, name: str) -> None:
    """A runtime that leaves its signal stack behind would turn Ctrl-C into a crash."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from personsearch.external.runtime import open_network\n"
        "came = []\n"
        "signal.signal(signal.SIGUSR1, lambda *_: came.append(1))\n"
        "for _ in range(5):\n"
        "    network = open_network(Path(sys.argv[1]), sys.argv[2])\n"
        "    del network\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n"
        "sys.exit(len(came) != 5)\n"
    )
    command = [sys.executable, "-c", code, str(network_file(tmp_path / "n.onnx")), name]
    assert subprocess.run(command, check=False).returncode == 0
