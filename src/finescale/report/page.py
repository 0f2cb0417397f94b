"""One self-contained HTML page out of an ``Analysis``: opens from disk, asks the network for nothing.

The page is a list of sections, each a function of the analysis and the tables its figures plot. All data stands once,
in a JSON block that the page's scripts read; the scripts are allowed by their digests, so that nothing else on the page
can run or load.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from plotly.offline import get_plotlyjs

from finescale import __version__
from finescale.report import aside, looks
from finescale.report.along import along_data
from finescale.report.answer import head
from finescale.report.calculator import calculator_data, calculator_section
from finescale.report.checklist import checklist_section
from finescale.report.checks import calibration_data, residuals_section
from finescale.report.claims import claims_section
from finescale.report.crossings import crossings_section
from finescale.report.heldout import held_out_section
from finescale.report.law import law_section
from finescale.report.losses import loss_section
from finescale.report.markup import Html, join, json_block, raw, tag
from finescale.report.material import bases_section, cost_section, runs_section, text_section, versions_section
from finescale.report.packing import columnar, six_digits
from finescale.report.quality import kept_section, pet_section, quality_section
from finescale.report.section import Section
from finescale.report.series import SERIES, Plotted, plotted
from finescale.report.versus import versus_data
from finescale.stats.advise import spoken_unit

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

SECTIONS: tuple[Callable[[Analysis, Plotted], Section], ...] = (
    calculator_section,
    loss_section,
    law_section,
    residuals_section,
    held_out_section,
    crossings_section,
    quality_section,
    kept_section,
    pet_section,
    claims_section,
    bases_section,
    text_section,
    cost_section,
    runs_section,
    checklist_section,
    versions_section,
)
OF_STUDIES = frozenset({kept_section, claims_section, bases_section, text_section, cost_section})
"""Sections about what only a study knows; a page of somebody's table leaves them out, and says so."""
DRAWN_CURVE = ["median", "low", "high"]
SCRIPTS = (
    ("rows.js", "figures.js", "laws.js", "calculator.js", "versus.js", "checks.js", "along.js"),
    ("rows.js", "runs.js"),
)
"""Files that are one script share their names; scripts share nothing."""


def write_page(analysis: Analysis, path: Path) -> Path:
    """Write the page of ``analysis`` to ``path`` (aside first, then renamed) and return the path."""
    return aside.write_text(path, page(analysis, folder_of(path).name))


def folder_of(path: Path) -> Path:
    """The folder of a page's figures, beside it: ``figures`` of index.html, ``NAME-figures`` of others."""
    return path.parent / ("figures" if path.name == "index.html" else f"{path.stem}-figures")


def page(analysis: Analysis, figures: str | None = None) -> str:
    """The page of ``analysis`` as HTML.

    Args:
        figures: name of the folder with the figures for papers, which the page names; None if there is none.
    """
    shown = plotted(analysis)
    papers = _papers(analysis, shown, figures) if figures else {}
    chosen = [section for section in SECTIONS if not (analysis.table and section in OF_STUDIES)]
    sections = [section(analysis, shown) for section in chosen]
    scripts = [raw(get_plotlyjs()), *(_scoped("".join(map(_asset, names))) for names in SCRIPTS)]
    body = join(
        tag(
            "main",
            head(analysis),
            _contents(sections),
            [section.html(papers.get(section.name, [])) for section in sections],
            _footer(),
            class_="page",
        ),
        json_block("data", payload(analysis, shown)),
        (tag("script", script) for script in scripts),
    )
    return "<!doctype html>\n" + tag("html", _head(analysis, scripts), tag("body", body), lang="en") + "\n"


def payload(analysis: Analysis, shown: Plotted) -> dict[str, Any]:
    """What the page's scripts read: the table of runs as it is, what the figures add to it, and the looks of series.

    Tables are ``columnar``; ``marks`` has one row per run, in the order of ``runs``.
    """
    return {
        "unit": spoken_unit(analysis.final),
        "runs": columnar(analysis.runs),
        "marks": columnar(shown.points[["method_label", "base_label", "held_out", "drawn", "residual"]]),
        "curves": _curves(shown.curves),
        "untouched": columnar(shown.untouched),
        "along": along_data(shown),
        "commands": commands(analysis),
        "scales": {task: asdict(shown.scale(task)) for task in shown.tasks()},
        "what_if": calculator_data(analysis),
        "calibration": calibration_data(analysis),
        "versus": versus_data(analysis),
        "names": {"method": shown.methods, "base": shown.bases},
        "styles": {
            "method": looks.as_json(looks.of_kinds(shown.methods)),
            "base": looks.as_json(looks.of_sizes(shown.bases)),
        },
    }


def _curves(curves: pd.DataFrame) -> dict[str, Any]:
    """A row per curve; the numbers of examples stand once for all curves of a task."""
    series = curves.groupby(SERIES, sort=False)
    rows = [[*key, *(six_digits(part[name]) for name in DRAWN_CURVE)] for key, part in series]
    sizes = {task: six_digits(part["examples"].unique()) for task, part in curves.groupby("task", sort=False)}
    return {"sizes": sizes, **columnar(pd.DataFrame(rows, columns=[*SERIES, *DRAWN_CURVE]))}


def commands(analysis: Analysis) -> str | None:
    """What stands before the id of a run in the command that makes it; None where no study made the runs."""
    return None if analysis.table else f"finescale run {shlex.quote(analysis.name)} --only "


def _head(analysis: Analysis, scripts: list[Html]) -> Html:
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{analysis.name} – finescale"),
        tag("style", raw(_asset("page.css"))),
    )


def _contents(sections: list[Section]) -> Html:
    return tag("nav", [tag("a", section.short, href=f"#{section.name}") for section in sections], aria_label="Sections")


def _footer() -> Html:
    return tag("footer", f"Made by finescale {__version__}. This page is one file; it needs no network.")


def _papers(analysis: Analysis, shown: Plotted, folder: str) -> dict[str, list[str]]:
    """Files of the figures of each section, without their endings."""
    from finescale.report.figures import drawings

    found: dict[str, list[str]] = {}
    for one in drawings(analysis, shown):
        found.setdefault(one.section, []).append(f"{folder}/{one.name}")
    return found


def _scoped(source: str) -> Html:
    """A script whose names are its own."""
    return raw(f"(() => {{\n{source}}})();")


def _digest(script: Html) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return files("finescale.report").joinpath("assets", name).read_text(encoding="utf-8")
