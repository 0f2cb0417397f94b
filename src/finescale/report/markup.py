"""Markup that is safe by construction: whatever is not ``Html`` is text, and text is escaped.

Every character of a page passes through ``tag`` or ``join``, so that a task called ``<script>`` is a task called
``<script>`` and nothing more.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

VOID = frozenset({"br", "col", "hr", "input", "meta"})


class Html(str):
    """Finished markup. Only ``tag``, ``join`` and ``raw`` make it."""

    __slots__ = ()


def raw(markup: str) -> Html:
    """Trust ``markup`` as it is: for the package's own files only, never for anything a user named."""
    return Html(markup)


def join(*children: object) -> Html:
    """Children one after another: markup as it is, text escaped, ``None`` and ``False`` left out."""
    return Html("".join(_render(child) for child in children))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element.

    Args:
        name: element name.
        children: markup, text, or iterables of both.
        attributes: values are escaped; ``None`` and ``False`` leave the attribute out, ``True`` gives a bare one.
            A trailing underscore is dropped (``class_``) and inner ones become hyphens (``aria_label``).
    """
    opening = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Html(opening if name in VOID else f"{opening}{join(*children)}</{name}>")


def json_block(identifier: str, value: Any) -> Html:
    """A data block that scripts read by its id.

    ``<`` is written as an escape of JSON, so that no string inside can end the block or open another.
    Numbers that JSON cannot hold are kept apart from missing ones: NaN becomes null, infinities become words.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return tag("script", raw(safe), id=identifier, type="application/json")


def _render(child: object) -> str:
    if child is None or child is False:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return "".join(_render(item) for item in child)
    return html.escape(str(child), quote=True)


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'


def _plain(value: Any) -> Any:
    """Plain JSON values from numpy and pandas scalars, mappings and sequences."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("infinity" if value > 0 else "-infinity")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
