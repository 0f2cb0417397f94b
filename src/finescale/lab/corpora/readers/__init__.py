"""Readers: from the files inside an artefact to rows, one module per format.

A reader takes all archives that name it in the recipe and yields raw rows; cleaning and splitting come later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.readers import (
    descriptions,
    gettext,
    jargon,
    json_strings,
    libreoffice,
    man,
    markup,
    quotations,
    rst,
)
from finescale.lab.corpora.rows import Row

Reader = Callable[[Sequence[Archive]], Iterator[Row]]

READERS: dict[str, Reader] = {
    "descriptions": descriptions.read,
    "gettext": gettext.read,
    "gettext-sides": gettext.read_sides,
    "html": markup.read,
    "jargon": jargon.read,
    "json": json_strings.read,
    "libreoffice": libreoffice.read,
    "man": man.read,
    "quotations": quotations.read,
    "rst": rst.read,
}
