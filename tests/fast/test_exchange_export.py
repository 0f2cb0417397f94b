"""What is handed on comes back as it was: tables, MLflow, W&B offline, and the metadata of a model card."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finescale.cli import call
from finescale.errors import InputError, Refused
from finescale.exchange.ask import Ask
from finescale.exchange.gather import import_runs
from finescale.exchange.hand_on import Handed, exporter, handed, names
from finescale.exchange.tables import write_table

ODD = "任务 “ü”, |a|=b; <b>"


def runs(count: int = 6) -> pd.DataFrame:
    """Runs with every canonical column, one of them flagged, one without a PET size."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"task": ODD, "method": ["lora", "full"] * (count // 2), "base": "tiny@main"})
    frame["model_params"] = 2.6e6
    frame["pet_params"] = [544.0, np.nan] * (count // 2)
    frame["examples"] = 100.0 * 2.0 ** np.arange(count)
    frame["loss"] = random.uniform(1, 2, count)
    frame["seed"] = np.arange(count)
    frame["learning_rate"] = 1e-3 / 3
    frame["chrf"] = random.uniform(10, 60, count)
    frame["run"] = [f"run-{index}" for index in range(count)]
    frame["flag"] = [""] * (count - 1) + ["diverged"]
    return frame


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """The same runs, cell by cell; what says nothing may be an empty word or missing."""
    found, wanted = (frame.sort_values("run").reset_index(drop=True) for frame in (found, wanted))
    for name in wanted:
        left, right = (frame[name].replace("", np.nan) for frame in (found, wanted))
        pd.testing.assert_series_equal(left, right, check_dtype=False, check_exact=True)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_comes_back_as_it_was(suffix: str, tmp_path: Path) -> None:
    source, out = tmp_path / "runs.parquet", tmp_path / f"out{suffix}"
    runs().to_parquet(source)
    assert call(["export", "table", str(source), "--to", str(out)]) == 0
    same(import_runs("table", [out]).frame, runs())


WORD = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(lambda word: word.strip() == word)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.floats(1e-3, 1e3), WORD), min_size=1, max_size=20))
def test_any_losses_and_words_survive_a_table(rows: list[tuple[float, str]], tmp_path: Path) -> None:
    loss, words = zip(*rows, strict=True)
    frame = pd.DataFrame({"task": [f"t{word}" for word in words], "loss": loss})
    frame["examples"] = [10.0 * (n + 1) for n in range(len(loss))]
    frame["run"] = [str(n) + "r" for n in range(len(loss))]
    for suffix in (".parquet", ".csv"):
        write_table(frame, tmp_path / f"runs{suffix}")
        same(import_runs("table", [tmp_path / f"runs{suffix}"]).frame, frame)


@pytest.mark.parametrize("tool", ["mlflow", "wandb"])
def test_a_tracker_gives_back_what_it_was_given(tool: str, tmp_path: Path) -> None:
    pytest.importorskip(tool)
    write_table(runs(), tmp_path / "runs.parquet")
    place = tmp_path / "tracked"
    assert call(["export", tool, str(tmp_path / "runs.parquet"), "--to", str(place), "--title", "numbers"]) == 0
    found = import_runs(tool, [place], Ask(take="last"))
    same(found.frame, runs().drop(columns="chrf"))
    assert len(found.runs.usable) == 5
    scored = import_runs(tool, [place], Ask(loss="100 - chrf")).frame.sort_values("run")
    assert scored["loss"].tolist() == pytest.approx((100 - runs()["chrf"]).tolist())


def test_a_tool_that_is_not_installed_is_refused_with_what_to_install(tmp_path: Path, monkeypatch) -> None:
    for tool in ("mlflow", "wandb", "huggingface_hub"):
        monkeypatch.setitem(__import__("sys").modules, tool, None)
    for name in ("mlflow", "wandb", "card"):
        with pytest.raises(Refused, match="pip install"):
            exporter(name).write(runs(), "title", str(tmp_path / "out"))


