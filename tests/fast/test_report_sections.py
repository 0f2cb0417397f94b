"""Sections beyond the loss: quality, abilities, PET size, calibration, checklist; each says so where it has no data."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_sample import sample_runs
from study_toy import WORK, toy_study
from test_report_page import Document

from finescale.report import numbers
from finescale.report.checklist import UNKNOWN, checklist
from finescale.report.page import page
from finescale.report.quality import pet_slopes
from finescale.report.series import MOST_DOTS, plotted
from finescale.stats.ability import ability_table, read_probes
from finescale.stats.claims import claims
from finescale.stats.correlate import correlations
from finescale.stats.slices import cut
from finescale.study.analyse import CLAIMS, Analysis, analyse
from finescale.study.run import run


def with_sizes(slope: float, noise: float = 1e-4) -> pd.DataFrame:
    """Runs of lora at three ranks, whose loss moves by ``slope`` per doubling of the rank."""
    rng = np.random.default_rng(3)
    runs = sample_runs()
    runs = runs[(runs["method"] == "lora") & (runs["flag"] == "")]
    sizes = [
        runs.assign(pet_size=8 * 2**step, method=f"lora-{8 * 2**step}", loss=runs["loss"] + slope * step).assign(
            run=runs["run"] + f"-r{step}"
        )
        for step in range(3)
    ]
    whole = pd.concat(sizes, ignore_index=True)
    return whole.assign(loss=whole["loss"] + noise * rng.standard_normal(len(whole)))


@pytest.mark.parametrize(("slope", "verdict"), [(0.0, "under 1%"), (-0.2, "over 1%"), (0.003, "under 1%")])
def test_the_slope_in_pet_size_is_recovered(slope: float, verdict: str) -> None:
    found = pet_slopes(with_sizes(slope))
    assert len(found) == 1
    row = found.iloc[0]
    assert (row["method"], row["sizes"], row["verdict"]) == ("lora", "8, 16, 32", verdict)
    assert row["slope"] == pytest.approx(slope, abs=2e-4)
    assert row["low"] <= row["slope"] <= row["high"]


def test_one_place_gives_no_verdict_and_one_size_no_row() -> None:
    runs = with_sizes(-0.2)
    alone = runs[(runs["base"] == runs["base"].iloc[0]) & (runs["examples"] == 1000) & (runs["seed"] == 1)]
    assert list(pet_slopes(alone)["verdict"]) == ["undecided"]
    assert pet_slopes(runs[runs["pet_size"] == 8]).empty
    assert pet_slopes(runs.iloc[:0]).empty


def test_correlations_on_the_page_are_those_of_the_statistics(analysis: Analysis) -> None:
    noise = np.random.default_rng(1).standard_normal(len(analysis.runs))
    runs = analysis.runs.assign(chrf=60 - 8 * analysis.runs["loss"] + 0.2 * noise)
    said = Document(page(replace(analysis, runs=runs)), gap=" ").texts["quality"]
    found = correlations(cut(runs[runs["flag"] == ""]), 0.9)
    assert len(found) > 2
    for _, row in found.iterrows():
        assert numbers.fixed(row["value"], 2) in said


def test_abilities_on_the_page_are_those_of_the_statistics(analysis: Analysis) -> None:
    runs = analysis.runs[analysis.runs["flag"] == ""]
    probes = runs.assign(probe="zero-shot:<b>de-en", metric="chrf", value=20 - runs["loss"], zero_value=14.0)
    said = Document(page(replace(analysis, probes=probes)), gap=" ").texts["kept"]
    means = ability_table(read_probes(probes))
    for _, row in means[means["examples"] == 4000].iterrows():
        change = f"{numbers.fixed(row['kept'])} [{numbers.fixed(row['low'])}, {numbers.fixed(row['high'])}]"
        assert change in said


def test_what_was_not_measured_is_said(analysis: Analysis) -> None:
    read = Document(page(replace(analysis, provenance={}, versions={})))
    assert "No generation metric was scored" in read.texts["quality"]
    assert "No probe was asked" in read.texts["kept"]
    assert "not tested" in read.texts["pet-size"]
    answers = dict(checklist(replace(analysis, provenance={}, versions={}))["Training set-up"])
    assert answers["Data"] is None
    assert answers["Versions"] is None
    assert read.texts["checklist"].count(UNKNOWN) >= 2


def test_claims_on_file_are_shown_until_a_run_comes(tmp_path: Path) -> None:
    study = toy_study(tmp_path / "study")
    run(study, workers=2, function=WORK)
    first = analyse(study)
    assert "have not been judged" in Document(page(first)).texts["claims"]
    judged = claims(first.runs, draws=20)
    file = study.folder / CLAIMS
    file.parent.mkdir(parents=True)
    judged.table.to_csv(file, index=False)
    found = analyse(study)
    said = Document(page(found), gap=" ").texts["claims"]
    for claim in judged.claims:
        assert f"{claim.name} {claim.overall.verdict}" in said
        assert claim.overall.sentence in said
    os.utime(study.folder / "runs", (file.stat().st_mtime + 5,) * 2)
    assert analyse(study).claims is None
    file.write_text("not,claims\n1,2\n")
    os.utime(study.folder / "runs", (0, 0))
    assert analyse(study).claims is None


def test_calibration_counts_the_held_out_losses_inside(analysis: Analysis) -> None:
    said = Document(page(analysis), gap=" ").texts["held-out"]
    for level in (0.5, 0.8, 0.9, 0.95):
        held = analysis.fits.held_out(level)
        inside = int(held["observed"].between(held["low"], held["high"]).sum())
        assert f"{numbers.percent(level)} {numbers.percent(inside / len(held))} {inside} of {len(held)}" in said


def test_the_checklist_counts_what_is_there(analysis: Analysis) -> None:
    blocks = checklist(analysis)
    assert list(blocks) == ["Hypothesis", "Training set-up", "Data collection", "Fitting"]
    collected = dict(blocks["Data collection"])
    assert collected["Points"] == "120 runs at 60 settings, 2 a setting (seeds)"
    assert "1 run diverged" in (collected["Dropped"] or "")
    assert "A·X^-alpha·D^-beta" in (dict(blocks["Hypothesis"])["Form"] or "")
    held = len(analysis.fits.held_out())
    assert f"{held} runs held out" in (dict(blocks["Fitting"])["Validation"] or "")


def test_many_runs_are_drawn_evenly_and_few_all(analysis: Analysis) -> None:
    assert plotted(analysis).points["drawn"].all()
    many = pd.concat([analysis.runs] * 50, ignore_index=True)
    many = many.assign(run=many["run"] + many.index.astype(str))
    shown = plotted(replace(analysis, runs=many))
    assert 0.5 * MOST_DOTS < shown.points["drawn"].sum() <= MOST_DOTS
    assert set(shown.points.loc[shown.points["drawn"], "base"]) == set(many["base"])
