"""study.toml: every fault is told at once, with its key and the nearest valid name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_toy import TOML

from finescale.errors import InputError
from finescale.study import config, files


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
    with pytest.raises(InputError, match="is not there"):
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
    assert read(tmp_path, OWN).tasks["mine"].fields() == ("src", "tgt")


def test_own_task_with_too_few_examples(tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", 11)
    assert "has only 7 examples to train on" in faults(tmp_path, OWN)["finetune.examples[1]"]


def test_own_task_without_file_or_rows(tmp_path: Path) -> None:
    assert "does not exist" in faults(tmp_path, OWN)["tasks.mine.file"]
    (tmp_path / "mine.jsonl").write_text("\n\n")
    assert "holds no examples" in faults(tmp_path, OWN)["tasks.mine.file"]
    (tmp_path / "mine.jsonl").write_bytes(b"\xff\xfe\x00")
    assert "is UTF-16 text" in faults(tmp_path, OWN)["tasks.mine.file"]
    (tmp_path / "mine.jsonl").write_bytes(b"\x80")
    assert "cannot be read" in faults(tmp_path, OWN)["tasks.mine.file"]


def test_own_task_with_bad_lines_names_them(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"src": "a", "tgt": "b"}\n[1]\n{"src": "a"}\n{oops\n')
    with pytest.raises(InputError) as caught:
        read(tmp_path, OWN)
    text = str(caught.value)
    assert "line 2: is not a JSON object" in text
    assert "line 3: has no text in tgt" in text
    assert "line 4: is not JSON" in text


@pytest.mark.parametrize("template", [True, False], ids=["template", "layout"])
@pytest.mark.parametrize("broken", [1, 2, 12], ids=["one", "two", "all"])
def test_a_broken_line_is_the_only_fault_told(tmp_path: Path, template: bool, broken: int) -> None:
    write_rows(tmp_path / "mine.jsonl", 12)
    lines = (tmp_path / "mine.jsonl").read_text().splitlines()
    (tmp_path / "mine.jsonl").write_text("\n".join(line[:9] if i < broken else line for i, line in enumerate(lines)))
    study = OWN if template else re.sub("(template|target) +=.*\n", "", OWN)
    with pytest.raises(InputError) as caught:
        read(tmp_path, study)
    told = [fault.what for fault in caught.value.faults]
    for number, what in zip((1, 2)[:broken], told, strict=False):
        assert what.startswith(f"mine.jsonl, line {number}: is not JSON: unterminated string at character")
    assert len(told) == min(broken, 4), "the first three, and how many there are in all"


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
    "base.models", "base.shapes", "base.shapes.ab", "base.languages", "base.pretraining", "one_factor",
    "one_factor.bases", "evaluate.probes", "evaluate.probes.a", "evaluate.metrics", "evaluate.decoded", "budget",
    "methods.prompt.examples", "methods.prompt.recipe", "methods.prompt.recipe.clip", "finetune.epochs", "run.tflops",
    "rate_search.per",
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, st.one_of(VALUES, st.lists(VALUES, max_size=3)), max_size=6))
def test_whatever_is_wrong_is_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    """Any wrong values end in an InputError of ours, never in anybody else's exception."""
    lines = ["schema = 1", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    with pytest.raises(InputError):
        read(tmp_path_factory.mktemp("study"), "\n".join(lines))


def test_a_probe_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    probes = '["fr-fr", "xx-de", "text:fr", "task:summarize", "mt-en-de", "fr-de"]'
    found = faults(tmp_path, TOML + f"[evaluate]\nprobes = {probes}\n")
    assert "into itself" in found["evaluate.probes[0]"]
    assert "'xx' is unknown" in found["evaluate.probes[1]"]
    assert "base language 'fr' is unknown" in found["evaluate.probes[2]"]
    assert "did you mean 'summarise'" in found["evaluate.probes[3]"]
    assert "write task:mt-en-de" in found["evaluate.probes[4]"]
    assert "tier language 'fr'" in found["evaluate.probes[5]"], "the starter tier has English and German alone"


def test_text_must_leave_a_context_to_judge_a_base_by(tmp_path: Path) -> None:
    told = faults(tmp_path, TOML + "[data]\nstream_tokens = 6_399\n")
    assert told == {
        "data.stream_tokens": "of 6,399 tokens 127 are held out, less than one context of 128 ask for 6,400 or more"
    }
    assert read(tmp_path, TOML + "[data]\nstream_tokens = 6_400\n").data.stream_tokens == 6_400


def test_what_no_base_can_read_or_have_is_refused_by_name(tmp_path: Path) -> None:
    asked = '[evaluate]\nprobes = ["en-de@99", "en-de@3", "task:summarise"]\n'
    told = faults(tmp_path, TOML.replace("rank = 4", "rank = [4, 5000]") + asked)
    assert "99 demonstrations take 1188 tokens or more, and base.context is 128" in told["evaluate.probes[0]"]
    assert "ask for 3 at most" in told["evaluate.probes[0]"]
    assert "evaluate.probes[1]" not in told
    assert "rank 5000 is beyond the width of every base; the widest has 80" in told["methods.lora.rank[1]"]
    assert "too few for task 'summarise'" in told["base.context"]
    assert read(tmp_path, TOML.replace("rank = 4", "rank = [4, 64]")).methods["lora"].sizes == (4, 64), "s can have it"


def test_probes_by_task_name_tasks_of_the_study(tmp_path: Path) -> None:
    found = faults(tmp_path, TOML + '[evaluate.probes]\nmt-en-dee = ["text:en"]\n')
    assert "did you mean 'mt-en-de'" in found["evaluate.probes.mt-en-dee"]
    short = "[tasks.summarise]\nmax_source_tokens = 64\n"
    spec = read(tmp_path, TOML + short + '[evaluate.probes]\nmt-en-de = ["text:en", "task:summarise"]\n')
    assert spec.probes("mt-en-de") == ("text:en", "task:summarise")
    assert spec.task_names == ("mt-en-de", "summarise")
    spec = read(tmp_path, TOML + '[evaluate.probes]\n"*" = ["text:en"]\nmt-en-de = []\n')
    assert spec.probes("mt-en-de") == (), "a task's own list goes before that of all, and may be empty"


def test_a_copy_of_flores_can_be_named_and_nothing_else_said_of_it(tmp_path: Path) -> None:
    probed = '[evaluate]\nprobes = ["flores:fr-de", "flores:en-de@1"]\n[tasks.flores]\nmirror = "here"\n'
    spec = read(tmp_path, TOML + probed)
    assert spec.flores == ("flores:fr-de", "flores:en-de@1")
    assert files.paths_by_task(spec.tasks, tmp_path) == {"flores": tmp_path / "here"}
    told = faults(tmp_path, TOML + probed + 'languages = ["fr"]\n')
    assert "read by probes alone" in told["tasks.flores.languages"]


def test_a_task_is_no_probe_of_itself(tmp_path: Path) -> None:
    spec = read(tmp_path, TOML + '[evaluate]\nprobes = ["task:mt-en-de", "text:de"]\n')
    assert spec.probes("mt-en-de") == ("text:de",)


def test_decoded_metrics_need_decoded_answers(tmp_path: Path) -> None:
    found = faults(tmp_path, TOML + '[evaluate]\nmetrics = ["bleu", "chrff"]\n')
    assert "did you mean 'chrf'" in found["evaluate.metrics[1]"]
    assert "decoded = 200" in faults(tmp_path, TOML + '[evaluate]\nmetrics = ["bleu"]\n')["evaluate.decoded"]
    assert read(tmp_path, TOML + '[evaluate]\nmetrics = ["nll"]\n').evaluate.decoded == 0, "sums need no answers"
    more = faults(tmp_path, TOML + '[evaluate]\nmetrics = ["bleu"]\ndecoded = 90_000\n')["evaluate.decoded"]
    assert "90000 answers are asked for of" in more


def test_zero_shot_has_one_spelling(tmp_path: Path) -> None:
    assert "spells no probe" in faults(tmp_path, TOML + '[evaluate]\nprobes = ["fr-de@0"]\n')["evaluate.probes[0]"]


def test_models_with_different_tokenizers_are_no_one_study(tmp_path: Path) -> None:
    toml = TOML.replace('ladder = ["xs", "s"]\npretrain_tokens = [10_000, 20_000]', "models = [MODELS]")
    pythia, olmo = "EleutherAI/pythia-160m@step1000", "allenai/OLMo-1B-hf@step20000-tokens84B"
    mixed = faults(tmp_path, toml.replace("MODELS", f'"{pythia}", "{olmo}"'))
    assert "bits per byte" in mixed["base.models"]
    deduped = "EleutherAI/pythia-70m-deduped@step1000"
    assert len(read(tmp_path, toml.replace("MODELS", f'"{pythia}", "{deduped}"')).base.models) == 2


def test_shapes_of_ones_own(tmp_path: Path) -> None:
    shape = "[base.shapes.tall]\nlayers = 9\nheads = 2\nwidth = 32\nff = 64\n"
    toml = TOML.replace('["xs", "s"]', '["xs", "tall"]')
    assert read(tmp_path, toml + shape).base.shapes["tall"].gated
    assert "tall" in faults(tmp_path, toml)["base.ladder[1]"]
    assert "kv_heads" in str(faults(tmp_path, toml + shape + "kv_heads = 3\n"))
    assert "base.shapes.tall.depth" in faults(tmp_path, toml + shape + "depth = 3\n")
    assert "built-in rung" in faults(tmp_path, TOML + shape.replace("tall", "xs"))["base.shapes.xs"]


def test_published_models_stand_in_place_of_a_ladder(tmp_path: Path) -> None:
    models = 'models = ["EleutherAI/pythia-160m@step143000"]'
    toml = TOML.replace('ladder = ["xs", "s"]\npretrain_tokens = [10_000, 20_000]', models)
    assert read(tmp_path, toml).base.models == ("EleutherAI/pythia-160m@step143000",)
    assert "did you mean" in faults(tmp_path, toml.replace("160m", "16m"))["base.models[0]"]
    assert "step143000" in faults(tmp_path, toml.replace("step143000", "main"))["base.models[0]"]
    assert "base.ladder" in faults(tmp_path, TOML.replace("[finetune]", f"{models}\n[finetune]"))


def test_a_text_that_lacks_a_task_or_language_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    found = faults(tmp_path, TOML.replace('["mt-en-de"]', '["mt-en-zh"]'))
    assert 'tier = "core"' in found["finetune.tasks[0]"]
    assert "base.languages[1]" in faults(tmp_path, TOML.replace("[finetune]", 'languages = ["en", "fr"]\n[finetune]'))
    french = '[tasks.summarise]\nlanguages = ["fr"]\n'
    assert read(tmp_path, TOML + french).finetune.tasks == ("mt-en-de",), "a task that is not used may say it"
    found = faults(tmp_path, TOML.replace('["mt-en-de"]', '["mt-en-de", "summarise"]') + french)
    assert "choose of de, en" in found["tasks.summarise.languages"]


def test_recipes_and_examples_of_a_method(tmp_path: Path) -> None:
    own = "[methods.prompt]\nlength = 4\nexamples = { mt-en-de = [5, 6] }\nrecipe = { batch_examples = 128 }\n"
    spec = read(tmp_path, TOML + own)
    assert spec.examples("prompt", "mt-en-de") == (5, 6)
    assert spec.examples("lora", "mt-en-de") == (100, 200, 400, 800)
    assert (spec.recipe("prompt").batch_examples, spec.recipe("lora").batch_examples) == (128, 16)
    found = faults(tmp_path, TOML + own.replace("batch_examples = 128", 'batch = 1, clip = "no"'))
    assert {"methods.prompt.recipe.batch", "methods.prompt.recipe.clip"} <= set(found)
    found = faults(tmp_path, TOML + own.replace("[5, 6]", "[-5, 6]"))
    assert "-5 is not a positive whole number" in found["methods.prompt.examples.mt-en-de[0]"]


def test_epochs_are_said_once(tmp_path: Path) -> None:
    toml = TOML.replace("[methods.full]", "epochs = [1, 4]\nrecipe = { epochs = 2 }\n[methods.full]")
    assert "stands beside finetune.epochs" in faults(tmp_path, toml)["finetune.recipe.epochs"]


def test_the_design_of_pretraining_is_said_once(tmp_path: Path) -> None:
    toml = TOML.replace("[finetune]", 'recipe = { schedule = "cosine" }\n[finetune]')
    assert "base.pretraining" in faults(tmp_path, toml)["base.recipe.schedule"]


def test_one_factor_names_what_the_study_has(tmp_path: Path) -> None:
    found = faults(tmp_path, TOML + '[one_factor]\nbases = ["m"]\npretrain_tokens = 5\ntasks = ["summarise"]\n')
    assert {"one_factor.bases[0]", "one_factor.pretrain_tokens", "one_factor.tasks[0]"} == set(found)


def test_a_spec_reads_back_from_its_own_json(tmp_path: Path) -> None:
    """The lock holds the spec alone, so nothing may be lost on the way."""
    more = '[one_factor]\nbases = ["xs"]\n[evaluate]\nprobes = ["text:en"]\n[methods.prompt]\nexamples = [7]\n'
    spec = read(tmp_path, TOML + more)
    assert config.StudySpec.model_validate(spec.model_dump(mode="json", by_alias=True)) == spec
