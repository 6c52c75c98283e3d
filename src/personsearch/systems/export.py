"""Write an end-to-end system as one ONNX file: detector and embedder, any batch, any picture size.

    pictures (B, 3, H, W), boxes (K, 5) -> detections of all pictures, embeddings of the boxes

The steps of `detect` and `embed` are traced as they are. A traced loop over pictures would have the
length that it was traced with, so a batch is one list of regions here, and `_Regions` knows whose
picture each is. What loops over pictures, counts regions or has no ONNX operator is replaced.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import clip_boxes_to_image, roi_align

from personsearch.detectors.faster_rcnn import (
    PictureTransform,
    ProposalNetwork,
    Proposals,
    RegionPooling,
    decode_boxes,
)
from personsearch.detectors.fpn import PyramidFasterRCNN
from personsearch.detectors.retinanet import RetinaNet
from personsearch.errors import ModelError
from personsearch.systems.base import PersonSearchModel
from personsearch.systems.exported import INPUTS, OUTPUTS, ExportedFacts
from personsearch.systems.pyramids import BlockMaps, PyramidSystem
from personsearch.systems.rdlr import RDLR
from personsearch.systems.regions import FeatureMaps, RegionSystem
from personsearch.systems.roi_transform import roi_transform_rows

OPSETS = range(16, 21)
"""From 16 on, RoIAlign is that of torchvision; torch's exporter knows no later ones."""


class _Suppression(torch.autograd.Function):
    """ONNX's NonMaxSuppression: rows (K, 3) of picture, class and box, best first."""

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, least: float, iou: float, most: int) -> Any:
        limits = (torch.tensor([most]), torch.tensor([iou]), torch.tensor([least]))
        constants = [g.op("Constant", value_t=limit) for limit in limits]
        return g.op("NonMaxSuppression", boxes, scores, *constants)

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, scores: Tensor, least: float, iou: float, most: int
    ) -> Tensor:
        # Tracing reads no values: the first box of each class, so that no later step is empty.
        first = scores[:, :, :1] < math.inf
        return first.nonzero()


class _Regions:
    """The picture of each region of a batch, while its steps are traced in their order."""

    pictures: Tensor  # (R,) int64
    count: Any  # B, a tensor while it is traced

    def rows(self, boxes: Sequence[Tensor]) -> Tensor:
        """Return boxes (R, 5) with the picture of each first, as torchvision pools them."""
        return torch.cat([self.pictures[:, None].float(), boxes[0]], dim=1)

    def keep(self, boxes: Tensor, scores: Tensor, least: float, iou: float, most: int) -> Tensor:
        """Return the rows of boxes (R, 4) to keep, as `select_detections` for each picture."""
        usable = ((boxes[:, 2:] - boxes[:, :2]) >= 0.01).all(dim=1)
        own = self.pictures[None] == torch.arange(self.count)[:, None]
        # Each picture is a class, in which the others' boxes have no score.
        table = torch.where(usable & own, scores, least - 1.0)
        chosen = _Suppression.apply(boxes[None], table[None], least, iou, most)
        self.pictures = chosen[:, 1]
        kept: Tensor = chosen[:, 2]
        return kept


class _Transform(PictureTransform):
    """The transform of a batch of pictures of one size."""

    def __init__(self, plain: PictureTransform) -> None:
        super().__init__(plain.min_size[0], plain.max_size)
        self.fixed_size = plain.fixed_size
        sizes = (plain.min_size[0], plain.max_size)
        self.shortfalls = [torch.tensor(_shortfalls(size)) for size in sizes]
        powers = [2.0 ** math.floor(math.log2(max(k, 1))) for k in range(plain.max_size + 1)]
        self.powers = torch.tensor(powers)

    def to_batch(self, images: Sequence[Tensor]) -> ImageList:
        """Scale and pad `images`, which is one batch (B, 3, H, W)."""
        (pictures,) = images
        height, width = self._scaled_size(pictures)
        scaled = nn.functional.interpolate(
            self.normalize(pictures), (height, width), mode="bilinear", align_corners=False
        )
        padding = [-side % self.size_divisible for side in (width, height)]
        padded = nn.functional.pad(scaled, (0, padding[0], 0, padding[1]))
        return ImageList(padded, [(height, width)])

    def _scaled_size(self, pictures: Tensor) -> tuple[Any, Any]:
        """Return height and width, what `math.floor(side * scale)` is in double precision.

        In whole numbers, since runtimes may compute in single precision: one pixel less where
        ``side * scale`` is whole and the quotient `scale` was rounded down far enough.
        """
        if self.fixed_size is not None:
            return self.fixed_size[1], self.fixed_size[0]
        height, width = torch._shape_as_tensor(pictures)[-2:]
        short, long = torch.minimum(height, width), torch.maximum(height, width)
        least, most = self.min_size[0], self.max_size
        by_short = least * long <= most * short
        last = len(self.shortfalls[0]) - 1
        shortfall = torch.where(
            by_short,
            self.shortfalls[0][short.clamp(max=last)],
            self.shortfalls[1][long.clamp(max=last)],
        )
        numerator = torch.where(by_short, least, most)
        divisor = torch.where(by_short, short, long)
        sizes = []
        for side in (height, width):
            size = torch.div(side * numerator, divisor, rounding_mode="trunc")
            whole = size * divisor == side * numerator
            below = size * shortfall > self.powers[size]
            sizes.append(size - (whole & below).long())
        return sizes[0], sizes[1]


