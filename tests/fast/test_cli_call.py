"""A call with several things wrong is told all of them, whichever of typer and the verb looks at them."""

from __future__ import annotations

from pathlib import Path

import pytest

from finescale.cli import call

RUNS = "examples,loss\n" + "".join(f"{2**k},{3 - k / 10}\n" for k in range(4, 10))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs.csv").write_text(RUNS)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "study.toml").write_text("schema = 1\ncolour = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("import xx nosuch", ["source 'xx'", "nosuch: is not there", "missing option '-o'"]),
        ("import table runs.csv -o runs.csv --set examples=lots", ["is what is read", "is not a number"]),
        (
            "import table nosuch.csv https://a/b.csv -o no/x.csv --take worst --set examples --facts none.csv",
            [
                "'runs.csv'",
                "is a URL",
                "folder that is not there",
                "--take 'worst'",
                "not NAME=VALUE",
                "none.csv: is not",
            ],
        ),
        ("export table nosuch", ["nosuch: is not there", "missing option '--to'"]),
        ("export xx nosuch --to a", ["export 'xx'", "nosuch: is not there"]),
        ("run nosuch --workers 0", ["nosuch: is not there", "'--workers'"]),
        ("run bad --on nosuch", ["colour: is unknown", "backend 'nosuch'"]),
        ("retry bad --class xx --on nosuch", ["colour: is unknown", "--class xx", "backend 'nosuch'"]),
        ("retry bad", ["was not told what", "colour: is unknown"]),
        ("pilot bad --worth -3", ["--worth", "colour: is unknown"]),
        ("table nosuch --out x.xlsx", ["nosuch: is not there", "is no kind of table"]),
        ("table bad --probes --rates", ["are 2 tables", "nothing was run in it"]),
        (
            "fit nosuch.csv --law xx --column a --hold-out x --out no/f.json",
            ["'runs.csv'", "law 'xx'", "--column 'a'", "--hold-out 'x'", "--out no/f.json"],
        ),
        ("advise nosuch --level 7", ["nosuch: is not there", "'--level'"]),
        ("report bad --law auto", ["--law: is for a table", "nothing was run in it"]),
        ("report runs.csv --out page.txt --column a=b", ["is no HTML file", "columns['a']"]),
        ("watch nosuch --port 99999", ["nosuch: is not there", "'--port'"]),
        ("forecast nosuch.csv", ["'runs.csv'", "missing option '--at'"]),
        ("compare nosuch.csv --law xx", ["'runs.csv'", "law 'xx'"]),
        ("claims nosuch --draws 2 --level 3", ["nosuch: is not there", "'--draws'", "'--level'"]),
        (
            "tables runs.csv --probes none.csv --draws 2 --out rows.jsonl/x",
            ["none.csv: is not there", "'--draws'", "rows.jsonl, which is a file"],
        ),
        ("init bad --data nosuch.jsonl", ["is there already", "--models: names none", "'rows.jsonl'"]),
        ("estimate nosuch --method x", ["stands beside a study", "nosuch: is not there"]),
        ("data --tier xx --source yy", ["tier 'xx'", "source 'yy'"]),
    ],
)
def test_every_fault_of_a_call_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], words: str, told: list[str]
) -> None:
    before = sorted(here.rglob("*"))
    assert call(words.split()) == 1
    out, said = capsys.readouterr()
    assert out == ""
    assert f"{len(told)} faults:" in said or len(told) < len(said.strip().splitlines()), said
    assert [part for part in told if part not in said] == []
    assert sorted(here.rglob("*")) == before


def test_a_place_that_the_system_refuses_is_the_users_to_change(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["fit", "a" * 300 + ".csv"]) == 1
    assert "aaa.csv: cannot be used: File name too long" in capsys.readouterr().err


def test_all_that_is_much_like_a_path_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("runs-1.csv", "runs-2.csv", "other.csv"):
        (here / name).write_text(RUNS)
    assert call(["compare", "runs-3.csv"]) == 1
    assert "did you mean 'runs-2.csv' or 'runs-1.csv' or 'runs.csv'?" in capsys.readouterr().err
    (here / "one").mkdir()
    (here / "ones").mkdir()
    (here / "ones" / "runs.csv").write_text(RUNS)
    assert call(["compare", "onse/runs.csv"]) == 1
    assert "did you mean 'ones/runs.csv'?" in capsys.readouterr().err


def test_one_fault_is_told_as_before(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["forecast", "runs.csv"]) == 1
    assert "Missing option '--at'" in capsys.readouterr().err
    assert call(["fit", "https://example.org/runs.csv"]) == 1
    assert "is the URL of a file" in capsys.readouterr().err
