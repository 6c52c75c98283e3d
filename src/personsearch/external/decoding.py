"""The four output layouts of public detectors.

========  ==========================================================================================
``ssd``   rows of seven, (1, 1, N, 7) or (N, 7): picture in the batch, label, score, x1, y1, x2, y2.
          A negative picture ends the rows.
``boxes`` boxes (B, N, 4) or (N, 4) of x1, y1, x2, y2, with scores (B, N) or (B, N, classes) and
          labels (B, N) in other outputs; a fifth column of the boxes is the score, a sixth the
          label.
``yolo``  one output (B, 4 + classes, N): cx, cy, w, h, then a score for each class.
``detr``  logits (B, N, classes) and boxes (B, N, 4) of cx, cy, w, h.
========  ==========================================================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import ModelError
from personsearch.external.description import DetectorDescription
from personsearch.external.runtime import Network, Port

MAX_CLASSES = 1500
"""A ``yolo`` output with more classes than this has its axes swapped."""

Outputs = Mapping[str, NDArray[Any]]
Found = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Boxes (N, 4) x1, y1, x2, y2 in pixels of the network's input, scores (N,)."""


@dataclass(frozen=True)
class OutputNames:
    """The outputs of a network by their part in the layout."""

    boxes: str
    scores: str | None = None
    labels: str | None = None


