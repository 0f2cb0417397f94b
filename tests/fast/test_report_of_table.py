"""A page of anybody's table: what the table says is on it, what only a study knows is left out, faults are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_sample import HOSTILE
from test_report_page import Document, data_of
from typer.testing import CliRunner

from finescale.cli import app
from finescale.errors import InputError
from finescale.report.drawing import BOXES, write
from finescale.report.figures import loss_against_examples
from finescale.report.page import page
from finescale.report.series import plotted
from finescale.stats.runs import read_runs
from finescale.study.analyse import Analysis
from finescale.study.of_table import analyse_table

SIZES = (100, 200, 400, 800, 1600)
runner = CliRunner()


def bare(**more: object) -> pd.DataFrame:
    """Two methods on nobody knows which base; a law with a known crossing near 300 examples."""
    rng = np.random.default_rng(4)
    rows = [
        {"method": method, "examples": size, "loss": (A * size**-b + E) * float(np.exp(0.002 * rng.standard_normal()))}
        for method, A, b, E in (("full", 30.0, 0.7, 2.3), ("lora", 6.0, 0.4, 2.25))
        for size in SIZES
    ]
    return pd.DataFrame(rows).assign(**more)


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analyse_table(read_runs(bare()), "bare.csv", law="power")


def test_the_page_of_a_bare_table_says_what_it_is_of(found: Analysis) -> None:
    read = Document(page(found))
    assert "bare.csv" in read.visible
    assert "There is no study behind this page" in read.visible
    assert not {"bases", "text", "cost", "kept", "claims"} & set(read.texts)
    assert {"what-if", "loss", "law", "held-out", "crossings", "runs", "checklist"} <= set(read.texts)
    assert len(data_of(read)["runs"]["rows"]) == 10


def test_the_unit_of_the_losses_is_the_tables_or_none(found: Analysis) -> None:
    assert "nats" not in Document(page(found)).texts["answer"]
    assert "nats" not in Document(page(found)).texts["loss"]
    told = analyse_table(read_runs(bare(loss_unit="bits per byte")), "t", law="power")
    read = Document(page(told))
    assert "Test loss, bits per byte" in read.texts["loss"]
    assert "bits per byte" in read.texts["answer"]
    assert data_of(read)["unit"] == " bits per byte"


def test_it_fits_and_crosses_as_the_statistics_do(found: Analysis) -> None:
    assert found.final.by == ("task", "method")
    assert found.final.factor == ()
    assert set(found.fits.held_out()["examples"]) == {1600}
    truth = np.exp(np.log(np.geomspace(100, 1600, 2000)))
    gap = 30.0 * truth**-0.7 + 2.3 - 6.0 * truth**-0.4 - 2.25
    (crossing,) = found.crossings.to_dict("records")
    at = truth[np.argmin(np.abs(gap))]
    assert crossing["low"] <= at <= crossing["high"]


def test_the_untouched_base_and_flags_are_taken_from_the_rows() -> None:
    rows = pd.concat(
        [bare(base="b", flag=""), pd.DataFrame([{"examples": 0, "loss": 4.2, "base": "b", "method": "full"}])]
    )
    rows.loc[(rows["examples"] == 100) & (rows["method"] == "lora"), "flag"] = "diverged"
    found = analyse_table(read_runs(rows.reset_index(drop=True)), "t", law="power")
    assert (found.runs["zero_loss"] == 4.2).all()
    assert len(found.runs) == 10
    assert found.runs["flag"].value_counts().to_dict() == {"": 9, "diverged": 1}
    assert "the untouched base is not on the curve" in Document(page(found)).texts["runs"]


def test_bases_that_no_factor_tells_apart_are_fitted_apart() -> None:
    two = pd.concat([bare(base="small"), bare(base="large").assign(loss=lambda table: table["loss"] - 0.5)])
    found = analyse_table(read_runs(two.reset_index(drop=True)), "t", law="power")
    assert found.final.by == ("task", "method", "base")
    assert len(found.crossings) == 2
    assert [sorted(one.labels) for one in found.maps] == [["large", "small"]]


def test_odd_columns_and_repeated_names_do_no_harm() -> None:
    table = bare(run="same", median=1.0, observed="x", seconds="fast", learning_rate="auto", method_label=3)
    found = analyse_table(read_runs(table), "t", law="power")
    assert found.runs["run"].is_unique
    assert "median (given)" in found.runs
    assert len(found.fits.held_out()) == 2
    Document(page(found))


def test_model_size_is_the_factor_where_it_varies() -> None:
    parts = [bare(model_params=size, base=f"b{size:g}").assign(loss=lambda t, s=size: t["loss"] * (s / 1e8) ** -0.05)
             for size in (1e8, 3e8, 1e9, 3e9)]  # fmt: skip
    found = analyse_table(read_runs(pd.concat(parts, ignore_index=True)), "t", law="multiplicative")
    assert found.final.factor == ("model_params",)
    assert found.fits.about["hold_out"] == {"examples": 1, "model_params": 1}
    assert found.maps[0].sizes is not None


def test_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    bare().to_csv(path, index=False)
    for options, said in (
        (["--factor", "model_parms"], "model_params"),
        (["--factor", "model_params"], "does not vary enough"),
        (["--hold-out", "seeds=1"], "is not a factor"),
        (["--hold-out", "examples"], "is not NAME=VALUE"),
        (["--law", "powr"], "power"),
        (["--column", "size=examples"], "not in the table"),
    ):
        got = asked(["report", str(path), *options])
        assert got[0] == 1, (options, got)
        assert said in got[1]
    assert asked(["report", str(tmp_path / "none.csv")])[0] == 1
    for where, said in ((path, "is no HTML file"), (path / "p.html", "which is a file"), (tmp_path, "is no HTML file")):
        got = asked(["report", str(path), "-o", str(where)])
        assert got[0] == 1
        assert said in got[1]
    assert path.read_text().startswith("method,"), "a table is not written over"
    assert [one.name for one in tmp_path.iterdir()] == ["runs.csv"]
    with pytest.raises(InputError, match="no usable run"):
        analyse_table(read_runs(bare().assign(loss=-1.0)), "t")


def asked(words: list[str]) -> tuple[int, str]:
    """Exit code and the error's words."""
    got = runner.invoke(app, words)
    return (got.exit_code if got.exception is None or isinstance(got.exception, SystemExit) else 1), str(got.exception)


