"""HTML and SVG elements from Python calls. Whatever is not an element already is escaped."""

import html

Attribute = str | int | float | bool | None

_VOID = frozenset({"br", "hr", "img", "link", "meta"})


class Markup(str):
    """Text that is markup already and must not be escaped again."""

    __slots__ = ()


def element(name: str, *children: str | None, **attributes: Attribute) -> Markup:
    """One element.

    Args:
        name: such as ``"p"``.
        children: `Markup` is put in as it is, other text escaped, None left out.
        attributes: ``class_`` gives ``class`` and ``aria_label`` gives ``aria-label``; True gives
            the bare name, None and False leave it out.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(attribute if value is True else f'{attribute}="{html.escape(shown)}"')
    opening = f"<{' '.join(parts)}>"
    if name in _VOID:
        return Markup(opening)
    return Markup(f"{opening}{join(*children)}</{name}>")


def join(*children: str | None) -> Markup:
    """Elements and texts one after another, texts escaped."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(child)
            for child in children
            if child is not None
        )
    )
