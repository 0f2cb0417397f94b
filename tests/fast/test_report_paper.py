"""Tables and figures after the paper: what the runs allow is written, what they do not is said with its reason."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from paper_world import SMALL, Truth, simulate
from study_toy import TOML, WORK, toy_study

import finescale as fs
from finescale.cli import call
from finescale.report.latex import cell, escape, latex, number
from finescale.report.paper import Written
from finescale.report.paper_figures import draw
from finescale.report.paper_series import COLUMNS, SPAN, every, joint, probed, single
from finescale.report.paper_tables import critical_sizes, parameters
from finescale.stats.claims import gather
from finescale.stats.critical import crossing_of, located
from finescale.stats.runs import Runs
from finescale.study import lock
from finescale.study.run import run

TASK = ("wmt14-en-de",)


def runs() -> pd.DataFrame:
    """Two methods on the small grid, with a generation metric tied to the loss."""
    frame = simulate(SMALL, 0, tasks=TASK).frame.query("method != 'lora'")
    noise = np.random.default_rng(0).standard_normal(len(frame))
    return frame.assign(bleu=50 - 20 * frame["loss"] + 0.1 * noise, zero_bleu=1.0, pet_params=1e4)


def probes(frame: pd.DataFrame) -> pd.DataFrame:
    rise = frame["method"].map({"full": 0.2, "prompt": 0.05}) * (frame["examples"] / 1e4) ** 0.3
    parts = [
        frame.assign(probe=probe, metric="nll", zero_value=3.0, value=3.0 + rise)
        for probe in ("fr-de", "fr-de@1", "fr-de@5", "text:de")
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same runs and probes as files."""
    folder = tmp_path_factory.mktemp("runs")
    frame = runs().query("seed == 0")
    frame.to_csv(folder / "runs.csv", index=False)
    probes(frame).to_parquet(folder / "probes.parquet")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    frame = runs().drop(columns=["bleu", "zero_bleu"])
    return fs.tables(Runs(frame, ()), tmp_path_factory.mktemp("paper"), draws=20)


@pytest.mark.slow
def test_everything_the_runs_allow_is_written_in_every_format(tmp_path: Path) -> None:
    frame = runs()
    bases = frame[["model_params", "pretrain_tokens"]].drop_duplicates()
    tokens = bases["pretrain_tokens"] / 1e9
    bases = bases.assign(pretrain_loss=2 + 20 * bases["model_params"] ** -0.1 * tokens**-0.2)
    done = fs.tables(Runs(frame, ()), tmp_path, probes(frame), bases, draws=40)
    assert not done.missing
    names = {path.stem for path in done.files}
    assert {f"figure-{number}" for number in range(1, 15)} <= {"-".join(name.split("-")[:2]) for name in names}
    assert {f"table-{number}" for number in (2, 4, 5, 6, 7)} <= {"-".join(name.split("-")[:2]) for name in names}


def test_what_is_written_is_whole_and_listed(written: Written) -> None:
    for path in written.files:
        assert path.stat().st_size > 0
        assert path.with_suffix(".csv").exists() or path.name == "index.json"
    assert not list(written.folder.glob("*.tmp"))
    listed = json.loads((written.folder / "index.json").read_text())
    assert set(listed["files"]) | {"index.json"} == {path.name for path in written.folder.iterdir()}
    assert {"figure-1-single", "figure-5-critical-sizes", "table-7-correlations"} & set(listed["missing"]) == {
        "table-7-correlations"
    }


def test_every_estimate_has_its_interval_around_it(written: Written) -> None:
    table = pd.read_csv(written.folder / "table-4-parameters.csv")
    own = table[(table["fitted_on"] == "all settings") & table["parameter"].isin(["alpha", "beta"])]
    width = own["high"] - own["low"]
    assert ((own["low"] - width <= own["estimate"]) & (own["estimate"] <= own["high"] + width)).all()
    assert set(table["fitted_on"]) == {"without held-out levels", "all settings"}
    held = pd.read_csv(written.folder / "table-6-held-out.csv")
    gap = held["held_out_multiplicative"] - held["held_out_additive"]
    assert held["difference"].to_numpy() == pytest.approx(gap.to_numpy())
    assert (held["low"] <= held["difference"]).all()
    assert (held["difference"] <= held["high"]).all()


