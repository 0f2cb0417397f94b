"""The page is one file that loads nothing, escapes everything, and shows the analysis's own numbers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from report_sample import HOSTILE, hostile_analysis, rival, sample_analysis, sample_runs, small_runs

from finescale.report import numbers
from finescale.report.answer import _calibrated
from finescale.report.figures import draw
from finescale.report.page import SECTIONS, page, write_page
from finescale.report.series import SERIES, plotted
from finescale.stats.advise import advise
from finescale.stats.checks import calibration
from finescale.stats.fit import fit
from finescale.stats.fits import laws_of
from finescale.stats.select import rank_tested
from finescale.study.analyse import Analysis
from finescale.study.rivals import with_rivals

VOID = {"meta", "br", "hr", "col", "input"}


class Document(HTMLParser):
    """A page as its elements with attributes, the text inside each element that has an id, and its scripts."""

    def __init__(self, markup: str, gap: str = "") -> None:
        """``gap`` goes between the cells of a table."""
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, str] = {}
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.visible = ""
        self.gap = gap
        self.plots: set[str] = set()
        self._open: list[tuple[str, dict[str, str]]] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.elements.append((tag, named))
        if tag == "script":
            self.scripts.append((named, ""))
        if tag not in VOID:
            self._open.append((tag, named))
        if named.get("role") == "img" or "panels" in named.get("class", "").split():
            self.plots |= {outer["id"] for name, outer in self._open if name == "section"}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag, f"</{tag}> closes nothing"
        if tag in ("td", "th"):
            self.handle_data(self.gap)

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
            return
        if not self._open or self._open[-1][0] != "style":
            self.visible += data
        for _, named in self._open:
            if "id" in named:
                self.texts[named["id"]] = self.texts.get(named["id"], "") + data

    def all(self, name: str) -> list[dict[str, str]]:
        """Attributes of every element of a name."""
        return [named for tag, named in self.elements if tag == name]


def data_of(document: Document) -> dict[str, Any]:
    """The data block."""
    return next(json.loads(text) for named, text in document.scripts if named.get("id") == "data")


def frame_of(table: dict[str, Any]) -> pd.DataFrame:
    """A table of the data block as the page's scripts read it."""
    cells = [
        [cell if levels is None else levels[cell] for cell, levels in zip(row, table["levels"], strict=True)]
        for row in table["rows"]
    ]
    return pd.DataFrame(cells, columns=table["columns"])


@pytest.fixture(scope="module")
def document(analysis: Analysis) -> Document:
    return Document(page(analysis))


