"""The table of all systems, whose rows are the recipes of a folder."""

from pathlib import Path

from personsearch.bench.ablation import Ablation, Column, Variant
from personsearch.errors import RecipeError

FIRST = "oim"
"""The baseline."""

COLUMNS = (
    Column(measure="mean_ap", title="mAP"),
    Column(measure="top_1", title="top-1", difference=False),
    Column(measure="top_5", title="top-5", difference=False),
    Column(measure="top_10", title="top-10", difference=False),
    Column(measure="mean_ap@truth", title="mAP on true boxes", difference=False),
    Column(measure="mean_ap@same-camera", title="mAP, same camera", difference=False),
    Column(measure="detection_ap", title="detection AP", difference=False),
    Column(measure="detection_recall", title="recall", difference=False),
    Column(measure="parameters", title="parameters", unit="number", difference=False),
    Column(measure="train_seconds", title="training, s", unit="number", difference=False),
    Column(
        measure="search_images_per_second",
        title="search, images/s",
        unit="number",
        difference=False,
    ),
    Column(measure="peak_memory_mb", title="memory, MB", unit="number", difference=False),
)


def systems_table(recipes: Path) -> Ablation:
    """Return the recipes of a folder as one table, the baseline first.

    Raises:
        RecipeError: there is none.
    """
    names = sorted((path.stem for path in recipes.glob("*.toml")), key=lambda n: (n != FIRST, n))
    if not names:
        raise RecipeError(
            f"{recipes}: holds no recipes; give a folder of .toml files with --recipes"
        )
    return Ablation(
        name=recipes.name,
        title="all systems",
        column=COLUMNS,
        variant=tuple(
            Variant(name=name.replace("_", "-"), label=name, recipe=name) for name in names
        ),
    )
