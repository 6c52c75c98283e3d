"""The table of all systems, whose rows are the recipes of a folder."""

from pathlib import Path

from personsearch.bench.ablation import Ablation, Column, Variant
from personsearch.errors import RecipeError

FIRST = "oim"
"""The baseline."""

_METRICS = {
    "mean_ap": "mAP",
    "top_1": "top-1",
    "top_5": "top-5",
    "top_10": "top-10",
    "mean_ap@truth": "mAP on true boxes",
    "mean_ap@same-camera": "mAP, same camera",
    "detection_ap": "detection AP",
    "detection_recall": "recall",
}
_NUMBERS = {
    "parameters": "parameters",
    "train_seconds": "training, s",
    "search_images_per_second": "search, images/s",
    "peak_memory_mb": "memory, MB",
}
COLUMNS = (
    *(Column(measure=m, title=t, difference=m == "mean_ap") for m, t in _METRICS.items()),
    *(Column(measure=m, title=t, unit="number", difference=False) for m, t in _NUMBERS.items()),
)


def systems_table(recipes: Path) -> Ablation:
    """Return the recipes of a folder as one table, the baseline first."""
    names = sorted((path.stem for path in recipes.glob("*.toml")), key=lambda n: (n != FIRST, n))
    if not names:
        raise RecipeError(
            f"{recipes}: holds no recipes; give a folder of .toml files with --recipes"
        )
    variants = [Variant(name=name.replace("_", "-"), label=name, recipe=name) for name in names]
    return Ablation(name=recipes.name, title="all systems", column=COLUMNS, variant=tuple(variants))
