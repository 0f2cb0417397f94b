"""The plan: pure, quick, and identities that neither paths nor a wider grid can move."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from study_toy import TOML, toy_study

from finescale.core import MethodSpec, canonical_json
from finescale.lab.ladder import shape, train_flops
from finescale.study.cost import pretrain_work
from finescale.study.design import Span, summarise
from finescale.study.lock import Study
from finescale.study.plan import Plan, make_plan, size_label


def widened(study: Study, **finetune: object) -> Plan:
    spec = study.spec.model_copy(update={"finetune": study.spec.finetune.model_copy(update=finetune)})
    return make_plan(spec, study.digests)


def test_counts_and_order(tmp_path: Path) -> None:
    plan = toy_study(tmp_path).plan
    assert [len(plan.of(kind)) for kind in ("data", "base", "rate", "run")] == [1, 4, 1, 32]
    seen: set[str] = set()
    for step in plan.steps.values():
        assert set(step.needs.values()) <= seen, "a step comes after those it needs"
        seen.add(step.id)


def test_ids_end_in_the_fingerprint_of_the_spec(tmp_path: Path) -> None:
    steps = toy_study(tmp_path).plan.steps.values()
    assert all(step.id.endswith("-" + step.spec.fingerprint()) for step in steps)
    assert len({step.id.rpartition("-")[2] for step in steps}) == len(steps)


def test_fingerprints_are_what_sha256sum_says() -> None:
    """Golden: printf '{"name":"lora","options":{"rslora":false},"pet_size":4}' | sha256sum | cut -c1-12"""
    assert MethodSpec(pet_size=4, name="lora", options={"rslora": False}).fingerprint() == "dfc8e1df982e"


def test_a_searched_rate_enters_the_identity_of_its_runs(tmp_path: Path) -> None:
    plan = toy_study(tmp_path).plan
    (rate,) = plan.of("rate")
    lora = [step for step in plan.of("run") if step.spec.method.name == "lora"]
    assert {step.spec.learning_rate for step in lora} == {rate.spec.fingerprint()}
    assert {step.needs["rate"] for step in lora} == {rate.id}


def test_identity_knows_no_path(tmp_path: Path) -> None:
    one, two = toy_study(tmp_path / "one"), toy_study(tmp_path / "two" / "deeper")
    assert list(one.plan.steps) == list(two.plan.steps)
    assert str(tmp_path) not in canonical_json([step.spec.model_dump(mode="json") for step in one.plan.steps.values()])


@settings(max_examples=25, deadline=None)
@given(
    examples=st.lists(st.integers(1, 100_000), max_size=4, unique=True),
    seeds=st.lists(st.integers(1, 99), max_size=3, unique=True),
)
def test_a_wider_grid_is_only_more_runs(tmp_path_factory, examples: list[int], seeds: list[int]) -> None:
    study = toy_study(tmp_path_factory.mktemp("study"))
    more = tuple(dict.fromkeys([*study.spec.finetune.examples, *examples]))
    wider = widened(study, examples=more, seeds=(0, *seeds))
    assert set(study.plan.steps) <= set(wider.steps)
    assert len(wider.of("run")) == 8 * len(more) * (1 + len(seeds))
    assert wider.of("rate") == study.plan.of("rate")


def test_a_larger_pretraining_size_keeps_the_smaller_base(tmp_path: Path) -> None:
    narrow = toy_study(tmp_path, TOML.replace("[10_000, 20_000]", "[10_000]")).plan
    wide = toy_study(tmp_path).plan
    assert set(narrow.steps) <= set(wide.steps)
    larger = next(step for step in wide.of("base") if step.label == "xs-20K")
    assert larger.needs["previous"] in narrow.steps, "it goes on from the trunk of the smaller size"


def test_flops_follow_their_definition(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    recipe = study.spec.base.recipe
    form = shape("xs", study.spec.base.vocab, study.spec.base.context)
    first, second = (step for step in study.plan.of("base") if step.spec.name == "xs")
    assert first.flops == train_flops(form, 10_000)
    assert second.flops == train_flops(form, 20_000 - 0.8 * 10_000)
    assert pretrain_work(20_000, 0, recipe) == 20_000
    runs = [step for step in study.plan.of("run") if step.spec.base == first.spec.fingerprint()]
    costs = [step.flops for step in runs if step.spec.method.name == "full"]
    assert costs == sorted(costs)


def test_planning_is_quick(tmp_path: Path) -> None:
    """100,000 runs in 5 s is the bar; a tenth of that in a tenth of the time, three times over for a busy machine."""
    study = toy_study(tmp_path)
    began = time.process_time()
    plan = widened(study, seeds=tuple(range(313)))
    assert len(plan.of("run")) > 10_000
    assert time.process_time() - began < 1.5


def test_planning_loads_no_torch() -> None:
    code = "import sys, finescale.study.design, finescale.study.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_labels() -> None:
    assert [size_label(n) for n in (7, 500, 2500, 8e6, 2.5e9)] == ["7", "500", "2.5K", "8M", "2.5B"]


def test_summary_says_what_cannot_be_told(tmp_path: Path) -> None:
    summary = summarise(toy_study(tmp_path))
    assert summary.seconds is None
    assert "time unknown" in str(summary)
    by_factor = {span.factor: span for span in summary.spans}
    assert "hardly" in by_factor["examples"].verdict, "four sizes with one held out leave three"
    assert "hardly" in by_factor["model_params"].verdict
    assert "one level" in by_factor["pet_params"].verdict
    assert any("one seed" in note for note in summary.notes)


def test_span_judges_what_the_fit_sees() -> None:
    levels = (100.0, 300.0, 1000.0, 3000.0, 10_000.0)
    assert Span("examples", "", levels, 0).verdict.startswith("can tell")
    assert Span("examples", "", levels, 1).verdict.startswith("may not tell"), "the held-out level spans no decades"
    assert Span("examples", "", levels, 1).decades < Span("examples", "", levels, 0).decades == 2.0
