"""Whether a run can go on with a changed recipe, and whether several processes train the same."""

import hashlib
from collections.abc import Sequence

from personsearch.errors import CheckpointError
from personsearch.training.recipe import CURVED, Recipe
from personsearch.types import Scene

WITHOUT_INFLUENCE = {
    "cache_pictures",
    "checkpoint_every",
    "loader_workers",
    "log_every",
    "tensorboard",
}
"""Keys that change how a run is executed and reported, but not what it trains."""


def check_recipe(run: Recipe, wanted: Recipe, done: int, where: str) -> None:
    """Check that `run`, with `done` iterations of its last stage, can go on as `wanted`.

    `iterations` may change where no learning rate depends on it: a longer run then has the weights
    that it would have had with this length from the start.

    Raises:
        CheckpointError: a key differs; the message names it and both values.
    """
    before, now = (each.model_dump() | each.settings for each in (run, wanted))
    changed = {
        key: f"{key} is {now.get(key)!r} but was {before.get(key)!r}"
        for key in {**before, **now}
        if before.get(key) != now.get(key) and key not in WITHOUT_INFLUENCE
    }
    if not changed:
        return
    differences = ", ".join(changed.values())
    if list(changed) != ["iterations"]:
        raise CheckpointError(
            f"{where}: was trained by another recipe: {differences}; go on with the recipe that it "
            "began with, or choose another folder"
        )
    if wanted.schedule in CURVED:
        raise CheckpointError(
            f"{where}: the run cannot change its length: {differences}, and with schedule "
            f"{wanted.schedule!r} every learning rate depends on it; train in another folder, with "
            "init to start from these weights"
        )
    if wanted.iterations < done:
        raise CheckpointError(
            f"{where}: the run cannot be shortened: {differences}, and {done} iterations are done"
        )


def facts_of_run(
    recipe: Recipe, training: Sequence[Scene], validation: Sequence[Scene]
) -> dict[str, object]:
    """Return what all processes of a run need to have in common, by name; texts and numbers.

    The data set's folder may differ, and what only changes how a process reads it.
    """
    own = {"data", "cache_pictures", "loader_workers", "tensorboard"}
    facts = {k: v for k, v in (recipe.model_dump() | recipe.settings).items() if k not in own}
    for name, scenes in (("training", training), ("validation", validation)):
        digest = hashlib.sha256()
        for scene in scenes:
            digest.update(f"{scene.name!r} {scene.size} {len(scene.ids)}".encode())
            digest.update(scene.boxes.tobytes() + scene.ids.tobytes())
        facts[f"{name} pictures"] = len(scenes)
        facts[f"{name} labels"] = digest.hexdigest()[:12]
    return facts
