"""Every section of the page that has a plot names its figure for papers and its CSV, and both are written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_sample import sample_analysis, small_runs
from test_report_page import Document

from finescale.report.beyond_figures import kept_figure, pet_figure, quality_against_loss
from finescale.report.correlated import STRONG, correlation_table
from finescale.report.drawing import Drawing
from finescale.report.figures import drawings, figures
from finescale.report.page import page
from finescale.report.quality import pet_slopes
from finescale.report.series import plotted
from finescale.report.what_if_figures import what_if_figure
from finescale.study.analyse import Analysis

PLOTTED = {"what-if", "loss", "law", "residuals", "held-out", "crossings", "quality", "kept", "pet-size", "cost"}


@pytest.fixture(scope="module")
def full() -> Analysis:
    """A study with a table for every section: metrics, probes, two PET sizes."""
    runs = small_runs()
    runs["chrf"] = 60 - 8 * runs["loss"]
    twice = runs[runs["method"] == "prompt"].assign(method="prompt-40", pet_size=40.0, pet_params=1280)
    twice["run"] = twice["run"] + "-40"
    runs = pd.concat([runs.replace({"method": {"prompt": "prompt-20"}}), twice], ignore_index=True)
    probes = runs.assign(probe="text:en", metric="nll", value=runs["loss"] + 0.1, zero_value=runs["zero_loss"])
    return replace(sample_analysis(runs), probes=probes)


@pytest.mark.slow
def test_sections_with_plots_name_figures_that_are_written(
    full: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finescale.report.drawing.FORMATS", ("svg",))
    written = {str(path.relative_to(tmp_path)) for path in figures(full, tmp_path / "figures")}
    read = Document(page(full, "figures"))
    with_plots = {section for section in read.plots if section}
    assert with_plots <= PLOTTED
    named: set[str] = set()
    for section in sorted(PLOTTED):
        found = set(re.findall(r"figures/[\w-]+(?=\.(?:pdf|csv))", read.texts[section]))
        assert found, f"{section} names no figure"
        for name in found:
            assert {f"{name}.csv", f"{name}.svg"} <= written
            assert f"{name}.csv" in read.texts[section]
        named |= found
    assert {f"{name}.{kind}" for name in named for kind in ("svg", "csv")} == written
    for name in named:
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) > 0
    assert "figures/" not in Document(page(full)).texts["cost"]


def one(found: list[Drawing]) -> pd.DataFrame:
    (drawing,) = found
    return drawing.numbers()


def test_numbers_beside_the_figures_are_the_analysis(full: Analysis) -> None:
    shown = plotted(full)
    quality = one(quality_against_loss(shown))
    assert np.allclose(quality["value"], 60 - 8 * quality["loss"])
    assert set(quality["run"]) == set(full.runs.loc[full.runs["flag"] == "", "run"])
    pet = one(pet_figure(full, shown.level))
    assert pet.equals(pet_slopes(full.runs, shown.level))
    kept = one(kept_figure(full, shown.level))
    assert set(kept["metric"]) == {"nll"}
    table = one(what_if_figure(full))
    candidates = table[table["kind"] == "candidate"]
    assert candidates["p_best"].sum() == pytest.approx(1)
    most = full.runs["examples"].max()
    assert set(candidates["examples"]) == {most}
    curve = table[(table["kind"] == "curve") & (table["method"] == "full")]
    assert curve["examples"].max() == pytest.approx(4 * most)


def test_every_drawing_belongs_to_a_section(full: Analysis) -> None:
    found = drawings(full, plotted(full))
    assert {drawing.section for drawing in found} == PLOTTED
    assert len({drawing.name for drawing in found}) == len(found)


def test_correlations_are_those_of_the_draws_and_strong_ones_are_said(analysis: Analysis) -> None:
    fits = analysis.final
    table = correlation_table(fits)
    for fit in fits.groups:
        own = table[table["method"] == fit.group.key["method"]]
        names = [p.name for p in fit.member.law.parameters(fit.member.factors[:-1])]
        assert len(own) == len(names) * (len(names) - 1) / 2
        draws = np.column_stack([fit.member.draws_theta, np.log(np.maximum(fit.member.draws_coef, 1e-12))])
        wanted = np.corrcoef(draws[:, names.index(own["first"].iloc[0])], draws[:, names.index(own["second"].iloc[0])])
        assert own["r"].iloc[0] == pytest.approx(wanted[0, 1], nan_ok=True)
    said = Document(page(analysis)).texts["law"]
    strong = table[table["judged"] & (table["r"].abs() > STRONG)]
    assert len(strong)
    for row in strong.to_dict("records"):
        r = f"{row['r']:.2f}".replace("-", "−")
        assert f"{row['first']} and {row['second']} (r = {r})" in said