def test_table_2_is_the_mean_of_table_6(written: Written) -> None:
    six = pd.read_csv(written.folder / "table-6-held-out.csv")
    two = pd.read_csv(written.folder / "table-2-held-out-by-factor.csv").set_index("factor")
    for factor, part in six.groupby("factor"):
        assert two["difference"][factor] == pytest.approx(part["difference"].mean())
    assert two["difference"]["all"] == pytest.approx(six["difference"].mean())


def test_figures_plot_what_their_csv_says_and_hollow_what_was_held_out(written: Written) -> None:
    shown = pd.read_csv(written.folder / "figure-2-model-size.csv", dtype={"series": str})
    assert list(shown) == COLUMNS
    marks = shown[shown["kind"] != "curve"]
    assert len(marks) == 2 * 12
    assert set(marks[marks["x"] == 3e5]["kind"]) == {"held out"}
    assert set(marks[marks["series"] == "4B"]["kind"]) == {"held out"}
    figure = draw(shown.assign(note=shown["note"].fillna("")))
    assert [axes.get_title() for axes in figure.axes] == ["wmt14-en-de, full", "wmt14-en-de, prompt"]
    texts = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert not any("$" in text for text in texts)


# ------------------------------------------------------------------------------------------- what is not identified


def wild() -> pd.DataFrame:
    """Two sizes and three numbers of examples, noisier than what they could tell."""
    frame = simulate(SMALL, 0, noise=0.3, tasks=TASK).frame
    return frame.query("method == 'full' and seed == 0 and model_params < 4e9 and examples < 2e5")


def test_curves_that_the_data_leave_open_are_not_drawn_and_it_is_said_why() -> None:
    evidence = gather(Runs(wild(), ()), None, 40, 0)
    shown = joint(evidence, "model_params", 0.9)
    out = shown[shown["kind"] == "left out"]
    assert len(out)
    assert set(out["note"]) == {"the 90% interval spans more than a factor of 2"}
    drawn = shown[shown["kind"] == "curve"]
    assert (drawn["high"] <= SPAN * drawn["low"]).all()
    assert (out["high"] > SPAN * out["low"]).all()
    figure = draw(shown)
    high = figure.axes[0].get_ylim()[1]
    assert 0.25 * shown[shown["kind"] == "run"]["y"].min() < high < 3 * shown[shown["kind"] == "run"]["y"].max()
    texts = [text.get_text() for text in (*figure.texts, *figure.axes[0].texts)]
    assert any("no curve: " in text for text in texts)
    assert any("spans more than a factor of 2" in text for text in texts)


def test_what_could_not_be_fitted_is_a_row_with_the_reason() -> None:
    one = simulate(SMALL, 0, tasks=TASK).frame.query("method == 'full' and seed == 0 and model_params == 4e9")
    evidence = gather(Runs(pd.concat([wild(), one.query("examples < 1e5")], ignore_index=True), ()), None, 20, 0)
    shown = single(evidence, 0.9)
    left = shown[(shown["kind"] == "left out") & (shown["series"] == "4B")]
    assert "2 runs for 3 parameters" in left["note"].item()
    assert len(shown[(shown["kind"] == "run") & (shown["series"] == "4B")]) == 2


