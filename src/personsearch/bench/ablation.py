"""A paper's ablation as data: what varies, what is measured, what the paper found and claims.

Each is a TOML file in the folder ``ablations``, or one of a user's own. It is written in the
paper's terms and values; `bench.binding` says what they are on synthetic data.

    title = "HEP against C2HEP"
    paper = "Zhang et al. 2019, Table 4"
    dataset = "cuhk-sysu"                   # the paper's, for the scale of the paper
    recipe = "dc-inet"                      # the base, a file of the recipes' folder
    set = {validation_fraction = 0.1}       # recipe keys of all variants; may be left out

    [[column]]
    measure = "mean_ap"                     # a metric, see `bench.measure`
    title = "mAP"

    [[variant]]
    name = "hep"                            # for claims and other variants
    label = "DC-I-Net (HEP)"
    set = {class_loss = "hep"}              # recipe keys that differ from the base
    paper = {mean_ap = 81.0}                # what the paper printed, as it printed it

    [[claim]]
    says = "C2HEP finds more than HEP"
    better = "full"
    worse = "hep"
    measure = "mean_ap"

A recipe key whose value is ``"run:NAME"`` gets the checkpoint of the variant NAME of the same seed,
``"data:NAME"`` the folder of a data set that the file describes under ``[data.NAME]``.
"""

import json
import re
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from personsearch.errors import RecipeError
from personsearch.parsing import parse_toml

FOLDER = Path(__file__).parent / "ablations"
MAIN = "main"
"""The data set that variants are trained and measured on unless they name another."""


BASELINE = "oim"

_METRICS = {
    "mean_ap": "mAP",
    "top_1": "top-1",
    "top_5": "top-5",
    "top_10": "top-10",
    "mean_ap@weighted": "mAP, x score",
    "mean_ap@plain": "mAP, plain",
    "mean_ap@truth": "mAP on true boxes",
    "mean_ap@same-camera": "mAP, same camera",
    "detection_ap": "detection AP",
    "detection_recall": "recall",
}
_NUMBERS = {
    "score_threshold": "score from",
    "parameters": "parameters",
    "train_seconds": "training, s",
    "search_images_per_second": "search, images/s",
    "peak_memory_mb": "memory, MB",
}


class Table(BaseModel):
    """A table of a TOML file: strict, and frozen once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Column(Table):
    """A column of the table: one metric."""

    measure: str  # name of the metric, see `bench.measure`
    title: str  # as printed
    unit: Literal["percent", "number"] = "percent"  # percent: 0..1, shown x 100
    difference: bool = True  # whether to print the difference to the first row


class Data(Table):
    """A second data set: drawn like the main one except for these values, or the paper's."""

    dataset: str = ""  # format of the paper's; one with recipes is trained by them
    object_class: str = "person"
    seed: int = Field(0, ge=0)  # another seed gives other people and cameras
    size: str = ""  # empty: the size of the main one