def _shortfalls(size: int, most: int = 16384) -> list[float]:
    """Return how far ``size / side`` is rounded down, relative and times 2^53, of sides below."""
    found = [0.0]
    for side in range(1, most):
        numerator, denominator = (size / side).as_integer_ratio()
        exact = size * denominator
        found.append(max(0, exact - numerator * side) * 2**53 / exact)
    return [*found, 0.0]


class _Proposals(nn.Module):
    """The proposals of all pictures in one list."""

    def __init__(self, plain: ProposalNetwork, regions: _Regions) -> None:
        super().__init__()
        self.plain, self.regions = plain, regions
        plain._phase = "testing"  # whatever the last call was

    def forward(
        self, images: ImageList, features: Tensor | Sequence[Tensor], boxes: None = None
    ) -> Proposals:
        plain, regions = self.plain, self.regions
        maps = [features] if isinstance(features, Tensor) else list(features)
        (anchors,) = plain.anchor_generator(images, maps)
        objectness, deltas = plain.head(maps)
        per_level = [o.shape[1] * o.shape[2] * o.shape[3] for o in objectness]
        count = regions.count = maps[0].shape[0]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        objectness, deltas = objectness.reshape(count, -1), deltas.reshape(count, -1, 4)
        rows = _top(objectness, per_level, plain.pre_nms_top_n())
        scores = objectness.gather(1, rows).sigmoid()
        found = _decode(plain.box_coder, deltas, anchors, rows, images.image_sizes[0])
        usable = ((found[..., 2:] - found[..., :2]) >= plain.min_size).all(dim=2)
        table = torch.where(usable, scores, -1.0)[:, None]
        if len(maps) > 1:
            # Suppression is within a level, so each level is a class.
            which = torch.cat([torch.full((n,), level) for level, n in enumerate(per_level)])
            own = which[rows][:, None] == torch.arange(len(maps))[:, None]
            table = torch.where(own, table, -1.0)
        most = plain.post_nms_top_n()
        chosen = _Suppression.apply(found, table, -0.5, plain.nms_thresh, most)
        regions.pictures = chosen[:, 0]
        flat = chosen[:, 0] * rows.shape[1] + chosen[:, 2]
        kept, sure = found.reshape(-1, 4)[flat], scores.reshape(-1)[flat]
        if len(maps) > 1:
            # No overlap is above 1: the best of all levels.
            best = regions.keep(kept, sure, -0.5, 1.0, most)
            kept, sure = kept[best], sure[best]
        return Proposals([kept], [sure], {})


