"""A folder of somebody's Trainer runs becomes a table, a fit and a forecast, by one command each."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import finescale as fs
from finescale.cli import call
from finescale.errors import InputError
from finescale.exchange.ask import Ask
from finescale.exchange.gather import import_runs
from finescale.exchange.history import gaps, rows_from_speed

GOLDEN = Path(__file__).parent.parent / "golden" / "exchange"
TRAINER = GOLDEN / "trainer"
NAMED = r"n(?P<examples>\d+)-s(?P<seed>\d+)"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A copy of the sweep's folders, without the one that reported to trackers."""
    return Path(shutil.copytree(TRAINER, tmp_path / "runs", ignore=shutil.ignore_patterns("tracked-*")))


def rewritten(folder: Path, **more: object) -> None:
    state = json.loads((folder / "trainer_state.json").read_text())
    (folder / "trainer_state.json").write_text(json.dumps(state | more))


def one(folder: Path, **asked: object) -> pd.Series:
    return import_runs("trainer", [folder], Ask(values={"examples": "1"}, **asked)).frame.iloc[0]  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- must show


def test_folders_are_imported_fitted_and_forecast_by_one_command_each(sweep: Path, capsys) -> None:
    table = sweep.parent / "runs.csv"
    folders = [str(folder) for folder in sorted(sweep.iterdir())]
    assert call(["import", "trainer", *folders, "-o", str(table), "--from-name", NAMED, "--set", "task=numbers"]) == 0
    said = capsys.readouterr().out
    assert "Taken: 13 runs; loss is eval_loss, best of each run" in said
    assert f"Next: finescale fit {table} --by method" in said
    runs = fs.read_runs(table)
    assert len(runs.usable) == 13
    assert set(runs.frame["method"]) == {"lora", "full"}
    assert sorted(runs.frame["examples"].unique()) == [32, 64, 128, 256, 512]
    assert call(["fit", str(table), "--by", "method", "--law", "power"]) == 0
    assert "full" in capsys.readouterr().out
    assert call(["forecast", str(table), "--by", "method", "--at", "method=lora,examples=5120", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert 0 < row["low"] < row["median"] < row["high"]
    assert row["reach"] == pytest.approx(10)


def test_what_an_adapter_and_its_file_say_is_taken(sweep: Path) -> None:
    row = one(sweep / "lora-n32-s0")
    state = json.loads((sweep / "lora-n32-s0" / "trainer_state.json").read_text())
    losses = [entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry]
    assert row["loss"] == min(losses)
    assert one(sweep / "lora-n32-s0", take="last")["loss"] == losses[-1]
    assert (row["method"], row["base"], row["pet_size"], row["alpha"]) == ("lora", "sweep/base", 2, 4)
    # LoRA of rank 2 on queries, keys, values, outputs (16 to 16) and three feed-forward matrices (16 to 32 or back)
    assert row["pet_params"] == 2 * (4 * (16 + 16) + 3 * (16 + 32))


def test_whole_weights_are_counted_without_embeddings_from_their_header(sweep: Path) -> None:
    row = one(sweep / "full-n32-s0")
    # queries, keys, values, outputs; gate, up, down; two norms of the layer and the last: the embedding is tied
    assert row["model_params"] == 4 * 16 * 16 + 3 * 16 * 32 + 3 * 16
    assert row["pet_params"] == row["total_params"] == row["model_params"] + 128 * 16


def test_examples_are_asked_for_and_worked_out_only_where_that_is_accepted(sweep: Path) -> None:
    with pytest.raises(InputError, match="--accept examples, which the logged speeds imply for 13 runs"):
        import_runs("trainer", [sweep])
    frame = import_runs("trainer", [sweep], Ask(accept=("examples",))).frame
    told = frame["run"].str.extract(r"n(\d+)")[0].astype(float)
    assert (frame["examples"] == told).all(), "what the speeds imply is what was trained on"
    with pytest.raises(InputError, match="cannot be worked out"):
        import_runs("trainer", [sweep], Ask(accept=("seed",)))


def test_a_run_that_reported_to_tensorboard_tells_its_arguments() -> None:
    row = one(TRAINER / "tracked-lora-n32")
    assert (row["seed"], row["learning_rate"]) == (0, 0.02)


def test_three_trackers_and_the_folder_tell_the_same_losses() -> None:
    ask = Ask(pattern=r"n(?P<examples>\d+)", take="last")
    places = {"tensorboard": "tensorboard", "mlflow": "mlflow/search_runs.csv", "wandb": "wandb/project.csv"}
    frames = [import_runs(kind, [GOLDEN / path], ask).frame.sort_values("examples") for kind, path in places.items()]
    for frame in frames:
        assert frame["examples"].tolist() == [32, 64, 128]
        assert frame["loss"].tolist() == pytest.approx(frames[0]["loss"].tolist(), rel=1e-6)
        assert (frame["seed"] == 0).all()
    folder = import_runs("trainer", [TRAINER / "tracked-lora-n32"], Ask(values={"examples": "32"}, take="last"))
    assert folder.frame["loss"][0] == pytest.approx(frames[0]["loss"].iloc[0], rel=1e-6)


# ------------------------------------------------------------------------------------------------------ what goes wrong


def test_an_unfinished_run_is_flagged_and_an_early_stop_is_not(sweep: Path) -> None:
    folder = sweep / "lora-n64-s0"
    state = json.loads((folder / "trainer_state.json").read_text())
    cut = [entry for entry in state["log_history"] if "train_runtime" not in entry][:-1]
    rewritten(folder, log_history=cut, global_step=24)
    assert one(folder)["flag"] == "unfinished: step 24 of 32"
    rewritten(folder, stateful_callbacks={"TrainerControl": {"args": {"should_training_stop": True}}})
    assert "flag" not in one(folder)


def test_a_diverged_run_is_flagged(sweep: Path) -> None:
    rewritten(sweep / "lora-n64-s0", log_history=[{"step": 1, "eval_loss": 2.0}, {"step": 2, "eval_loss": math.nan}])
    found = import_runs("trainer", [sweep], Ask(pattern=NAMED))
    assert len(found.runs.usable) == 12
    flags = found.frame.set_index("run")["flag"].dropna()
    assert flags.to_dict() == {"lora-n64-s0": "diverged: its last evaluation is no number"}


def test_the_newest_checkpoint_is_read_where_no_state_was_saved(sweep: Path) -> None:
    folder = sweep / "lora-n64-s0"
    whole = (folder / "trainer_state.json").read_text()
    (folder / "trainer_state.json").unlink()
    for step, text in ((8, "{"), (16, json.dumps(json.loads(whole) | {"global_step": 16})), (32, whole)):
        (folder / f"checkpoint-{step}").mkdir()
        (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(text)
    assert one(folder)["steps"] == 32
    (folder / "checkpoint-32" / "trainer_state.json").write_text(whole[:200])
    found = import_runs("trainer", [folder], Ask(values={"examples": "64"}))
    assert found.frame["steps"][0] == 16
    assert "a trainer_state.json could not be read; an older one was taken" in found.notes


def test_folders_that_cannot_be_runs_are_named_with_the_reason(sweep: Path) -> None:
    (sweep / "lora-n32-s0" / "trainer_state.json").unlink()
    (sweep / "lora-n32-s1" / "trainer_state.json").write_text('{"log_history": [')
    rewritten(sweep / "lora-n64-s0", log_history=[{"loss": 1.0, "step": 3}])
    found = import_runs("trainer", [sweep], Ask(pattern=NAMED))
    why = {one.place.name: one.why for one in found.skipped}
    assert "trainer.save_state() writes it" in why["lora-n32-s0"]
    assert "is no whole JSON" in why["lora-n32-s1"]
    assert "has no eval_loss" in why["lora-n64-s0"]
    assert len(found.frame) == 10
    assert "lora-n32-s1" in str(found)


def test_the_state_file_itself_means_its_folder_and_any_name_is_a_name(sweep: Path) -> None:
    odd = sweep / "任务 „ü“ n64;$(x)"
    (sweep / "lora-n64-s0").rename(odd)
    found = import_runs("trainer", [odd / "trainer_state.json"], Ask(pattern=r"n(?P<examples>\d+)"))
    assert found.frame[["run", "examples"]].to_numpy().tolist() == [[odd.name, 64]]
    assert import_runs("trainer", [odd], Ask(values={"examples": "20_000"})).frame["examples"][0] == 20_000
    assert import_runs("trainer", [odd], Ask(values={"examples": "2k"})).frame["examples"][0] == 2000


def test_a_run_is_taken_once_whatever_leads_to_it_and_runs_called_alike_are_all_taken(sweep: Path) -> None:
    found = import_runs("trainer", [sweep, sweep / "lora-n64-s0", sweep.parent], Ask(pattern=NAMED))
    assert len(found.frame) == 13
    other = Path(shutil.copytree(sweep / "lora-n64-s0", sweep.parent / "more-n9-s9" / "lora-n64-s0"))
    both = import_runs("trainer", [sweep / "lora-n64-s0", other], Ask(pattern=NAMED)).frame
    assert both["run"].nunique() == 2
    assert both["examples"].tolist() == [64, 64], "what tells them apart does not stand before their names"
    table = sweep.parent / "own.csv"
    table.write_text("run,examples,loss\na,10,2.0\na,20,1.5\na,40,1.2\n")
    rows = import_runs("table", [table, table]).frame
    assert rows["loss"].tolist() == [2.0, 1.5, 1.2]
    assert rows["run"].is_unique


def test_a_pickle_is_never_opened(sweep: Path) -> None:
    (sweep / "full-n32-s0" / "training_args.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/opened'\ntR.")
    found = import_runs("trainer", [sweep / "full-n32-s0"], Ask(values={"examples": "32"}))
    assert any("is a pickle and is not opened" in note for note in found.notes)
    assert "seed" in {unknown.column for unknown in found.unknown}


# ---------------------------------------------------------------------------------------------- what is told besides


def test_a_table_of_facts_and_values_take_the_place_of_what_is_there(sweep: Path) -> None:
    facts = sweep.parent / "facts.csv"
    names = sorted(folder.name for folder in sweep.iterdir())
    pd.DataFrame({"run": names, "examples": range(100, 100 + len(names))}).to_csv(facts, index=False)
    found = import_runs("trainer", [sweep], Ask(values={"base": "tiny"}, facts=facts))
    assert found.frame.set_index("run")["examples"].to_dict() == dict(zip(names, range(100, 113), strict=True))
    assert set(found.frame["base"]) == {"tiny"}
    assert found.notes["base: what you gave took the place of what the source says"] == 8


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (Ask(values={"Examples": "3"}), "did you mean 'examples'"),
        (Ask(values={"examples": "many"}), "is not a number"),
        (Ask(values={"examples": "nan"}), "is not a number"),
        (Ask(pattern="n("), "is no regular expression"),
        (Ask(pattern=r"n(\d+)"), "has no named group"),
        (Ask(pattern=r"x(?P<examples>\d+)"), "is found in no run's name"),
        (Ask(pattern=r"(?P<examples>lora|full)"), "which is no number"),
        (Ask(values={"examples": "3"}, columns={"n_trian": "examples"}), "is nothing these runs tell"),
        (Ask(values={"examples": "3"}, loss="eval_lss"), "did you mean 'eval_loss'"),
        (Ask(values={"examples": "3"}, take="first"), "--take first"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_meant_is_a_fault_with_the_way_out(ask: Ask, says: str) -> None:
    with pytest.raises(InputError, match=says):
        import_runs("trainer", [TRAINER], ask)


def test_the_table_is_written_whole_or_not_at_all(sweep: Path, capsys) -> None:
    for out, says in (("runs.xlsx", "is no kind of table"), ("no/where.csv", "in a folder that is not there")):
        assert call(["import", "trainer", str(sweep), "-o", str(sweep.parent / out), "--from-name", NAMED]) == 1
        assert says in capsys.readouterr().err
    assert call(["import", "trainer", str(sweep), "-o", str(sweep.parent / "runs.csv")]) == 1
    assert "--from-name" in capsys.readouterr().err
    assert not (sweep.parent / "runs.csv").exists()


def test_a_source_that_is_unknown_names_those_there_are(capsys) -> None:
    assert call(["import", "trainr", "x", "-o", "y.csv"]) == 1
    assert "did you mean 'trainer'?" in capsys.readouterr().err
    assert call(["list", "sources", "--json"]) == 0
    assert "mlflow" in json.loads(capsys.readouterr().out)


# ----------------------------------------------------------------------------------------------------------- histories


@given(count=st.integers(4, 60), every=st.integers(1, 500), lost=st.data())
@settings(max_examples=60, deadline=None)
def test_evaluations_lost_from_a_regular_history_are_counted(count: int, every: int, lost: st.DataObject) -> None:
    steps = [every * (index + 1) for index in range(count)]
    assert gaps(steps, steps[-1]) == ""
    gone = lost.draw(st.integers(2, count - 2))
    if count >= 5:
        assert f"lacks 1 of {count}" in gaps(steps[:gone] + steps[gone + 1 :], steps[-1])


@given(rows=st.integers(1, 3000), epochs=st.integers(1, 9), seconds=st.floats(0.5, 40))
@settings(max_examples=200, deadline=None)
def test_rows_that_follow_from_speeds_hold_the_truth(rows: int, epochs: int, seconds: float) -> None:
    speed = round(rows * epochs / seconds, 3)  # as transformers' speed_metrics rounds
    log = {"train_runtime": round(seconds, 4), "train_samples_per_second": speed, "epoch": float(epochs)}
    found = rows_from_speed(log, epochs)
    assert found is None or found[0] <= rows <= found[1]
    assert rows_from_speed(log | {"epoch": epochs - 0.5}, epochs) is None


def test_a_history_that_ends_early_is_told_from_two_evaluations_or_one() -> None:
    assert gaps([64, 128], 256) == "ends at step 128 of 256"
    assert gaps([64], 256) == "ends at step 64 of 256"
    assert gaps([64, 128], 130) == gaps([100], 110) == gaps([], 10) == ""
