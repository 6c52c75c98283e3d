"""Run the published programs of SeqNet and NAE beside ours and print the largest differences.

    git clone https://github.com/serend1p1ty/SeqNet
    git clone https://github.com/dichen-cd/NAE4PS
    python benchmarks/published_code.py --seqnet SeqNet --nae NAE4PS

Both run in this process on the same weights, drawn from a seed, the same pictures and the same
random numbers: detection and queries in evaluation mode, then one training step with its losses,
memories, batch-norm statistics and gradients. Gradients differ by rounding: the published layer of
box deltas has twice the columns, those of background included. The programs are imported from their
folders as they are, apart from what today's Python and torchvision need (`_seqnet`, `_nae`). With
--write tests/fixtures/published, what they give is kept as numbers, with which
`tests/systems/test_published_code.py` compares ours.
"""

import argparse
import builtins
import importlib
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models import resnet

from personsearch.published_checkpoint import NAMES, POSITION, TWO_CLASSES, our_tensors
from personsearch.recipes import find
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.training.recipe import read_recipe

NUM_IDS, QUEUE = 6, 8
SIZE, SIDES = (224, 384), (224, 384)
"""Height and width of the pictures, and the sides that they are scaled to: as they are."""
PROPOSALS = {
    "rpn_pre_nms_top_n_train": 400,
    "rpn_post_nms_top_n_train": 64,
    "rpn_post_nms_top_n_test": 40,
}
SAMPLED = {"rpn_batch_size_per_image": 64, "rois_per_image": 12}
THRESHOLD = 0.5
UNLABELLED = 5555
"""The published programs' label of people without an identity; others count from 1."""

Results = dict[str, np.ndarray]


def tensor_from(name: str, shape: tuple[int, ...]) -> Tensor:
    """Draw a tensor from its published name: the same numbers on every machine."""
    numbers = np.random.default_rng(crc32(name.encode())).random(shape) * 2.0 - 1.0
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith(("lut", "cq")):
        numbers /= np.linalg.norm(numbers, axis=1, keepdims=True)
    elif name.endswith("running_var"):
        numbers = 1.0 + 0.5 * numbers
    elif len(shape) > 1:  # weights; the variance of their inputs is kept, or doubled by ReLU
        numbers *= np.sqrt(6.0 / np.prod(shape[1:]))
    elif name.endswith("weight"):  # of batch normalisation
        numbers = 0.6 + 0.4 * numbers
    else:
        numbers *= 0.1
    if "bbox_pred" in name and "running" not in name:
        numbers *= 0.05  # boxes near anchors: rounding moves them less across thresholds
    return torch.from_numpy(numbers.astype(np.float32))


