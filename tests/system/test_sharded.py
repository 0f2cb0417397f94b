"""A training spread over two gloo processes gives the losses of one process, and the step stays one record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "fast"), str(HERE.parent)]

from cluster_study import real_study  # noqa: E402
from study_toy import TOML, toy_study  # noqa: E402
from test_lab_training import TASK, base, data  # noqa: E402, F401 (fixtures)
from tiny_corpus import write_tiny_corpus  # noqa: E402

from finescale.core import FinetuneRecipe, MethodSpec, RateSearch, RunSpec  # noqa: E402
from finescale.errors import FinescaleError, InputError  # noqa: E402
from finescale.lab import sharded  # noqa: E402
from finescale.lab.finetune import finetune, search_rate  # noqa: E402
from finescale.study.run import run  # noqa: E402
from finescale.study.shards import shards_of  # noqa: E402

pytestmark = pytest.mark.slow
STUDY = TOML.replace('["xs", "s"]', '["xs"]').replace("[10_000, 20_000]", "[10_000]")
RECIPE = {"batch_examples": 7, "epochs": 1.0, "min_steps": 1, "max_steps": 12, "dev_checks": 3}
METHODS = {
    "full": (MethodSpec(name="full"), 3e-3),
    "lora": (MethodSpec(name="lora", pet_size=3), 1e-2),
    "prompt": (MethodSpec(name="prompt", pet_size=4), 3e-2),
}


def run_spec(method: MethodSpec, rate: float, **recipe: Any) -> RunSpec:
    """Seven examples a batch: two processes cannot have as many each."""
    return RunSpec(
        base="0" * 16,
        task=TASK,
        method=method,
        learning_rate=rate,
        examples=60,
        seed_subset=0,
        seed_init=1,
        seed_order=2,
        recipe=FinetuneRecipe.model_validate(RECIPE | recipe),
    )


def trained(out: Path, spec: RunSpec, data: Path, base: Path, shards: int, parts: int = 1) -> dict[str, Any]:  # noqa: F811
    out.mkdir()
    record = finetune(spec, out, data, base, None, lambda _: None, parts, shards=shards)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return record | {"lines": lines, "rows": pd.read_parquet(out / "rows.parquet")}


@pytest.mark.parametrize("name", METHODS)
def test_losses_of_two_processes_equal_those_of_one(name: str, data: Path, base: Path, tmp_path: Path) -> None:  # noqa: F811
    spec = run_spec(*METHODS[name])
    one, two = (trained(tmp_path / str(shards), spec, data, base, shards) for shards in (1, 2))
    assert len(one["lines"]) == len(two["lines"]) == 9
    assert one["lines"][-1]["loss"] < one["lines"][0]["loss"], "it learns, so that losses could differ"
    for mine, theirs in zip(two["lines"], one["lines"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    for key in ("dev_loss", "zero_dev_loss"):
        assert two[key] == pytest.approx(one[key], rel=1e-5)
    assert two["rows"].to_numpy() == pytest.approx(one["rows"].to_numpy(), rel=1e-4)
    same = ("train_tokens", "steps", "best_step", "pet_params", "flops", "flag", "unique_examples")
    assert {key: two[key] for key in same} == {key: one[key] for key in same}
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == ["log.jsonl", "rows.parquet"]


def test_parts_and_more_processes_than_examples_change_nothing(data: Path, base: Path, tmp_path: Path) -> None:  # noqa: F811
    spec = run_spec(*METHODS["full"], batch_examples=2, max_steps=4)
    one = trained(tmp_path / "one", spec, data, base, 1)
    for shards, parts in ((3, 1), (2, 2)):
        many = trained(tmp_path / f"{shards}-{parts}", spec, data, base, shards, parts)
        assert [line["loss"] for line in many["lines"]] == pytest.approx(
            [line["loss"] for line in one["lines"]], rel=1e-5
        )


def test_layers_are_really_split(data: Path, base: Path, tmp_path: Path) -> None:  # noqa: F811
    """In a process of its own, as a process group is for life."""
    code = f"""
