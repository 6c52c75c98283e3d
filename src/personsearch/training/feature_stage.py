"""The second stage of sequential training: re-identification on pooled features.

The features of all labelled people are computed once and kept on disk. Batches of them then train
the re-identification branch alone, with semi-hard and then batch-hard triplets (Loesch et al. 2019,
section 2, Two-step training). Batches of features can be as large as triplets need.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from personsearch.distributed import barrier, rank
from personsearch.errors import DataError, RecipeError
from personsearch.precision import autocast
from personsearch.systems.base import Target, move_sides
from personsearch.systems.inference import to_numbers, to_pixels
from personsearch.systems.sequential import Sequential
from personsearch.training.feature_cache import FeatureCache, Rows, write_features
from personsearch.training.recipe import Recipe
from personsearch.training.samplers import generator
from personsearch.training.stages import SceneStage, trainable
from personsearch.training.training_set import Batch, PictureCache
from personsearch.types import Scene

_log = logging.getLogger(__name__)


class FeatureStage(SceneStage):
    """Batches of some identities with some shots of each, the triplet loss alone.

    Length, optimizer and learning rate are the recipe's. Shared blocks, pyramid and head stay bit
    for bit as they are. The first view of a person is as annotated, as in the paper; further views
    are from augmented pictures with shifted boxes. Features of another detector are an error in a
    shared folder, and are recomputed in the run's own.
    """

    name = "features"
    batch_keys, size_keys = ("batch_ids", "batch_shots"), ("region_size", "crop_size")
    interface = Sequential

    def __init__(
        self,
        recipe: Recipe,
        scenes: Sequence[Scene],
        pictures: PictureCache,
        *,
        batch_ids: int = 32,  # identities in a batch; all if there are fewer
        batch_shots: int = 4,  # boxes of each identity; all if there are fewer
        semi_hard_iterations: int = 0,  # the first ones; the others take batch-hard triplets
        feature_views: int = 1,  # how often each person's features are computed
        feature_jitter: float = 0.08,  # largest shift of a box's sides, as a fraction of them
        feature_cache: str = "",  # folder of features that several runs share; empty: the run's own
    ) -> None:
        super().__init__(recipe, scenes, pictures)
        if batch_ids < 2 or batch_shots < 2 or feature_views < 1:
            raise RecipeError(
                f"batch_ids is {batch_ids}, batch_shots {batch_shots} and feature_views "
                f"{feature_views}; triplets need 2 identities or more, 2 shots or more and 1 view "
                "or more"
            )
        if not 0 <= semi_hard_iterations <= max(recipe.iterations, 0) or feature_jitter < 0:
            raise RecipeError(
                f"semi_hard_iterations is {semi_hard_iterations}, iterations {recipe.iterations}, "
                f"feature_jitter {feature_jitter}; expected no more semi-hard iterations than "
                "iterations, and no negative number"
            )
        self.accumulate = 1
        self.batch_ids, self.batch_shots = batch_ids, batch_shots
        self.semi_hard_iterations = semi_hard_iterations
        self.views, self.jitter, self.folder = feature_views, feature_jitter, feature_cache
        self.mining: Literal["semi-hard", "batch-hard"] = "batch-hard"
        self.cache: FeatureCache | None = None

    def prepare(self, model: Sequential, device: torch.device, folder: Path) -> None:
        """Compute the features, or find them on disk."""
        mark = self.fingerprint(model)
        where = Path(self.folder) if self.folder else folder / "features"
        if rank() == 0:
            try:
                FeatureCache(where, mark)
            except DataError as error:
                if where.exists() and self.folder:
                    raise RecipeError(
                        f"feature_cache: {error}; name another folder or delete it"
                    ) from None
                if where.exists():
                    _log.warning("%s; they are made anew", error)
                write_features(where, mark, self.rows(model, device))
        barrier()
        self.cache = FeatureCache(where, mark)
        if len(self.cache.ids.unique()) < 2:
            raise DataError("the training set has one labelled identity; triplets need two")

    def fingerprint(self, model: Sequential) -> str:
        """Hash everything that the features depend on: shared weights, boxes and settings."""
        recipe, transform, digest = self.recipe, model.transform, hashlib.sha256()
        augmentation = vars(self.training_set.augmentation) if self.views > 1 else {}
        settings = [
            [model.sharing, model.region_pooling, model.region_grid, model.crop_size],
            [*transform.min_size, transform.max_size, transform.fixed_size, recipe.precision],
            [self.views, self.jitter, recipe.seed, augmentation] if self.views > 1 else [],
        ]
        digest.update(json.dumps(settings).encode())
        for name, tensor in sorted(model.feature_state().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        for scene in self.scenes:
            digest.update(f"{scene.name!r} {scene.size} {len(scene.ids)}".encode())
            digest.update(scene.boxes.tobytes() + scene.ids.tobytes())
        return digest.hexdigest()

    def rows(self, model: Sequential, device: torch.device) -> Iterator[Rows]:
        """Yield the features of all labelled people, view by view, picture by picture."""
        model.eval()
        for view in range(self.views):
            for index in range(len(self.scenes)):
                image, target = self._picture(view, index)
                kept = target.ids >= 0
                ids, boxes = target.ids[kept], target.boxes[kept]
                if not len(ids):
                    continue
                with autocast(device, self.recipe.precision):
                    features = model.features([to_numbers(image.to(device))], [boxes.to(device)])
                yield Rows(features.cpu(), ids, torch.full_like(ids, index))

    def _picture(self, view: int, index: int) -> tuple[Tensor, Target]:
        """The picture as it is in the first view; augmented, with shifted boxes, in the others."""
        if view == 0:
            scene = self.scenes[index]
            target = Target(torch.from_numpy(scene.boxes), torch.from_numpy(scene.ids))
            return to_pixels(self.pictures[index]), target
        image, target, _ = self.training_set[(view, index, index)]
        rng = generator(self.recipe.seed, 5, view, index)
        moves = rng.uniform(-self.jitter, self.jitter, target.boxes.shape).astype(np.float32)
        return image, Target(move_sides(target.boxes, torch.from_numpy(moves)), target.ids)

    def parameters(self, model: Sequential) -> list[nn.Parameter]:
        return trainable(model.branch)

    def set_mode(self, model: Sequential) -> None:
        model.eval()
        model.branch.train()

    def batches(self, start: int, rank: int, world: int) -> Iterator[Batch]:
        """Features instead of pictures; the processes share the rows of each batch."""
        assert self.cache is not None, "prepare comes first"
        rows: dict[int, list[int]] = {}
        for row, identity in enumerate(self.cache.ids.tolist()):
            rows.setdefault(identity, []).append(row)
        scenes = self.cache.scenes.numpy()
        identities = sorted(rows)
        for iteration in range(start, self.iterations):
            rng = generator(self.recipe.seed, 6, iteration, 0)
            count = min(self.batch_ids, len(identities))
            chosen = [
                row
                for identity in rng.choice(identities, count, replace=False).tolist()
                for row in shots(rows[identity], scenes, self.batch_shots, rng)
            ]
            # Set when the batch is drawn, so that `losses` mines as this iteration should.
            early = iteration < self.semi_hard_iterations
            self.mining = "semi-hard" if early else "batch-hard"
            if len(chosen) < world:
                raise RecipeError(
                    f"a batch has {len(chosen)} rows, expected one or more for each of {world} "
                    "processes; raise batch_ids or batch_shots"
                )
            chosen = chosen[len(chosen) * rank // world : len(chosen) * (rank + 1) // world]
            ids = self.cache.ids[chosen]
            target = Target(torch.zeros(len(ids), 4), ids)
            yield Batch(list(self.cache[chosen]), [target], [f"features of iteration {iteration}"])

    def losses(self, model: Sequential, images: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """The triplet loss; `images` are features (C, h, w)."""
        features, ids = torch.stack(images), batch.targets[0].ids
        return model.identity_losses(features, ids, self.mining)


def shots(
    rows: Sequence[int], scenes: np.ndarray, count: int, rng: np.random.Generator
) -> list[int]:
    """Draw `count` different rows of one identity, or all: rows of different pictures first.

    `scenes` holds the picture of each row of the cache.
    """
    shuffled = rng.permutation(np.asarray(rows))
    seen: dict[int, int] = {}
    turns = []
    for scene in scenes[shuffled].tolist():
        turns.append(seen.get(scene, 0))
        seen[scene] = turns[-1] + 1
    chosen: list[int] = shuffled[np.argsort(turns, kind="stable")][:count].tolist()
    return chosen
