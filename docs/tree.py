"""Write the tree of source files, a line per file, into README.md; a test holds README to it.

The line is the first sentence of the file's docstring, so that it stands in one place. Run: python docs/tree.py
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
MARKS = re.compile(r"(<!-- tree -->\n```\n).*?(```\n<!-- /tree -->)", re.S)

LONG = 120
SHORT = 12
"""Characters of a line: where a sentence is cut at its colon, and where too little would be left of it."""


def tree() -> str:
    """The tree as text: folders by path, files with the first sentence of their docstrings."""
    lines = []
    source = ROOT / "src" / "finescale"
    for folder in [source, *sorted(p for p in source.rglob("*") if p.is_dir() and any(p.glob("*.py")))]:
        lines.append(f"{folder.relative_to(ROOT)}/")
        for file in sorted(folder.glob("*.py")):
            docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
            lines.append(f"  {file.name:<18} {line(docstring)}")
    return "\n".join(lines) + "\n"


def line(docstring: str) -> str:
    """The first sentence, or where it is long its part before a colon."""
    sentence = re.split(r"(?<=[.?!])\s", " ".join(docstring.split()), maxsplit=1)[0]
    before = sentence.split(": ", maxsplit=1)[0]
    shown = sentence if len(sentence) <= LONG or len(before) < SHORT else before
    return shown.rstrip(".").replace("``", "")


def with_tree(readme: str) -> str:
    """README text with the tree between its marks brought up to date."""
    return MARKS.sub(lambda m: m.group(1) + tree() + m.group(2), readme)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_tree(path.read_text()))
