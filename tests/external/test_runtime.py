"""Loading: what goes wrong with files and runtimes, and what a loaded network says of itself."""

import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper

from personsearch.errors import ModelError
from personsearch.external import runtime as runtime_module
from personsearch.external.runtime import Network, Port, open_network


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


class Session:
    """Stands for a session of onnxruntime on accelerators: it runs on the CPU."""

    made: list[list[Any]]  # the providers that were asked for, of each session
    broken: set[str]  # providers whose libraries are missing
    refuses: str = ""  # what it raises with an accelerator

    def __init__(self, file: str, options: Any, providers: list[Any]) -> None:
        names = [name if isinstance(name, str) else name[0] for name in providers]
        Session.made.append(providers)
        if self.refuses and len(names) > 1:
            raise RuntimeError(self.refuses)
        self._names = [name for name in names if name not in self.broken]
        self._real = REAL_SESSION(file, options, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return self._names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


REAL_SESSION = onnxruntime.InferenceSession
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """onnxruntime offers these accelerators, first CUDA and TensorRT."""
    names = [TENSORRT, CUDA]
    monkeypatch.setattr(Session, "made", [], raising=False)
    monkeypatch.setattr(Session, "broken", set(), raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: [*names, "CPUExecutionProvider"]
    )
    runtime_module._warn_once.cache_clear()
    yield names
    onnxruntime.set_default_logger_severity(2)


def ran(network: Network) -> str:
    values = np.ones((1, 3, 4, 5), dtype=np.float32)
    np.testing.assert_array_equal(network(values)["y"], 2 * values)
    return network.device


def test_without_accelerators_auto_is_the_cpu_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in (None, "openvino", "onnxruntime"):
        network = open_network(network_file(tmp_path / "n.onnx"), name)  # type: ignore[arg-type]
        assert ran(network) == "cpu"
        assert type(network).__name__ == ("_OnnxRuntime" if name == "onnxruntime" else "_OpenVino")
    assert not caplog.records


def test_auto_takes_cuda_and_says_so(
    tmp_path: Path, offered: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert ran(open_network(network_file(tmp_path / "n.onnx"))) == "cuda"
    assert caplog.messages == ["n.onnx: runs on cuda (onnxruntime)"]
    ((provider, options), last) = Session.made[0]
    assert (provider, options["use_tf32"], last) == (CUDA, "0", "CPUExecutionProvider")
    # A runtime that the description names is kept.
    network = open_network(network_file(tmp_path / "n.onnx"), "openvino")
    assert (ran(network), type(network).__name__) == ("cpu", "_OpenVino")
    offered.remove(CUDA)  # TensorRT changes results: it has to be named
    assert ran(open_network(network_file(tmp_path / "n.onnx"))) == "cpu"


@pytest.mark.parametrize(
    ("device", "provider", "number"),
    [("cuda", CUDA, "0"), ("cuda:1", CUDA, "1"), ("tensorrt", TENSORRT, "0")],
)
def test_a_device_of_onnxruntime_by_name(
    tmp_path: Path, offered: list[str], device: str, provider: str, number: str
) -> None:
    assert ran(open_network(network_file(tmp_path / "n.onnx"), device=device)) == device
    (name, options), *_ = Session.made[0]
    assert (name, options["device_id"]) == (provider, number)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_the_cpu_by_name(tmp_path: Path, offered: list[str], name: str) -> None:
    file = network_file(tmp_path / "n.onnx")
    assert ran(open_network(file, name, device="cpu")) == "cpu"  # type: ignore[arg-type]


@pytest.mark.parametrize("refuses", ["", "CUDA failure 35: the driver is too old\nmore"])
def test_a_device_that_cannot_start_gives_way_to_the_cpu_in_one_line_or_is_an_error(
    tmp_path: Path,
    offered: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refuses: str,
) -> None:
    monkeypatch.setattr(Session, "broken", {CUDA, TENSORRT})
    monkeypatch.setattr(Session, "refuses", refuses)
    file = network_file(tmp_path / "n.onnx")
    reason = refuses.partition("\n")[0] or "a library of CUDA, cuDNN or TensorRT"
    for _ in range(2):  # a detector and an embedder
        assert ran(open_network(file)) == "cpu"
    (line,) = caplog.messages
    assert line.startswith(f"cuda cannot start with onnxruntime ({reason}")
    assert line.endswith("networks run on the CPU")
    for device in ("cuda", "tensorrt"):
        with pytest.raises(ModelError, match=f"device '{device}' cannot start") as caught:
            open_network(file, device=device)
        assert reason in str(caught.value)
        assert "cpu (openvino) and cpu, cuda, tensorrt (onnxruntime)" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_says_what_is(tmp_path: Path) -> None:
    file = network_file(tmp_path / "n.onnx")
    there = r"is not on this machine; there is cpu \(openvino\) and cpu \(onnxruntime\)"
    for device in ("cuda", "cuda:3", "tensorrt", "gpu"):
        with pytest.raises(ModelError, match=f"device '{device}' {there}"):
            open_network(file, device=device)
    with pytest.raises(ModelError, match=r"runs with onnxruntime, .* there is cpu \(openvino\)"):
        open_network(file, "openvino", device="cuda")
    with pytest.raises(ModelError, match=r"runs with openvino, .* there is cpu \(onnxruntime\)"):
        open_network(file, "onnxruntime", device="gpu")


class Core:
    """Stands for OpenVINO with a GPU, which runs on the CPU, or does not start."""

    available_devices = ("CPU", "GPU.0")
    starts = True

    def __init__(self) -> None:
        self._real = REAL_CORE()

    def read_model(self, file: Path) -> Any:
        return self._real.read_model(file)

    def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
        assert settings["INFERENCE_PRECISION_HINT"] == "f32"
        if device == "GPU" and not self.starts:
            raise RuntimeError("Exception from src/plugin.cpp:1\nno OpenCL driver")
        return self._real.compile_model(model, "CPU", settings)


REAL_CORE = openvino.Core


def test_auto_takes_openvinos_gpu_or_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime_module._warn_once.cache_clear()
    monkeypatch.setattr(openvino, "Core", Core)
    file = network_file(tmp_path / "n.onnx")
    for device in ("auto", "gpu"):
        assert ran(open_network(file, device=device)) == "gpu"
    monkeypatch.setattr(Core, "starts", False)
    assert ran(open_network(file)) == "cpu"
    assert caplog.messages == [
        "gpu cannot start with openvino (no OpenCL driver); networks run on the CPU"
    ]
    with pytest.raises(ModelError, match=r"device 'gpu' cannot start with openvino \(no OpenCL"):
        open_network(file, device="gpu")
