"""What each source alone tells, and what is said of one that is cut off, sampled, limited or failed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from finescale.errors import InputError
from finescale.exchange.ask import Ask
from finescale.exchange.disk import Unreadable, tensor_sizes
from finescale.exchange.events import read_events
from finescale.exchange.gather import import_runs
from finescale.exchange.known import adapter, base, weights
from finescale.exchange.offline import read_offline

GOLDEN = Path(__file__).parent.parent / "golden" / "exchange"
NAMED = Ask(pattern=r"n(?P<examples>\d+)")


def test_lm_eval_tells_bits_per_byte_in_nats_and_that_it_was_limited() -> None:
    found = import_runs("lm-eval", [GOLDEN / "lm_eval"], NAMED)
    whole = json.loads(next((GOLDEN / "lm_eval" / "whole").iterdir()).read_text())
    bits = whole["results"]["numbers"]["bits_per_byte,none"]
    assert found.frame["loss"].tolist()[1] == pytest.approx(bits * math.log(2))
    assert found.frame["eval_examples"].tolist() == [5, 12]
    assert "scored on the first 5 of 12 examples only (limit)" in found.notes
    other = import_runs("lm-eval", [GOLDEN / "lm_eval"], Ask(pattern=NAMED.pattern, loss="byte_perplexity,none"))
    assert other.loss.startswith("byte_perplexity,none")


def test_an_event_file_that_is_cut_off_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    source = next((GOLDEN / "tensorboard" / "lora-n32").iterdir())
    whole = read_events(source)
    assert not whole.cut
    assert len(whole.scalars["eval/loss"]) == 4
    folder = tmp_path / "lora-n32"
    folder.mkdir()
    (folder / source.name).write_bytes(source.read_bytes()[:-40])
    found = import_runs("tensorboard", [tmp_path], NAMED)
    assert any("is cut off or damaged" in note for note in found.notes)
    flipped = bytearray(source.read_bytes())
    flipped[-30] ^= 1
    (folder / source.name).write_bytes(flipped)
    assert read_events(folder / source.name).cut, "a checksum that does not fit"
    (folder / source.name).write_bytes(b"not events at all" * 9)
    with pytest.raises(InputError, match="is no event file"):
        import_runs("tensorboard", [tmp_path], NAMED)


def test_wandbs_own_file_has_the_whole_history_and_an_export_its_end(tmp_path: Path) -> None:
    path = next((GOLDEN / "wandb").glob("*.wandb"))
    run = read_offline(path)
    assert (run.exit, run.cut, len(run.history["eval/loss"])) == (0, False, 4)
    folder = import_runs("wandb", [GOLDEN / "wandb"], Ask(values={"examples": "32"}, take="last"))
    table = import_runs("wandb", [GOLDEN / "wandb" / "project.csv"], NAMED).frame.sort_values("examples")
    assert folder.frame["loss"][0] in table["loss"].tolist()
    assert (folder.frame["method"][0], folder.frame["pet_size"][0]) == ("lora", 2)
    (tmp_path / path.name).write_bytes(path.read_bytes()[:-400])
    cut = import_runs("wandb", [tmp_path], Ask(values={"examples": "32"}))
    assert cut.frame["flag"].tolist() == ["W&B calls it crashed"]


def test_a_sampled_history_is_no_table_of_runs(tmp_path: Path) -> None:
    path = tmp_path / "wandb_export.csv"
    path.write_text("Step,run-a - eval/loss,run-a - eval/loss__MIN,run-a - eval/loss__MAX\n0,2.5,2.4,2.6\n")
    with pytest.raises(InputError, match="so that it was sampled"):
        import_runs("wandb", [path], Ask(values={"examples": "1"}))


def test_an_export_that_calls_code_is_not_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "project.csv"
    path.write_text("name,config,summary\na,\"__import__('os').getcwd()\",\"{'eval/loss': 1.0}\"\n")
    with pytest.raises(InputError, match="no mapping of plain values"):
        import_runs("wandb", [path], Ask(values={"examples": "1"}))


def test_mlflows_store_gives_histories_failures_and_other_names() -> None:
    found = import_runs("mlflow", [GOLDEN / "mlflow_store"], Ask(columns={"n_train": "examples"}))
    frame = found.frame.set_index("run")
    assert frame["loss"].to_dict() == {"lora-100": 2.1, "lora-400": 1.8, "lora-1600": 2.0}
    assert frame["flag"].dropna().to_dict() == {"lora-1600": "MLflow calls it FAILED"}
    assert (frame["seed"] == 3).all()
    assert [one.why for one in found.skipped] == ["was deleted in MLflow"]
    plain = import_runs("mlflow", [GOLDEN / "mlflow_store"], Ask(values={"examples": "1"}))
    assert plain.varying == ("n_train",), "what differs and is no column is named"


def test_mlflows_database_is_read_as_its_folder_is(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("x"), run_name="lora-n100").info.run_id
    client.log_param(run, "method", "lora")
    for step, loss in enumerate((2.5, 2.0, 2.2)):
        client.log_metric(run, "eval_loss", loss, step=step)
    client.set_terminated(run)
    found = import_runs("mlflow", [tmp_path / "mlflow.db"], NAMED).frame
    assert found[["method", "examples", "loss"]].to_numpy().tolist() == [["lora", 100, 2.0]]


def test_a_database_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("nothing of the kind, and long enough to be looked at" * 9)
    with pytest.raises(InputError, match="is no store of MLflow"):
        import_runs("mlflow", [tmp_path / "mlflow.db"], NAMED)


def test_kin_of_trainer_tell_what_they_wrote_into_card_and_settings() -> None:
    axolotl = import_runs("axolotl", [GOLDEN / "axolotl"], Ask(values={"examples": "64"})).frame.iloc[0]
    assert (axolotl["method"], axolotl["base"], axolotl["learning_rate"]) == ("lora", "tiny", 0.02)
    board = import_runs("llama-factory", [GOLDEN / "llama_factory"], Ask(columns={"max_samples": "examples"})).frame
    assert board[["task", "method", "base", "examples"]].to_numpy().tolist() == [["numbers", "lora", "tiny", 64]]
    implied = import_runs("llama-factory", [GOLDEN / "llama_factory"], Ask(accept=("examples",))).frame
    assert implied["examples"].tolist() == [64], "what the logged speeds imply is what was trained on"


def test_the_comparison_has_no_test_loss_and_is_asked_which_score_is_one() -> None:
    with pytest.raises(InputError, match="--loss '1 - NAME' where higher is better; scores: test accuracy"):
        import_runs("peft-comparison", [GOLDEN / "peft_comparison"], Ask(values={"examples": "9"}))
    asked = Ask(values={"examples": "9"}, loss="1 - test accuracy")
    frame = import_runs("peft-comparison", [GOLDEN / "peft_comparison"], asked).frame
    assert frame["loss"].tolist() == [0.75, 0.75]
    assert set(frame["method"]) == {"lora", "full"}


@pytest.mark.parametrize(
    ("config", "method", "size"),
    [
        ({"peft_type": "LORA", "r": 8, "lora_alpha": 16}, "lora", 8),
        ({"peft_type": "LORA", "r": 8, "use_dora": True}, "dora", 8),
        ({"peft_type": "PeftType.LORA", "r": 4, "use_rslora": True}, "rslora", 4),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 20, "r": None}, "prompt", 20),
        ({"peft_type": "IA3"}, "ia3", None),
        ({}, None, None),
    ],
)
def test_an_adapters_settings_name_its_method_and_size(config: dict, method: str | None, size: int | None) -> None:
    found = adapter(config)
    assert (found.get("method"), found.get("pet_size")) == (method, size)


def test_a_known_familys_sizes_come_from_its_table_and_an_odd_name_from_nowhere() -> None:
    found = base("EleutherAI/pythia-70m", "step143000")
    assert (found["model_params"], found["pretrain_tokens"]) == (18_915_328, 143_000 * 2_097_152)
    bare = base("EleutherAI/pythia-70m")
    assert (bare["model_params"], "pretrain_tokens" in bare) == (18_915_328, False), "which checkpoint is not said"
    for odd in ("", "x" * 9000, "a\0b", "~nobody/there", "../" * 50, None, 3, {"a": 1}):
        assert set(base(odd)) <= {"base"}


def test_headers_of_safetensors_are_read_with_care(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(GOLDEN / "trainer" / "full-n32-s0" / "model.safetensors", path)
    assert sum(tensor_sizes(path).values()) == 4656
    assert weights(tmp_path)["total_params"] == 4656
    for content in (b"", b"\xff" * 8, (2**40).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]"):
        path.write_bytes(content)
        with pytest.raises(Unreadable):
            tensor_sizes(path)
        assert weights(tmp_path) == {}
