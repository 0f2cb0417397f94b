"""The what-if calculator for papers, as the page opens: forecasts on the best base at the most examples of a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from finescale.report import looks
from finescale.report.calculator import asked_of
from finescale.report.drawing import DASHES, INK, SOFT, Drawing, key_of, legend, log_axes, named, panels, titled
from finescale.report.numbers import ticks, whole, with_unit
from finescale.report.series import method_labels
from finescale.stats.advise import advise
from finescale.stats.whatif import WhatIf
from finescale.study.compare import BEYOND

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

POINTS = 40
COLUMNS = ["kind", "task", "method", "base", "examples", "median", "low", "high", "p_best", "reach", "refused"]


def what_if_figure(analysis: Analysis) -> list[Drawing]:
    """What the calculator shows before anything is changed, by its own draws: ``what-if``, one figure per task.

    The CSV has a row per ``candidate`` (forecast of a new run at the most examples, and the probability of being best)
    and per point of a ``curve`` (expected loss on the best one's base).
    """
    if not any(fit.fitted for fit in analysis.final.groups):
        return []
    fitted = {fit.group.key.get("task") for fit in analysis.final.groups if fit.fitted}
    tasks = [task for task in dict.fromkeys(analysis.runs["task"]) if task in fitted or None in fitted]
    asked = cache(partial(asked_of, analysis))
    tables = [cache(partial(_numbers, asked, task, analysis.level)) for task in tasks]
    return [
        Drawing("what-if", named("what-if", place, task), table, partial(_draw, table, analysis))
        for place, (task, table) in enumerate(zip(tasks, tables, strict=True))
    ]


def _numbers(asked: Callable[[], WhatIf], task: str, level: float) -> pd.DataFrame:
    fits = asked()
    own = fits.asked.assign(label=method_labels(fits.asked))
    own = own[own["task"] == task]
    advice = advise(fits, own.drop(columns="label"), level=level, max_reach=BEYOND)
    every = advice.table.assign(kind="candidate", method=own["label"].to_numpy())
    able = every.dropna(subset=["median"]).sort_values(["p_best", "median"], ascending=[False, True], kind="stable")
    here = own[own["base"] == able["base"].iloc[0]] if len(able) else own.head(0)
    curves = [_curve(fits, row, level) for _, row in here.iterrows()]
    return pd.concat([every, *curves], ignore_index=True).reindex(columns=COLUMNS)


def _curve(fits: WhatIf, row: pd.Series[Any], level: float) -> pd.DataFrame:
    """The expected loss of a candidate from a quarter of the least examples seen to four times the most."""
    fit = fits.find(**{name: row[name] for name in fits.by})
    if not fit.fitted:
        return pd.DataFrame(columns=COLUMNS)
    low, high = fit.group.support["examples"]
    asked = pd.DataFrame([row] * POINTS).reset_index(drop=True)
    asked["examples"] = np.geomspace(low / BEYOND, high * BEYOND, POINTS)
    said = fits.answers(asked) & (fits.reach(asked) <= BEYOND * (1 + 1e-9))
    known = asked[said].assign(kind="curve", method=row["label"])
    return known.join(fits.forecast(known.drop(columns="method").assign(method=row["method"]), level, "curve"))


def _draw(numbers: Callable[[], pd.DataFrame], analysis: Analysis) -> Figure:
    table = numbers()
    curves = table[table["kind"] == "curve"]
    methods = list(dict.fromkeys(method_labels(analysis.runs)))
    styles = {name: look for name, look in looks.of_kinds(methods).items() if (curves["method"] == name).any()}
    drawing, (axes,) = panels(1, 1, 3.6, 2.6)
    for name, look in styles.items():
        own = curves[curves["method"] == name].sort_values("examples")
        for part, beyond in ((own, True), (own[own["reach"] <= 1], False)):
            x, dash = part["examples"].astype(float), DASHES[look.dash]
            axes.fill_between(
                x, part["low"].astype(float), part["high"].astype(float), color=look.light, alpha=0.09, lw=0
            )
            axes.plot(x, part["median"], color=look.light, linewidth=0.7 if beyond else 1.6, linestyle=dash)
    if curves.empty:
        axes.text(0.5, 0.5, "nothing can be forecast here", ha="center", transform=axes.transAxes, color=SOFT)
        return drawing
    asked = float(table.loc[table["kind"] == "candidate", "examples"].iloc[0])
    axes.axvline(asked, color=SOFT, linewidth=0.9, linestyle=":")
    least, most = float(curves["low"].min()), float(curves["high"].max())
    pad = 0.05 * (most - least or 1)
    ends = (float(curves["examples"].min()), float(curves["examples"].max()))
    log_axes(axes, ends, ticks(*ends, 6), (least - pad, most + pad))
    titled(axes, f"base {curves['base'].iloc[0]}, {whole(asked)} examples asked for")
    axes.set_xlabel("finetuning examples (thin: beyond what was seen)", color=INK)
    axes.set_ylabel(with_unit("expected test loss", analysis.unit))
    legend(drawing, key_of(styles))
    return drawing