def test_a_card_holds_what_the_hub_reads_and_keeps_what_was_there(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    write_table(runs(), tmp_path / "runs.parquet")
    path = tmp_path / "README.md"
    path.write_text("---\nlicense: apache-2.0\ntags:\n- mine\n---\n\n# My model\n\nWritten by hand.\n")
    for _ in range(2):  # a second time changes nothing
        assert call(["export", "card", str(tmp_path / "runs.parquet"), "--to", str(path), "--title", "tiny-lora"]) == 0
        card = hub.ModelCard.load(path)
        best = runs().iloc[:-1].sort_values("loss").iloc[0]
        assert [result.metric_value for result in card.data.eval_results] == [best["loss"]]
        assert card.data.eval_results[0].dataset_name == ODD
        assert (card.data.license, card.data.tags) == ("apache-2.0", ["mine"])
        assert "Written by hand." in card.text
        assert card.text.count("## Finetuning runs") == 1
        assert "<b>" not in card.text
    new = tmp_path / "NEW.md"
    assert call(["export", "card", str(tmp_path / "runs.parquet"), "--to", str(new), "--title", "tiny-lora"]) == 0
    assert hub.ModelCard.load(new).data.model_name == "tiny-lora"


def test_what_cannot_be_handed_on_is_refused(tmp_path: Path, capsys) -> None:
    write_table(runs(), tmp_path / "runs.parquet")
    assert call(["export", "mlfow", str(tmp_path / "runs.parquet"), "--to", "x"]) == 1
    assert "did you mean 'mlflow'?" in capsys.readouterr().err
    assert call(["export", "table", str(tmp_path / "none.csv"), "--to", "x.csv"]) == 1
    assert "is not there" in capsys.readouterr().err
    with pytest.raises(InputError, match="cannot be written"):
        write_table(pd.DataFrame({"a": [{1: object()}]}), tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(InputError, match="no usable run"):
        exporter("card").write(runs().assign(flag="diverged"), "t", str(tmp_path / "card.md"))


@pytest.mark.parametrize("tool", ["card", "mlflow", "table", "wandb"])
def test_a_place_that_cannot_be_is_named_before_runs_are_written(
    tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").mkdir()
    (tmp_path / "b.csv").write_text("mine")
    (tmp_path / "no-runs.csv").write_text("loss\n")
    before = sorted(tmp_path.rglob("*"))
    wrong = {"no/where.csv": "is in a folder that is not there — make it first"}
    wrong |= {"a.csv": "is a folder"} if tool in ("card", "table") else {"b.csv": "is a file — name a folder"}
    for name, says in wrong.items():
        assert call(["export", tool, str(tmp_path / "no-runs.csv"), "--to", str(tmp_path / name)]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert says in said
        assert "column 'examples': is missing" in said, "every fault at once"
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("tool", ["mlflow", "wandb"])
def test_an_export_that_is_ended_half_way_leaves_what_was_there(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(tool)
    place = tmp_path / "tracked"
    for earlier in (0, 5):
        module = import_module(f"finescale.exchange.exporters.{tool}")
        whole = module.handed
        with monkeypatch.context() as patch:
            patch.setattr(module, "handed", lambda frame, whole=whole: half(whole(frame)))
            with pytest.raises(KeyboardInterrupt):
                exporter(tool).write(runs(), "numbers", str(place))
        found = import_runs(tool, [place], Ask(take="last")).runs.usable if earlier else ()
        assert len(found) == earlier
        assert [path.name for path in tmp_path.iterdir()] == (["tracked"] if earlier else [])
        exporter(tool).write(runs(), "numbers", str(place))
    assert len(import_runs(tool, [place], Ask(take="last")).runs.usable) == 10
    assert len(list(place.rglob("offline-run-*" if tool == "wandb" else "metrics"))) >= 10
    assert not [path for path in place.rglob("meta.yaml") if ".part" in path.read_text()]


def half(given: list[Handed]) -> Iterator[Handed]:
    yield from given[:2]
    raise KeyboardInterrupt


def test_every_exporter_says_what_it_is() -> None:
    assert names() == ["card", "mlflow", "table", "wandb"]
    assert all(exporter(name).name == name for name in names())


def test_settings_and_scores_are_parted_by_name() -> None:
    run = handed(runs())[0]
    assert run.scores.keys() == {"loss", "chrf"}
    assert run.settings["examples"] == 100
    assert run.flag == ""


def test_what_others_measured_stays_on_a_card(tmp_path: Path) -> None:
    """Results and the name that a card has already are its owner's; those of an earlier export are replaced."""
    hub = pytest.importorskip("huggingface_hub")
    frame = pd.DataFrame({"task": "t", "method": "lora", "examples": [64.0, 128.0], "loss": [1.5, 1.25]})
    own = hub.EvalResult("question-answering", "squad", "squad", "f1", 88.0, metric_name="F1")
    card = hub.ModelCard.from_template(
        hub.ModelCardData(model_name="mine", eval_results=[own]), template_str="---\n{{ card_data }}\n---\n\nText."
    )
    card.save(tmp_path / "README.md")
    for lowest in (1.25, 1.0):
        frame.loc[1, "loss"] = lowest
        exporter("card").write(frame, "study", str(tmp_path / "README.md"))
        after = hub.ModelCard.load(tmp_path / "README.md")
        assert after.data.model_name == "mine"
        assert sorted(result.metric_value for result in after.data.eval_results) == [lowest, 88.0]
        assert "Text." in after.text
