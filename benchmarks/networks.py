"""Time detection and training of every system beside SeqNet's published program.

    git clone https://github.com/serend1p1ty/SeqNet
    python benchmarks/networks.py --seqnet SeqNet

All run in this process on the same random pictures at the sizes that the program was published
with: the program in float32, ours in each precision that is fast here. Our SeqNet has the program's
own weights, so that results can be compared; other systems start at random. A round runs each once,
in turn; the fastest of all rounds counts, as other work only adds time. Rates are pictures a
second; "peak" is the share of what a large matrix product reaches in the same precision. On two
cores all of it takes an hour: choose with --systems, --task and --rounds. Without --seqnet, our
SeqNet as it is built, in float32, stands for the program.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published_code import UNLABELLED, published_weights, seqnet_program
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import nms

from personsearch.detectors.memory_format import channels_together
from personsearch.detectors.suppression import suppress
from personsearch.precision import autocast, has_fast_bfloat16
from personsearch.published_checkpoint import our_tensors
from personsearch.recipes import find
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.training.recipe import read_recipe

SYSTEMS = (
    *("seqnet", "nae", "oim", "trident", "dc-inet", "inet"),
    *("xiao2016", "rdlr", "sequential"),
)
NUM_IDS = 482
"""Identities in PRW's training set."""
PROGRAM = "SeqNet's program"
BUILT = "seqnet as built"


@dataclass
class Case:
    """What is timed: one system's detection or training step in one precision."""

    task: str  # "detect" or "train"
    system: str
    precision: str
    batch: int
    run: Callable[[], object]
    flops: float = 0.0
    seconds: float = float("inf")
    peak_bytes: int = 0


