"""Pages of one file that fetch nothing: a package's ``page.html`` and ``page.css``.

Everything that a template prints is escaped but `style`, the only style that its content security
policy allows, by `style_digest`. ``table.html`` has the macro of a `tables.TextTable`.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from personsearch.durable import replace_file
from personsearch.errors import DataError


def render(package: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """Return the page of a package, with these filters and variables."""
    folder, shared = files(package), files("personsearch.plots") / "table.html"
    style = (folder / "page.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=DictLoader({"table.html": shared.read_text(encoding="utf-8")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return template.render(style=style, style_digest=digest, **values)


def write(path: Path, text: str, *, parents: bool = False) -> None:
    """Write a page, complete or not at all; with `parents`, the folder that it is in, too.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None