def test_axes_name_their_units_and_the_untouched_base_is_drawn_where_it_lies() -> None:
    frame = runs().query("seed == 0")
    one = probes(frame).query("examples == 10_000")
    parts = [one.assign(low=one["value"] - 0.1, high=one["value"] + 0.1)]
    parts.append(parts[0].assign(metric="chrf", value=20.0, zero_value=55.0, low=18.0, high=22.0))
    evidence = gather(Runs(frame, ()), pd.concat(parts), 20, 0)
    shown = probed(evidence, "zero-shot", None, "model_params")
    assert list(dict.fromkeys(shown["y_is"])) == ["loss (nats per target token)", "chrF++, 0 to 100"]
    figure = draw(shown)
    assert figure.axes[0].get_ylabel() == "loss (nats per target token)"
    for axes, height in ((figure.axes[0], 3.0), (figure.axes[-1], 55.0)):
        low, high = axes.get_ylim()
        assert low < height < high
        assert height in [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
    tuned = shown[shown["kind"] == "run"]
    assert (tuned["low"] < tuned["y"]).all()
    assert "Bars: intervals over test examples" in "".join(text.get_text() for text in figure.texts)


def test_every_further_metric_has_a_figure_of_its_own() -> None:
    frame = runs().assign(chrf=lambda own: own["bleu"] + 10)
    frame = frame.assign(bleu_low=frame["bleu"] - 1, bleu_high=frame["bleu"] + 1)
    made = dict(every(gather(Runs(frame, ()), None, 20, 0), None, 0.9))
    first, second = made["figure-7-quality-model-size"], made["figure-7-quality-model-size-chrf"]
    assert set(first["y_is"]) == {"BLEU, 0 to 100"}
    assert set(second["y_is"]) == {"chrF++, 0 to 100"}
    assert (first["high"] - first["low"]).to_numpy() == pytest.approx(2.0)
    assert second["low"].isna().all()


def test_five_shot_figures_are_drawn_along_both_factors() -> None:
    frame = runs()
    evidence = gather(Runs(frame, ()), probes(frame), 20, 0)
    made = dict(every(evidence, None, 0.9))
    for name in ("figure-12-5-shot-model-size", "figure-14-5-shot-pretraining-size"):
        assert {"run", "untouched"} <= set(made[name]["kind"])
    assert made["figure-14-5-shot-pretraining-size"]["column"].nunique() == 3


def test_probes_of_a_study_too_small_for_a_law_are_drawn_all_the_same() -> None:
    frame = runs().query("seed == 0 and examples == 10_000 and model_params == 1e9")
    made = dict(every(gather(Runs(frame, ()), probes(frame), 20, 0), None, 0.9))
    shown = made["figure-12-5-shot-model-size"]
    assert isinstance(made["figure-2-model-size"], str)
    assert set(shown[shown["kind"] == "run"]["series"]) == {"full", "prompt"}
    assert len(shown[shown["kind"] == "run"]) == 2
    assert draw(shown).axes[0].lines


def test_critical_sizes_beyond_what_was_seen_are_marked() -> None:
    evidence = gather(Runs(runs(), ()), None, 40, 0)
    table = critical_sizes(evidence, 0.9)
    seen = table["crossing"].between(1e4, 3e5) | table["crossing"].isna()
    far = table["mark"].str.contains("‡")
    assert far[~seen].all()
    assert table.loc[far, "why"].str.contains("both methods seen with 10000 to 300000").all()
    alike = runs().query("method == 'full'")
    twin = pd.concat([alike, alike.assign(method="prompt", loss=alike["loss"] * 1.01)])
    open_ones = critical_sizes(gather(Runs(twin, ()), None, 40, 0), 0.9)
    assert open_ones["mark"].str.contains("†").all()
    assert open_ones["why"].str.contains("the betas differ by").all()
    assert r"\dag{}" in latex(open_ones, "c", "l")


def test_the_interval_of_a_crossing_counts_draws_that_do_not_cross() -> None:
    """Half of the draws cross at 100, a tenth below what is looked at, the rest beyond it."""
    x = np.log(np.geomspace(10, 1000, 21))
    at = np.log([100.0] * 5 + [1.0] + [1e6] * 4)
    gap = at[:, None] - x
    found = crossing_of(x, gap)
    np.testing.assert_allclose(found[:5], 100.0)
    assert found[5:].tolist() == [0.0, *[np.inf] * 4]
    share, (low, middle, high) = located(found, 0.9)
    assert (share, low, high) == (0.5, 0.0, np.inf)
    assert middle == pytest.approx(100.0)


def test_parameters_at_bounds_are_marked() -> None:
    frame = simulate(SMALL, 0, Truth({"alpha_m": -0.05}), 0.001, TASK).frame.query("method == 'full'")
    table = parameters(gather(Runs(frame, ()), None, 20, 0), 0.9)
    own = table[(table["parameter"] == "alpha") & (table["factor"] == "model_params")]
    assert set(own["at_bound"]) == {"lower bound 0"}
    assert (own["estimate"] == 0).all()
    assert set(table[table["parameter"] == "beta"]["at_bound"]) == {""}


def test_a_note_on_the_runs_stands_in_every_caption_and_progress_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    frame = wild()
    note = "Partial study: 3 of 4 runs are finished."
    done = fs.tables(Runs(frame, ()), tmp_path, draws=20, note=note, tell=told.append)
    assert str(done).startswith(note)
    assert json.loads((tmp_path / "index.json").read_text())["note"] == note
    assert all(note in path.read_text() for path in done.files if path.suffix == ".tex")
    assert "Making the tables" in told
    assert any(line.startswith("Drawing figure-") for line in told)


def test_what_the_runs_do_not_allow_is_said_and_an_old_file_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / "figure-4-pet-size.png"
    stale.write_bytes(b"of another study")
    killed = tmp_path / "figure-2-model-size.pdf.tmp"
    killed.write_bytes(b"half")
    other = tmp_path / "figure-7-quality-model-size-bleu.pdf"
    other.write_bytes(b"of another study")
    (tmp_path / "index.json").write_text(json.dumps({"files": [other.name, "../elsewhere.pdf"]}))
    (tmp_path.parent / "elsewhere.pdf").write_bytes(b"of somebody else")
    frame = simulate(SMALL, 0, tasks=TASK).frame.query("method == 'full' and seed == 0 and model_params == 1e9")
    done = fs.tables(Runs(frame, ()), tmp_path, draws=20)
    assert not stale.exists()
    assert not killed.exists()
    assert not other.exists()
    assert (tmp_path.parent / "elsewhere.pdf").exists()
    assert "no probes were evaluated" in done.missing["figure-6-zero-shot"]
    assert "PET size" in done.missing["figure-4-pet-size"]
    assert "model size has 1 level(s)" in done.missing["figure-2-model-size"]
    assert "no run along a factor has a generation metric" in done.missing["table-7-correlations"]
    assert "held-out" not in "".join(done.missing)
    assert "Not written:" in str(done)


def test_latex_escapes_and_sets_numbers() -> None:
    frame = pd.DataFrame({"a_b": ["50 % of_it"], "x": [1.25e-9], "low": [np.nan], "high": [2.0], "n": [3]})
    text = latex(frame, "A & B", "tab:x")
    assert r"50 \% of\_it" in text
    assert r"$1.25\times10^{-9}$" in text
    assert r"A \& B" in text
    assert text.count("&") == 3 * 2 + 1
    assert (number(0.5), cell(None), cell(True), escape("~")) == ("$0.5$", "--", "yes", r"\textasciitilde{}")


# ------------------------------------------------------------------------------------------------------ command line


def test_claims_on_files_as_words_and_as_json(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["claims", str(files / "runs.csv"), "--probes", str(files / "probes.parquet"), "--draws", "20"]
    assert call([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    kept = next(claim for claim in said["claims"] if claim["name"] == "pet-forgets-less")
    assert kept["overall"]["verdict"] == "holds"
    assert kept["overall"]["runs"]


def test_wrong_input_has_exit_code_1(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["claims", str(tmp_path / "none.csv")]) == 1
    assert "is not there" in capsys.readouterr().err
    assert call(["claims", str(files / "runs.csv"), "--probes", str(files / "runs.csv")]) == 1
    assert "column 'probe'" in capsys.readouterr().err
    assert call(["tables", str(files / "runs.csv"), "--probes", str(tmp_path / "none.csv")]) == 1
    assert "is not there" in capsys.readouterr().err
    assert call(["claims", str(tmp_path)]) == 1


def test_what_is_not_there_is_said_to_be_so_with_near_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "quick").mkdir()
    for verb in ("claims", "tables", "compare"):
        assert call([verb, str(tmp_path / "quik")]) == 1
        said = capsys.readouterr().err
        assert f"is not there — did you mean {str(tmp_path / 'quick')!r}?" in said
        assert "suffix" not in said
    assert call(["compare", str(tmp_path / "quick")]) == 1
    assert "is a folder — give a table of runs; finescale table" in capsys.readouterr().err
    assert call(["claims", str(tmp_path / "far" / "away")]) == 1
    assert "nor is the folder it would be in" in capsys.readouterr().err


def test_a_study_folder_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = toy_study(tmp_path / "toy", TOML.replace('["xs", "s"]', '["2xs", "xs", "s"]').replace(", 20_000", ""))
    lock.write_lock(study)
    assert call(["tables", str(study.folder)]) == 3
    assert "no usable run yet" in capsys.readouterr().err
    run(study, workers=2, function=WORK)
    assert call(["tables", str(study.folder), "--draws", "20", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    folder = study.folder / "report" / "paper"
    assert "table-4-parameters.csv" in said["files"]
    assert all((folder / name).exists() for name in said["files"])
    assert "pretraining size has 1 level(s)" in said["missing"]["figure-3-pretraining-size"]