def pictures(count: int, size: tuple[int, int], device: torch.device) -> list[Tensor]:
    """Return pictures (3, H, W) in 0..1: coarse blocks with some noise."""
    rng = np.random.default_rng(0)
    height, width = size
    made = []
    for _ in range(count):
        blocks = rng.random((3, -(-height // 60), -(-width // 60)))
        coarse = np.kron(blocks, np.ones((1, 60, 60)))[:, :height, :width]
        picture = 0.8 * coarse + 0.2 * rng.random((3, height, width))
        made.append(torch.from_numpy(picture.astype(np.float32)).to(device))
    return made


def people(count: int, size: tuple[int, int], picture: int) -> Target:
    """Return people of 30 to 90 x 90 to 190 pixels; every fourth has no identity."""
    rng = np.random.default_rng(picture)
    sides = np.stack([rng.uniform(30, 90, count), rng.uniform(90, 190, count)], axis=1)
    sides = np.minimum(sides, np.array(size[::-1]) / 2)
    corners = rng.random((count, 2)) * (np.array(size[::-1]) - sides)
    ids = (np.arange(count) * 7 + picture) % NUM_IDS
    ids[::4] = -1
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    return Target(torch.from_numpy(boxes), torch.from_numpy(ids))


def our_model(system: str, size: tuple[int, int]) -> PersonSearchModel:
    """Return an untrained network of the system's PRW recipe, for pictures of that size."""
    recipe = read_recipe(find(f"prw/{system}"))
    sizes = {"min_size": min(size), "max_size": max(size)} | (
        {"score_threshold": 0.5} if system == "seqnet" else {}
    )
    settings = recipe.settings | {k: v for k, v in sizes.items() if k in recipe.settings}
    torch.manual_seed(0)
    return recipe.model_copy(update={"weights": "none", "settings": settings}).build(NUM_IDS)


def program(folder: Path, size: tuple[int, int], weights: dict[str, Tensor]) -> nn.Module:
    """Return the published network with these weights, for pictures of that size."""

    def change(cfg: Any) -> None:
        cfg.INPUT.MIN_SIZE, cfg.INPUT.MAX_SIZE = min(size), max(size)
        cfg.MODEL.LOSS.LUT_SIZE, cfg.MODEL.LOSS.CQ_SIZE = NUM_IDS, 500

    model: Any = seqnet_program(folder, change)
    model.load_state_dict(weights, strict=False)
    model.transform.torch_choice = lambda sizes: sizes[0]
    return model


def trained(
    model: nn.Module, losses: Callable[[], dict[str, Tensor]], precision: str, device: torch.device
) -> Callable[[], dict[str, Tensor]]:
    """Return a step of training: losses, gradients, clipping, SGD."""
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], 1e-6, momentum=0.9, weight_decay=5e-4
    )

    def step() -> dict[str, Tensor]:
        torch.manual_seed(0)
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            found = losses()
        torch.stack([loss.float() for loss in found.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        return found

    return step


@torch.inference_mode()
def detected(model: Any, images: list[Tensor]) -> Any:
    if isinstance(model, PersonSearchModel):
        with model.autocast():
            return model.detect(images)
    # The published heads take one picture at a time.
    return [model([image])[0] for image in images]


def cases(given: argparse.Namespace, device: torch.device) -> Iterator[list[Case]]:
    """Yield the cases that are timed in turn."""
    precisions = ["float32", *(["bfloat16"] if has_fast_bfloat16(device) else [])]
    size, smaller = tuple(given.size), tuple(given.train_size)
    seqnet = our_model("seqnet", size)
    weights = published_weights("seqnet", seqnet)
    if "detect" in given.task:
        for batch in given.batch:
            images = pictures(batch, size, device)
            theirs: nn.Module = our_model("seqnet", size)
            if given.seqnet:
                theirs = program(given.seqnet, size, weights)
            else:
                theirs.load_state_dict(our_tensors(weights, "seqnet")[0])
            run = partial(detected, theirs.to(device).eval(), images)
            row = [Case("detect", PROGRAM if given.seqnet else BUILT, "float32", batch, run)]
            for system in given.systems:
                model = our_model(system, size)
                if system == "seqnet":
                    model.load_state_dict(our_tensors(weights, "seqnet")[0])
                for precision in precisions:
                    form = model.to(device).for_inference(precision)
                    run = partial(detected, form, images)
                    row.append(Case("detect", system, precision, batch, run))
            yield row
    if "train" in given.task:
        batch = given.train_batch
        images = pictures(batch, smaller, device)
        targets = [people(given.people, smaller, i).to(device) for i in range(batch)]
        labels = [torch.where(t.ids < 0, UNLABELLED, t.ids + 1) for t in targets]
        reference: nn.Module = our_model("seqnet", smaller)
        if given.seqnet:
            reference = program(given.seqnet, smaller, weights)
        else:
            reference.load_state_dict(our_tensors(weights, "seqnet")[0])
        reference.to(device).train()

        def published() -> Any:
            if not given.seqnet:
                return reference(images, targets)
            rows = [
                {"boxes": t.boxes.clone(), "labels": i}
                for t, i in zip(targets, labels, strict=True)
            ]
            return reference(images, rows)

        run = trained(reference, published, "float32", device)
        row = [Case("train", PROGRAM if given.seqnet else BUILT, "float32", batch, run)]
        for system in given.systems:
            for precision in precisions:
                model = our_model(system, smaller)
                if system == "seqnet":
                    model.load_state_dict(our_tensors(weights, "seqnet")[0])
                channels_together(model.to(device).train())
                losses = partial(model, images, targets)
                step = trained(model, losses, precision, device)
                row.append(Case("train", system, precision, batch, step))
        yield row


@contextmanager
def peak_memory(device: torch.device, case: Case) -> Iterator[None]:
    """Note the most bytes in use: the GPU's, or of the process, both above what it had before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield
        case.peak_bytes = torch.cuda.max_memory_allocated(device) - before
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts anew
    before = _resident("VmRSS")
    yield
    case.peak_bytes = _resident("VmHWM") - before


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def timed(row: list[Case], device: torch.device, rounds: int) -> None:
    """Run each case once to warm up, then in turn; keep the fastest."""
    for case in row:
        with FlopCounterMode(display=False) as counter, peak_memory(device, case):
            case.run()
        case.flops = counter.get_total_flops()
    told = f"{row[0].task}, batch {row[0].batch}"
    for _ in track(range(rounds), told, console=Console(stderr=True)):
        for case in row:
            synchronise(device)
            began = time.perf_counter()
            case.run()
            synchronise(device)
            case.seconds = min(case.seconds, time.perf_counter() - began)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peaks(device: torch.device) -> dict[str, float]:
    """Return the operations a second of a large matrix product in each precision."""
    side = 8192 if device.type == "cuda" else 2048
    rates = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(side, side, device=device, dtype=dtype)
        case = Case("", "", name, 1, partial(torch.matmul, a, a))
        case.run()
        for _ in range(5):
            synchronise(device)
            began = time.perf_counter()
            case.run()
            synchronise(device)
            case.seconds = min(case.seconds, time.perf_counter() - began)
        rates[name] = 2 * side**3 / case.seconds
    return rates


def suppression(device: torch.device, count: int = 12000, most: int = 2000) -> dict[str, float]:
    """Return the seconds of suppression, torchvision's and ours, for one picture's proposals."""
    torch.manual_seed(0)
    corners = torch.rand(count, 2, device=device) * torch.tensor([1500.0, 900.0], device=device)
    boxes = torch.cat([corners, corners + 20 + 200 * torch.rand(count, 2, device=device)], dim=1)
    scores = torch.rand(count, device=device)
    valid = torch.ones(1, count, dtype=torch.bool, device=device)
    seconds = {}
    for name, run in {
        "torchvision": lambda: nms(boxes, scores, 0.7)[:most],
        "ours": lambda: suppress(boxes[None], scores[None], valid, 0.7, most)[0],
    }.items():
        taken = []
        for _ in range(6):
            synchronise(device)
            began = time.perf_counter()
            kept = run()
            synchronise(device)
            taken.append(time.perf_counter() - began)
        seconds[name] = min(taken[1:])
        seconds[f"kept, {name}"] = len(kept)
    return seconds


def differences(row: list[Case]) -> dict[str, float]:
    """Return the largest differences of what the program and our float32 network give."""
    theirs, ours = row[0].run(), next(c for c in row if c.system == "seqnet").run()
    if row[0].task == "train":
        return {"sum of losses": abs(_total(theirs) - _total(ours)) / _total(theirs)}
    found: dict[str, float] = {"people": sum(len(one.boxes) for one in ours)}
    for name in ("boxes", "scores"):
        one = np.concatenate([_array(row, name) for row in theirs])
        other = np.concatenate([_array(row, name) for row in ours])
        same = one.shape == other.shape
        found[name] = float(np.abs(one - other).max(initial=0)) if same else float("inf")
    return found


def _array(found: Any, name: str) -> np.ndarray:
    return found[name].cpu().numpy() if isinstance(found, dict) else getattr(found, name)


def _total(losses: Any) -> float:
    return float(sum(float(loss.detach()) for loss in losses.values()))


def as_row(case: Case, reference: Case, rates: dict[str, float]) -> dict[str, Any]:
    return {
        "task": case.task,
        "batch": case.batch,
        "system": case.system,
        "precision": case.precision,
        "pictures_per_second": case.batch / case.seconds,
        "ratio": reference.seconds / case.seconds,
        "peak_share": case.flops / case.seconds / rates[case.precision],
        "megabytes": case.peak_bytes / 1e6,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seqnet", type=Path, help="folder of SeqNet's program")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument(
        "--task", nargs="+", choices=("detect", "train"), default=["detect", "train"]
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", nargs=2, type=int, default=(900, 1500), metavar=("H", "W"))
    parser.add_argument("--train-size", nargs=2, type=int, metavar=("H", "W"))
    parser.add_argument("--batch", nargs="+", type=int, help="pictures that are detected at once")
    parser.add_argument("--train-batch", type=int)
    parser.add_argument("--people", type=int, default=12, help="people a training picture")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    on_gpu = device.type == "cuda"
    given.train_size = given.train_size or ((900, 1500) if on_gpu else (600, 1000))
    given.batch = given.batch or ([1, 4] if on_gpu else [1])
    given.train_batch = given.train_batch or (5 if on_gpu else 4)
    rates = peaks(device)
    rows, equal = [], []
    for row in cases(given, device):
        timed(row, device, given.rounds)
        rows += [as_row(case, row[0], rates) for case in row]
        if "seqnet" in given.systems:
            equal.append({"task": row[0].task, "batch": row[0].batch} | differences(row))
    result = {"peak": rates, "rows": rows, "differences": equal, "nms": suppression(device)}
    if given.json:
        print(json.dumps(result, indent=1))
        return
    show(result)


def show(result: dict[str, Any]) -> None:
    table = Table("task", "batch", "system", "precision", "pictures/s", "ratio", "peak", "MB")
    for row in result["rows"]:
        table.add_row(
            *(str(row[name]) for name in ("task", "batch", "system", "precision")),
            f"{row['pictures_per_second']:.3g}",
            f"{row['ratio']:.2f}",
            f"{row['peak_share']:.0%}",
            f"{row['megabytes']:.0f}",
        )
    console = Console()
    console.print(table)
    for name, rate in result["peak"].items():
        console.print(f"matrix product, {name}: {rate / 1e9:.0f} billion operations a second")
    for one in result["differences"]:
        console.print(f"the first row and seqnet, float32, largest differences: {one}")
    seconds = result["nms"]
    console.print(
        f"suppression of 12,000 boxes: torchvision {1e3 * seconds['torchvision']:.1f} ms, ours "
        f"{1e3 * seconds['ours']:.1f} ms, ratio {seconds['torchvision'] / seconds['ours']:.2f}"
    )


if __name__ == "__main__":
    main()