def pictures() -> list[Tensor]:
    """Return two pictures (3, H, W) in 0..1: coarse blocks with some noise."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(2):
        blocks = np.kron(rng.random((3, SIZE[0] // 32, SIZE[1] // 32)), np.ones((1, 32, 32)))
        picture = 0.8 * blocks + 0.2 * rng.random((3, *SIZE))
        made.append(torch.from_numpy(picture.astype(np.float32)))
    return made


def targets() -> list[Target]:
    """Return the people in both pictures; two have no identity."""
    boxes = [
        [[20, 40, 80, 200], [130, 20, 180, 150], [220, 60, 290, 215], [330, 10, 370, 110]],
        [[10, 30, 60, 170], [100, 70, 150, 210], [260, 30, 320, 200]],
    ]
    ids = [[0, 3, -1, 5], [3, -1, 2]]
    return [
        Target(torch.tensor(b, dtype=torch.float32), torch.tensor(i))
        for b, i in zip(boxes, ids, strict=True)
    ]


def our_model(system: str) -> PersonSearchModel:
    """Return our untrained network of a system, as its recipe has it but for the sizes above."""
    recipe = read_recipe(find(f"cuhk-sysu/{system}"))
    least = min(THRESHOLD, 1.0)
    sizes = {"min_size": SIDES[0], "max_size": SIDES[1], "queue_size": QUEUE}
    settings = recipe.settings | sizes | PROPOSALS | SAMPLED | {"score_threshold": least}
    recipe = recipe.model_copy(update={"weights": "none", "settings": settings})
    return recipe.build(NUM_IDS)


def published_weights(system: str, ours: PersonSearchModel) -> dict[str, Tensor]:
    """Draw the published network's tensors, whose shapes follow from ours."""
    theirs = {}
    for own, tensor in ours.state_dict().items():
        if own == POSITION:
            continue
        shape = list(tensor.shape)
        if own.startswith(TWO_CLASSES) and shape:
            shape[0] *= 2
        name = published_name(system, own)
        theirs[name] = tensor_from(name, tuple(shape))
    theirs["roi_heads.reid_loss.cq"][QUEUE // 2 :] = 0.0  # as in a run that has just begun
    return theirs


def published_name(system: str, own: str) -> str:
    """Return the published name of our tensor `own`."""
    theirs, begins = max(
        (pair for pair in NAMES[system].items() if own.startswith(pair[1])),
        key=lambda pair: (len(pair[1]), len(pair[0])),
    )
    return theirs + own.removeprefix(begins)


def ours(system: str, theirs: Mapping[str, Tensor]) -> Results:
    """Return what our network gives at every stage with the published weights."""
    model: Any = our_model(system)
    model.load_state_dict(our_tensors(theirs, system)[0])
    images, people = pictures(), targets()
    results: dict[str, Tensor] = {}
    model.eval()
    with torch.no_grad():
        maps = model.extract_features(images[:1])
        results["stem"] = maps.features
        results["proposals"] = model.proposals(maps.batch, maps.features).boxes[0]
        results["pooled"] = model.pool(maps, [people[0].boxes])
        found = model.detect(images[:1])[0]
        results["boxes"], results["scores"] = map(torch.as_tensor, (found.boxes, found.scores))
        # The published programs weigh embeddings themselves by the score.
        results["embeddings"] = torch.as_tensor(found.embeddings) * results["scores"][:, None]
        results["queries"] = model.embed(images[:1], [people[0].boxes])[0]
    model.train()
    torch.manual_seed(0)
    losses = model(images, people)
    torch.stack(list(losses.values())).sum().backward()
    results |= {f"loss {name}": value for name, value in losses.items()}
    results |= {"lookup table": model.oim.lookup.values, "queue": model.oim.queue.values}
    for own, buffer in model.named_buffers():
        if "running" in own:
            results[f"statistics {published_name(system, own)}"] = buffer
    for own, parameter in model.named_parameters():
        if parameter.grad is not None:
            results[f"gradient {published_name(system, own)}"] = parameter.grad
    return {name: value.detach().numpy() for name, value in results.items()}


LOSSES = {
    "seqnet": {
        "loss_rpn_cls": "rpn_objectness",
        "loss_rpn_reg": "rpn_box",
        "loss_proposal_cls": "proposal",
        "loss_proposal_reg": "proposal_box",
        "loss_box_cls": "detection",
        "loss_box_reg": "box",
        "loss_box_reid": "oim",
    },
    "nae": {
        "loss_objectness": "rpn_objectness",
        "loss_rpn_box_reg": "rpn_box",
        "loss_detection": "detection",
        "loss_box_reg": "box",
        "loss_reid": "oim",
    },
}
"""The published names of losses, and ours."""


def published(system: str, folder: Path, theirs: Mapping[str, Tensor]) -> Results:
    """Return what the published program in `folder` gives at every stage with these weights."""
    model: Any = {"seqnet": _seqnet, "nae": _nae}[system](folder)
    model.load_state_dict(dict(theirs), strict=False)
    absent = model.state_dict().keys() ^ theirs.keys()
    if absent - {f"roi_heads.box_predictor.cls_score.{part}" for part in ("weight", "bias")}:
        raise SystemExit(f"{folder}: its network has other tensors than ours: {sorted(absent)}")
    # It draws one of several sizes, of which there is one.
    model.transform.torch_choice = lambda sizes: sizes[0]
    # Its position in the queue is not in its state.
    model.roi_heads.reid_loss.header_cq = QUEUE // 2
    labels = [torch.where(t.ids < 0, UNLABELLED, t.ids + 1) for t in targets()]
    images = pictures()

    def people() -> list[dict[str, Tensor]]:
        return [
            {"boxes": t.boxes.clone(), "labels": i} for t, i in zip(targets(), labels, strict=True)
        ]

    results: dict[str, Tensor] = {}
    model.eval()
    with torch.no_grad():
        batch, scaled = model.transform(images[:1], people()[:1])
        features = model.backbone(batch.tensors)
        results["stem"] = features["feat_res4"]
        results["proposals"] = model.rpn(batch, features)[0][0]
        boxes = [t["boxes"] for t in scaled]
        results["pooled"] = model.roi_heads.box_roi_pool(features, boxes, batch.image_sizes)
        found = model(images[:1])[0]
        results |= {name: found[name] for name in ("boxes", "scores", "embeddings")}
        query = model.ex_feat if system == "nae" else model
        results["queries"] = torch.cat(list(query(images[:1], people()[:1])))
    model.train()
    torch.manual_seed(0)
    losses = model(images, people())
    if system == "nae":  # the weight that its README gives to its trainer
        losses["loss_box_reg"] = losses["loss_box_reg"] * 10.0
    torch.stack([losses[name] for name in LOSSES[system]]).sum().backward()
    results |= {f"loss {own}": losses[name] for name, own in LOSSES[system].items()}
    oim = model.roi_heads.reid_loss
    results |= {"lookup table": oim.lut, "queue": oim.cq}
    for name, buffer in model.named_buffers():
        if "running" in name:
            results[f"statistics {name}"] = _people(name, buffer)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            results[f"gradient {name}"] = _people(name, parameter.grad)
    return {name: value.detach().numpy() for name, value in results.items()}


def _people(name: str, tensor: Tensor) -> Tensor:
    """Return the rows of people where a layer also has rows for background."""
    return tensor[len(tensor) // 2 :] if ".bbox_pred." in name and "rpn." not in name else tensor


def _seqnet(folder: Path) -> nn.Module:
    return seqnet_program(folder, _small_seqnet)


def _small_seqnet(cfg: Any) -> None:
    cfg.INPUT.MIN_SIZE, cfg.INPUT.MAX_SIZE = SIDES
    cfg.MODEL.LOSS.LUT_SIZE, cfg.MODEL.LOSS.CQ_SIZE = NUM_IDS, QUEUE
    cfg.MODEL.RPN.POST_NMS_TOPN_TRAIN = PROPOSALS["rpn_post_nms_top_n_train"]
    cfg.MODEL.RPN.POST_NMS_TOPN_TEST = PROPOSALS["rpn_post_nms_top_n_test"]
    cfg.MODEL.RPN.PRE_NMS_TOPN_TRAIN = PROPOSALS["rpn_pre_nms_top_n_train"]
    cfg.MODEL.RPN.PRE_NMS_TOPN_TEST = 20 * PROPOSALS["rpn_post_nms_top_n_test"]
    cfg.MODEL.RPN.BATCH_SIZE_TRAIN = SAMPLED["rpn_batch_size_per_image"]
    cfg.MODEL.ROI_HEAD.BATCH_SIZE_TRAIN = SAMPLED["rois_per_image"]
    cfg.MODEL.ROI_HEAD.SCORE_THRESH_TEST = THRESHOLD


def seqnet_program(folder: Path, change: Callable[[Any], None]) -> nn.Module:
    """Return the network of SeqNet's program in `folder`, after `change` of its settings.

    They are a yacs object there, here plain attributes.
    """

    class CfgNode(dict[str, Any]):
        __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__

        def clone(self) -> "CfgNode":
            return self

    yacs = types.ModuleType("yacs.config")
    yacs.CfgNode = CfgNode  # type: ignore[attr-defined]
    with _imported(folder, {"yacs": types.ModuleType("yacs"), "yacs.config": yacs}) as module:
        cfg = module("defaults").get_default_cfg()
        change(cfg)
        network: nn.Module = module("models.seqnet").SeqNet(cfg)
        return network


def _nae(folder: Path) -> nn.Module:
    """Return NAE's network. Its program is for Python 2, and for a torchvision whose attribute
    `has_keypoint` was not yet a method.
    """
    distributed = types.ModuleType("lib.utils.distributed")
    distributed.tensor_gather = lambda tensors: tensors  # type: ignore[attr-defined]
    with _imported(folder, {"lib.utils.distributed": distributed}) as module:
        theirs = module("lib.model.faster_rcnn_norm_aware")
        theirs.map = lambda *arguments: list(builtins.map(*arguments))
        theirs.NormAwareRoiHeads.has_keypoint = False
        theirs.NormAwareEmbeddingProj._split_embedding_dim = lambda self: [self.dim // 2] * 2
        backbone, head = module("lib.model.resnet_backbone").resnet_backbone("resnet50", True)
        network: nn.Module = theirs.FasterRCNN_NormAware(
            backbone,
            num_classes=2,
            num_pids=NUM_IDS,
            num_cq_size=QUEUE,
            min_size=SIDES[0],
            max_size=SIDES[1],
            rpn_pre_nms_top_n_test=20 * PROPOSALS["rpn_post_nms_top_n_test"],
            **PROPOSALS,
            rpn_batch_size_per_image=SAMPLED["rpn_batch_size_per_image"],
            box_batch_size_per_image=SAMPLED["rois_per_image"],
            feat_head=head,
            box_score_thresh=THRESHOLD,
        )
        return network


@contextmanager
def _imported(
    folder: Path, missing: Mapping[str, types.ModuleType]
) -> Iterator[Callable[[str], Any]]:
    """Import modules of `folder`, with stand-ins for missing packages and for ImageNet's weights,
    which are replaced anyway.
    """
    before, builder = set(sys.modules), resnet.resnet50
    sys.modules |= missing
    sys.path.insert(0, str(folder))
    resnet.resnet50 = lambda pretrained: builder(weights=None)  # type: ignore[assignment]
    try:
        yield importlib.import_module
    finally:
        resnet.resnet50 = builder
        sys.path.remove(str(folder))
        for name in sys.modules.keys() - before:
            if name.partition(".")[0] in ("models", "lib", "defaults", "yacs"):
                del sys.modules[name]


def kept(results: Results, most: int = 64) -> Results:
    """Return what is kept of each result: detections, norms of gradients, `most` other numbers."""
    spread = {}
    for name, array in results.items():
        if name.startswith("gradient "):
            spread[name] = np.linalg.norm(array)
        elif name in DETECTED or not array.ndim:
            spread[name] = array
        else:
            flat = array.reshape(-1)
            spread[name] = flat[:: -(-len(flat) // most)]
    return spread


DETECTED = ("proposals", "boxes", "scores", "embeddings", "queries")


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference, infinite where shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one - other).max(initial=0.0))


def compare(own: Results, theirs: Results) -> dict[str, tuple[int, float, float]]:
    """Return how many arrays a stage has, their largest value and the largest difference."""
    rows: dict[str, tuple[int, float, float]] = {}
    for name in dict.fromkeys([*theirs, *own]):
        stage = name if name.startswith("loss ") else name.partition(" ")[0]
        stage = name if name == "lookup table" else stage
        a, b = own.get(name, np.empty(0)), theirs.get(name, np.empty(0))
        count, largest, worst = rows.get(stage, (0, 0.0, 0.0))
        largest = max(largest, float(np.abs(b).max(initial=0.0)))
        rows[stage] = (count + 1, largest, max(worst, difference(a, b)))
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seqnet", type=Path, help="folder of SeqNet's program")
    parser.add_argument("--nae", type=Path, help="folder of NAE's program")
    parser.add_argument("--write", type=Path, help="keep the published results in this folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # sums in the same order
    folders = {k: v for k, v in (("seqnet", given.seqnet), ("nae", given.nae)) if v}
    if not folders:
        parser.error("give --seqnet or --nae, or both")
    tables = {}
    for system, folder in folders.items():
        weights = published_weights(system, our_model(system))
        theirs = published(system, folder, weights)
        if given.write:
            given.write.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(given.write / f"{system}.npz", **kept(theirs))
        tables[system] = compare(ours(system, weights), theirs)
    if given.json:
        print(json.dumps(tables, indent=1))
        return
    for system, rows in tables.items():
        table = Table("stage", "arrays", "largest value", "largest difference", title=system)
        for stage, (count, largest, worst) in rows.items():
            table.add_row(stage, str(count), f"{largest:.4g}", f"{worst:.2g}")
        Console().print(table)


if __name__ == "__main__":
    main()
