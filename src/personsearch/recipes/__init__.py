"""The recipes that come with the package, found by name."""

from difflib import get_close_matches
from pathlib import Path

from personsearch.errors import RecipeError

FOLDER = Path(__file__).parent
"""Each folder here holds the recipes for one data set."""


def names() -> list[str]:
    """Names of all shipped recipes, such as ``"prw/seqnet"``, sorted."""
    return sorted(
        path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.toml")
    )


def find_set(name: str) -> Path:
    """Return the folder of the shipped recipes for one data set, such as ``"synthetic-small"``.

    Raises:
        RecipeError: there are none; the message lists the sets.
    """
    sets = sorted({path.parent.name for path in FOLDER.glob("*/*.toml")})
    if name not in sets:
        raise RecipeError(f"no shipped recipes for {name!r}; there are some for {', '.join(sets)}")
    return FOLDER / name


def find(name: str | Path) -> Path:
    """Return the file of a recipe.

    Args:
        name: a file of the user's, or the name of a shipped recipe. ``recipes/prw/seqnet.toml``,
            its path in a checkout of version 0.1, names the shipped one where no such file exists.

    Raises:
        RecipeError: neither a file nor a shipped recipe; the message lists the nearest names.
    """
    if Path(name).is_file():
        return Path(name)
    plain = Path(name).as_posix().removeprefix("recipes/").removesuffix(".toml")
    known = names()
    if plain in known:
        return FOLDER / f"{plain}.toml"
    # A bare "seqnet" is near every data set's recipe of that system.
    near = [each for each in known if each.endswith(f"/{plain}")]
    near = near or get_close_matches(plain, known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise RecipeError(
        f"{name}: no such file, and no shipped recipe of that name; {hint}"
        "'personsearch recipes list' shows all names"
    )
