"""Text from files on a terminal: whatever could control it is shown as an escape instead.

Names of files and cameras, and messages that quote them, are anybody's: they may move the cursor,
recolor or erase what was printed, or reverse the order in which it is read. JSON needs none of
this, since it escapes by itself.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

# Control characters, marks that change the direction of reading, separators of lines, and halves
# of characters, which cannot be printed at all.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_HARMFUL, _HARMFUL_IN_LINES = (re.compile(f"[{_CONTROLS}]"), re.compile(f"(?!\n)[{_CONTROLS}]"))


def printable(text: str, *, lines: bool = False) -> str:
    """Return a text with escapes such as ``\\x1b`` for control and bidi characters.

    With `lines`, line feeds stay.
    """
    return (_HARMFUL_IN_LINES if lines else _HARMFUL).sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def echo(text: str, *, err: bool = False) -> None:
    """Print one line, on stderr if `err`."""
    import typer

    typer.echo(printable(text), err=err)


def console(*, stderr: bool = False) -> "Console":
    """Return a console of rich that prints no control characters but its own."""
    from rich.console import Console
    from rich.segment import Segment

    class Safe(Console):
        def render(
            self, renderable: "RenderableType", options: "ConsoleOptions | None" = None
        ) -> "Iterable[Segment]":
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else printable(text, lines=True), style, control)

    return Safe(stderr=stderr)