import torch, torch.distributed as dist
from pathlib import Path
from finescale.core import MethodSpec
from finescale.lab import finetune, model, sharded
dist.init_process_group("gloo", init_method="file://{tmp_path}/meeting", rank=0, world_size=1)
net = model.load(Path({str(base)!r}))
whole = sum(p.numel() for p in net.model.layers.parameters())
attached = finetune.attach(net, MethodSpec(name="full"), 0)
shards = sharded.Shards(0, 1)
part = shards.spread(net, attached)
split = [name for name, p in shards.of.items() if isinstance(p, sharded.DTensor)]
print(whole == sum(part.trainable[name].numel() for name in split), len(split) > 10)
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    )
    assert said.stdout.strip() == "True True", said.stderr


def test_a_search_for_the_rate_may_be_spread_too(data: Path, base: Path, tmp_path: Path) -> None:  # noqa: F811
    spec = RateSearch(
        base="0" * 16,
        task=TASK,
        method=METHODS["full"][0],
        recipe=FinetuneRecipe.model_validate(RECIPE | {"max_steps": 3}),
        examples=60,
        grid=(1e-3,),
        seed=0,
    )
    found = [search_rate(spec, tmp_path, data, base, lambda _: None, 1, shards)["trials"] for shards in (1, 2)]
    assert found[1][0]["dev_loss"] == pytest.approx(found[0][0]["dev_loss"], rel=1e-5)


def test_a_run_that_diverges_says_so_from_every_process(data: Path, base: Path, tmp_path: Path) -> None:  # noqa: F811
    record = trained(tmp_path / "run", run_spec(METHODS["full"][0], 1e18), data, base, 2)
    assert record["flag"] == "diverged"


def test_what_cannot_be_spread_and_processes_that_die_are_told(
    data: Path,  # noqa: F811
    base: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match="cannot be used with adafactor"):
        trained(tmp_path / "a", run_spec(*METHODS["full"], optimiser="adafactor"), data, base, 2)
    monkeypatch.setattr(sharded, "START", "import sys; sys.exit('no such luck')")
    with pytest.raises(FinescaleError, match="process 0 of 2 ended with 1: no such luck"):
        trained(tmp_path / "b", run_spec(*METHODS["full"]), data, base, 2)
    assert not list((tmp_path / "b").iterdir())


def test_a_study_says_in_how_many_or_its_memory_does(tmp_path: Path) -> None:
    def of(run: str) -> dict[str, int]:
        study = toy_study(tmp_path, f"{STUDY}[run]\n{run}\n")
        steps = {step.kind if step.kind != "run" else step.spec.method.name: step for step in study.plan.steps.values()}
        return {name: shards_of(study, step) for name, step in steps.items()}

    assert set(of("").values()) == {1}
    assert of("shards = 2") == {"data": 1, "base": 1, "rate": 2, "full": 2, "lora": 2}
    tight = of("memory_gb = 0.001")
    assert tight["full"] > tight["lora"] >= 1, "what is frozen has no gradients and moments"
    assert tight["data"] == tight["base"] == 1


def test_a_sharded_study_is_the_same_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step stays one record, whatever the number of processes; numbers agree to rounding."""
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "cache"))
    corpus = write_tiny_corpus(tmp_path / "cache", documents=1600)
    one, two = (real_study(tmp_path / name, corpus) for name in ("one", "two"))
    two.spec.__dict__["run"] = two.spec.run.model_copy(update={"shards": 2})
    chosen = one.plan.of("run")[0]
    for study in (one, two):
        assert not run(study, workers=1, only=[chosen.id]).failed
    assert two.plan.steps.keys() == one.plan.steps.keys(), "how it is run is no part of what it is"
    found = [
        {id: study.store.record(study.plan.steps[id]) for id in study.store.finished(study.plan)}
        for study in (one, two)
    ]
    assert found[0].keys() == found[1].keys() >= {chosen.id}
    mine, theirs = (records[chosen.id] for records in found)
    assert mine["dev_loss"] == pytest.approx(theirs["dev_loss"], rel=1e-5)
    assert mine["learning_rate"] == theirs["learning_rate"]
    assert not list(two.folder.rglob("sharded"))
