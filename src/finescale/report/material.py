"""Sections on what the evidence is made of: bases, text, cost, runs, versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from finescale.report import numbers
from finescale.report.markup import Html, join, tag
from finescale.report.section import Section, facts, paragraph, plural
from finescale.report.series import Plotted
from finescale.report.tables import Column, cell, framed, rows_of, table

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

LOSS = "the unit of the losses"
RUN_COLUMNS: tuple[tuple[str, str, str, int | None], ...] = (
    ("task", "Task", "", None),
    ("method", "Method", "", None),
    ("base", "Base", "", None),
    ("examples", "Examples", "", None),
    ("seed", "Seed", "", None),
    ("pet_size", "PET size", "", None),
    ("learning_rate", "Rate", "", None),
    ("loss", "Loss", LOSS, 3),
    ("zero_loss", "Untouched", LOSS, 3),
    ("bits_per_byte", "Bits/byte", "", 3),
    ("epochs", "Epochs", "", 1),
    ("best_step", "Best step", "", None),
    ("seconds", "Seconds", "", 1),
    ("flag", "Flag", "", None),
    ("run", "Run", "", None),
)


MOST_SHOWN = 300
"""Rows that a table of single runs has at most; the table of all runs has every one."""


NOT_CHECKED = "Pretrained elsewhere, so it is not known whether they have read dev or test texts"

# ---------------------------------------------------------------------------------------------------------------- bases


def bases_section(analysis: Analysis, shown: Plotted) -> Section:
    """The bases: size, pretraining, what they cost."""
    columns = [
        Column("Base", cell("base"), kind=""),
        Column("Parameters", lambda row: numbers.short(row["model_params"]), "without embeddings"),
        Column("Parameters", lambda row: numbers.short(row["total_params"]), "in all"),
        Column("Pretraining", lambda row: numbers.short(row["pretrain_tokens"]), "tokens"),
        Column("Pretraining loss", lambda row: numbers.fixed(row["pretrain_loss"]), "nats/token, text held out"),
        Column("Cost", lambda row: numbers.significant(row["flops"], 2), "FLOPs"),
        Column("Decay branch", lambda row: numbers.percent(row["branch_share"]), "of those tokens"),
        Column("Time", lambda row: numbers.duration(row["seconds"])),
    ]
    branched = analysis.bases["branch_share"].fillna(0.0) > 0
    which = "Each base" if branched.all() else "Each base that has a decay branch"
    why = f"{which} was annealed by that short branch of its own, so that pretraining tokens compare finished models."
    lead = paragraph("The law counts parameters without embeddings. " + (why if branched.any() else ""))
    return Section(
        "bases", "The bases", "Bases", join(lead, table("Bases of this study", columns, rows_of(analysis.bases)))
    )


# ----------------------------------------------------------------------------------------------------------------- text


def text_section(analysis: Analysis, shown: Plotted) -> Section:
    """Where the text came from, what was made of it, and whether anything leaked."""
    manifest = analysis.provenance
    if not manifest:
        body = paragraph("The study read examples given by its user; no provenance was recorded with them.")
        return Section("text", "Where the text came from", "Text", body)
    warnings = [tag("li", message, class_="warn") for message in manifest["warnings"]]
    notes = tag("ul", warnings, [tag("li", message) for message in manifest["messages"]], class_="note small")
    digest = tag("span", manifest["digest"][:12], title=manifest["digest"], class_="mono")
    artefacts = manifest["artefacts"]
    lead = paragraph(
        f"The text comes from {plural(len(artefacts), 'package')} (recipe {manifest['tier']}, fetched by "
        f"{manifest['source']}); the corpus made of it has the digest ",
        digest,
        ".",
    )
    body = join(
        lead,
        _leaks(manifest["leaks"]),
        _elsewhere(analysis),
        _contents(manifest["counts"]),
        _packages(artefacts),
        notes,
    )
    return Section("text", "Where the text came from", "Text", body)


def _leaks(leaks: Mapping[str, Any]) -> Html:
    return paragraph(
        f"Leak check: {plural(leaks['found'], 'paragraph')} of the pretraining text shared {leaks['words']} words in a "
        f"row with a dev or test text and {'was' if leaks['found'] == 1 else 'were'} removed; ",
        tag("span", f"{leaks['remaining']} remain", class_="warn" if leaks["remaining"] else None),
        ".",
    )


def _elsewhere(analysis: Analysis) -> Html | None:
    """What no check here can tell of bases that somebody else pretrained."""
    found = analysis.bases.loc[analysis.bases["pretrain_loss"].isna(), "base"]
    if found.empty:
        return None
    return paragraph(f"{NOT_CHECKED}: {', '.join(found)}.", class_="warn")


def _contents(counts: Mapping[str, Any]) -> Html:
    columns = [
        Column("File", lambda item: item[0], kind=""),
        Column("Train", lambda item: _split(item[1], "train"), "rows"),
        Column("Dev", lambda item: _split(item[1], "dev"), "rows"),
        Column("Test", lambda item: _split(item[1], "test"), "rows"),
        Column("Words", lambda item: numbers.short(_words(item[1]))),
    ]
    return table("What was made of it; pretraining documents have no splits", columns, counts.items())


def _split(count: Mapping[str, Any], split: str) -> str:
    """Rows of a split; documents for pretraining are all for training."""
    if split in count:
        return numbers.whole(count[split]["rows"])
    return numbers.whole(count.get("rows")) if split == "train" else numbers.MISSING


def _words(count: Mapping[str, Any]) -> int | None:
    """Words of all splits; rows in many languages are not counted in words."""
    splits = [count[split]["words"] for split in ("train", "dev", "test") if "words" in count.get(split, {})]
    return sum(map(sum, splits)) if splits else count.get("words")


def _packages(artefacts: list[Mapping[str, Any]]) -> Html:
    columns = [
        Column("Package", cell("name"), kind=""),
        Column("Version", cell("version"), kind=""),
        Column("Licence", cell("licence"), kind="text"),
        Column("Used for", lambda one: ", ".join(one["pools"]) or "grouping", kind=""),
        Column("Languages", lambda one: ", ".join(one["languages"]) or numbers.MISSING, kind=""),
        Column("Size", lambda one: numbers.size(one["bytes"])),
        Column("SHA-256", lambda one: tag("span", one["sha256"][:12], title=one["sha256"], class_="mono"), kind=""),
    ]
    return tag(
        "details",
        tag("summary", "Packages, licences and digests"),
        table("Packages", columns, artefacts),
        class_="spill",
    )


# ----------------------------------------------------------------------------------------------------------------- cost

KINDS = {"data": "Text and tokenizer", "base": "Pretraining", "rate": "Learning-rate search", "run": "Finetuning runs"}


def cost_section(analysis: Analysis, shown: Plotted) -> Section:
    """Where the hours went."""
    cost = analysis.cost
    kinds = [(KINDS.get(kind, kind), spent) for kind, spent in cost["kinds"].items()]
    total = {name: sum(spent[name] for _, spent in kinds) for name in ("steps", "seconds", "cpu_seconds", "flops")}
    columns = [
        Column("", lambda item: item[0], kind=""),
        Column("Steps", lambda item: numbers.whole(item[1]["steps"])),
        Column("Time", lambda item: numbers.duration(item[1]["seconds"] or None), "sum over steps"),
        Column("Processor", lambda item: numbers.significant(item[1]["cpu_seconds"] / 3600 or None, 2), "core-hours"),
        Column("Work", lambda item: numbers.significant(item[1]["flops"] or None, 2), "FLOPs"),
    ]
    body = join(
        table("What the study cost, as far as it was recorded", columns, [*kinds, ("All", total)]),
        paragraph(_wall(cost)),
    )
    return Section("cost", "What it cost", "Cost", body)


def _wall(cost: Mapping[str, Any]) -> str:
    """Time on the clock and memory, as far as they were measured."""
    said = f"The largest process took {numbers.size(cost['peak_memory_bytes'])} of memory"
    if cost["peak_memory_of_all_bytes"]:
        said += f", all together at most {numbers.size(cost['peak_memory_of_all_bytes'])}"
    if cost["wall_seconds"]:
        said += f"; on the clock the study took {numbers.duration(cost['wall_seconds'])} with "
        said += plural(cost["workers"], "worker")
    return f"{said}."


# ----------------------------------------------------------------------------------------------------------------- runs


def runs_section(analysis: Analysis, shown: Plotted) -> Section:
    """Runs kept out of the fit and why, how learning rates were found, and every run."""
    parts = [_excluded(analysis), _rates(analysis), _all_runs(analysis.runs, analysis.unit)]
    return Section("runs", "The runs", "Runs", join(parts))


def _excluded(analysis: Analysis) -> Html:
    flagged = analysis.runs[analysis.runs["flag"] != ""]
    heading = tag("h3", "Kept out of the fit")
    if flagged.empty and not analysis.fits.left_out:
        return join(heading, paragraph("No run was flagged; all entered the fit, but for those held out to test it."))
    findings = tag("ul", [tag("li", sentence) for sentence in analysis.fits.left_out], class_="note small soft")
    columns = [
        Column("Base", cell("base"), kind=""),
        Column("Method", cell("method"), kind=""),
        Column("Examples", lambda row: numbers.whole(row["examples"])),
        Column("Seed", lambda row: numbers.whole(row["seed"])),
        Column("Why", lambda row: WHY.get(row["flag"], row["flag"]), kind="text"),
        Column("Loss", lambda row: numbers.fixed(row["loss"]), analysis.unit),
        Column("Untouched", lambda row: numbers.fixed(row["zero_loss"]), analysis.unit),
        Column("Run", lambda row: tag("span", row["run"], class_="mono"), kind=""),
    ]
    which = "Flagged runs" if len(flagged) <= MOST_SHOWN else f"The first {MOST_SHOWN} of {len(flagged):,} flagged runs"
    listing = table(which, columns, rows_of(flagged.head(MOST_SHOWN))) if len(flagged) else None
    return join(heading, listing, findings)


WHY = {
    "diverged": "diverged: the loss was no longer a finite number",
    "did-not-learn": "did not learn: no check on the dev set beat the untouched base",
}


def _rates(analysis: Analysis) -> Html:
    heading = tag("h3", "Learning rates")
    if analysis.rates.empty:
        unsaid = "The table does not say how learning rates were found."
        made = "No search was made: every method was given its rate."
        return join(heading, paragraph(unsaid if analysis.table else made))
    columns = [
        Column("Method", cell("method"), kind=""),
        Column("Base", cell("base"), kind=""),
        Column("Examples", lambda row: numbers.whole(row["examples"])),
        Column("Rate", lambda row: numbers.short(row["learning_rate"])),
        Column("Dev loss", lambda row: numbers.fixed(row["dev_loss"]), "nats/token"),
        Column("", lambda row: "chosen" if row["chosen"] else row["flag"], kind=""),
    ]
    lead = paragraph("Each method's rate was searched on one base and one data size, by the dev set alone:")
    return join(
        heading, lead, table("Learning-rate search", columns, rows_of(analysis.rates), lambda row: row["chosen"])
    )


def _all_runs(runs: pd.DataFrame, unit_of_losses: str) -> Html:
    """A table that the page's script fills from the data block and sorts."""
    shown = [
        column for column in RUN_COLUMNS if column[0] in runs and (column[0] != "task" or runs["task"].nunique() > 1)
    ]
    headings = [
        tag("th", tag("button", title, type="button"), tag("small", unit) if unit else None, scope="col",
            data_column=name, data_digits=digits, class_="num" if pd.api.types.is_numeric_dtype(runs[name]) else None)
        for name, title, of, digits in shown
        for unit in [unit_of_losses if of == LOSS else of]
    ]  # fmt: skip
    made = tag("table", tag("thead", tag("tr", headings)), tag("tbody"), id="runs-table")
    button = tag("button", "Download these runs as CSV, all columns", type="button", id="runs-csv", class_="action")
    caption = f"All {plural(len(runs), 'run')}; a heading sorts"
    return join(tag("h3", "All runs"), _filter(len(runs)), framed(caption, made, "wide", tall=True), paragraph(button))


def _filter(runs: int) -> Html:
    """The field that the page's script filters by, what it understands, and how many runs are left."""
    hint = "Words in any column, or a column with a bound: method=lora examples>=1000 loss<4"
    field = tag("input", type="search", id="runs-filter", aria_describedby="runs-hint", autocomplete="off")
    label = tag("label", "Filter ", field)
    count = tag("span", f"{runs:,} of {runs:,} shown", id="runs-count", role="status", class_="soft")
    return tag("div", label, count, tag("p", hint, id="runs-hint", class_="axis"), class_="filter")


# ------------------------------------------------------------------------------------------------------------- versions


def versions_section(analysis: Analysis, shown: Plotted) -> Section:
    """What made this page."""
    return Section("made", "Made with", "Versions", facts(sorted(analysis.versions.items())))
