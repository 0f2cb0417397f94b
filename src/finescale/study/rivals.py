"""Other laws of the same factors, tested on the same held-out runs, where a study names one law alone."""

from __future__ import annotations

from dataclasses import replace

from finescale.stats.fit import fit
from finescale.stats.fits import Fits, laws_of
from finescale.study.analyse import Analysis

MOST_RUNS = 2000
"""With more runs fitting every law takes minutes; ``finescale compare`` is the way then."""
DRAWS = 100


def with_rivals(analysis: Analysis) -> Analysis:
    """The analysis with every other registered law of its factors tested as its own was, if it has none yet.

    Unchanged where nothing was held out, where there are more than ``MOST_RUNS`` runs, or where the study names laws.
    """
    if analysis.others or not len(analysis.fits.held_out()) or len(analysis.runs) > MOST_RUNS:
        return analysis
    own = analysis.fits
    laws = [law for law in laws_of(len(own.factor)) if law != own.law]
    return replace(analysis, others={law: _tested(analysis, law) for law in laws})


def _tested(analysis: Analysis, law: str) -> Fits:
    own = analysis.fits
    runs = analysis.runs[analysis.runs["flag"] == ""]
    held = {name: count for name, count in own.about["hold_out"].items() if count}
    return fit(runs, law, own.factor, own.by, hold_out=held, seed=own.seed, draws=DRAWS)
