"""A run's evaluation from prepared text to record: probes, decoded answers, the untouched base, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_corpus import write_tiny_corpus

from finescale import registry
from finescale.core import (
    BaseSpec,
    DataSpec,
    EvaluateSpec,
    FinetuneRecipe,
    MethodSpec,
    PretrainRecipe,
    RunSpec,
    Score,
    Shape,
    TaskSpec,
)
from finescale.errors import InputError, Refused
from finescale.lab import answers as written
from finescale.lab import evaluate, model, prepare, probes, splits
from finescale.lab.answers import EvaluationSet
from finescale.lab.decode import decode
from finescale.lab.finetune import finetune
from finescale.lab.pretrain import pretrain

PROBES = ("fr-de", "fr-de@1", "text:en", "task:summarise")
METRICS = ("bleu", "chrf", "rouge-l")
RATES = ("degenerate-rate", "empty-rate", "repetition-rate", "wrong-language-rate", "too-long-rate")
SUMS = ("nll", "perplexity", "bits-per-byte")
SHAPE = Shape(layers=2, width=32, heads=2, ff=64, vocab=500, context=128)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskSpec]:
    """Tasks over the tiny corpus, which is in a cache of its own for as long as the module runs."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINESCALE_CACHE", str(cache))
        digest = write_tiny_corpus(cache)
        languages = {"summarise": ("en", "de", "zh"), "mt-en-de": ("de",)}
        yield {
            name: registry.get("task", name).spec(digest=digest, dev_examples=16, test_examples=30, languages=chosen)
            for name, chosen in languages.items()
        }


