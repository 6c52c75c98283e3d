"""The scale at which an ablation is run: the synthetic preset, or the paper's data and values.

An ablation file holds the paper's terms and values. At the scale ``paper`` they are used as they
are, on the paper's data sets, and each base recipe is that of the data set it is trained on. At the
scale ``synthetic`` the base recipes are those of the preset, and a file of the folder ``bindings``,
one for each paper, says which values stand for the paper's:

    title = "Zhang et al. 2019, Tasks Integrated Networks"
    protocols = {gallery-4000 = "gallery-100"}  # of measures; "": the data set's usual protocol,
                                                # "none": no column here

    [data.tattoos]                              # how an ablation's [data.NAME] is drawn
    object_class = "tattoo"

    [start.pairs]                               # a run, once per seed, that others start from
    recipe = "dc-inet"
    set = {crop_iterations = 600, iterations = 0}
    rows = {crop_iterations = 0}                # recipe keys of the runs that start from it

    [table.dcinet-table-7]                      # by the name of the ablation
    start = "pairs"                             # of all its variants that do not start elsewhere
    set = {iterations = 140}                    # recipe keys of all its variants
    priority = 1                                # tables of the highest are run first
    variant.few = {set = {priority_classes = 10}}
    variant.deep = {recipe = "dc-inet"}         # where the preset lacks the paper's base recipe
    variant.all = {start = "", left_out = "why it cannot be run"}

Later values replace earlier ones: base recipe, `set` of the ablation, `set` of its table here,
`set` of the variant, `set` of the variant here, `rows`. Every value that stands for another is
listed below the printed table.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from personsearch.bench.ablation import MAIN, Ablation, Data, Figure, Table, Variant
from personsearch.errors import RecipeError
from personsearch.parsing import parse_toml

FOLDER = Path(__file__).parent / "bindings"
Scale = Literal["synthetic", "paper"]
HEADLINE = {"cuhk-sysu": "gallery-100", "prw": "regular"}
"""The protocol that papers report on a data set by default."""
NONE = "none"
"""Marks a protocol that is not measured at this scale."""
START = "start-"
"""Prefix of the names of shared starts among the variants."""


class Start(Table):
    """A run that the variants of tables start from, once per seed."""

    recipe: str
    set: dict[str, Any] = Field(default={})
    train: str = MAIN
    rows: dict[str, Any] = Field(default={})  # recipe keys of the variants that start from it


class BoundVariant(Table):
    """What stands for a variant's values."""

    recipe: str = ""  # base recipe of the preset; empty: that of the paper's name
    set: dict[str, Any] = Field(default={})
    start: str | None = None  # "": none; not given: that of the table
    left_out: str = ""


class BoundTable(Table):
    """What stands for an ablation's values."""

    start: str = ""
    set: dict[str, Any] = Field(default={})
    protocols: dict[str, str] = Field(default={})
    priority: int = 0
    variant: dict[str, BoundVariant] = Field(default={})


class Binding(Table):
    """The synthetic values of one paper's tables."""

    name: str = Field(pattern=r"^[a-z0-9]+$")  # prefix of the names of its ablations
    title: str
    protocols: dict[str, str] = Field(default={})
    data: dict[str, Data] = Field(default={})
    start: dict[str, Start] = Field(default={})
    table: dict[str, BoundTable] = Field(default={})


def papers() -> list[str]:
    """Names of the papers whose ablations are shipped."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_binding(paper: str) -> Binding:
    """Read the synthetic values of a paper's tables; RecipeError if there are none."""
    path = FOLDER / f"{paper}.toml"
    try:
        values = parse_toml(path.read_text(encoding="utf-8")) | {"name": paper}
        return Binding.model_validate_json(json.dumps(values, default=str))
    except FileNotFoundError:
        raise RecipeError(f"no paper {paper!r}; there are {', '.join(papers())}") from None
    except ValueError as error:
        raise RecipeError(f"{path}: {' '.join(str(error).split())}") from None


