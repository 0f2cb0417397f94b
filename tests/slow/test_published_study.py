"""A study of published models runs to its page: local folders and a cached hub repository, without a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "fast"))

import local_hub  # noqa: E402
from tiny_corpus import write_tiny_corpus  # noqa: E402

from finescale.core import PublicBase  # noqa: E402
from finescale.errors import InputError  # noqa: E402
from finescale.lab.corpora import cache  # noqa: E402
from finescale.study import config, files, lock  # noqa: E402
from finescale.study.analyse import analyse  # noqa: E402
from finescale.study.families import public_base  # noqa: E402
from finescale.study.lock import Study  # noqa: E402
from finescale.study.plan import Digests  # noqa: E402
from finescale.study.run import run  # noqa: E402

pytestmark = pytest.mark.slow
TOML = """
schema = 1
question = "Does it work on models that were made elsewhere?"
[data]
stream_tokens = 60_000
[base]
models = [MODELS]
context = 256
[tasks.mt-en-de]
max_source_tokens = 110
max_target_tokens = 110
[finetune]
tasks = ["mt-en-de"]
examples = [8, 16, 32]
dev_examples = 8
test_examples = 12
recipe = { batch_examples = 4, min_steps = 4, dev_checks = 2 }
[methods.full]
learning_rate = [1e-3, 3e-3]
[methods.dora]
rank = 2
learning_rate = 1e-2
[methods.ia3]
learning_rate = 3e-2
[methods.prompt]
length = 4
learning_rate = 3e-2
[rate_search]
examples = 8
[evaluate]
metrics = ["chrf"]
decoded = 4
probes = ["text:de"]
[run]
keep = "adapters"
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Two models: one in a folder, one in the hub's cache."""
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    local_hub.save(tmp_path / "made here", "llama")
    local_hub.publish(tmp_path / "hub", "made/neox", "step7", "gpt_neox", seed=3)
    folder = tmp_path / "study"
    folder.mkdir()
    models = f'"{tmp_path / "made here"}", "made/neox@step7"'
    (folder / "study.toml").write_text(TOML.replace("MODELS", models))
    spec = config.read(folder)
    corpus = cache.find(write_tiny_corpus(tmp_path / "cache", documents=400))
    lock.check_models(spec.base.models, (), lambda line: None)
    tasks = files.digests(spec.tasks, spec.task_names, folder)
    models_of = {name: public_base(name) for name in spec.base.models}
    return Study(folder, spec, Digests(corpus=corpus.digest, tasks=tasks, models=models_of), corpus.manifest)


def test_models_made_elsewhere_are_studied_to_the_end(study: Study, tmp_path: Path) -> None:
    outcome = run(study, workers=2)
    assert {id: why.details for id, why in outcome.failed.items()} == {}
    assert outcome.complete
    runs = study.table()
    assert len(runs) == 2 * 4 * 3
    assert runs["loss"].notna().all()
    assert set(runs["base"]) == {f"made here@{public_base(study.spec.base.models[0]).revision}", "made/neox@step7"}
    assert runs["pretrain_tokens"].isna().all(), "nobody says how long these were trained"
    for step in study.plan.of("base"):
        assert isinstance(step.spec, PublicBase)
        own = runs[runs["base"] == f"{step.spec.name}@{step.spec.revision}"]
        assert set(own["model_params"]) == {step.spec.model_params}
    adapters = sorted(study.folder.glob("runs/*/adapter/adapter_config.json"))
    assert len(adapters) == 2 * 3 * 3
    assert {json.loads(path.read_text())["peft_type"] for path in adapters} == {"LORA", "IA3", "PROMPT_TUNING"}
    found = analyse(lock.open_study(study.folder))
    assert len(found.bases) == 2
    assert found.bases["branch_share"].isna().all()
    (tmp_path / "made here").rename(tmp_path / "gone")
    assert len(lock.open_study(study.folder).table()) == len(runs), "reading a study needs no model"


def test_a_model_of_its_own_code_is_studied_where_the_study_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    model, folder = local_hub.save_with_code(tmp_path / "own", tmp_path / "was run"), tmp_path / "study"
    folder.mkdir()
    asked = TOML.replace("MODELS", f'"{model}"').replace("[base]", f'[base]\ntrust_remote_code = ["{model}"]')
    asked = asked.replace("[8, 16, 32]", "[8]").replace('"adapters"', '"best"')
    asked = asked.replace("[methods.ia3]\nlearning_rate = 3e-2\n", "")  # PEFT has no table of its layers
    (folder / "study.toml").write_text(asked)
    spec = config.read(folder)
    corpus = cache.find(write_tiny_corpus(tmp_path / "cache", documents=400))
    models_of = {name: spec.base.published(name) for name in spec.base.models}
    study = Study(folder, spec, Digests(corpus=corpus.digest, tasks={}, models=models_of), corpus.manifest)
    outcome = run(study, workers=1)
    assert {id: why.details for id, why in outcome.failed.items()} == {}
    assert study.table()["loss"].notna().all()
    kept = next(folder.glob("runs/*/best/config.json"))
    assert json.loads(kept.read_text())["model_type"] == "own-llama"


def test_a_model_that_is_not_there_is_told_before_anything_is_run(study: Study) -> None:
    names = [*study.spec.base.models, "made/neox@step8", "/nowhere"]
    with pytest.raises(InputError) as caught:
        lock.check_models(names, (), lambda line: None)
    assert [fault.where for fault in caught.value.faults] == ["made/neox@step8", "/nowhere"]