class Decoder:
    """Decode the outputs of one network as described.

    Raises:
        ModelError: an output is missing, ambiguous, or of a wrong shape.
    """

    def __init__(
        self,
        network: Network,  # its outputs are checked against the layout
        description: DetectorDescription,  # layout, class, coordinates
        size: tuple[int, int],  # (width, height) of the network's input
    ) -> None:
        self._network = network
        self._description = description
        self._layout = description.layout
        usual = "unit" if self._layout in ("ssd", "detr") else "pixels"
        in_unit = (description.coordinates or usual) == "unit"
        self._to_pixels = np.array(size * 2 if in_unit else (1, 1, 1, 1), dtype=np.float64)
        self._activation = description.activation or (
            "sigmoid" if self._layout == "detr" else "none"
        )
        self.names = self._find_outputs()

    def __call__(self, outputs: Outputs, count: int) -> list[Found]:
        """Return the boxes in each of `count` pictures of a batch, above the score threshold.

        Raises:
            ModelError: an output is of a wrong shape, or not finite.
        """
        decode = {"ssd": self._ssd, "boxes": self._boxes, "yolo": self._yolo, "detr": self._detr}[
            self._layout
        ]
        kept = []
        read = (self.names.boxes, self.names.scores, self.names.labels)
        arrays = {name: np.asarray(outputs[name], dtype=np.float64) for name in read if name}
        for boxes, scores in decode(arrays, count):
            strong = scores >= self._description.score_threshold
            # Checked before the threshold, which NaN would not pass.
            if not (np.isfinite(scores).all() and np.isfinite(boxes[strong]).all()):
                raise ModelError(
                    f"{self._network.file}: gave a box or score that is NaN or infinite; check "
                    "'scale', 'mean' and 'std'"
                )
            kept.append((boxes[strong] * self._to_pixels, scores[strong]))
        return kept

    # The layouts.

    def _ssd(self, outputs: Outputs, count: int) -> list[Found]:
        rows = outputs[self.names.boxes]
        if rows.shape[-1] != 7 or any(side != 1 for side in rows.shape[:-2]):
            raise self._misfit(self.names.boxes, rows.shape, "rows of seven, 1 x 1 x N x 7")
        rows = rows.reshape(-1, 7)
        ended = np.flatnonzero(rows[:, 0] < 0)
        rows = rows[: ended[0]] if len(ended) else rows
        if (rows[:, :2] % 1 != 0).any():
            raise self._misfit(self.names.boxes, rows.shape, "whole numbers in columns 0 and 1")
        if self._description.class_index is not None:
            rows = rows[rows[:, 1].astype(np.int64) == self._description.class_index]
        picture = rows[:, 0].astype(np.int64)
        return [(rows[picture == i, 3:7], rows[picture == i, 2]) for i in range(count)]

    def _boxes(self, outputs: Outputs, count: int) -> list[Found]:
        names = self.names
        boxes = outputs[names.boxes]
        boxes = boxes[None] if boxes.ndim == 2 else boxes
        if boxes.ndim != 3 or boxes.shape[2] not in (4, 5, 6) or len(boxes) < count:
            raise self._misfit(names.boxes, boxes.shape, "boxes, batch x N x 4 (5 with score)")
        if names.scores is not None:
            scores = outputs[names.scores]
        elif boxes.shape[2] >= 5:
            scores = boxes[..., 4]
        else:
            raise self._misfit(
                names.boxes, boxes.shape, "a score in the fifth column, or 'scores_output'"
            )
        if scores.ndim == boxes.ndim and scores.shape[:2] == boxes.shape[:2]:
            scores = self._class_scores(scores, names.scores or names.boxes)
        elif scores.size == boxes.shape[0] * boxes.shape[1]:
            scores = scores.reshape(boxes.shape[:2])
            scores = _sigmoid(scores) if self._activation == "sigmoid" else scores
        elif len(boxes) == 1 and scores.ndim == 2 and len(scores) == boxes.shape[1]:
            scores = self._class_scores(scores[None], names.scores or names.boxes)
        else:
            raise self._misfit(
                names.scores or names.boxes, scores.shape, f"a score for {boxes.shape[1]} boxes"
            )
        keep = self._of_class(outputs, boxes)
        return [(boxes[i, keep[i], :4], scores[i, keep[i]]) for i in range(count)]

    def _of_class(self, outputs: Outputs, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return (B, N) bool: whether each box has the wanted class, if the network gives one."""
        wanted = self._description.class_index
        if wanted is None:
            return np.ones(boxes.shape[:2], dtype=bool)
        if self.names.labels is not None:
            labels = outputs[self.names.labels]
            if labels.size != boxes.shape[0] * boxes.shape[1]:
                raise self._misfit(
                    self.names.labels, labels.shape, f"a label for {boxes.shape[1]} boxes"
                )
            labels = labels.reshape(boxes.shape[:2])
        elif boxes.shape[2] == 6:
            labels = boxes[..., 5]
        else:  # the class was a column of the scores, or the network has one class
            return np.ones(boxes.shape[:2], dtype=bool)
        kept: NDArray[np.bool_] = np.rint(labels) == wanted
        return kept

    def _yolo(self, outputs: Outputs, count: int) -> list[Found]:
        values = outputs[self.names.boxes]
        self._check_yolo(values.shape)
        rows = values.transpose(0, 2, 1)[:count]
        scores = self._class_scores(rows[..., 4:], self.names.boxes)
        return [(_from_center(row[:, :4]), score) for row, score in zip(rows, scores, strict=True)]

    def _detr(self, outputs: Outputs, count: int) -> list[Found]:
        assert self.names.scores is not None
        boxes = outputs[self.names.boxes]
        logits = outputs[self.names.scores]
        if boxes.ndim != 3 or boxes.shape[2] != 4:
            raise self._misfit(self.names.boxes, boxes.shape, "boxes, batch x N x 4")
        if logits.ndim != 3 or logits.shape[:2] != boxes.shape[:2]:
            raise self._misfit(
                self.names.scores, logits.shape, f"logits, batch x {boxes.shape[1]} x classes"
            )
        scores = self._class_scores(logits, self.names.scores)
        return [(_from_center(boxes[i]), scores[i]) for i in range(count)]

    def _class_scores(self, values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        """Return (B, N) scores of the wanted, or the best, class of (B, N, classes) outputs."""
        classes, wanted = values.shape[2], self._description.class_index
        if self._activation == "softmax":
            if classes < 2:
                raise self._misfit(name, values.shape, "two classes or more for softmax")
            shifted = np.exp(values - values.max(axis=2, keepdims=True))
            # The last class of a softmax is "nothing".
            values = (shifted / shifted.sum(axis=2, keepdims=True))[..., :-1]
            classes -= 1
        if wanted is not None and wanted >= classes:
            raise ModelError(
                f"{self._network.file}: output {name!r} has {classes} classes, but class_index "
                f"is {wanted}; expected 0..{classes - 1}"
            )
        values = values.max(axis=2) if wanted is None else values[..., wanted]
        return _sigmoid(values) if self._activation == "sigmoid" else values

    # Which output is which.

    def _find_outputs(self) -> OutputNames:
        description, ports = self._description, list(self._network.outputs)
        if self._layout in ("ssd", "yolo"):
            port = self._named(description.output) if description.output else self._single(ports)
            shape = port.shape
            if self._layout == "ssd" and shape is not None and shape[-1] not in (7, None):
                raise self._misfit(port.name, shape, "rows of seven, 1 x 1 x N x 7")
            if self._layout == "yolo" and shape is not None:
                self._check_yolo(shape)
            return OutputNames(port.name)
        widths = (4,) if self._layout == "detr" else (4, 5, 6)
        boxes = self._pick(description.boxes_output, "boxes_output", "box", ports, widths)
        rest = [port for port in ports if port.name != boxes.name]
        if self._layout == "detr":
            scores = self._pick(description.scores_output, "scores_output", "logit", rest, None)
            return OutputNames(boxes.name, scores.name)
        with_score = boxes.shape is not None and boxes.shape[-1] in (5, 6)
        labels = self._optional(description.labels_output, ("label", "class"), rest)
        rest = [port for port in rest if labels is None or port.name != labels.name]
        scores_port = self._optional(description.scores_output, ("score", "conf", "prob"), rest)
        if scores_port is None and not with_score and len(rest) == 1:
            scores_port = rest[0]
        if scores_port is None and not with_score and boxes.shape and boxes.shape[-1] == 4:
            raise ModelError(
                f"{self._network.file}: no output holds scores; name it with 'scores_output'. "
                f"The network has {self._network.describe_outputs()}"
            )
        return OutputNames(
            boxes.name, scores_port.name if scores_port else None, labels.name if labels else None
        )

    def _named(self, name: str) -> Port:
        for port in self._network.outputs:
            if port.name == name:
                return port
        raise ModelError(
            f"{self._network.file}: has no output {name!r}; "
            f"it has {self._network.describe_outputs()}"
        )

    def _single(self, ports: list[Port]) -> Port:
        if len(ports) != 1:
            raise ModelError(
                f"{self._network.file}: layout {self._layout!r} reads one output, the network has "
                f"{self._network.describe_outputs()}; name it with 'output', or set another layout"
            )
        return ports[0]

    def _pick(
        self,
        given: str | None,
        key: str,
        hint: str,
        ports: list[Port],
        widths: tuple[int, ...] | None,
    ) -> Port:
        """Return the given output, or the only one that fits by width, or by name."""
        if given is not None:
            return self._named(given)
        fitting = [
            port
            for port in ports
            if widths is None or port.shape is None or port.shape[-1] in (*widths, None)
        ]
        hinted = [port for port in fitting if hint in port.name.lower()]
        if len(fitting) != 1:
            fitting = hinted
        if len(fitting) != 1:
            raise ModelError(
                f"{self._network.file}: layout {self._layout!r} needs {key!r} to say which output "
                f"it is; the network has {self._network.describe_outputs()}"
            )
        return fitting[0]

    def _optional(
        self, given: str | None, hints: tuple[str, ...], ports: list[Port]
    ) -> Port | None:
        if given is not None:
            return self._named(given)
        hinted = [port for port in ports if any(hint in port.name.lower() for hint in hints)]
        return hinted[0] if len(hinted) == 1 else None

    # Checks.

    def _check_yolo(self, shape: tuple[int | None, ...]) -> None:
        rows = shape[1] if len(shape) == 3 else None
        if len(shape) != 3 or (rows is not None and not 5 <= rows <= 4 + MAX_CLASSES):
            name = self._description.output or self._network.outputs[0].name
            raise self._misfit(name, shape, "batch x (4 + classes) x N")

    def _misfit(self, name: str, shape: tuple[int | None, ...], expected: str) -> ModelError:
        sides = " x ".join("?" if side is None else str(side) for side in shape)
        return ModelError(
            f"{self._network.file}: output {name!r} is {sides}; layout {self._layout!r} expects "
            f"{expected}. The network has {self._network.describe_outputs()}"
        )


def _from_center(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert cx, cy, w, h (N, 4) to x1, y1, x2, y2."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # tanh does not overflow.
    result: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * values))
    return result
