"""Runs, curves and bands on matplotlib axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from finescale.stats.fits import Fits, GroupFit


def draw(fits: Fits, ax: Any = None, level: float = 0.9) -> Any:
    """Draw every group: runs as dots (held out: hollow), the law as a line, its band for a new run as shade."""
    import matplotlib.pyplot as plt

    ax = ax if ax is not None else plt.subplots()[1]
    for number, fit in enumerate(fit for fit in fits.groups if fit.fitted):
        _draw_group(fits, fit, ax, f"C{number % 10}", level)
    ax.set(xscale="log", yscale="log", xlabel="finetuning examples", ylabel="test loss (nats per target token)")
    ax.legend(fontsize="small")
    return ax


def _draw_group(fits: Fits, fit: GroupFit, ax: Any, colour: str, level: float) -> None:
    seen = fit.group.frame
    ax.plot(seen["examples"], seen[fits.y], "o", color=colour, ms=4, label=fit.group.label)
    held = fit.group.held
    if len(held):
        ax.plot(held["examples"], held[fits.y], "o", color=colour, ms=5, mfc="none")
    top = max(float(seen["examples"].max()), float(held["examples"].max()) if len(held) else 0.0)
    grid = np.geomspace(seen["examples"].min(), 2 * top, 60)
    others = seen[list(fits.factor)].drop_duplicates().to_dict("records") if fits.factor else [{}]
    for fixed in others:
        named = {str(name): value for name, value in fixed.items()}
        asked = pd.DataFrame({"examples": grid}).assign(**fit.group.key, **named)
        said = fits.forecast(asked, level)
        ax.plot(grid, said["median"], color=colour, lw=1)
        ax.fill_between(grid, said["low"], said["high"], color=colour, alpha=0.12, lw=0)