def _decode(
    coder: Any, deltas: Tensor, anchors: Tensor, rows: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return the boxes (B, K, 4) of `rows` (B, K) of deltas (B, A, 4) from anchors (A, 4)."""
    own = deltas.gather(1, rows[..., None].expand(-1, -1, 4)).reshape(-1, 4)
    boxes = coder.decode_single(own, anchors[rows].reshape(-1, 4))
    clipped: Tensor = clip_boxes_to_image(boxes, size)
    return clipped.reshape(*rows.shape, 4)


class _PyramidPool(nn.Module):
    """torchvision's MultiScaleRoIAlign of the regions of all pictures."""

    def __init__(self, plain: Any, regions: _Regions) -> None:
        super().__init__()
        self.plain, self.regions = plain, regions

    def forward(self, levels: Mapping[str, Tensor], boxes: list[Tensor], _: Any) -> Tensor:
        plain, rois = self.plain, self.regions.rows(boxes)
        which = plain.map_levels(boxes)
        rows, pooled = [], []
        for level, (name, scale) in enumerate(zip(plain.featmap_names, plain.scales, strict=True)):
            rows.append(torch.where(which == level)[0])
            own = (rois[rows[-1]], plain.output_size, scale, plain.sampling_ratio)
            pooled.append(roi_align(levels[name], *own))
        return torch.cat(pooled)[torch.cat(rows).argsort()]


class _Graph(nn.Module):
    """What is traced."""

    def __init__(self, model: RegionSystem | PyramidSystem) -> None:
        super().__init__()
        self.regions = _Regions()
        own: Any = copy.deepcopy(model).cpu().eval()
        own.transform = _Transform(own.transform)
        self.system = own
        if isinstance(model, RegionSystem):
            self._replace_steps()
        else:
            self._replace_pyramid_steps(model)

    def _replace_steps(self) -> None:
        own, regions, settings = self.system, self.regions, self.system.settings
        plain_regions = own.regions

        def pooling(boxes: list[Tensor], *how: Any) -> RegionPooling:
            pools: RegionPooling = plain_regions(regions.rows(boxes), *how)
            return pools

        def select(
            boxes: list[Tensor], scores: list[Tensor], nms_iou: float | None = None
        ) -> list[Tensor]:
            iou = settings.nms_iou if nms_iou is None else nms_iou
            limits = (settings.score_threshold, iou, settings.max_detections)
            return [regions.keep(boxes[0], scores[0], *limits)]

        def postprocess(
            maps: FeatureMaps, boxes: list[Tensor], scores: list[Tensor], embeddings: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            (unscaled,) = own.transform.unscale(boxes, maps.images, maps.batch)
            return unscaled, scores[0], embeddings

        own.proposals = _Proposals(own.proposals, regions)
        vars(own).update(regions=pooling, select=select, postprocess=postprocess)

    def _replace_pyramid_steps(self, model: PyramidSystem) -> None:
        own, regions, detector = self.system, self.regions, self.system.detector

        def detect(images: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            maps = own.extract_features(images)
            predictions, _ = detector(maps.batch, maps.maps)
            boxes, scores = self._postprocess(predictions, maps.batch.image_sizes)
            embeddings = own.embed_detected(maps, [boxes])
            (unscaled,) = own.transform.unscale([boxes], images, maps.batch)
            return unscaled, scores, embeddings

        def pool(maps: BlockMaps, boxes: list[Tensor]) -> Tensor:
            pooled: Tensor = plain_pool(maps, regions.rows(boxes))
            return pooled

        def crops(images: list[Tensor], boxes: list[Tensor]) -> Tensor:
            pixels = own.transform.normalize(images[0])
            pooled: Tensor = roi_align(pixels, regions.rows(boxes), own.crop_size, aligned=True)
            return pooled

        def embed(images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
            rows = roi_transform_rows(images[0], regions.rows(boxes), own.crop_size)
            return [own.reid.embed(rows)]

        def embed_detected(maps: BlockMaps, boxes: list[Tensor]) -> Tensor:
            return embed(maps.images, own.transform.unscale(boxes, maps.images, maps.batch))[0]

        vars(own).update(detect=detect)
        if isinstance(model, RDLR):
            vars(own).update(embed=embed, embed_detected=embed_detected)
        else:
            plain_pool = own._pool
            vars(own).update({"_pool": pool} if own.shared else {"_crops": crops})
        if isinstance(model.detector, PyramidFasterRCNN):
            detector.proposals = _Proposals(detector.proposals, regions)
            detector.pool = _PyramidPool(detector.pool, regions)
            # Proposals are counted by picture already.
            unlimited = replace(detector.settings, rpn_post_nms_top_n_test=2**31 - 1)
            detector.settings = unlimited

    def _postprocess(self, predictions: Any, sizes: list[Any]) -> tuple[Tensor, Tensor]:
        """Return boxes and scores of the detections of a detector's predictions."""
        detector, regions = self.system.detector, self.regions
        if isinstance(detector, RetinaNet):
            logits, levels = predictions.logits, list(predictions.levels)
            regions.count = logits.shape[0]
            rows = _top(logits, levels, detector.settings.topk_candidates)
            found = _decode(detector.coder, predictions.deltas, predictions.anchors, rows, sizes[0])
            regions.pictures = torch.arange(regions.count)[:, None].expand_as(rows).reshape(-1)
            boxes, scores = found.reshape(-1, 4), logits.gather(1, rows).sigmoid().reshape(-1)
        else:
            logits, deltas = detector._predict(predictions.pyramid, predictions.boxes, sizes)
            (boxes,) = decode_boxes(detector.sampler.coder, deltas, predictions.boxes, sizes)
            scores = logits.softmax(dim=1)[:, 1]
        settings = detector.settings
        limits = (settings.score_threshold, settings.nms_iou, settings.max_detections)
        kept = regions.keep(boxes, scores, *limits)
        return boxes[kept], scores[kept]

    def forward(self, pictures: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        own, regions = self.system, self.regions
        with _AdaptivePooling():
            # One map of the pictures for detections and given boxes.
            maps = own.extract_features([pictures])
            vars(own).update(extract_features=lambda *_: maps)
            found = own.detect([pictures])
            which, regions.pictures = regions.pictures, boxes[:, 0].long()
            (embeddings,) = own.embed([pictures], [boxes[:, 1:]])
        del own.extract_features
        return which, *found, embeddings


def _top(scores: Tensor, levels: list[Any], most: int) -> Tensor:
    """Return the rows (B, K) of the best of each level of `scores` (B, A)."""
    rows, start = [], 0
    for level in scores.split(levels, dim=1):
        own = torch.minimum(torch._shape_as_tensor(level)[1], torch.tensor(most))
        rows.append(level.topk(own, dim=1).indices + start)
        start = start + level.shape[1]
    return torch.cat(rows, dim=1)


class _AdaptivePooling(TorchFunctionMode):
    """Adaptive pooling to any grid, which ONNX has to one cell alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if "adaptive_avg_pool2d" in name:
            return _pool_adaptively(args[0], args[1], torch.mean)
        if "adaptive_max_pool2d" in name:
            return _pool_adaptively(args[0], args[1], torch.amax)
        return func(*args, **(kwargs or {}))


def _pool_adaptively(x: Tensor, size: int | Sequence[int], reduce: Callable[..., Tensor]) -> Tensor:
    rows, columns = (size, size) if isinstance(size, int) else size
    if rows == columns == 1:
        return reduce(x, dim=(2, 3), keepdim=True)
    cells = [
        reduce(x[:, :, top:bottom, left:right], dim=(2, 3))
        for top, bottom in _cells(int(x.shape[2]), rows)
        for left, right in _cells(int(x.shape[3]), columns)
    ]
    return torch.stack(cells, dim=2).reshape(-1, int(x.shape[1]), rows, columns)


def _cells(length: int, count: int) -> Iterable[tuple[int, int]]:
    return [(k * length // count, -(-(k + 1) * length // count)) for k in range(count)]


def write_onnx(model: PersonSearchModel, file: Path, facts: ExportedFacts, opset: int = 17) -> None:
    """Write a system as an ONNX file.

    Raises:
        ModelError: the system or the opset cannot be exported.
    """
    import onnx

    if not isinstance(model, RegionSystem | PyramidSystem):
        raise ModelError(
            f"{type(model).__name__} cannot be exported, expected an end-to-end system; the "
            "networks of a pair are files already"
        )
    if opset not in OPSETS:
        raise ModelError(f"opset {opset} cannot be written, expected {OPSETS[0]} to {OPSETS[-1]}")
    axes = {name: {0: "detections"} for name in OUTPUTS[:-1]} | {OUTPUTS[-1]: {0: "boxes"}}
    axes |= {"pictures": {0: "batch", 2: "height", 3: "width"}, "boxes": {0: "boxes"}}
    pictures = torch.rand((2, 3, 96, 160), generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0, 8, 8, 40, 80], [1, 16, 8, 60, 90], [1, 90, 4, 120, 88]]).float()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter says that it is not torch's newest one, and where numbers become constants.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                _Graph(model),
                (pictures, boxes),
                file,
                input_names=INPUTS,
                output_names=OUTPUTS,
                dynamic_axes=axes,
                opset_version=opset,
                dynamo=False,
            )
        except torch.onnx.OnnxExporterError as error:
            why = str(error).splitlines()[0]
            raise ModelError(f"the network cannot be written with opset {opset}: {why}") from None
    # Appended: two messages of protobuf, one behind the other, are one with the fields of both.
    properties = onnx.ModelProto()
    onnx.helper.set_model_props(properties, facts.to_metadata())
    with file.open("ab") as appended:
        appended.write(properties.SerializeToString())
