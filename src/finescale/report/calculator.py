"""The what-if calculator: its controls, and the draws from which the page's script forecasts as Python does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from finescale.report import numbers
from finescale.report.markup import Html, join, tag
from finescale.report.packing import packed
from finescale.report.section import Section, paragraph
from finescale.report.series import Plotted, method_labels
from finescale.stats.advise import name_of, spoken_unit
from finescale.stats.auto_fit import AutoFit
from finescale.stats.fits import GroupFit, Member
from finescale.stats.whatif import WhatIf, group_of, what_if
from finescale.study.analyse import candidates
from finescale.study.compare import BEYOND

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

NUMBERS = 90_000
FEWEST_DRAWS = 100
FACTORS = {
    "model_params": "Model parameters",
    "pretrain_tokens": "Pretraining tokens",
    "pet_params": "Trained parameters (PET)",
}
LEAD = (
    "Choose a size, a base and prices; forecasts, advice and the crossing below follow. They are computed here, "
    "from the draws of the same fit as the answer above. Further than {reach:g} times beyond what was seen, nothing is "
    "said."
)
COSTS = (
    "A price that is left empty is not counted. Device-hours are those that one run took in this study, without the "
    "search for a learning rate: between sizes they are interpolated, above the largest they grow in proportion."
)

BUDGET = " Prices that were filled in are US dollars, from the study's budget."
OF_AUTO = (
    "Here auto forecasts the bases that were run, each along its own curve. A base of another size it forecasts from "
    "all curves together, which this page does not carry: finescale forecast answers that."
)


def calculator_section(analysis: Analysis, shown: Plotted) -> Section:
    """Controls and places for what the page's script computes; a sentence where nothing can be computed."""
    title, short = "What if?", "What if"
    if not any(fit.fitted for fit in analysis.final.groups):
        return Section("what-if", title, short, paragraph("Nothing was fitted, so there is nothing to forecast from."))
    body = (
        paragraph(LEAD.format(reach=BEYOND)),
        tag("noscript", paragraph("The calculator needs JavaScript; `finescale advise` says the same in words.")),
        tag("div", _controls(analysis), id="what-if-form", class_="spill", role="group", aria_label="What is asked"),
        tag("p", id="what-if-said", class_="what-if-said", role="status", aria_live="polite"),
        _figure(analysis.unit),
        tag("div", id="what-if-table", class_="spill"),
        tag("p", id="what-if-crossing", class_="small", aria_live="polite"),
        paragraph(COSTS + (BUDGET if analysis.prices else ""), class_="small soft"),
    )
    return Section("what-if", title, short, join(body))


def _figure(unit: str) -> Html:
    parts = (
        tag("p", numbers.with_unit("Test loss", unit), class_="axis"),
        tag("div", class_="plot-of-what-if", id="what-if-plot", role="img", aria_label="Forecasts"),
        tag("p", "Finetuning examples, on a logarithmic scale", class_="axis"),
        tag("div", id="what-if-key", class_="key"),
        tag("figcaption", id="what-if-caption"),
    )
    behind = tag("details", tag("summary", "The numbers behind this figure"), tag("div", id="what-if-curves"))
    return join(tag("figure", parts, class_="wide"), tag("div", behind, class_="spill"))


def _controls(analysis: Analysis) -> list[Html]:
    fits = analysis.final
    varied = [name for name in FACTORS if any(name in fit.group.factors for fit in _laws(fits.groups))]
    asked = [
        _choice("task", "Task"),
        _number("examples", "Finetuning examples", slider=True, min=1, step=1),
        _choice("base", "Base"),
        *(_number(name, FACTORS[name], slider=True, min=1, step="any") for name in varied),
        _number("level", "Interval, per cent", slider=True, min=50, max=99, step=1, value=f"{100 * analysis.level:g}"),
        _price("label-price", "Price per labelled example", analysis.prices.get("label")),
        _price("hour-price", "Price per device-hour", analysis.prices.get("hour")),
        _choice("a", "Crossing of"),
        _choice("b", "with"),
    ]
    if fits.law == "auto" and fits.factor:
        own = OF_AUTO
    elif varied:
        own = "Other sizes of a base than those that were run can be asked for once one base is chosen."
    else:
        own = f"The law {fits.law} says nothing of bases nobody ran; only those that were run can be chosen."
    return [tag("div", asked, class_="what-if-inputs"), tag("p", own, id="what-if-own", class_="small soft")]


def _price(name: str, words: str, budget: float | None) -> Html:
    """A price, filled in only where the study's budget has it."""
    value = None if budget is None else f"{budget:.6g}"
    return _number(name, words, min=0, step="any", placeholder="not counted", value=value)


def _laws(groups: list[GroupFit]) -> list[GroupFit]:
    return [fit for fit in groups if fit.fitted and not isinstance(fit, AutoFit)]


def _choice(name: str, words: str) -> Html:
    identifier = f"what-if-{name}"
    return tag("div", tag("label", words, for_=identifier), tag("select", id=identifier), class_="what-if-input")


def _number(name: str, words: str, slider: bool = False, **limits: Any) -> Html:
    identifier = f"what-if-{name}"
    field = tag("input", type="number", id=identifier, **limits)
    drawn = tag("input", type="range", id=f"{identifier}-range", min=0, max=1000, aria_label=f"{words}, as a slider")
    return tag("div", tag("label", words, for_=identifier), field, drawn if slider else None, class_="what-if-input")


