"""Run a user's network with OpenVINO or onnxruntime behind one interface."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from personsearch.errors import ModelError
from personsearch.external.description import Runtime

_EXTRA: dict[Runtime, str] = {"openvino": "openvino", "onnxruntime": "onnx"}
_ONNX_TYPES: dict[str, DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True)
class Port:
    """One input or output of a network."""

    name: str  # in the file
    # one entry an axis, None if the file leaves it open; None if the number of axes is open
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.name} (any shape)"
        sides = " x ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name} ({sides})"


class Network(ABC):
    """A loaded network whose first input, in most the only one, is the picture."""

    file: Path
    inputs: tuple[Port, ...]  # in the file's order, as are the outputs
    input: Port  # the first of them
    dtype: DTypeLike  # NumPy type of the first input
    outputs: tuple[Port, ...]

    @abstractmethod
    def __call__(self, *inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """Return every output by name, for inputs of the network's shapes and types."""

    def describe_outputs(self) -> str:
        """Return the outputs and their shapes, for error messages."""
        return ", ".join(map(str, self.outputs))


def installed_runtimes() -> list[Runtime]:
    """Return the runtimes on this machine."""
    return [name for name in _EXTRA if find_spec(name)]


def open_network(file: Path, runtime: Runtime | None = None, inputs: int = 1) -> Network:
    """Load an ``.onnx`` network, or an OpenVINO ``.xml`` beside its ``.bin``.

    Without `runtime`, OpenVINO runs it if installed, else onnxruntime.

    Raises:
        ModelError: the file or the runtime is missing, they do not fit each other, or the file is
            not a network with that number of inputs.
    """
    file = Path(file)
    if not file.is_file():
        raise ModelError(
            f"{file}: no such network file; check 'file', it starts at the TOML's folder"
        )
    suffix = file.suffix.lower()
    if suffix not in (".xml", ".onnx"):
        raise ModelError(f"{file}: expected an .onnx network or an OpenVINO .xml, got {suffix!r}")
    if suffix == ".xml":
        if runtime == "onnxruntime":
            raise ModelError(f"{file}: is an OpenVINO network, set runtime = 'openvino'")
        if not file.with_suffix(".bin").is_file():
            raise ModelError(
                f"{file}: its weights {file.with_suffix('.bin').name} are not beside it"
            )
        runtime = "openvino"
    installed = installed_runtimes()
    name = runtime or (installed[0] if installed else "openvino")
    if name not in installed:
        raise ModelError(
            f"{file}: needs {name}, which is not installed; "
            f"pip install 'personsearch[{_EXTRA[name]}]'"
        )
    return _OpenVino(file, inputs) if name == "openvino" else _OnnxRuntime(file, inputs)


def _checked_inputs(file: Path, ports: list[Port], count: int) -> tuple[Port, ...]:
    if len(ports) != count:
        names = ", ".join(map(str, ports)) or "none"
        expected = "one: the picture" if count == 1 else str(count)
        raise ModelError(f"{file}: has {len(ports)} inputs ({names}), expected {expected}")
    return tuple(ports)


class _OpenVino(Network):
    def __init__(self, file: Path, inputs: int) -> None:
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(file)
            ports = [_openvino_port(port) for port in model.inputs]
            self.input, *_ = self.inputs = _checked_inputs(file, ports, inputs)
            self.dtype = model.inputs[0].element_type.to_dtype()
            settings = {
                "PERFORMANCE_HINT": "LATENCY",
                # float32 whatever the processor offers: scores are the same on every machine.
                "INFERENCE_PRECISION_HINT": "f32",
                # Pinned, several processes on one machine would crowd the same cores.
                "ENABLE_CPU_PINNING": False,
            }
            # Compiling leaves its thread with a signal stack that later vanishes: the next signal
            # (Ctrl-C, the end of a loader process) would kill the main thread. A thread of its own
            # takes that away with it (seen with OpenVINO 2026.4).
            with ThreadPoolExecutor(1) as thread:
                job = thread.submit(core.compile_model, model, "CPU", settings)
                self._compiled = job.result()
        except RuntimeError as error:
            raise ModelError(f"{file}: OpenVINO cannot load it: {_first_line(error)}") from None
        self.file = file
        self.outputs = tuple(_openvino_port(port) for port in model.outputs)

    def __call__(self, *inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        try:
            results = self._compiled(list(inputs))
        except RuntimeError as error:
            raise _run_error(self, inputs[0], error) from None
        return {port.name: np.array(results[i]) for i, port in enumerate(self.outputs)}


def _openvino_port(port: Any) -> Port:
    # Outputs of some converted networks have no name of their own.
    name = port.get_any_name() if port.get_names() else port.get_node().get_friendly_name()
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return Port(name, None)
    return Port(name, tuple(side.get_length() if side.is_static else None for side in shape))


class _OnnxRuntime(Network):
    def __init__(self, file: Path, count: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions share no public base
            raise ModelError(f"{file}: onnxruntime cannot load it: {_first_line(error)}") from None
        inputs = self._session.get_inputs()
        ports = [_onnx_port(port) for port in inputs]
        self.input, *_ = self.inputs = _checked_inputs(file, ports, count)
        if inputs[0].type not in _ONNX_TYPES:
            raise ModelError(f"{file}: input is {inputs[0].type}, expected numbers of a picture")
        self.dtype = _ONNX_TYPES[inputs[0].type]
        self.file = file
        self.outputs = tuple(_onnx_port(port) for port in self._session.get_outputs())

    def __call__(self, *inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        names = [port.name for port in self.outputs]
        given = {port.name: value for port, value in zip(self.inputs, inputs, strict=True)}
        try:
            results = self._session.run(names, given)
        except Exception as error:
            raise _run_error(self, inputs[0], error) from None
        return dict(zip(names, results, strict=True))


def _onnx_port(port: Any) -> Port:
    sides = tuple(side if isinstance(side, int) else None for side in port.shape)
    # onnxruntime gives an unknown shape as no axes at all; no picture or output has none.
    return Port(port.name, sides or None)


def _run_error(network: Network, batch: NDArray[Any], error: Exception) -> ModelError:
    return ModelError(
        f"{network.file}: cannot run on an input of shape {batch.shape}; it takes "
        f"{network.input}: {_first_line(error)}"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # OpenVINO starts with "Exception from src/...:" lines; what happened stands last.
    return lines[-1] if lines and lines[0].startswith("Exception from") else next(iter(lines), "?")
