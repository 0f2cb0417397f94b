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


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> str:
    n = 250 * 2.0 ** np.arange(6)
    parts = [pd.DataFrame({"rank": rank, "examples": n, "loss": (6 + rank) * n**-0.2 + 1}) for rank in (4, 16)]
    path = tmp_path_factory.mktemp("ranks") / "ranks.csv"
    pd.concat(parts).to_csv(path, index=False)
    return str(path)


def test_groups_named_by_numbers_can_be_asked(ranks: str, tmp_path) -> None:
    out = str(tmp_path / "fits.json")
    assert CliRunner().invoke(app, ["fit", ranks, "--by", "rank", "--law", "power", "--out", out]).exit_code == 0
    fits = fs.fit(ranks, "power", by="rank")
    wanted = fits.forecast(rank=16, examples=20000.0)["median"][0]
    for words in ([ranks, "--by", "rank", "--law", "power"], [out]):
        for rank in ("16", "16.0"):
            said = CliRunner().invoke(app, ["forecast", *words, "--at", f"rank={rank},examples=20000", "--json"])
            assert json.loads(said.stdout)[0]["median"] == pytest.approx(wanted)
    told = CliRunner().invoke(app, ["forecast", out, "--at", "rank=5,examples=20000"])
    assert "group rank=5: is not in these fits" in str(told.exception)


def test_options_that_would_have_no_effect_are_faults(ranks: str, tmp_path) -> None:
    out = str(tmp_path / "fits.json")
    fs.fit(ranks, "power", by="rank", draws=20).to_json(out)
    asked = ["forecast", out, "--at", "rank=4,examples=20000"]
    for extra in (["--law", "power"], ["--by", "rank"], ["--seed", "9"], ["--seed", "0"], ["--column", "a=b"]):
        told = CliRunner().invoke(app, [*asked, *extra])
        assert isinstance(told.exception, fs.InputError)
        assert f"{extra[0]}: belongs to fitting" in str(told.exception)
    told = CliRunner().invoke(app, ["forecast", out, "--at", "rank=4,examples=2e5,examples=3e5"])
    assert "--at examples: is given 2 times" in str(told.exception)


def test_fits_that_cannot_be_written_say_where_and_leave_nothing(ranks: str, tmp_path, capsys) -> None:
    words = ["fit", ranks, "--by", "rank", "--law", "power", "--out"]
    assert call([*words, str(tmp_path / "none" / "fits.json")]) == 1
    assert "is in a folder that is not there" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    assert call([*words, str(tmp_path / "folder")]) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
    assert call(["fit", ranks, "--hold-out", "examples=²"]) == 1
    assert "is not a number of levels" in capsys.readouterr().err
