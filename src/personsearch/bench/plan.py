"""From an ablation and a number of seeds to runs."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personsearch.bench import data
from personsearch.bench.ablation import MAIN, Ablation, Variant
from personsearch.bench.data import Drawn, Progress, Source
from personsearch.bench.runs import Run
from personsearch.errors import RecipeError
from personsearch.training.recipe import make_recipe
from personsearch.training.renamed_keys import current_keys


class Planner:
    """Makes runs from variants; the same variant and seed give the same run.

    Base recipes are in `recipes`; data sets of `size` are drawn below `runs`, if `draw`, except the
    main one where `main` is its folder. `any_code` accepts results of another code version.
    """

    def __init__(
        self,
        recipes: Path,
        runs: Path,
        size: str,
        main: Path | None = None,
        draw: bool = True,
        any_code: bool = False,
    ) -> None:
        self.recipes, self.runs, self.size = recipes, runs, size
        self.main, self.draw, self.any_code = main, draw, any_code
        self.progress: Progress | None = None
        self._sources: dict[Drawn | Path, Source] = {}
        self._runs: dict[str, Run] = {}

    def base(self, name: str) -> dict[str, Any]:
        """Return the values of a base recipe; RecipeError if it cannot be read."""
        path = self.recipes / f"{name}.toml"
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = ", ".join(sorted(path.stem for path in self.recipes.glob("*.toml"))) or "none"
            raise RecipeError(
                f"{path}: no such recipe; that folder has {known}. Name one of them or give "
                "another folder with --recipes"
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{path}: is not TOML ({error})") from None

    def values(self, ablation: Ablation, variant: Variant, seed: int) -> dict[str, Any]:
        """Return a variant's complete recipe, references unresolved; RecipeError if not valid."""
        values: dict[str, Any] = {}
        for part in (self.base(variant.recipe or ablation.recipe), ablation.set, variant.set):
            values |= current_keys(part, ablation.name)
        values["seed"] = seed
        recipe = make_recipe(values, f"{ablation.name}, variant {variant.name!r}")
        return recipe.model_dump() | recipe.settings | {"data": "", "seed": seed}

    def check(self, ablation: Ablation) -> None:
        """Raise RecipeError if a variant is not a valid recipe."""
        for variant in ablation.variant:
            self.values(ablation, variant, 0)

    def run(self, ablation: Ablation, variant: Variant, seed: int) -> Run:
        """Return the run of a variant and a seed; RecipeError or DataError if it cannot be made."""
        values = self.values(ablation, variant, seed)
        needs: dict[str, Run] = {}
        sources: dict[str, tuple[Source, ...]] = {}
        for key, value in variant.set.items():
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
        run = Run(values, trained, tested, variant.kind, needs, sources, variant.extra)
        return self._runs.setdefault(run.name, run)

    def table(self, ablation: Ablation, seeds: int) -> Mapping[str, list[Run]]:
        """Return the runs of every shown variant by its name, in the order of the seeds."""
        return {
            variant.name: [self.run(ablation, variant, seed) for seed in range(seeds)]
            for variant in ablation.shown
        }

    def source(self, ablation: Ablation, name: str) -> Source:
        """Return a data set of the ablation; DataError if it cannot be read or drawn."""
        wanted: Drawn | Path
        if name == MAIN:
            wanted = self.main or Drawn(self.size)
        else:
            about = ablation.data[name]
            wanted = Drawn(about.size or self.size, about.object_class, about.seed)
        if wanted in self._sources:
            return self._sources[wanted]
        if isinstance(wanted, Path):
            source = data.at(wanted)
        else:
            source = data.drawn(wanted, self.runs, draw=self.draw, progress=self.progress)
        return self._sources.setdefault(wanted, source)
