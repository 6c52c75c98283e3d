"""Training pictures as tensors: decoded, augmented, with their labels.

The augmentation of a picture depends only on seed, iteration and position in the batch. So any
number of loader processes, and any interruption, gives the same run.
"""

import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from personsearch.errors import DataError
from personsearch.media.pictures import read_scene
from personsearch.systems.base import Target
from personsearch.systems.inference import to_numbers, to_pixels
from personsearch.training.samplers import SceneSampler, generator
from personsearch.training.transforms import MEAN_COLOR, Augmentation
from personsearch.types import FloatArray, Scene

Slot = tuple[int, int, int]
"""An iteration, a position in its batch, and the scene that fills it."""


@dataclass(frozen=True)
class Batch:
    """Pictures (3, H, W), their labels, and their names for error messages."""

    images: list[Tensor]  # bytes, or numbers in 0..1
    targets: list[Target]
    names: list[str]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device, with pictures as float32 in 0..1."""
        images = [to_numbers(image.to(device, non_blocking=True)) for image in self.images]
        return Batch(images, [target.to(device) for target in self.targets], self.names)

    def pin_memory(self) -> "Batch":
        """Return the batch in memory from which a GPU copies while it computes."""
        return Batch([image.pin_memory() for image in self.images], self.targets, self.names)


class PictureCache:
    """Reads the pictures of scenes, and keeps them in memory if `keep`."""

    def __init__(self, scenes: Sequence[Scene], keep: bool) -> None:
        self.scenes, self.keep = scenes, keep
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        picture = self._kept.get(index)
        if picture is None:
            picture = read_scene(self.scenes[index])
            if self.keep:
                self._kept[index] = picture
        return picture


@dataclass(eq=False, repr=False)
class TrainingSet(Dataset[tuple[Tensor, Target, str]]):
    """Augmented training pictures by slot."""

    scenes: Sequence[Scene]
    pictures: PictureCache
    augmentation: Augmentation
    seed: int

    def __getitem__(self, slot: Slot) -> tuple[Tensor, Target, str]:
        iteration, place, index = slot
        scene = self.scenes[index]
        rng = generator(self.seed, 3, iteration, place)
        picture = without_ignored(self.pictures[index], scene)
        picture, boxes, kept = self.augmentation(picture, scene.boxes, rng)
        target = Target(torch.from_numpy(boxes), torch.from_numpy(scene.ids[kept]))
        return to_pixels(picture), target, scene.name


def without_ignored(picture: NDArray[np.uint8], scene: Scene) -> NDArray[np.uint8]:
    """Cover the ignored regions of a picture with the mean color, but for annotated people.

    A detector would learn the people in them as background.
    """
    if not len(scene.ignored):
        return picture
    covered = picture.copy()
    for rows in _slices(scene.ignored):
        covered[rows] = MEAN_COLOR
    for rows in _slices(scene.boxes):
        covered[rows] = picture[rows]
    return covered


def _slices(boxes: FloatArray) -> Iterator[tuple[slice, slice]]:
    for x1, y1, x2, y2 in np.rint(boxes).astype(int).clip(0).tolist():
        yield slice(y1, y2), slice(x1, x2)


class _Readable(Dataset[Any]):
    """A training set that returns errors as values: raised in a loader process, an error would
    arrive as another type, with a traceback as its message.
    """

    def __init__(self, training_set: Dataset[Any]) -> None:
        self.training_set = training_set

    def __getitem__(self, slot: Any) -> tuple[Tensor, Target, str] | DataError:
        try:
            item: tuple[Tensor, Target, str] = self.training_set[slot]
            return item
        except DataError as error:
            return error


def _join(items: list[tuple[Tensor, Target, str] | DataError]) -> Batch | DataError:
    read = []
    for item in items:
        if isinstance(item, DataError):
            return item
        read.append(item)
    images, targets, names = zip(*read, strict=True)
    return Batch(list(images), list(targets), list(names))


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C, which loader processes receive too, to the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _slots(
    sampler: SceneSampler, start: int, stop: int, rank: int, world: int
) -> Iterator[list[Slot]]:
    """Slots of each batch from `start` on, for one process of several."""
    for iteration in range(start, stop):
        chosen = sampler.batch(iteration)
        share = len(chosen) // world
        yield [(iteration, p, chosen[p]) for p in range(rank * share, (rank + 1) * share)]


def load_batches(
    training_set: TrainingSet,
    sampler: SceneSampler,
    start: int,
    stop: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Yield the batches of iterations `start`..`stop` - 1, decoded ahead by `workers` processes.

    Several training processes share every batch, in rank order.
    """
    return load(training_set, _slots(sampler, start, stop, rank, world), workers)


def load(dataset: Dataset[Any], slots: Iterable[list[Any]], workers: int) -> Iterator[Batch]:
    """Yield the batches of a data set of given slots, made ahead by `workers` processes."""
    loader: DataLoader[Any] = DataLoader(
        _Readable(dataset),
        batch_sampler=slots,
        num_workers=workers,
        collate_fn=_join,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_ignore_interrupts,
        pin_memory=torch.cuda.is_available(),
        # A loader draws a seed for its processes, which must not affect the network's generator.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch
