"""The verbs on studies: what they print, the codes they leave with, and what they leave alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from study_toy import TOML, WORK, order, record, toy_study
from tiny_corpus import write_tiny_corpus

from finescale.cli import DEBUG, call
from finescale.study import lock, standing, store
from finescale.study.lease import hold
from finescale.study.policy import Failure
from finescale.study.run import Outcome, run
from finescale.study.show import failures


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Cli = Callable[..., Done]
BAD = """
schema = 1
[base]
ladder = ["xs"]
pretrain_tokens = [-1]
[finetune]
tasks = ["mt-en-d"]
examples = []
[methods.lorra]
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    write_tiny_corpus(folder, pairs=1200)
    return folder


@pytest.fixture
def cli(cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in this process: the function that the installed command calls."""
    monkeypatch.setenv("FINESCALE_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv(DEBUG, "")

    def called(*words: object) -> Done:
        capsys.readouterr()
        code = call([str(word) for word in words])
        return Done(code, *capsys.readouterr())

    return called


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy study that is done."""
    folder = tmp_path_factory.mktemp("done")
    wide = TOML.replace('["xs", "s"]', '["xs", "s", "m", "l"]').replace("[10_000, 20_000]", "[10_000]")
    study = toy_study(folder, wide)
    lock.write_lock(study)
    assert run(study, workers=2, function=WORK).complete
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'pandas', 'scipy', 'peft'} & set(sys.modules)"
    told = f"import sys, atexit; atexit.register(lambda: print('loaded:', {heavy}))"
    code = f"{told}; import finescale.cli; finescale.cli.main()"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "loaded: set()" in done.stdout, "what takes seconds to load waits until a verb needs it"
    assert all(
        verb in done.stdout for verb in ("demo", "plan", "run", "status", "fit", "advise", "report", "list", "data")
    )


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_bad_input_lists_every_fault_and_changes_nothing(cli: Cli, tmp_path: Path, verb: str) -> None:
    (tmp_path / "study.toml").write_text(BAD)
    before = snapshot(tmp_path)
    done = cli(verb, tmp_path)
    assert done.returncode == 1
    for part in (
        "4 faults",
        "base.pretrain_tokens[0]",
        "finetune.examples",
        "did you mean 'lora'",
        "did you mean 'mt-en-de'",
    ):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["plan", "/no/such/study"], 1, "is not there"),
        (["status", "/no/such/study"], 1, "is not there"),
        (["plan", __file__], 1, "is a file"),
        (["plam"], 1, "No such command"),
        (["run"], 1, "Missing argument"),
        (["run", "x", "--workers", "0"], 1, "greater than or equal to 1"),
        (["list", "lawz"], 1, "did you mean 'laws'"),
        (["data", "--tier", "startr"], 1, "did you mean 'starter'"),
    ],
)
def test_exit_codes_of_wrong_calls(cli: Cli, words: list[str], code: int, said: str) -> None:
    done = cli(*words)
    assert done.returncode == code
    assert said in done.stderr.replace("\n", " ")
    assert done.stdout == ""


VERBS = ["plan", "run", "status", "retry", "check", "table", "fit", "advise", "report", "claims", "tables", "compare"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_has_a_name_like_it(cli: Cli, tmp_path: Path, verb: str) -> None:
    (tmp_path / "my-study").mkdir()
    done = cli(verb, tmp_path / "my-stduy", *(["--failed"] if verb == "retry" else []))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not there" in done.stderr
    assert f"did you mean '{tmp_path / 'my-study'}'" in done.stderr


def test_a_table_that_cannot_be_written_is_your_input(cli: Cli, finished: Path, tmp_path: Path) -> None:
    done = cli("table", finished, "--out", tmp_path / "nowhere" / "runs.csv")
    assert done.returncode == 1
    assert "is in a folder that is not there" in done.stderr


def test_debug_shows_where(cli: Cli) -> None:
    assert "Traceback" in cli("--debug", "status", "/no/such/study").stderr


def test_plan(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(TOML)
    assert "finetuning runs: 32" in cli("plan", tmp_path).stdout
    said = json.loads(cli("plan", tmp_path, "--json").stdout)
    assert said["steps"] == {"data": 1, "base": 4, "rate": 1, "run": 32}
    assert {span["factor"] for span in said["spans"]} == {"examples", "model_params", "pretrain_tokens", "pet_params"}
    assert sorted(snapshot(tmp_path)) == ["study.toml"], "planning writes nothing"


def test_status(cli: Cli, finished: Path, tmp_path: Path) -> None:
    assert "38 of 38 steps done" in cli("status", finished).stdout
    said = json.loads(cli("status", finished, "--json").stdout)
    assert said["done"] == said["total"]
    study = toy_study(tmp_path)
    order(tmp_path, "rate", "fail")
    run(study, workers=2, function=WORK)
    said = json.loads(cli("status", tmp_path, "--json").stdout)
    ((id, why),) = said["failed"].items()
    assert (why["kind"], why["message"]) == ("bug", "ValueError: ordered to fail")
    assert len(said["blocked"]) == 16
    assert (said["schema"], said["failures"], said["last_errors"]) == (1, {"bug": 1}, [id])
    assert said["kinds"]["rate"] == {"total": 1, "done": 0, "running": 0, "failed": 1, "blocked": 0, "waiting": 0}
    assert said["kinds"]["run"] | {"total": 32} == said["kinds"]["run"]
    assert said["done"] + said["waiting"] + len(said["failed"]) + len(said["blocked"]) == said["total"]
    assert said["seconds_left"] > 0
    assert "finished steps" in said["seconds_left_by"]
    assert (said["driven"], said["driver"]) == (False, None)
    assert 0 < said["disk"]["needed"] < said["disk"]["free"]
    assert "ValueError: ordered to fail" in cli("status", tmp_path).stdout


def test_status_names_what_it_documents(cli: Cli, finished: Path) -> None:
    said = json.loads(cli("status", finished, "--json").stdout)
    documented = re.findall(
        r"``(\w+)``", re.sub(r"``kind``|``message``|``at``|``needed``|``free``", "", standing.__doc__ or "")
    )
    assert set(said) == set(documented) - {"finescale", "null"}


def test_status_tells_who_drives(cli: Cli, finished: Path) -> None:
    with hold(finished):
        said = json.loads(cli("status", finished, "--json").stdout)
        assert said["driver"]["pid"] == os.getpid()
        assert "being driven now" in cli("status", finished).stdout
    assert json.loads(cli("status", finished, "--json").stdout)["driver"] is None


def test_status_tells_what_was_refused_flagged_and_noticed(cli: Cli, tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    lock.write_lock(study)
    for kind in ("data", "base", "rate", "run"):
        for step in study.plan.of(kind)[:8]:
            study.store.begin(step)
            asked = store.read_json(study.store.part(step) / store.SPEC)
            more = (
                {"refused": {"comet": "finescale metrics install comet"}, "flag": "diverged"} if kind == "run" else {}
            )
            store.finish(study.store.part(step), record(asked, tmp_path) | more)
    done = cli("status", tmp_path)
    assert "comet was refused: finescale metrics install comet" in done.stdout
    assert "8 finished runs are flagged diverged" in done.stdout
    assert "noticed: flagged: 8" in done.stdout
    assert "run steps: 8 of 32 done, 24 waiting" in done.stdout
    said = json.loads(cli("status", tmp_path, "--json").stdout)
    assert said["flagged"] == {"diverged": 8}
    assert said["refused"] == {"comet": "finescale metrics install comet"}


def test_ten_thousand_failures_are_told_in_a_few_lines() -> None:
    outcome = Outcome(10**4, set(), {f"run-{n}": Failure("bug", "ValueError: no", "") for n in range(10**4)})
    said = list(failures(outcome))
    assert len(said) == 11
    assert said[-1] == "and 9990 more failures; finescale status --json lists all"


def test_fit_recovers_the_toy_law(cli: Cli, finished: Path) -> None:
    said = json.loads(cli("fit", finished, "--json").stdout)
    (fits,) = said["fits"]
    for parameter, truth in (("alpha", 0.1), ("beta", 0.2), ("E", 2.0)):
        found = {row["method"]: row["estimate"] for row in fits["table"] if row["parameter"] == parameter}
        assert found == pytest.approx({"full": truth, "lora": truth}, rel=0.02)
    assert len(fits["held_out"]) == 14, "for each method the largest of 4 bases and of 4 sizes: 7 of 16 runs"
    assert max(row["relative_error"] for row in fits["held_out"]) < 0.001
    assert "beta" in cli("fit", finished).stdout
    assert {path.name for path in (finished / "fits").iterdir()} >= {
        "multiplicative.json",
        "multiplicative-held-out.json",
    }


def test_a_level_of_ones_own_widens_the_intervals_and_moves_no_estimate(cli: Cli, finished: Path) -> None:
    (usual,) = json.loads(cli("fit", finished, "--json").stdout)["fits"]
    (wide,) = json.loads(cli("fit", finished, "--level", "0.99", "--json").stdout)["fits"]
    assert (usual["level"], wide["level"]) == (0.9, 0.99)
    assert [row["estimate"] for row in wide["table"]] == [row["estimate"] for row in usual["table"]]
    pairs = [pair for pair in zip(usual["held_out"], wide["held_out"], strict=True) if pair[0]["high"] > pair[0]["low"]]
    assert pairs
    assert all(w["high"] - w["low"] > u["high"] - u["low"] for u, w in pairs)
    assert "99 % interval" in cli("fit", finished, "--level", "0.99").stdout
    assert cli("advise", finished, "--level", "0.5").returncode == 1
    assert cli("fit", __file__, "--level", "0.8").returncode == 1


def test_advise_names_the_better_method(cli: Cli, finished: Path) -> None:
    said = json.loads(cli("advise", finished, "--json").stdout)
    assert [one["best"]["method"] for one in said["advice"]] == ["lora", "lora"]
    assert [one["best"]["examples"] for one in said["advice"]] == [800, 3200]
    assert said["crossings"]
    assert "LoRA" in cli("advise", finished).stdout


def test_report_writes_a_page_that_stands_alone(cli: Cli, finished: Path) -> None:
    done = cli("report", finished)
    assert done.returncode == 0, done.stderr
    page = (finished / "report" / "index.html").read_text(encoding="utf-8")
    assert "LoRA" in page
    assert str(finished / "report" / "index.html") in done.stdout


def test_a_study_without_a_run_is_refused(cli: Cli, tmp_path: Path) -> None:
    lock.write_lock(toy_study(tmp_path))
    done = cli("fit", tmp_path)
    assert done.returncode == 3
    assert "no usable run yet" in done.stderr


@pytest.mark.parametrize("what", ["laws", "methods", "tasks", "metrics", "backends", "bases"])
def test_lists(cli: Cli, what: str) -> None:
    listed = json.loads(cli("list", what, "--json").stdout)
    assert listed
    assert all(words for words in listed.values())


def test_data_describes_the_corpus(cli: Cli) -> None:
    assert "Corpus starter" in cli("data").stdout
    assert json.loads(cli("data", "--json").stdout)["tier"] == "starter"


def test_demo_touches_no_folder_of_somebody_else(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    done = cli("demo", tmp_path)
    assert done.returncode == 1
    assert "is there already and is no study" in done.stderr
    assert snapshot(tmp_path) == {"thesis.tex": b"mine"}