def test_the_page_is_one_file_that_loads_nothing(analysis: Analysis, tmp_path: Path) -> None:
    path = write_page(analysis, tmp_path / "report" / "index.html")
    assert [found.name for found in path.parent.iterdir()] == ["index.html"]
    assert path.stat().st_size < 6_000_000
    read = Document(path.read_text(encoding="utf-8"))
    for _, named in read.elements:
        assert not {"src", "srcset", "action", "data", "poster", "background"} & named.keys()
        assert named.get("href", "#").startswith("#")
    assert not {"link", "iframe", "img", "object", "embed", "base", "form"} & {tag for tag, _ in read.elements}
    style = re.search(r"<style>(.*?)</style>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_only_the_packages_own_scripts_may_run_and_nothing_may_load(document: Document) -> None:
    policy = next(
        meta["content"] for meta in document.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    runnable = [text for named, text in document.scripts if named.get("type") != "application/json"]
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in runnable} == allowed
    assert sum("plotly.js v" in text[:200] for text in runnable) == 1


def test_every_section_is_there_and_every_link_leads_somewhere(analysis: Analysis, document: Document) -> None:
    ids = [named["id"] for _, named in document.elements if "id" in named]
    assert len(ids) == len(set(ids))
    made = [section(analysis, plotted(analysis)) for section in SECTIONS]
    assert [link["href"] for link in document.all("a")] == [f"#{section.name}" for section in made]
    assert {section.name for section in made} <= set(ids)
    assert all(section.title in document.texts[section.name] for section in made)
    assert document.all("html") == [{"lang": "en"}]
    assert "demo" in re.findall(r"<title>(.*?)</title>", page(analysis))[0]


def test_the_data_block_is_the_table_of_runs(analysis: Analysis, document: Document) -> None:
    runs = frame_of(data_of(document)["runs"])
    wanted = analysis.runs.astype(object).where(analysis.runs.notna(), None)
    assert_frame_equal(runs.astype(object).where(runs.notna(), None), wanted, check_dtype=False)


def test_held_out_marks_are_the_fits_held_out_runs(analysis: Analysis, document: Document) -> None:
    data = data_of(document)
    marked = frame_of(data["runs"])["run"][frame_of(data["marks"])["held_out"]]
    assert sorted(marked) == sorted(analysis.fits.held_out()["run"])
    assert len(marked) > 0


def test_curves_are_the_fits_forecasts(analysis: Analysis, document: Document) -> None:
    data = data_of(document)["curves"]
    curves = frame_of(data)
    assert curves.groupby(SERIES).ngroups == len(curves) == 12
    curves.insert(len(SERIES), "examples", [data["sizes"][task] for task in curves["task"]])
    curves = curves.explode(["examples", "median", "low", "high"], ignore_index=True).infer_objects()
    shown = plotted(analysis).curves
    assert_frame_equal(curves, shown[list(curves)], rtol=1e-5, check_dtype=False)
    again = analysis.fits.forecast(shown, kind="curve")
    assert_frame_equal(shown[["median", "low", "high", "reach"]], again, rtol=1e-12)


def test_the_scale_holds_every_run_that_learned(analysis: Analysis) -> None:
    shown = plotted(analysis)
    scale = shown.scale("mt-en-de")
    fine = shown.points[shown.points["flag"] == ""]
    assert fine["loss"].between(*scale.loss).all()
    assert fine["examples"].between(*scale.examples).all()
    assert set(scale.ticks) <= set(fine["examples"])


def test_the_answer_is_the_advices_own_words_and_numbers(analysis: Analysis) -> None:
    said = Document(page(analysis), gap=" ").texts["answer"]
    for advice in analysis.advice:
        assert advice.sentence in said
        for _, row in advice.table.nlargest(1, "p_best").iterrows():
            assert f"{row['median']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in said
    tables = pd.concat([advice.table for advice in analysis.advice])
    allowed = " ".join(
        [
            *(advice.sentence for advice in analysis.advice),
            *(f"{number:.3f}" for number in tables[["median", "low", "high"]].to_numpy().ravel()),
            *(f"{size:,}" for size in tables["examples"]),
            *(numbers.probability(share) for share in tables["p_best"]),
            *analysis.runs["base"],
            "4 less likely ones left out",
            *(f"{n:.0f}" for n in calibration(analysis.fits, [analysis.level])[["runs", "inside"]].iloc[0]),
            *analysis.crossings["verdict"],
            f"{analysis.runs.loc[analysis.runs['examples'] == 4000, 'loss'].min():.3f}",
        ]
    )
    known = set(re.findall(r"\d[\d,.]*\d|\d", allowed))
    assert set(re.findall(r"\d[\d,.]*\d|\d", said)) <= known


def test_the_best_run_seen_and_an_unsound_fit_stand_beside_the_answer(analysis: Analysis) -> None:
    asked = analysis.advice[0].table[["task", "method", "base", "model_params", "pretrain_tokens", "examples"]]
    prompt = advise(analysis.final, asked[asked["method"] == "prompt"])
    said = Document(page(replace(analysis, advice=[prompt]))).texts["answer"]
    seen = analysis.runs[analysis.runs["examples"] == 4000].nsmallest(1, "loss").iloc[0]
    assert f"{seen['loss']:.3f} nats per token: {seen['method']} on base {seen['base']}" in said
    unsound = analysis.final.find(**prompt.best).status
    assert unsound.name == "Unidentified"
    assert unsound.sentence in said


def test_calibration_prices_and_the_crossing_stand_beside_the_answer(analysis: Analysis) -> None:
    row = calibration(analysis.fits, [analysis.level]).iloc[0]
    advice = analysis.advice[0]
    text = Document(page(replace(analysis, prices={"label": 0.5}))).texts["answer"]
    assert f"Of {row['runs']:.0f} losses held out of the fit, the 90% intervals held {row['inside']:.0f}" in text
    assert f"examples cost {advice.best['examples'] / 2:,.0f} USD" in text
    assert "USD" not in Document(page(analysis)).texts["answer"], "no price is made up"
    other = {**advice.best, "method": "lora" if advice.best["method"] == "full" else "full"}
    turned = Document(page(replace(analysis, advice=[replace(advice, runner_up=other)]))).texts["answer"]
    here = analysis.crossings
    here = here[(here["base"] == other["base"]) & here["a"].isin(["full", "lora"]) & here["b"].isin(["full", "lora"])]
    assert f"What would change the answer: {here['verdict'].iloc[0].rstrip('.')}" in turned


@pytest.mark.parametrize(("actual", "said"), [(0.3, "too narrow"), (0.9, "as many as chance"), (1.0, "wider than")])
def test_how_calibration_is_put_in_words(actual: float, said: str) -> None:
    assert said in _calibrated(pd.Series({"actual": actual, "low": 0.8, "high": 0.95}))


def test_bases_made_elsewhere_are_not_said_to_be_checked(analysis: Analysis) -> None:
    assert "not known whether they have read" not in Document(page(analysis)).visible
    bases = analysis.bases.assign(pretrain_loss=np.nan, branch_share=np.nan)
    read = Document(page(replace(analysis, bases=bases)))
    assert "annealed" not in read.texts["bases"]
    assert f"not known whether they have read dev or test texts: {bases['base'].iloc[0]}" in read.texts["text"]


def test_a_refusal_is_said_and_marked(analysis: Analysis) -> None:
    far = analysis.advice[0].table[["task", "method", "base", "model_params", "pretrain_tokens", "pet_size"]]
    refused = advise(analysis.final, far.assign(examples=10**9))
    assert refused.refused
    markup = page(replace(analysis, advice=[refused]))
    assert 'class="lead refusal"' in markup
    assert refused.sentence in Document(markup).texts["answer"]


def test_parameters_held_out_errors_and_crossings_are_the_fits_own(analysis: Analysis, document: Document) -> None:
    for _, row in analysis.final.table().iterrows():
        assert numbers.significant(row["estimate"]) in document.texts["law"]
        assert f"[{numbers.significant(row['low'])}, {numbers.significant(row['high'])}]" in document.texts["law"]
    for status in analysis.final.status.values():
        assert status.sentence in document.texts["law"]
    held = analysis.fits.held_out()
    for _, row in held.iterrows():
        shown = f"{row['observed']:.3f}{row['median']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        assert shown in document.texts["held-out"]
    inside = int(held["observed"].between(held["low"], held["high"]).sum())
    assert f"{inside} of {len(held)} losses lie inside" in document.texts["held-out"]
    for verdict in analysis.crossings["verdict"]:
        assert verdict in document.texts["crossings"]


def test_provenance_cost_and_excluded_runs_are_shown(analysis: Analysis, document: Document) -> None:
    for artefact in analysis.provenance["artefacts"]:
        assert artefact["name"] in document.texts["text"]
        assert any(named.get("title") == artefact["sha256"] for _, named in document.elements)
    assert "703 paragraphs" in document.texts["text"]
    assert "0 remain" in document.texts["text"]
    assert "1.31 GB" in document.texts["cost"]
    for _, run in analysis.runs[analysis.runs["flag"] != ""].iterrows():
        assert run["run"] in document.texts["runs"]
    assert "diverged" in document.texts["runs"]


def test_hostile_names_are_only_text(analysis: Analysis) -> None:
    attacked, calm = Document(page(hostile_analysis())), Document(page(analysis))
    assert {tag for tag, _ in attacked.elements} == {tag for tag, _ in calm.elements}
    assert len(attacked.scripts) == len(calm.scripts)
    assert not [name for _, named in attacked.elements for name in named if name.startswith("on")]
    for text in HOSTILE:
        assert text in attacked.visible
    assert HOSTILE[0] in frame_of(data_of(attacked)["runs"])["task"].to_list()


def test_the_page_of_an_analysis_with_little_in_it(analysis: Analysis) -> None:
    alone = analysis.runs[analysis.runs["method"] == "full"].reset_index(drop=True)
    bare = sample_analysis(alone, advice=[], provenance={})
    bare = replace(bare, rates=bare.rates.iloc[:0], fits=bare.final)
    read = Document(page(bare))
    assert "No advice was asked" in read.texts["answer"]
    assert "Nothing was held out" in read.texts["held-out"]
    assert "nothing to compare" in read.texts["crossings"]
    assert "no provenance" in read.texts["text"]
    assert "No search was made" in read.texts["runs"]


def test_a_method_that_could_not_be_fitted_has_points_but_no_curve() -> None:
    runs = sample_runs(seeds=(0,))
    thin = runs[(runs["method"] != "prompt") | (runs["examples"] == 250)].reset_index(drop=True)
    analysis = sample_analysis(thin)
    shown = plotted(analysis)
    assert "prompt" in set(shown.points["method_label"])
    assert "prompt" not in set(shown.curves["method_label"])
    assert "TooFew" in Document(page(analysis)).texts["law"]


def test_rival_laws_stand_beside_the_law_on_the_same_runs(analysis: Analysis) -> None:
    others = rival(analysis.runs)
    said = Document(page(replace(analysis, others=others))).texts["held-out"]
    for law in (analysis.fits, others["additive"]):
        held = law.held_out()
        errors = [numbers.percent(part["relative_error"].mean(), 1) for _, part in held.groupby("method", sort=False)]
        assert "".join(errors) in said
    ranked, verdict = rank_tested({analysis.fits.law: analysis.fits, **others})
    assert verdict in said
    for row in ranked.to_dict("records"):
        assert f"{row['law']}{numbers.percent(row['error'], 2)}" in said
        held = {analysis.fits.law: analysis.fits, **others}[row["law"]].held_out()
        assert row["error"] == pytest.approx(held["relative_error"].mean())
        assert row["forecasts"] == len(held)


def test_every_other_law_of_the_factors_is_tested_once(small: Analysis) -> None:
    found = with_rivals(small)
    assert set(found.others) == set(laws_of(1)) - {small.fits.law}
    for fits in found.others.values():
        assert set(fits.held_out()["run"]) <= set(small.fits.held_out()["run"])
    assert with_rivals(found) is found
    untested = replace(small, fits=small.final)
    assert with_rivals(untested) is untested


def test_a_study_of_one_run_and_one_whose_method_never_learned_have_pages() -> None:
    runs = small_runs()
    one = runs[runs["method"] == "full"].head(1).reset_index(drop=True)
    idle = runs["method"] == "prompt"
    flagged = runs.assign(flag=["did-not-learn" if never else "" for never in idle])
    learned = sample_analysis(runs[~idle].reset_index(drop=True))
    for analysis in (sample_analysis(one), replace(learned, runs=flagged)):
        assert len(frame_of(data_of(Document(page(analysis)))["runs"])) == len(analysis.runs)
        assert len(draw(plotted(analysis), "mt-en-de").axes) == analysis.runs["base"].nunique()


def test_a_forecaster_without_a_formula_has_its_page_too(small: Analysis) -> None:
    auto = fit(small.runs, "auto", "model_params", ["task", "method"])
    said = Document(page(replace(small, final=auto))).texts["law"]
    assert "no single formula" in said
    for name in auto.table()["meaning"].unique():
        assert name in said


def test_two_tasks_are_two_figures(two_tasks: Analysis) -> None:
    read = Document(page(two_tasks))
    tasks = [named["data-task"] for named in read.all("figure") if "multiples" in named.get("class", "")]
    assert tasks == ["mt-en-de", "../Summaries in French"]


def test_pet_sizes_and_pretraining_sizes_are_told_apart(analysis: Analysis) -> None:
    runs = analysis.runs.copy()
    runs.loc[(runs["method"] == "lora") & (runs["seed"] == 1), "pet_size"] = 32
    runs.loc[runs["seed"] == 1, "pretrain_tokens"] = 5_000_000
    unaware = fit(runs.drop(columns="pretrain_tokens"), "multiplicative", "model_params", ["task", "method"], draws=20)
    shown = plotted(replace(analysis, runs=runs, fits=unaware))
    assert shown.methods == ["full", "lora 8", "lora 32", "prompt"]
    assert "xs@2.5M, 5M tokens" in shown.bases


def test_the_same_runs_give_the_same_page(small: Analysis) -> None:
    assert page(sample_analysis(small_runs())) == page(small)
