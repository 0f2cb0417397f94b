"""The study files in ``studies/``: each plans, says what it costs, and asks what it means to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finescale.errors import InputError
from finescale.lab.corpora import cache
from finescale.lab.ladder import count
from finescale.study import config
from finescale.study.design import summarise
from finescale.study.lock import preview
from finescale.study.place import settle

ROOT = Path(__file__).parent.parent.parent
STUDIES = sorted((ROOT / "studies").glob("*.toml"))


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "cache"))
    assert not cache.cache_folder().exists()


def steps_of(name: str, kind: Any) -> list[Any]:
    return [step.spec for step in preview(ROOT / "studies" / f"{name}.toml").plan.of(kind)]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_plans_without_its_data(path: Path) -> None:
    told: list[str] = []
    study = preview(path, told.append)
    summary = summarise(study)
    assert summary.steps["run"] > 0
    assert summary.flops["finetune"] > 0
    assert summary.memory["run"] > 0
    assert study.spec.question
    assert any("not here yet" in line for line in told)
    assert path.read_text().startswith("# "), "a comment says what is asked and what it costs"


def test_the_page_of_studies_lists_them_all() -> None:
    page = (ROOT / "studies" / "README.md").read_text()
    assert [path.name for path in STUDIES if f"({path.name})" not in page] == []


def test_designs_of_pretraining_differ_by_the_design_alone() -> None:
    specs = [config.read(ROOT / "studies" / f"pretraining-{name}.toml") for name in ("size", "checkpoints", "separate")]
    bare = [
        spec.model_copy(update={"base": spec.base.model_copy(update={"pretraining": "branches"})}) for spec in specs
    ]
    assert bare[0] == bare[1] == bare[2]
    assert len({spec.base.pretraining for spec in specs}) == 3


def test_the_papers_grid_is_that_of_its_tables() -> None:
    """Zhang et al. 2024, Tables 1 and 3, and section 3: at most 200K steps or 100 epochs, whichever is first."""
    bases = {base.name: base for base in steps_of("paper", "base")}
    assert [bases[name].shape.layers for name in ("1B", "2B", "4B", "8B", "16B")] == [16, 20, 24, 32, 40]
    assert all(base.shape.kv_heads == 1 and base.shape.ff == 4 * base.shape.width for base in bases.values())
    assert {base.name for base in steps_of("paper", "base") if base.scheduled_tokens} == {"1B"}
    runs = steps_of("paper", "run")
    steps = {(run.task.name, run.method.name, run.examples): run.recipe.steps(run.examples) for run in runs}
    assert steps["wmt14-de-en", "lora", 8_000] == 50_000, "100 epochs of 8,000 at 16 a step"
    assert steps["wmt14-de-en", "prompt", 100_000] == 200_000, "the cap"
    assert steps["wmt14-de-en", "full", 100_000] == 78_125, "100 epochs of 100,000 at 128 a step"
    assert {run.method.pet_size for run in runs if run.method.name == "prompt"} == {50, 100, 150, 200, 300, 400, 600}
    assert max(run.examples for run in runs if run.task.name == "mlsum") == 900_000
    chinese = [run for run in steps_of("paper-en-zh", "run") if run.method.name == "full"]
    assert {run.recipe.max_steps for run in chinese} == {300_000}
    assert {run.examples for run in chinese} >= {1_000_000, 25_000_000}


@pytest.mark.parametrize("name", ["paper", "paper-en-zh", "pythia"])
def test_what_nobody_here_can_run_says_its_hours_memory_and_devices(name: str) -> None:
    summary = summarise(preview(ROOT / "studies" / f"{name}.toml", lambda _: None))
    assert summary.seconds is not None
    assert f"left on {summary.workers} workers" in str(summary)
    assert f"if a worker keeps up {110 if 'paper' in name else 125} TFLOP/s" in str(summary)
    assert summary.device_gb is not None
    assert "activations" in str(summary)
    if "paper" in name:  # in fp32: weights, their gradients, the best weights so far and a copy of them
        largest = max(count(base.shape).total for base in steps_of(name, "base"))
        assert summary.devices["base"] > 4 * 4 * largest / (summary.device_gb * 1e9)


def test_the_miniature_has_the_four_factors_three_methods_and_three_tasks() -> None:
    runs, bases = steps_of("miniature", "run"), steps_of("miniature", "base")
    assert len({run.task.name for run in runs}) == len({run.method.name for run in runs}) == 3
    assert len({base.shape.width for base in bases}) >= 5
    assert len({base.pretrain_tokens for base in bases}) >= 4
    assert len({run.method.pet_size for run in runs if run.method.name == "lora"}) >= 4
    where = {run.base for run in runs if run.method.pet_size == 64}
    assert len(where) == 2, "PET sizes vary on more than one base"


def test_a_study_file_is_settled_into_a_folder_of_its_name(tmp_path: Path) -> None:
    pattern = ROOT / "studies" / "own-data.toml"
    folder = settle(pattern, tmp_path)
    assert folder == tmp_path / "own-data"
    assert config.read(folder) == config.read(pattern)
    assert (folder / "own-data.jsonl").read_bytes() == (ROOT / "studies" / "own-data.jsonl").read_bytes()
    assert settle(pattern, tmp_path) == folder, "the same file continues it"
    assert settle(folder) == folder == settle(folder / "study.toml")


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    pattern = tmp_path / "mine.toml"
    pattern.write_text((ROOT / "studies" / "examples.toml").read_text())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match="is no study"):
        settle(pattern, tmp_path)
    folder = settle(pattern, tmp_path / "elsewhere")
    pattern.write_text(pattern.read_text() + "\n")
    with pytest.raises(InputError, match="is not what"):
        settle(pattern, tmp_path / "elsewhere")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    assert folder.exists()


def test_data_outside_the_files_folder_is_not_copied(tmp_path: Path) -> None:
    toml = (ROOT / "studies" / "own-data.toml").read_text()
    (tmp_path / "rows.jsonl").write_bytes((ROOT / "studies" / "own-data.jsonl").read_bytes())
    (tmp_path / "in").mkdir()
    pattern = tmp_path / "in" / "mine.toml"
    pattern.write_text(toml.replace("own-data.jsonl", "../rows.jsonl"))
    with pytest.raises(InputError, match="whole path"):
        settle(pattern, tmp_path)
    assert not (tmp_path / "mine").exists()
    pattern.write_text(toml.replace("own-data.jsonl", str(tmp_path / "rows.jsonl")))
    assert settle(pattern, tmp_path) == tmp_path / "mine"
