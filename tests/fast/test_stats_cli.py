"""The verbs on a table of runs say what the API says."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import finescale as fs
from finescale.cli import app, call


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    rng = np.random.default_rng(0)
    rows = []
    for method, beta in (("full", 0.2), ("lora", 0.1)):
        n = 250 * 2.0 ** np.arange(6)
        loss = (6 * n**-beta + 1) * np.exp(0.003 * rng.standard_normal(len(n)))
        rows.append(pd.DataFrame({"how": method, "n": n, "loss": loss}))
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    pd.concat(rows).to_csv(path, index=False)
    return str(path)


NAMES = ["--column", "how=method", "--column", "n=examples", "--by", "method"]


def test_fit_prints_what_the_api_finds_and_writes_fits_that_forecast(table: str, tmp_path) -> None:
    out = str(tmp_path / "fits.json")
    told = CliRunner().invoke(app, ["fit", table, *NAMES, "--law", "power", "--out", out, "--json"])
    assert told.exit_code == 0
    fits = fs.fit(fs.read_runs(table, {"how": "method", "n": "examples"}), "power", by="method")
    assert [row["estimate"] for row in json.loads(told.stdout)["table"]] == pytest.approx(
        fits.table()["estimate"].tolist()
    )
    said = CliRunner().invoke(app, ["forecast", out, "--at", "method=lora,examples=20000", "--json"])
    wanted = fits.forecast(method="lora", examples=20000.0)
    assert json.loads(said.stdout)[0]["median"] == pytest.approx(wanted["median"][0])


def test_forecast_and_compare_read_a_table(table: str) -> None:
    said = CliRunner().invoke(app, ["forecast", table, *NAMES, "--at", "method=full,examples=16000"])
    assert said.exit_code == 0
    assert "median" in said.stdout
    ranked = CliRunner().invoke(app, ["compare", table, *NAMES, "--law", "power", "--law", "constant", "--json"])
    assert ranked.exit_code == 0
    assert json.loads(ranked.stdout)["overall"][0]["law"] == "power"


def test_wrong_options_are_input_errors(table: str) -> None:
    told = CliRunner().invoke(app, ["fit", table, "--column", "n", "--by", "how"])
    assert isinstance(told.exception, fs.InputError)
    assert "is not NAME=VALUE" in str(told.exception)
    told = CliRunner().invoke(app, ["fit", table, *NAMES, "--hold-out", "examples=two"])
    assert "is not a number of levels" in str(told.exception)


def test_a_table_that_carries_no_fit_is_refused_with_the_reason(tmp_path, capsys) -> None:
    path = tmp_path / "two.csv"
    pd.DataFrame({"examples": [100, 200], "loss": [3.0, 2.9]}).to_csv(path, index=False)
    for words in (["fit", str(path), "--law", "power"], ["fit", str(path), "--law", "power", "--json"]):
        assert call(words) == 3
        said = capsys.readouterr()
        assert "nothing could be fitted" in said.err
        assert "2 runs for 3 parameters" in said.out