def test_too_little_to_fit_is_refused_and_no_page_is_written(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    bare().head(2).to_csv(path, index=False)
    got = runner.invoke(app, ["report", str(path)])
    assert type(got.exception).__name__ == "Refused"
    assert [one.name for one in tmp_path.iterdir()] == ["runs.csv"]


def test_hostile_tables_are_only_text() -> None:
    names = {"full": HOSTILE[0], "lora": HOSTILE[1]}
    table = bare(base=HOSTILE[2], task=HOSTILE[5], run=HOSTILE[4]).replace({"method": names})
    table[HOSTILE[1]] = HOSTILE[0]
    attacked = Document(page(analyse_table(read_runs(table), HOSTILE[0], law="power")))
    calm = Document(page(analyse_table(read_runs(bare()), "calm", law="power")))
    assert len(attacked.scripts) == len(calm.scripts)
    assert {tag for tag, _ in attacked.elements} <= {tag for tag, _ in calm.elements} | {"span", "li"}
    assert not [name for _, named in attacked.elements for name in named if name.startswith("on")]


@pytest.mark.slow
def test_the_verb_writes_page_and_figures_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "my runs.csv"
    bare().to_csv(path, index=False)
    script = (
        "import sys\nfrom finescale.cli import main\n"
        f"sys.argv = ['finescale', 'report', {str(path)!r}, '--law', 'power', '-o', {str(tmp_path / 'p.html')!r}]\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code, done.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.html").stat().st_size < 6_000_000
    assert (tmp_path / "figures" / "critical-size-map.csv").exists()


def test_one_method_on_one_base_is_the_only_candidate_and_best_of_nothing() -> None:
    alone = bare().query("method == 'full'")
    found = analyse_table(read_runs(alone), "alone.csv")
    here, there = found.advice
    assert "is the only candidate; forecast" in here.sentence
    assert not there.refused, "four times the most examples is as far as anything is said, not further"
    read = Document(page(found))
    assert "with probability" not in read.texts["answer"]
    assert "1 run was kept out" in read.texts["held-out"]
    assert "dashed line" not in read.texts["loss"]
    assert "The table does not say how learning rates were found." in read.texts["runs"]
    assert (found.final.reach(found.runs) == 1).all()


def test_names_without_a_glyph_are_told_once(tmp_path: Path) -> None:
    frame = read_runs(bare().replace({"method": {"full": "全量微调", "lora": "قاعدة"}}))
    shown = plotted(analyse_table(frame, "names.csv", law="power"))
    with pytest.warns(UserWarning, match="letters that the figures") as raised:
        write(loss_against_examples(shown), tmp_path)
    assert [str(one.message) for one in raised] == [BOXES]
    assert "全量微调" in (tmp_path / "loss-against-examples.svg").read_text(encoding="utf-8")


def test_crossings_of_several_tasks_name_their_task() -> None:
    several = pd.concat([bare(task="a"), bare(task="b")])
    read = Document(page(analyse_table(read_runs(several), "two.csv", law="power")))
    for task in ("a", "b"):
        assert f"{task}, the base, full and lora" in read.texts["crossings"]
