"""Method against method over places and examples: how probably one has the lower loss, and where the two cross."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from finescale.errors import Fault, InputError
from finescale.stats.critical import critical_size
from finescale.stats.fits import Fits
from finescale.stats.laws import Array
from finescale.stats.solve import Mask


@dataclass(frozen=True)
class Versus:
    """Two methods on R places with E numbers of examples each.

    Attributes:
        a, b: the two values of ``between``.
        places: one row per place (R), as they were asked.
        examples: (E,).
        expected: (R, E) share of joint draws in which the curve of ``a``, its expected loss, is the lower.
        run: (R, E) the same for one new run of each, by the draws and the rule of ``finescale.stats.advise.advise``.
        reach: (R, E) how many times beyond the support a point lies, for whichever of the two it lies further.
        crossing: ``finescale.stats.critical.critical_size`` at each place (R rows).

    ``expected`` and ``run`` are NaN where nothing is said: beyond the reach that was asked, or that the fit has.
    """

    a: str
    b: str
    places: pd.DataFrame
    examples: Array
    expected: Array
    run: Array
    reach: Array
    crossing: pd.DataFrame


def versus(
    fits: Fits,
    a: str,
    b: str,
    at: pd.DataFrame,
    examples: Array,
    max_reach: float = 4.0,
    between: str = "method",
    level: float = 0.9,
) -> Versus:
    """How ``a`` and ``b`` compare at every place and number of examples.

    Args:
        fits: fits whose ``by`` contains ``between``.
        a, b: two values of ``between``, both fitted.
        at: the other factors and ``by`` columns, a row per place.
        examples: numbers of examples, positive, (E,).
        max_reach: nothing is said further beyond the support than this, in any factor.
        level: width of the intervals of ``crossing``.

    Raises:
        InputError: there is no place or no number of examples, or as ``critical_size``.
    """
    sizes = np.asarray(examples, dtype=float)
    if not len(at) or not len(sizes):
        raise InputError(Fault("at, examples", "there is nothing to compare at", "give one place and size at least"))
    crossing = critical_size(fits, a, b, at=at, between=between, level=level)
    asked = [_asked(at, sizes, between, one) for one in (a, b)]
    reach = np.maximum(*(fits.reach(frame) for frame in asked))
    answered = [(fits.reach(frame) <= max_reach) & fits.answers(frame) for frame in asked]
    shape = (len(at), len(sizes))
    expected, run = (_share(fits, asked, answered, kind).reshape(shape) for kind in ("curve", "run"))
    return Versus(a, b, at, sizes, expected, run, reach.reshape(shape), crossing)


def _asked(at: pd.DataFrame, sizes: Array, between: str, one: str) -> pd.DataFrame:
    """Every place with every number of examples, place by place."""
    rows = at.loc[at.index.repeat(len(sizes))].reset_index(drop=True)
    return rows.assign(examples=np.tile(sizes, len(at)), **{between: one})


def _share(fits: Fits, asked: list[pd.DataFrame], answered: list[Mask], kind: str) -> Array:
    """Share of draws (N,) in which the first has the lower loss; a tie counts half.

    Each side is drawn wherever it answers, whatever the other does: its draws serve its other comparisons too.
    """
    said = answered[0] & answered[1]
    out = np.full(len(said), np.nan)
    if said.any():
        drawn = [
            fits.draws(frame[own], "run" if kind == "run" else "curve")
            for frame, own in zip(asked, answered, strict=True)
        ]
        one, two = (draws[:, said[own]] for draws, own in zip(drawn, answered, strict=True))
        out[said] = (one < two).mean(axis=0) + 0.5 * (one == two).mean(axis=0)
    return out
