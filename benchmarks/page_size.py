"""Bytes of a page by part: the library that draws, the data block by its names, the markup of each section.

python benchmarks/page_size.py finescale-quick/report/index.html
python benchmarks/page_size.py before.html after.html
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from plotly.offline import get_plotlyjs
from rich.console import Console
from rich.table import Table

DATA = re.compile(r'<script id="data" type="application/json">(.*?)</script>', re.S)
SECTION = re.compile(r"<section .*?</section>", re.S)


def parts(page: str) -> dict[str, int]:
    """Bytes of each part of a page; they add up to the whole."""
    block = DATA.search(page)
    if block is None:
        raise SystemExit("this is no page of finescale: it has no data block")
    data = {f"data: {name}": _bytes(json.dumps(part, ensure_ascii=False, separators=(",", ":")))
            for name, part in json.loads(block[1]).items()}  # fmt: skip
    found = {"plotly": _bytes(get_plotlyjs()), **data, "sections": sum(map(_bytes, SECTION.findall(page)))}
    return {**found, "scripts, style, the rest": _bytes(page) - sum(found.values()), "whole": _bytes(page)}


def _bytes(text: str) -> int:
    return len(text.encode())


def main(paths: list[str]) -> None:
    """Print a table with a column per page."""
    columns = [parts(Path(path).read_text(encoding="utf-8")) for path in paths]
    table = Table("part", *paths)
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(f"{column.get(name, 0):,}" for column in columns))
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
