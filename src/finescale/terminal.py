"""What verbs print: consoles and JSON in which no name or message can move the cursor or change what a terminal shows.

Names, labels and messages come from files of any origin. Control characters in them, which a terminal obeys, are left
out of printed text and spelled out in printed JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\t"), ord("\n")}
"""The C0 and C1 sets and DEL, but for tabs and line ends."""
_LEFT_OUT = dict.fromkeys(CONTROLS)
_SPELLED_OUT = {code: f"\\u{code:04x}" for code in CONTROLS}


def inert(text: str) -> str:
    """The text without characters that a terminal obeys."""
    return text.translate(_LEFT_OUT)


def say(value: Any) -> None:
    """Print a value on standard output: a table or a list as JSON that spells them out, all else in its own words."""
    if isinstance(value, dict | list):
        print(json.dumps(value, indent=1, ensure_ascii=False, default=str).translate(_SPELLED_OUT))
    else:
        print(inert(str(value)))


class InertConsole(Console):
    """A console whose own styles and cursor movements work, and those in the text it is given do not."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of a renderable, their text made inert."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(inert(segment.text), segment.style)


out, told = InertConsole(highlight=False, markup=False), InertConsole(stderr=True, highlight=False, markup=False)
"""Standard output for what was asked, standard error for what a user should know meanwhile."""
