"""A first stage for networks without pretrained weights: people packed onto canvases.

From nothing, whole pictures teach slowly: a handful of people each, and much else. No paper has
this stage.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.distributed import all_counts, join
from personsearch.errors import RecipeError
from personsearch.losses.cosine_softmax import CosineSoftmax
from personsearch.systems.base import move_sides
from personsearch.systems.regions import RegionSystem
from personsearch.training.canvases import Canvases
from personsearch.training.recipe import Recipe
from personsearch.training.stages import Stage, crop_augmentation, trainable
from personsearch.training.training_set import Batch, PictureCache, load
from personsearch.types import Scene


class CropStage(Stage):
    """A softmax over the cosines of embeddings to one direction an identity, of this stage alone.

    Detection is trained too on request.
    """

    name = "crops"
    batch_keys = ("canvases_per_iteration", "crops_per_canvas")
    interface = RegionSystem

    def __init__(
        self,
        recipe: Recipe,
        scenes: Sequence[Scene],
        pictures: PictureCache,
        *,
        crop_jitter: float = 0.08,  # most that sides of true boxes move, of their size
        crop_detection: bool = False,  # whether the stage also trains detection
    ) -> None:
        super().__init__(recipe, scenes, pictures)
        self.jitter, self.detection = crop_jitter, crop_detection
        self.start_from_crops(recipe.crop_iterations, recipe.crop_lr)
        # A canvas has the median size of the pictures.
        widths, heights = zip(*(scene.size for scene in scenes), strict=True)
        size = (sorted(widths)[len(widths) // 2], sorted(heights)[len(heights) // 2])
        self.canvases = Canvases(
            scenes,
            pictures,
            crop_augmentation(recipe),
            recipe.seed,
            size,
            recipe.crops_per_canvas,
        )

    def batches(self, start: int, rank: int, world: int) -> Iterator[Batch]:
        share, rest = divmod(self.recipe.canvases_per_iteration, world)
        if rest:
            raise RecipeError(
                f"a batch has {share * world + rest} canvases, expected a multiple of {world} for "
                f"{world} processes; change canvases_per_iteration"
            )
        places = range(rank * share, (rank + 1) * share)
        slots = ([(i, place) for place in places] for i in range(start, self.iterations))
        return load(self.canvases, slots, self.recipe.loader_workers)

    def prepare(self, model: RegionSystem, device: torch.device, folder: Path) -> None:
        num_ids = 1 + max(int(scene.ids.max(initial=-1)) for scene in self.scenes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            self.module = CosineSoftmax(num_ids, model.embedding_dim).to(device)

    def parameters(self, model: RegionSystem) -> list[nn.Parameter]:
        return trainable(model) + (trainable(self.module) if self.module else [])

    def losses(self, model: RegionSystem, images: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the loss ``softmax`` on true boxes, moved at random, and those of detection."""
        assert self.module is not None
        maps = model.extract_features(images)
        boxes, ids = model.scale(maps, batch.targets)
        losses = model.detection_step(maps, boxes, ids).losses if self.detection else {}
        # No detector's box is exact.
        # Several processes draw for the canvases of all, as one would.
        counts, own = all_counts([len(b) for b in boxes])
        moves = [2.0 * torch.rand(n, 4, device=boxes[0].device) - 1.0 for n in counts][own]
        moved = [move_sides(b, m * self.jitter) for b, m in zip(boxes, moves, strict=True)]
        embeddings, everyone = join(model.embed_regions(maps, moved), torch.cat(ids))
        if model.metric != "cosine":
            embeddings = functional.normalize(embeddings, dim=1)
        return losses | {"softmax": self.module(embeddings, everyone)}