@pytest.fixture(scope="module")
def data(tasks: dict[str, TaskSpec], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    spec = DataSpec(
        corpus="tiny",
        corpus_digest=tasks["mt-en-de"].digest,
        languages=("en", "de"),
        vocab=500,
        context=128,
        stream_tokens=60_000,
        tasks=tuple(tasks.values()),
        probes=tuple(probes.parse(name, 12) for name in PROBES),
    )
    prepare.prepare(spec, out, {}, lambda _: None)
    return out


@pytest.fixture
def base(data: Path, made: Path, tmp_path: Path) -> Path:
    """A base of its own for a test, so that what is kept beside it is the test's."""
    out = tmp_path / "base"
    out.mkdir()
    for file in made.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    return out


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base")
    recipe = PretrainRecipe(batch_tokens=1024, warmup_tokens=4000)
    spec = BaseSpec(name="tiny", shape=SHAPE, data="d", pretrain_tokens=60_000, recipe=recipe, seed=0)
    (out / "record.json").write_text(json.dumps(pretrain(spec, out, data, None, lambda _: None)))
    return out


def run_spec(task: TaskSpec, **asked: Any) -> RunSpec:
    return RunSpec(
        base="b",
        task=task,
        method=MethodSpec(name="lora", pet_size=4),
        learning_rate=1e-2,
        examples=100,
        seed_subset=0,
        seed_init=0,
        seed_order=0,
        recipe=FinetuneRecipe(epochs=2, min_steps=20, dev_checks=2),
        evaluate=EvaluateSpec(**asked),
    )


def tuned(spec: RunSpec, data: Path, base: Path, out: Path) -> dict[str, Any]:
    out.mkdir()
    return finetune(spec, out, data, base, None, lambda _: None)


def named(scores: list[dict[str, Any]]) -> list[str]:
    return [Score(**score).metric for score in scores]


def test_a_run_has_every_score_of_its_task_and_probes_beside_the_untouched_base(
    tasks: dict[str, TaskSpec], data: Path, base: Path, tmp_path: Path
) -> None:
    spec = run_spec(tasks["mt-en-de"], metrics=METRICS, decoded=20, probes=PROBES)
    record = tuned(spec, data, base, tmp_path / "run")
    assert named(record["scores"]) == named(record["zero_scores"]) == [*SUMS, *METRICS, *RATES]
    assert list(record["probes"]) == list(PROBES)
    for name, found in record["probes"].items():
        wanted = [*SUMS, *METRICS, *RATES] if "fr-de" in name else list(SUMS)
        assert named(found["scores"]) == named(found["zero_scores"]) == wanted
    assert record["refused"] == {}
    assert (record["unique_examples"], record["epochs"]) == (100, pytest.approx(record["steps"] * 16 / 100))
    by_name = {score["metric"]: score for score in record["scores"]}
    assert (by_name["nll"]["n"], by_name["bleu"]["n"]) == (30, 20)
    assert "greedy-48-tokens|ends:line" in by_name["bleu"]["signature"]
    assert by_name["nll"]["value"] < record["zero_scores"][0]["value"]
    assert json.loads(json.dumps(record, allow_nan=False)) == record

    frame = pd.read_parquet(tmp_path / "run" / "decoded.parquet")
    assert frame["set"].value_counts().to_dict() == {"mt-en-de": 20, "fr-de": 12, "fr-de@1": 12}
    own = frame[frame["set"] == "mt-en-de"]
    assert own["rouge-l"].mean() == pytest.approx(by_name["rouge-l"]["value"])
    assert own["empty"].mean() == by_name["empty-rate"]["value"]
    assert set(own["language"]) == {"de"}


def test_what_the_untouched_base_gets_is_kept_and_found_again(
    tasks: dict[str, TaskSpec], data: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test, *_ = evaluate.sets_of(run_spec(tasks["mt-en-de"], metrics=METRICS, decoded=10), data)
    net = model.load(base)
    first = evaluate.untouched(net, base, test)
    assert first.scores == evaluate.judge(net, test).scores
    monkeypatch.delattr(evaluate, "rows")
    monkeypatch.delattr(written, "write")
    monkeypatch.delattr(written, "grade")
    assert evaluate.untouched(net, base, test).scores == first.scores
    assert not list(base.glob("*.aside"))


def test_one_refused_metric_stops_no_other_and_is_never_a_zero(
    tasks: dict[str, TaskSpec], data: Path, base: Path, tmp_path: Path
) -> None:
    spec = run_spec(tasks["mt-en-de"], metrics=("comet", "chrf", "bleurt"), decoded=8)
    record = tuned(spec, data, base, tmp_path / "run")
    assert set(record["refused"]) == {"comet", "bleurt"}
    assert all(f"finescale metrics install {name}" in why for name, why in record["refused"].items())
    assert named(record["scores"]) == [*SUMS, "chrf", *RATES]
    assert "bleurt" not in pd.read_parquet(tmp_path / "run" / "decoded.parquet").columns


def test_a_mixed_task_is_decoded_in_its_mix_and_each_answer_is_its_own_rows(data: Path, base: Path) -> None:
    test = EvaluationSet(data, "summarise", METRICS, decoded=10, limit=16)
    net = model.load(base)
    answers = written.write(net, test)
    assert sorted(answers.languages) == ["de"] * 3 + ["en"] * 6 + ["zh"]
    text, rows = splits.load_text(data, "summarise", "test"), test.examples()
    words = written.tokenizer.load(data)
    for source, prediction in zip(answers.sources, answers.predictions, strict=True):
        (place,) = np.flatnonzero(text["source"] == source)[:1]
        (alone,) = decode(net, [rows[place].prompt], 16)
        assert words.decode(alone.ids.tolist()).lstrip().partition("\n")[0].strip() == prediction


def test_decoding_more_than_there_is_decodes_all(data: Path, base: Path) -> None:
    assert len(written.write(model.load(base), EvaluationSet(data, "fr-de", decoded=500, limit=4))) == 12


def test_two_sets_with_the_same_name_are_told_apart_by_what_they_hold(data: Path, tmp_path: Path) -> None:
    assert EvaluationSet(data, "fr-de").key() != EvaluationSet(data, "fr-de@1").key()
    assert EvaluationSet(data, "mt-en-de").key("dev") != EvaluationSet(data, "mt-en-de").key("test")


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"metrics": ("bleu",)}, "bleu need decoded answers"),
        ({"metrics": ("bleuu",), "decoded": 5}, "did you mean 'bleu'"),
        ({"probes": ("german",)}, "spells no probe"),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_anything_is_trained(
    asked: dict[str, Any], match: str, tasks: dict[str, TaskSpec], data: Path
) -> None:
    with pytest.raises(InputError, match=match):
        evaluate.sets_of(run_spec(tasks["mt-en-de"], **asked), data)


def test_without_anything_asked_a_run_is_scored_by_nats_alone(
    tasks: dict[str, TaskSpec], data: Path, base: Path, tmp_path: Path
) -> None:
    record = tuned(run_spec(tasks["mt-en-de"]), data, base, tmp_path / "run")
    assert named(record["scores"]) == list(SUMS)
    assert (record["probes"], record["refused"]) == ({}, {})
    assert not (tmp_path / "run" / "decoded.parquet").exists()


def test_a_short_run_has_seen_fewer_examples_than_it_was_given(
    tasks: dict[str, TaskSpec], data: Path, base: Path, tmp_path: Path
) -> None:
    recipe = FinetuneRecipe(epochs=0.1, min_steps=2, max_steps=2, dev_checks=1)
    spec = run_spec(tasks["mt-en-de"]).model_copy(update={"recipe": recipe})
    record = tuned(spec, data, base, tmp_path / "run")
    assert record["unique_examples"] == 32
    assert record["epochs"] == pytest.approx(0.32)


def test_japanese_bleu_is_refused_where_its_tokenizer_is_missing() -> None:
    bleu = registry.get("metric", "bleu")
    answers = written.Answers(("a",), ("開く",), ("開く",), ("ja",), (True,), "greedy")
    refused: dict[str, str] = {}
    try:
        bleu.grade(answers)
    except Refused:
        assert written.grade(answers, bleu, refused) is None
        assert "sacrebleu[ja]" in refused["bleu"]
    else:
        pytest.skip("mecab is installed")