class Variant(Table):
    """A row of the table: one recipe."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")  # for claims and other variants
    label: str = ""  # as printed; the paper's words where it has some
    recipe: str = ""  # replaces the ablation's base
    set: dict[str, Any] = {}  # recipe keys that differ from the base
    train: str = MAIN  # data set it is trained on
    test: str = ""  # data set it is measured on; empty: the same
    paper: dict[str, float] = {}  # the paper's numbers, as printed
    hidden: bool = False  # other variants start from it; not shown
    control: bool = False  # our own row: a run of equal budget, or a test of a cause
    left_out: str = ""  # why it is not run; the row is shown without figures
    kind: Literal["search", "speed"] = "search"  # speed: only timed
    extra: tuple[Literal["without-detection", "identity-accuracy"], ...] = ()  # more measurements
    columns: dict[str, str] = {}  # by column, the metric to show instead
    x: float | None = None  # position on the x axis of a chart
    line: str = ""  # line of a chart that it belongs to

    @property
    def title(self) -> str:
        """The label, or else the name; a control is marked."""
        return (self.label or self.name) + (" (control)" if self.control else "")


class Cause(Table):
    """Why a claim does not hold on synthetic data."""

    says: str
    rows: tuple[str, ...] = Field(min_length=1)  # variants that test it


class Claim(Table):
    """A finding of the paper."""

    says: str  # the finding in words
    better: str  # variant that the paper found better
    worse: str  # than this one; may be the same, with `worse_measure`
    measure: str = "mean_ap"  # metric that is compared
    worse_measure: str = ""  # metric of the worse variant; empty: `measure`
    less: bool = False  # lower is better
    reversed_on: str = ""  # data set on which the paper itself finds the opposite
    cause: Cause | None = None  # printed where the opposite shows


class Figure(Table):
    """A chart: training curves, or lines over columns or over variants."""

    kind: Literal["training", "columns", "variants", "weighting"]
    title: str
    x_label: str = ""
    y_label: str = ""
    measure: str = "mean_ap"  # for 'variants'
    measures: tuple[str, ...] = ()  # for 'columns', along the x axis
    ticks: tuple[float, ...] = ()  # positions of the measures; empty: their last numbers
    losses: tuple[str, ...] = ()  # for 'training'; empty: the sum of all

    @property
    def positions(self) -> tuple[float, ...]:
        """The ticks, or the numbers in which the measures end, such as 50 of ``@gallery-50``."""
        return self.ticks or tuple(map(_last_number, self.measures))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.positions) != len(self.measures):
            raise ValueError(f"{len(self.ticks)} ticks for {len(self.measures)} measures")
        return self


def _last_number(measure: str) -> float:
    found = re.search(r"[-_](\d+)$", measure)
    if found is None:
        raise ValueError(f"measure {measure!r} does not end in a number; set ticks")
    return float(found[1])


class Ablation(Table):
    """One table or figure of a paper."""

    name: str
    title: str
    paper: str = ""  # authors, year, table or figure, data set
    dataset: str = ""  # the paper's main data set, such as cuhk-sysu or prw
    protocol: str = ""  # the paper's, of measures without an @; empty: see `binding.HEADLINE`
    recipe: str = ""  # base of variants without a recipe
    note: str = ""  # what a reader has to know, such as differences from the paper
    set: dict[str, Any] = {}  # recipe keys of all variants
    data: dict[str, Data] = {}
    column: tuple[Column, ...] = ()
    variant: tuple[Variant, ...] = ()
    claim: tuple[Claim, ...] = ()
    figure: tuple[Figure, ...] = ()
    priority: int = 0  # tables of the highest are run first, with all their seeds
    here: tuple[str, ...] = ()  # values that stand for the paper's, see `bench.binding`

    @property
    def shown(self) -> tuple[Variant, ...]:
        return tuple(variant for variant in self.variant if not variant.hidden)

    def named(self, name: str) -> Variant:
        return next(variant for variant in self.variant if variant.name == name)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        names = [variant.name for variant in self.variant]
        if len(set(names)) < len(names):
            raise ValueError("two variants have the same name")
        measures = [column.measure for column in self.column]
        if len(set(measures)) < len(measures):
            raise ValueError("two columns have the same measure")
        if self.column and not self.shown:
            raise ValueError("has columns but no row; add a [[variant]] that is not hidden")
        starts: dict[str, set[str]] = {}
        for variant in self.variant:
            if not (variant.recipe or self.recipe):
                raise ValueError(f"variant {variant.name!r} has no recipe, nor has the ablation")
            values = self.set | variant.set
            if given := {"data", "seed"} & set(values):
                raise ValueError(
                    f"variant {variant.name!r} sets {min(given)!r}, which each run gets from its "
                    "data set and seed; remove the key"
                )
            wanted = {variant.train, variant.test or MAIN, *_references(values, "data:")}
            if strangers := wanted - {MAIN, *self.data}:
                raise ValueError(f"variant {variant.name!r}: unknown data set {min(strangers)!r}")
            starts[variant.name] = _references(values, "run:")
            for other in starts[variant.name]:
                if other not in names or other == variant.name:
                    raise ValueError(
                        f"variant {variant.name!r} starts from {other!r}, no other variant"
                    )
            if strangers := set(variant.paper) - set(measures):
                raise ValueError(f"variant {variant.name!r}: no column {min(strangers)!r}")
        for claim in self.claim:
            if strangers := {claim.better, claim.worse} - set(names):
                raise ValueError(f"claim {claim.says!r}: no variant {min(strangers)!r}")
            if claim.cause and (strangers := set(claim.cause.rows) - set(names)):
                raise ValueError(f"cause of {claim.says!r}: no variant {min(strangers)!r}")
        try:
            tuple(TopologicalSorter(starts).static_order())
        except CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise ValueError(f"variants start from each other: {circle}; one must not") from None
        return self


def _references(values: dict[str, Any], prefix: str) -> set[str]:
    parts: list[Any] = []
    for value in values.values():
        parts += value if isinstance(value, list | tuple) else [value]
    return {p.removeprefix(prefix) for p in parts if isinstance(p, str) and p.startswith(prefix)}


def ablation_names() -> list[str]:
    """Names of the shipped ablations."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_ablation(name: str) -> Ablation:
    """Read a shipped ablation by name, or a user's own by its .toml file."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        values = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ablation_names()
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise RecipeError(
            f"no ablation {name!r}{hint} The ablations are {', '.join(known)}; or give a .toml file"
        ) from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be read as TOML ({error})") from None
    try:
        # Strict validation accepts a list for a tuple only from JSON.
        return Ablation.model_validate_json(json.dumps(values | {"name": path.stem}, default=str))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{path}: {f'{key}: ' if key else ''}{message}") from None


def systems_table(recipes: Path) -> Ablation:
    """Return the recipes of a folder as one table, the baseline first."""
    names = sorted((path.stem for path in recipes.glob("*.toml")), key=lambda n: (n != BASELINE, n))
    if not names:
        raise RecipeError(
            f"{recipes}: holds no recipes; give a folder of .toml files with --recipes"
        )
    plain = [re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") for name in names]
    if "" in plain or len(set(plain)) < len(plain):
        raise RecipeError(
            f"{recipes}: the recipes {', '.join(names)} do not differ in letters and digits; "
            "rename one"
        )
    variants = [
        Variant(name=row, label=name, recipe=name) for row, name in zip(plain, names, strict=True)
    ]
    columns = (
        *(Column(measure=m, title=t, difference=m == "mean_ap") for m, t in _METRICS.items()),
        *(Column(measure=m, title=t, unit="number", difference=False) for m, t in _NUMBERS.items()),
    )
    return Ablation(name=recipes.name, title="all systems", column=columns, variant=tuple(variants))
