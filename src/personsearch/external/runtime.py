"""Run a user's network with OpenVINO or onnxruntime behind one interface, on the CPU or a GPU.

Results are those of float32 on every device but ``tensorrt``, which chooses its arithmetic when it
compiles a network: it never is ``auto``'s choice, and counts in the identity of a model.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from personsearch.errors import ModelError
from personsearch.external.description import NetworkDescription, Runtime

_log = logging.getLogger(__name__)

_EXTRA: dict[Runtime, str] = {"openvino": "openvino", "onnxruntime": "onnx"}
_ONNX_TYPES: dict[str, DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""onnxruntime's names of its devices."""
_DEVICES: dict[Runtime, tuple[str, ...]] = {
    "openvino": ("cpu", "gpu"),
    "onnxruntime": ("cpu", "cuda", "tensorrt"),
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
    device: str = "cpu"  # where it runs

    @abstractmethod
    def __call__(self, *inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """Return every output by name, for inputs of the network's shapes and types."""

    def describe_outputs(self) -> str:
        """Return the outputs and their shapes, for error messages."""
        return ", ".join(map(str, self.outputs))


def installed_runtimes() -> list[Runtime]:
    """Return the runtimes on this machine."""
    return [name for name in _EXTRA if find_spec(name)]


def available_devices(runtime: Runtime) -> list[str]:
    """Return the devices that an installed runtime offers, the CPU first.

    One that is offered may still not start: a driver or a library may be missing.
    """
    if runtime == "openvino":
        import openvino

        gpu = any(name.startswith("GPU") for name in openvino.Core().available_devices)
        return ["cpu", "gpu"] if gpu else ["cpu"]
    try:
        import onnxruntime
    except ImportError:  # a damaged installation hurts only those who use it
        return ["cpu"]
    offered = onnxruntime.get_available_providers()
    return ["cpu", *(device for device, name in _PROVIDERS.items() if name in offered)]


def open_described(description: NetworkDescription, folder: Path, device: str) -> Network:
    """Load the network of a description, whose relative `file` starts at `folder`.

    A `device` other than ``auto`` goes before that of the description; see `open_network`.
    """
    where = description.device if device == "auto" else device
    return open_network(Path(folder) / description.file, description.runtime, device=where)


def open_network(
    file: Path, runtime: Runtime | None = None, inputs: int = 1, device: str = "auto"
) -> Network:
    """Load an ``.onnx`` network, or an OpenVINO ``.xml`` beside its ``.bin``.

    Without `runtime`, OpenVINO runs it if installed, else onnxruntime. `device` is a `Device`, or
    ``cuda:N``. With ``auto`` an accelerator of either runtime goes first, if `runtime` leaves the
    choice; one that cannot start is reported once, and the CPU takes its place.

    Raises:
        ModelError: the file, the runtime or a device asked for by name is missing, they do not fit
            each other, or the file is not a network with that number of inputs.
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
    usable = [runtime] if runtime else installed
    if device == "auto":
        for accelerator in ("cuda", "gpu"):
            for one in usable:
                if accelerator in _DEVICES[one] and accelerator in available_devices(one):
                    try:
                        return _started(file, one, inputs, accelerator)
                    except _CannotStartError as error:
                        _warn_once(accelerator, one, str(error))
        return _started(file, name, inputs, "cpu")
    kind, _, _ = device.partition(":")
    offers = {one: available_devices(one) for one in usable}
    fitting = [one for one in usable if kind in offers[one]]
    there = " and ".join(f"{', '.join(found)} ({one})" for one, found in offers.items())
    if not fitting:
        other = [one for one, kinds in _DEVICES.items() if kind in kinds and one not in usable]
        hint = f" runs with {other[0]}, which is not its runtime or not installed;" if other else ""
        raise ModelError(
            f"{file}: device {device!r}{hint or ' is not on this machine;'} there is {there}"
        )
    try:
        return _started(file, fitting[0], inputs, device)
    except _CannotStartError as error:
        raise ModelError(
            f"{file}: device {device!r} cannot start with {fitting[0]} ({error}); there is {there}"
        ) from None


class _CannotStartError(Exception):
    """A device that a runtime offers, but that does not work here."""


def _started(file: Path, runtime: Runtime, inputs: int, device: str) -> Network:
    kind = _OpenVino if runtime == "openvino" else _OnnxRuntime
    network = kind(file, inputs, device)
    network.device = device
    if device != "cpu":
        _log.info("%s: runs on %s (%s)", file.name, device, runtime)
    return network


@cache
def _warn_once(device: str, runtime: str, reason: str) -> None:
    _log.warning("%s cannot start with %s (%s); networks run on the CPU", device, runtime, reason)


def _checked_inputs(file: Path, ports: list[Port], count: int) -> tuple[Port, ...]:
    if len(ports) != count:
        names = ", ".join(map(str, ports)) or "none"
        expected = "one: the picture" if count == 1 else str(count)
        raise ModelError(f"{file}: has {len(ports)} inputs ({names}), expected {expected}")
    return tuple(ports)


class _OpenVino(Network):
    def __init__(self, file: Path, inputs: int, device: str) -> None:
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
                if device == "gpu":
                    del settings["ENABLE_CPU_PINNING"]
                    try:
                        job = thread.submit(core.compile_model, model, "GPU", settings)
                        self._compiled = job.result()
                    except RuntimeError as error:
                        raise _CannotStartError(_first_line(error)) from None
                else:
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
    def __init__(self, file: Path, count: int, device: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if device != "cpu":
            onnxruntime.set_default_logger_severity(4)  # what cannot start is reported below
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=_providers(device)
            )
        except Exception as error:  # onnxruntime's own exceptions share no public base
            if device != "cpu":
                raise _CannotStartError(_first_line(error)) from None
            raise ModelError(f"{file}: onnxruntime cannot load it: {_first_line(error)}") from None
        # It leaves out a provider whose libraries it cannot load.
        if device != "cpu" and _providers(device)[0][0] not in self._session.get_providers():
            raise _CannotStartError("a library of CUDA, cuDNN or TensorRT, or a GPU, is missing")
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


def _providers(device: str) -> list[Any]:
    """Return onnxruntime's providers of a device and their options, the preferred first."""
    kind, _, number = device.partition(":")
    # float32 in full, as on the CPU; no long search for the fastest kernel of each batch size.
    cuda = {"device_id": number or "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    providers: dict[str, list[Any]] = {
        "cpu": [],
        "cuda": [(_PROVIDERS["cuda"], cuda)],
        "tensorrt": [
            (_PROVIDERS["tensorrt"], {"device_id": number or "0"}),
            (_PROVIDERS["cuda"], cuda),
        ],
    }
    return [*providers[kind], "CPUExecutionProvider"]


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
