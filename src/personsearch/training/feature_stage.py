"""The second step of sequential training: re-identification on pooled features.

The features of all labelled people are computed once and kept on disk; then batches of them train
the re-identification branch alone, by semi-hard and then by batch-hard triplets (Loesch et al.
2019, section 2, Two-step training). Without the pictures a batch can be as large as triplets want.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from personsearch.errors import DataError, RecipeError
from personsearch.precision import autocast
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.systems.inference import to_tensor
from personsearch.systems.sequential import Sequential
from personsearch.training.feature_cache import FeatureCache, Rows, write_features
from personsearch.training.recipe import Recipe
from personsearch.training.samplers import generator
from personsearch.training.stages import SceneStage
from personsearch.training.training_set import Batch, PictureCache
from personsearch.types import Scene

_log = logging.getLogger(__name__)


class FeatureStage(SceneStage):
    """Batches of some identities with some shots of each, the triplet loss alone.

    Length, optimizer and learning rate are the recipe's. Shared blocks, pyramid and head stay bit
    for bit as they are.

    Args:
        recipe: what the run depends on.
        scenes: the training scenes.
        pictures: theirs.

        batch_ids: identities in a batch; all of them where there are fewer.
        batch_shots: people of each; as many as there are where there are fewer.
        semi_hard_iterations: how many iterations, from the first one on, take semi-hard triplets;
            the others take batch-hard ones.
        feature_views: how often each person's features are computed: once as annotated, as in the
            paper, then from pictures augmented as the recipe says, with moved boxes.
        feature_jitter: how far the sides of those boxes are moved at the most, as a part of the
            box's size.
        feature_cache: folder of the features, to be shared by runs; empty: the run's own. One of
            another detector is an error there, and is made anew in the run's own folder.

    Raises:
        RecipeError: a setting that contradicts another.
    """

    name = "features"

    def __init__(
        self,
        recipe: Recipe,
        scenes: Sequence[Scene],
        pictures: PictureCache,
        *,
        batch_ids: int = 32,
        batch_shots: int = 4,
        semi_hard_iterations: int = 0,
        feature_views: int = 1,
        feature_jitter: float = 0.08,
        feature_cache: str = "",
    ) -> None:
        super().__init__(recipe, scenes, pictures)
        if batch_ids < 2 or batch_shots < 2 or feature_views < 1:
            raise RecipeError(
                f"batch_ids {batch_ids}, batch_shots {batch_shots} and feature_views "
                f"{feature_views} came; triplets need 2 identities or more, 2 shots or more and "
                "1 view or more"
            )
        if not 0 <= semi_hard_iterations <= max(recipe.iterations, 0) or feature_jitter < 0:
            raise RecipeError(
                f"semi_hard_iterations is {semi_hard_iterations}, iterations {recipe.iterations}, "
                f"feature_jitter {feature_jitter}; expected no more semi-hard iterations than "
                "iterations, and no negative number"
            )
        self.accumulate = 1
        self.scenes, self.pictures = scenes, pictures
        self.batch_ids, self.batch_shots = batch_ids, batch_shots
        self.semi_hard_iterations = semi_hard_iterations
        self.views, self.jitter, self.folder = feature_views, feature_jitter, feature_cache
        self.mining: Literal["semi-hard", "batch-hard"] = "batch-hard"
        self.cache: FeatureCache | None = None

    def prepare(self, model: PersonSearchModel, device: torch.device, folder: Path) -> None:
        """Computes the features, or finds them on disk.

        Raises:
            RecipeError: `feature_cache` holds those of another detector.
            DataError: they cannot be written, or there are not two identities.
        """
        reid, mark = _sequential(model), self.fingerprint(_sequential(model))
        where = Path(self.folder) if self.folder else folder / "features"
        if not dist.is_initialized() or dist.get_rank() == 0:
            self._find_or_make(reid, device, where, mark)
        if dist.is_initialized():
            dist.barrier()
        self.cache = FeatureCache(where, mark)
        if len(self.cache.ids.unique()) < 2:
            raise DataError("the training set has one labelled identity; triplets need two")

    def _find_or_make(
        self, model: Sequential, device: torch.device, where: Path, mark: str
    ) -> None:
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

    def fingerprint(self, model: Sequential) -> str:
        """A hash of all that the features depend on: shared weights, boxes and settings."""
        recipe, digest = self.recipe, hashlib.sha256()
        augmentation = vars(self.training_set.augmentation) if self.views > 1 else {}
        settings = [
            [model.sharing, model.region_pooling, model.region_grid, model.crop_size],
            [*model.transform.min_size, model.transform.max_size, recipe.precision],
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
        """The features of all labelled people, picture after picture, view after view."""
        model.eval()
        for view in range(self.views):
            for index in range(len(self.scenes)):
                image, target = self._picture(view, index)
                kept = target.ids >= 0
                ids, boxes = target.ids[kept], target.boxes[kept]
                if not len(ids):
                    continue
                with autocast(device, self.recipe.precision):
                    features = model.features([image.to(device)], [boxes.to(device)])
                yield Rows(features.cpu(), ids, torch.full_like(ids, index))

    def _picture(self, view: int, index: int) -> tuple[Tensor, Target]:
        """A picture as it is, or, from the second view on, augmented, its boxes moved."""
        if view == 0:
            scene = self.scenes[index]
            target = Target(torch.from_numpy(scene.boxes), torch.from_numpy(scene.ids))
            return to_tensor(self.pictures[index]), target
        image, target, _ = self.training_set[(view, index, index)]
        rng = generator(self.recipe.seed, 5, view, index)
        moves = rng.uniform(-self.jitter, self.jitter, target.boxes.shape).astype(np.float32)
        sides = (target.boxes[:, 2:] - target.boxes[:, :2]).repeat(1, 2)
        return image, Target(target.boxes + torch.from_numpy(moves) * sides, target.ids)

    def parameters(self, model: PersonSearchModel) -> list[nn.Parameter]:
        """Those of the re-identification branch."""
        return [p for p in _sequential(model).branch.parameters() if p.requires_grad]

    def set_mode(self, model: PersonSearchModel) -> None:
        """Only the branch keeps statistics."""
        model.eval()
        _sequential(model).branch.train()

    def batches(self, start: int, rank: int, world: int) -> Iterator[Batch]:
        """Features instead of pictures; each process draws its own identities."""
        assert self.cache is not None, "prepare comes first"
        rows: dict[int, list[int]] = {}
        for row, identity in enumerate(self.cache.ids.tolist()):
            rows.setdefault(identity, []).append(row)
        scenes = self.cache.scenes.numpy()
        identities = sorted(rows)
        for iteration in range(start, self.iterations):
            rng = generator(self.recipe.seed, 6, iteration, rank)
            count = min(self.batch_ids, len(identities))
            chosen = [
                row
                for identity in rng.choice(identities, count, replace=False).tolist()
                for row in shots(rows[identity], scenes, self.batch_shots, rng)
            ]
            # Read when it is due, so that `losses` is of the same iteration.
            early = iteration < self.semi_hard_iterations
            self.mining = "semi-hard" if early else "batch-hard"
            ids = self.cache.ids[chosen]
            target = Target(torch.zeros(len(ids), 4), ids)
            names = [f"features of iteration {iteration}"]
            yield Batch(list(self.cache[chosen]), [target], names)

    def losses(
        self, model: PersonSearchModel, images: list[Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """The triplet loss; `images` are features (C, h, w)."""
        features, ids = torch.stack(images), batch.targets[0].ids
        return _sequential(model).identity_losses(features, ids, self.mining)


def shots(
    rows: Sequence[int], scenes: np.ndarray, count: int, rng: np.random.Generator
) -> list[int]:
    """`count` different rows of one identity, or all: different pictures first, then other views.

    Args:
        rows: of the identity.
        scenes: the picture of each row of the cache.
        count: how many are wanted.
        rng: where chance comes from.
    """
    shuffled = rng.permutation(np.asarray(rows))
    seen: dict[int, int] = {}
    turns = []
    for scene in scenes[shuffled].tolist():
        turns.append(seen.get(scene, 0))
        seen[scene] = turns[-1] + 1
    chosen: list[int] = shuffled[np.argsort(turns, kind="stable")][:count].tolist()
    return chosen


def _sequential(model: PersonSearchModel) -> Sequential:
    if not isinstance(model, Sequential):
        raise RecipeError(f"features can be trained for 'sequential', not {type(model).__name__}")
    return model
