"""study.toml: every fault is told at once, with its key and the nearest valid name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_toy import TOML

from finescale.errors import InputError
from finescale.study import config


def read(folder: Path, toml: str) -> config.StudySpec:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "study.toml").write_text(toml)
    return config.read(folder)


def faults(folder: Path, toml: str) -> dict[str, str]:
    with pytest.raises(InputError) as caught:
        read(folder, toml)
    return {fault.where: f"{fault.what} {fault.fix}" for fault in caught.value.faults}


def test_defaults_are_spelled_out(tmp_path: Path) -> None:
    spec = read(tmp_path, TOML)
    assert spec.methods["lora"].sizes == (4,)
    assert len(spec.methods["lora"].rates) > 1
    assert spec.methods["full"].rates == (1e-3,)
    assert spec.finetune.recipe.batch_examples == 16
    assert spec.fit.hold_out == {"examples": 1}, "two rungs are too few to hold one out; four sizes are enough"


def test_the_forecaster_is_a_law_too(tmp_path: Path) -> None:
    assert read(tmp_path, TOML + '[fit]\nlaws = ["auto", "additive"]\n').fit.laws == ("auto", "additive")


def test_methods_share_no_default_rates(tmp_path: Path) -> None:
    spec = read(tmp_path, TOML.replace("learning_rate = 1e-3", "") + "[methods.prompt]\nlength = 8\n")
    grids = [choice.rates for choice in spec.methods.values()]
    assert len(set(grids)) == len(grids)


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        """
        schema = 1
        colour = "red"
        [base]
        ladder = ["xs", "huge"]
        pretrain_tokens = [-5, 1e6]
        vocabb = 4096
        [base.recipe]
        weight_decayy = 0.1
        [finetune]
        tasks = ["mt-en-ed"]
        examples = [500, 1000, -2000, 500.5]
        seeds = [0, 0]
        [methods.lorra]
        [methods.lora]
        rank = [4, 4]
        learning_rate = 0
        alpha = "big"
        length = 3
        [fit]
        laws = ["multiplicativ"]
        """,
    )
    assert set(found) == {
        "colour",
        "base.ladder[1]",
        "base.pretrain_tokens[0]",
        "base.vocabb",
        "base.recipe.weight_decayy",
        "finetune.tasks[0]",
        "finetune.examples[2]",
        "finetune.examples[3]",
        "finetune.seeds",
        "methods.lorra",
        "methods.lora.rank",
        "methods.lora.learning_rate[0]",
        "methods.lora.alpha",
        "methods.lora.length",
        "fit.laws[0]",
    }
    assert "did you mean 'vocab'" in found["base.vocabb"]
    assert "did you mean 'weight_decay'" in found["base.recipe.weight_decayy"]
    assert "did you mean 'lora'" in found["methods.lorra"]
    assert "did you mean 'mt-en-de'" in found["finetune.tasks[0]"]
    assert "did you mean 'multiplicative'" in found["fit.laws[0]"]
    assert "-2000 is not a positive whole number" in found["finetune.examples[2]"]
    assert "lists 0 more than once" in found["finetune.seeds"]


def test_sections_that_are_missing(tmp_path: Path) -> None:
    found = faults(tmp_path, "schema = 1")
    assert {"base.ladder", "base.pretrain_tokens", "finetune.tasks", "finetune.examples", "methods"} <= set(found)


def test_wrong_schema_and_shapes(tmp_path: Path) -> None:
    found = faults(
        tmp_path, 'schema = 2\nquestion = 3\nbase = 1\nmethods = "full"\ndata = []\n[finetune]\nexamples = []'
    )
    assert {"schema", "question", "base", "methods", "data", "finetune.examples", "finetune.tasks"} <= set(found)


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    assert any(where.endswith("study.toml, line 3") for where in faults(tmp_path, "schema = 1\n[base]\nladder = ]\n"))


def test_no_study_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        config.read(tmp_path / "nowhere")


def test_context_must_hold_source_target_and_prompt(tmp_path: Path) -> None:
    toml = TOML.replace("[finetune]", "context = 100\n[finetune]", 1) + "[methods.prompt]\nlength = [8, 20]\n"
    assert "use at least 116" in faults(tmp_path, toml)["base.context"]


def test_hold_out_must_leave_something_to_fit(tmp_path: Path) -> None:
    found = faults(tmp_path, TOML + "[fit.hold_out]\nmodel_params = 2\nseeds = 1\n")
    assert "2 of 2 levels leaves none" in found["fit.hold_out.model_params"]
    assert "is no factor" in found["fit.hold_out.seeds"]


OWN = """
schema = 1
[base]
ladder = ["xs"]
pretrain_tokens = [10_000]
[finetune]
tasks = ["mine"]
examples = [4, 8]
dev_examples = 2
test_examples = 2
[rate_search]
examples = 4
[methods.full]
[tasks.mine]
file = "mine.jsonl"
template = "Say {src} again:"
target = "tgt"
"""


def write_rows(path: Path, count: int) -> None:
    path.write_text("".join(json.dumps({"src": f"s{i}", "tgt": f"t{i}"}) + "\n" for i in range(count)))


def test_own_task(tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", 12)
    assert read(tmp_path, OWN).tasks["mine"].fields() == ["src", "tgt"]


def test_own_task_with_too_few_examples(tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", 11)
    assert "has only 7 examples to train on" in faults(tmp_path, OWN)["finetune.examples[1]"]


def test_own_task_without_file_or_rows(tmp_path: Path) -> None:
    assert "does not exist" in faults(tmp_path, OWN)["tasks.mine.file"]
    (tmp_path / "mine.jsonl").write_text("\n\n")
    assert "holds no examples" in faults(tmp_path, OWN)["tasks.mine.file"]
    (tmp_path / "mine.jsonl").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in faults(tmp_path, OWN)["tasks.mine.file"]


def test_own_task_with_bad_lines_names_them(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"src": "a", "tgt": "b"}\n[1]\n{"src": "a"}\n{oops\n')
    with pytest.raises(InputError) as caught:
        read(tmp_path, OWN)
    text = str(caught.value)
    assert "line 2: is not a JSON object" in text
    assert "line 3: has no text in tgt" in text
    assert "line 4: is not JSON" in text


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("Say {src", "cannot be read"),
        ("Say it", "names no field"),
        ("{src} {tgt}", "shows the target"),
        ("{}", "without a name"),
    ],
)
def test_templates_are_strict(tmp_path: Path, template: str, what: str) -> None:
    write_rows(tmp_path / "mine.jsonl", 12)
    assert what in faults(tmp_path, OWN.replace("Say {src} again:", template))["tasks.mine.template"]


@pytest.mark.parametrize("name", ['"../out"', '"a b"', '"mt-en-de"'])
def test_own_task_names_cannot_leave_the_folder_or_hide_a_task(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "mine.jsonl", 12)
    assert f"tasks.{name[1:-1]}" in faults(tmp_path, OWN.replace("tasks.mine", f"tasks.{name}").replace('"mine"', name))


VALUES = st.one_of(
    st.integers(-3, 10**7), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text("ab{}", max_size=4)
)
KEYS = st.sampled_from([
    "base.ladder", "base.pretrain_tokens", "base.vocab", "base.recipe", "finetune.examples", "finetune.seeds",
    "finetune.tasks", "methods.full", "methods.lora", "methods", "tasks.x", "fit.hold_out", "fit.laws", "run.workers",
])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, st.one_of(VALUES, st.lists(VALUES, max_size=3)), max_size=6))
def test_whatever_is_wrong_is_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    """Any wrong values end in an InputError of ours, never in anybody else's exception."""
    lines = ["schema = 1", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    with pytest.raises(InputError):
        read(tmp_path_factory.mktemp("study"), "\n".join(lines))