# ------------------------------------------------------------------------------------------------------------- the data


def asked_of(analysis: Analysis) -> WhatIf:
    """What the page forecasts from: the final fit's draws, as many as keep the page small."""
    fits = analysis.final
    every = pd.concat(list(candidates(analysis.runs)), ignore_index=True)
    # Runs that the fit itself leaves out (a loss below zero, say) make no group to ask.
    known = [group_of(fits, row) is not None for _, row in every.iterrows()]
    asked = every[known].reset_index(drop=True)
    columns = 2 * len(asked) + sum(_columns(fit) for fit in fits.groups)
    return what_if(fits, asked, max(FEWEST_DRAWS, NUMBERS // columns))


def calculator_data(analysis: Analysis) -> dict[str, Any] | None:
    """What the script reads; arrays are ``packed`` as they are. None where nothing was fitted."""
    if not any(fit.fitted for fit in analysis.final.groups):
        return None
    fits = asked_of(analysis)
    runs = analysis.runs
    labels = dict(zip(_method_keys(runs), method_labels(runs), strict=True))
    bases = {base: index for index, base in enumerate(dict.fromkeys(runs.sort_values("model_params")["base"]))}
    return {
        "draws": len(fits.take),
        "max_reach": BEYOND,
        "unit": spoken_unit(fits),
        "law": fits.law,
        "several_tasks": len({fit.group.key.get("task") for fit in fits.groups}) > 1,
        "groups": [_group(fits, index) for index in range(len(fits.groups))],
        "bases": list(bases),
        "candidates": [_candidate(fits, at, runs, labels) for at in range(len(fits.asked))],
    }


def _columns(fit: GroupFit) -> int:
    """Numbers of one draw of a group."""
    return 2 + sum(member.theta.size + member.coef.size for member in fit.members)


def _group(fits: WhatIf, index: int) -> dict[str, Any]:
    fit = fits.groups[index]
    if not fit.fitted:
        return {"refusal": f"{fit.group.label} was not fitted ({fit.status})", "support": {}, "members": []}
    return {
        "refusal": "",
        "factors": [] if isinstance(fit, AutoFit) else list(fit.group.factors[:-1]),
        "support": fit.group.support,
        "members": [_member(member, fits) for member in fit.members],
        "strain": packed(fit.strain[fits.take]) if fit.strain.any() else None,
        "fresh": packed(fits.fresh[:, index]),
    }


def _member(member: Member, fits: WhatIf) -> dict[str, Any]:
    return {
        "law": member.law.name,
        "factors": list(member.factors),
        "shapes": member.draws_theta.shape[1],
        "coefficients": member.draws_coef.shape[1],
        "theta": packed(member.draws_theta[fits.take]),
        "coef": packed(member.draws_coef[fits.take]),
        "weight": None if (member.weight == 1).all() else packed(member.weight[fits.take]),
    }


def _candidate(fits: WhatIf, at: int, runs: pd.DataFrame, labels: dict[Any, str]) -> dict[str, Any]:
    row = fits.asked.iloc[at]
    fit = group_of(fits, row)
    mine = _rows_of(runs, row)
    return {
        "task": row["task"],
        "method": row["method"],
        "label": labels[_method_keys(fits.asked.iloc[[at]])[0]],
        "base": row["base"],
        "examples": row["examples"],
        "name": name_of(row),
        "said": name_of(row.drop(["base", "model_params"])),
        "group": next(index for index, one in enumerate(fits.groups) if one is fit),
        "factors": {name: row[name] for name in FACTORS if name in row},
        "departure": packed(fits.departures[:, at]),
        "seconds": _seconds(mine),
        "path": _path(fits, fit, fits.asked.iloc[[at]]),
    }


def _path(fits: WhatIf, fit: GroupFit | None, row: pd.DataFrame) -> dict[str, Any] | None:
    found = fit.own_path(row) if isinstance(fit, AutoFit) and fit.fitted else None
    if found is None:
        return None if not isinstance(fit, AutoFit) else {}
    path, unit = found
    arrays = {"x": path.x, "centre": path.centre, "scale": path.scale, "unit": unit[fits.take]}
    return {name: packed(array) for name, array in arrays.items()} | {"run": path.run, "support": path.support}


def _method_keys(rows: pd.DataFrame) -> list[tuple[str, str]]:
    sizes = rows["pet_size"] if "pet_size" in rows else pd.Series(np.nan, index=rows.index)
    return [(str(method), str(size)) for method, size in zip(rows["method"], sizes, strict=True)]


def _rows_of(runs: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    names = [name for name in row.index if name in runs and name != "examples" and pd.notna(row[name])]
    return runs[(runs[names] == row[names]).all(axis=1) & (runs["flag"] == "")]


def _seconds(runs: pd.DataFrame) -> list[list[float]]:
    """Examples and the median seconds of a run with so many, where they were measured."""
    if "seconds" not in runs:
        return []
    known = runs.dropna(subset=["seconds"]).groupby("examples")["seconds"].median()
    pairs = zip(known.index.to_numpy(dtype=float), known.to_numpy(dtype=float), strict=True)
    return [[float(size), float(seconds)] for size, seconds in pairs if seconds > 0]
