"""Plans the runs of ablations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from personsearch import recipes
from personsearch.bench import data
from personsearch.bench.ablation import MAIN, Ablation, Variant
from personsearch.bench.binding import HEADLINE, Scale
from personsearch.bench.data import Drawn, Progress, Source
from personsearch.bench.runs import Run
from personsearch.errors import DataError, PersonSearchError, RecipeError
from personsearch.parsing import parse_toml
from personsearch.training.recipe import make_recipe
from personsearch.training.renamed_keys import current_keys


class Planner:
    """Makes runs from variants; the same variant and seed give the same run.

    Base recipes are in `recipes`; without it, in the shipped folder of the data set that a variant
    is trained on. Data sets are in `folders` by name, the main one as ``main``; at the scale
    ``paper`` also by format. At the scale ``synthetic`` the others are drawn below `runs`, of
    `size` unless they say otherwise, if `draw`. `any_code` accepts results of another code version.
    """

    def __init__(
        self,
        recipes: Path | None,
        runs: Path,
        size: str = "ablation",
        folders: Mapping[str, Path] | None = None,
        scale: Scale = "synthetic",
        draw: bool = True,
        any_code: bool = False,
    ) -> None:
        self.recipes, self.runs, self.size, self.scale = recipes, runs, size, scale
        self.folders, self.draw, self.any_code = dict(folders or {}), draw, any_code
        self.progress: Progress | None = None
        self._sources: dict[Drawn | Path, Source] = {}
        self._runs: dict[str, Run] = {}

    @property
    def sources(self) -> list[Source]:
        """Every data set of the runs that were planned."""
        return list(self._sources.values())

    def base(self, ablation: Ablation, variant: Variant) -> dict[str, Any]:
        """Return the values of a variant's base recipe; RecipeError if it cannot be read."""
        folder = self.recipes or recipes.find_set(self._trained_on(ablation, variant))
        path = folder / f"{variant.recipe or ablation.recipe}.toml"
        try:
            return parse_toml(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = ", ".join(sorted(path.stem for path in folder.glob("*.toml"))) or "none"
            raise RecipeError(
                f"{path}: no such recipe; that folder has {known}. Name one of them or give "
                "another folder with --recipes"
            ) from None
        except (OSError, ValueError) as error:
            raise RecipeError(f"{path}: cannot be read as TOML ({error})") from None

    def values(self, ablation: Ablation, variant: Variant, seed: int) -> dict[str, Any]:
        """Return a variant's complete recipe, references unresolved; RecipeError if not valid."""
        values: dict[str, Any] = {}
        for part in (self.base(ablation, variant), ablation.set, variant.set):
            values |= current_keys(part, ablation.name)
        values["seed"] = seed
        if self.scale == "paper":
            values["data_format"] = ""  # that of the folder, which may be another than the recipe's
        recipe = make_recipe(values, f"{ablation.name}, variant {variant.name!r}")
        return recipe.model_dump() | recipe.settings | {"data": "", "seed": seed}

    def possible(self, ablation: Ablation) -> Ablation:
        """Return the ablation; rows that cannot be planned are left out and say why.

        Raises:
            RecipeError, DataError: no row can be planned; the error of the first row.
        """
        problems: dict[str, PersonSearchError] = {}
        wanted = [variant for variant in ablation.shown if not variant.left_out]
        for variant in wanted:
            try:
                self.run(ablation, variant, 0)
            except PersonSearchError as error:
                problems[variant.name] = error
        if wanted and len(problems) == len(wanted):
            raise problems[wanted[0].name]
        variants = tuple(
            v.model_copy(update={"left_out": str(problems[v.name])}) if v.name in problems else v
            for v in ablation.variant
        )
        return ablation.model_copy(update={"variant": variants})

    def possible_of(
        self, ablations: Sequence[Ablation]
    ) -> tuple[dict[str, Ablation], dict[str, str]]:
        """Return the `possible` ablations by name, and the problems of the others."""
        possible, problems = {}, {}
        for one in ablations:
            try:
                possible[one.name] = self.possible(one)
            except PersonSearchError as error:
                problems[one.name] = str(error)
        return possible, problems

    def run(self, ablation: Ablation, variant: Variant, seed: int) -> Run:
        """Return the run of a variant and a seed; RecipeError or DataError if it cannot be made."""
        values = self.values(ablation, variant, seed)
        needs: dict[str, Run] = {}
        sources: dict[str, tuple[Source, ...]] = {}
        for key, value in (ablation.set | variant.set).items():
            parts = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(part, str) and part.startswith("data:") for part in parts):
                names = [str(part).removeprefix("data:") for part in parts]
                sources[key] = tuple(self.source(ablation, name) for name in names)
                # The content of the data set counts, not its name.
                values[key] = [""] * len(parts) if isinstance(value, list | tuple) else ""
            elif isinstance(value, str) and value.startswith("run:"):
                needed = ablation.named(value.removeprefix("run:"))
                needs[key] = self.run(ablation, needed, seed)
                values[key] = ""
        trained = self.source(ablation, variant.train)
        tested = self.source(ablation, variant.test or variant.train)
        protocol = self.protocol(ablation, variant.test or variant.train)
        run = Run(values, trained, tested, variant.kind, needs, sources, variant.extra, protocol)
        return self._runs.setdefault(run.name, run)

    def table(self, ablation: Ablation, seeds: int) -> Mapping[str, list[Run]]:
        """Return the runs of the shown variants, in order of the seeds, but for those left out."""
        return {
            variant.name: [self.run(ablation, variant, seed) for seed in range(seeds)]
            for variant in ablation.shown
            if not variant.left_out
        }

    def source(self, ablation: Ablation, name: str) -> Source:
        """Return a data set of the ablation; DataError if it cannot be read or drawn."""
        kind = self._dataset(ablation, name) if self.scale == "paper" else ""
        places = (kind, name) if name == MAIN else (name, kind)
        folder = next((self.folders[place] for place in places if place in self.folders), None)
        wanted: Drawn | Path
        if folder is not None:
            data.check_format(folder, kind, ablation.name)
            wanted = folder
        elif self.scale == "paper":
            said = "" if name == MAIN else f"{name}="
            raise DataError(
                f"{ablation.name} needs the data set {kind or name}; give its folder: --data "
                f"{said}FOLDER"
            )
        elif name == MAIN:
            wanted = Drawn(self.size)
        else:
            about = ablation.data[name]
            wanted = Drawn(about.size or self.size, about.object_class, about.seed)
        if wanted not in self._sources:
            self._sources[wanted] = (
                data.at(wanted)
                if isinstance(wanted, Path)
                else data.drawn(wanted, self.runs, draw=self.draw, progress=self.progress)
            )
        return self._sources[wanted]

    def _dataset(self, ablation: Ablation, name: str) -> str:
        """The paper's data set of that name, such as ``prw``; empty if it is not said."""
        return ablation.dataset if name == MAIN else ablation.data[name].dataset

    def _trained_on(self, ablation: Ablation, variant: Variant) -> str:
        """The name of the shipped recipes for the data set that a variant is trained on."""
        if self.scale == "synthetic":
            return f"synthetic-{self.size}"
        own = self._dataset(ablation, variant.train)
        return own if own in HEADLINE else ablation.dataset

    def protocol(self, ablation: Ablation, name: str) -> str:
        """The protocol that a data set is measured by first; empty for its own first one."""
        if self.scale == "synthetic":
            return ""
        own = HEADLINE.get(self._dataset(ablation, name), "")
        return (ablation.protocol if name == MAIN else "") or own