def bound(ablation: Ablation, scale: Scale) -> Ablation:
    """Return the ablation with the values of a scale.

    Raises:
        RecipeError: the binding names a variant, start or protocol that does not exist.
    """
    if scale == "paper":
        return ablation
    paper = ablation.name.partition("-")[0]
    if paper not in papers():
        return ablation
    binding = read_binding(paper)
    table = binding.table.get(ablation.name, BoundTable())
    if strangers := set(table.variant) - {variant.name for variant in ablation.variant}:
        raise RecipeError(f"{paper}.toml: {ablation.name} has no variant {min(strangers)!r}")
    lines = ["data and base recipes are the preset's"]
    if table.set:
        lines.append(f"all rows: {_listed(table.set, ablation.set)}")
    variants, starts = [], {}
    for variant in ablation.variant:
        made, name = _variant(ablation, variant, binding, table, lines)
        variants.append(made)
        if name:
            starts[name] = binding.start[name]
    for name, start in starts.items():
        values = start.model_dump(exclude={"rows"})
        variants.append(Variant(name=START + name, hidden=True, **values))
        lines.append(f"rows of a seed start from one run of {start.recipe}, {_listed(start.set)}")
    renamed = _Protocols(binding.protocols | table.protocols)
    dumped = ablation.model_dump()
    changed = dumped | {
        "set": {},
        "protocol": "",
        "priority": table.priority,
        "variant": tuple(renamed.variant(one).model_dump() for one in variants),
        "data": dumped["data"]
        | {k: v.model_dump() for k, v in binding.data.items() if k in ablation.data},
        "column": tuple(
            column
            | {
                "measure": renamed(column["measure"]),
                "title": column["title"] + renamed.note(column["measure"]),
            }
            for column in dumped["column"]
            if renamed.known(column["measure"])
        ),
        "claim": tuple(
            claim | {key: renamed(claim[key]) for key in ("measure", "worse_measure")}
            for claim in dumped["claim"]
        ),
        "figure": tuple(renamed.figure(one).model_dump() for one in ablation.figure),
        "here": tuple(lines),
    }
    # Validated again: two columns of the paper must not become one here.
    try:
        return Ablation.model_validate(changed)
    except ValidationError as error:
        raise RecipeError(f"{paper}.toml: {ablation.name}: {error.errors()[0]['msg']}") from None


def _variant(
    ablation: Ablation, variant: Variant, binding: Binding, table: BoundTable, lines: list[str]
) -> tuple[Variant, str]:
    """Return the variant with all its values, and the name of its start."""
    own = table.variant.get(variant.name, BoundVariant())
    values = ablation.set | table.set | variant.set | own.set
    if own.set:
        lines.append(f"{variant.title}: {_listed(own.set, ablation.set | variant.set)}")
    start = table.start if own.start is None else own.start
    left_out = own.left_out or variant.left_out
    if "init" in (variant.set | own.set) or variant.kind == "speed" or left_out:
        start = ""
    if start:
        if start not in binding.start:
            raise RecipeError(f"{binding.name}.toml: no start {start!r} for {ablation.name}")
        values |= binding.start[start].rows | {"init": f"run:{START}{start}"}
    update = {"recipe": own.recipe or variant.recipe, "set": values, "left_out": left_out}
    return variant.model_copy(update=update), start


def _listed(values: Mapping[str, Any], papers: Mapping[str, Any] | None = None) -> str:
    """``dictionary_size = 1280 (paper: 2560)``, for each of the values."""
    known = papers or {}
    return ", ".join(
        f"{key} = {_text(value)}" + (f" (paper: {_text(known[key])})" if key in known else "")
        for key, value in values.items()
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class _Protocols:
    """Renames the protocols in the names of measures."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def __call__(self, measure: str) -> str:
        name, *places = measure.split("@")
        return "@".join([name, *filter(None, (self.names.get(one, one) for one in places))])

    def known(self, measure: str) -> bool:
        return NONE not in (self.names.get(one) for one in measure.split("@")[1:])

    def note(self, measure: str) -> str:
        here = [self.names[one] for one in measure.split("@")[1:] if one in self.names]
        return f" (here {here[0] or 'all scenes of other cameras'})" if here else ""

    def variant(self, variant: Variant) -> Variant:
        paper = {self(one): value for one, value in variant.paper.items() if self.known(one)}
        columns = {
            self(one): self(other) for one, other in variant.columns.items() if self.known(one)
        }
        return variant.model_copy(update={"paper": paper, "columns": columns})

    def figure(self, figure: Figure) -> Figure:
        measures = tuple(map(self, filter(self.known, figure.measures)))
        ticks = figure.ticks if measures == figure.measures else ()
        update = {"measure": self(figure.measure), "measures": measures, "ticks": ticks}
        return figure.model_copy(update=update)
