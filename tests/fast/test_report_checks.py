"""Residuals and calibration: the fit's own, showing what a wrong law misses, blank where nothing was fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_sample import sample_analysis, sample_runs, small_runs
from scipy.stats import binom
from test_report_page import Document, data_of, frame_of

from finescale.report import numbers
from finescale.report.checks import factors_of, fitted_points
from finescale.report.checks_figures import calibration_figure, residuals
from finescale.report.drawing import write
from finescale.report.page import page
from finescale.report.series import plotted
from finescale.stats.checks import LEVELS, calibration, fitted_losses
from finescale.stats.fit import fit
from finescale.study.analyse import Analysis


def test_fitted_losses_are_the_medians_of_the_curves(analysis: Analysis) -> None:
    fitted = fitted_losses(analysis.fits, analysis.runs)
    again = analysis.fits.forecast(analysis.runs, kind="curve")["median"]
    np.testing.assert_allclose(fitted, again, rtol=1e-12)


def test_a_right_law_leaves_the_noise_over_and_a_wrong_one_a_pattern(analysis: Analysis) -> None:
    learned = analysis.runs["flag"] == ""
    left = np.log(analysis.runs["loss"] / fitted_losses(analysis.final, analysis.runs))[learned]
    assert left.std() == pytest.approx(0.006, rel=0.25)
    flat = fit(analysis.runs.drop(columns=["model_params"]), "constant", None, ["task", "method"], draws=20)
    runs = analysis.runs[learned & (analysis.runs["method"] == "full")]
    bent = np.log(runs["loss"] / fitted_losses(flat, runs))
    assert np.corrcoef(bent, np.log(runs["examples"]))[0, 1] < -0.7


def test_what_was_not_fitted_has_no_residual() -> None:
    runs = sample_runs(seeds=(0,))
    thin = runs[(runs["method"] != "prompt") | (runs["examples"] == 250)].reset_index(drop=True)
    fits = fit(thin, "multiplicative", "model_params", ["task", "method"], draws=20)
    fitted = fitted_losses(fits, thin.assign(model_params=thin["model_params"].astype(float).where(thin.index != 0)))
    assert np.isnan(fitted[thin["method"] == "prompt"]).all()
    assert np.isnan(fitted[0])
    assert np.isfinite(fitted[1:][(thin["method"] != "prompt")[1:]]).all()
    nothing = fit(thin.head(1), "multiplicative", "model_params", ["task", "method"], draws=20)
    assert np.isnan(fitted_losses(nothing, thin)).all()


def test_calibration_counts_what_held_out_intervals_hold(analysis: Analysis) -> None:
    tested = calibration(analysis.fits)
    assert tested["level"].to_list() == list(LEVELS)
    for _, row in tested.iterrows():
        held = analysis.fits.held_out(row["level"])
        assert row["inside"] == held["observed"].between(held["low"], held["high"]).sum()
        assert row["runs"] == len(held)
        chance = binom.cdf(row["high"] * row["runs"], row["runs"], row["level"])
        chance -= binom.cdf(row["low"] * row["runs"] - 1, row["runs"], row["level"])
        assert 0.9 <= chance < 0.97 or row["high"] == 1
    assert calibration(analysis.final).empty


def test_the_page_shows_both_with_their_numbers(analysis: Analysis) -> None:
    read = Document(page(analysis), gap=" ")
    data = data_of(read)
    points = plotted(analysis).points
    shown = frame_of(data["marks"])["residual"].astype(float)
    np.testing.assert_allclose(shown, points["residual"])
    assert shown.isna().to_list() == (analysis.runs["flag"] != "").to_list()
    panels = [named["data-factor"] for _, named in read.elements if "data-factor" in named]
    assert panels == ["examples", "model_params", "pet_params"] == factors_of(points)
    level = points[(points["method"] == "full") & (points["examples"] == 250)]["residual"].mean()
    assert f"full Finetuning examples 250 {numbers.percent(level, 2)}" in read.texts["residuals"]
    tested = calibration(analysis.fits)
    assert data["calibration"]["inside"] == tested["inside"].to_list()
    half = tested[tested["level"] == 0.5].iloc[0]
    assert f"{numbers.percent(half['low'])} to {numbers.percent(half['high'])}" in read.texts["held-out"]


def test_nothing_fitted_and_nothing_held_out_are_said(small: Analysis, tmp_path: Path) -> None:
    alone = small_runs().head(1)
    nothing = sample_analysis(alone)
    assert "nothing to be left over" in Document(page(nothing)).texts["residuals"]
    assert residuals(plotted(nothing)) == []
    whole = replace(small, fits=small.final)
    read = Document(page(whole))
    assert "calibration-plot" not in read.texts
    assert calibration_figure(calibration(whole.fits)) == []


def test_figures_hold_the_same_numbers(analysis: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finescale.report.drawing.FORMATS", ("svg",))
    shown = plotted(analysis)
    table = pd.read_csv(write(residuals(shown), tmp_path)[-1])
    np.testing.assert_allclose(table["residual"], fitted_points(shown)["residual"])
    np.testing.assert_allclose(table["loss"] / table["fitted_loss"] - 1, table["residual"])
    again = pd.read_csv(write(calibration_figure(calibration(analysis.fits)), tmp_path)[-1])
    np.testing.assert_allclose(again["actual"], calibration(analysis.fits)["actual"])
