"""What a hostile file, name or text can do here: nothing. One test, or more, for each way in."""

from __future__ import annotations

import ast
import json
import pickle
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import local_hub
import pandas as pd
import pytest
import torch
from rich.text import Text
from study_toy import TOML, WORK, toy_study

from finescale.cli import call
from finescale.core import Shape
from finescale.errors import InputError, StudyError
from finescale.lab import checkpoint, model
from finescale.report.latex import latex
from finescale.report.markup import json_block, tag
from finescale.report.spreadsheet import FORMULA, plain
from finescale.study import config, families, links, lock, store
from finescale.study.analyse import analyse
from finescale.study.families import public_base
from finescale.study.lock import Study
from finescale.study.place import settle
from finescale.study.plan import Digests, make_plan
from finescale.study.policy import Failure
from finescale.study.run import Outcome, run
from finescale.study.show import showing
from finescale.terminal import CONTROLS, InertConsole, say

SOURCE = Path(__file__).parent.parent.parent / "src" / "finescale"
FILES = sorted(SOURCE.rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.save"}
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "'\"><svg/onload=alert(1)>",
    "{{7*7}} ${7*7}",
    r"\input{/etc/passwd}",
    r"[\input{/etc/passwd}]",
    "$x_1^{2}$ % & # ~",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(1)",
    "-2+3",
    "[red]not[/] markup",
    "a\n\nb\\\\",
    "\u202e right to left \u0000",
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_source_file_unpickles_or_evaluates(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & UNSAFE_MODULES
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in UNSAFE_MODULES
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            asked = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert name not in UNSAFE_CALLS, f"{name} in line {node.lineno}"
            assert not name.endswith("read_pickle"), f"{name} in line {node.lineno}"
            assert asked.get("allow_pickle", "False") == "False"
            assert asked.get("shell", "False") == "False"
            assert asked.get("trust_remote_code", "False") in ("False", "trust", "opening.trust"), (
                "off, or as the study says of this base"
            )


def test_the_scan_would_see_what_it_looks_for(tmp_path: Path) -> None:
    for code in ("import pickle", "from joblib import load", "torch.load('x')", "np.load('x', allow_pickle=True)"):
        (tmp_path / "bad.py").write_text(code)
        with pytest.raises(AssertionError):
            test_no_source_file_unpickles_or_evaluates(tmp_path / "bad.py")


# ----------------------------------------------------------------------------------------------------- weights and code


class Exploit:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A small base as it should be."""
    folder = tmp_path / "base"
    model.save(model.build(Shape(layers=1, width=16, heads=2, ff=16, vocab=300, context=16), seed=0), folder)
    return folder


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl"])
def test_a_base_whose_weights_are_a_pickle_is_refused_unopened(base: Path, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "was run"
    (base / "model.safetensors").unlink()
    (base / name).write_bytes(pickle.dumps(Exploit(mark)))
    with pytest.raises(InputError, match=f"{name}, a pickle, which can run code"):
        model.load(base)
    assert not mark.exists()


def test_a_pickle_beside_safetensors_is_not_opened(base: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Exploit(mark)))
    assert model.load(base).config.hidden_size == 16
    assert not mark.exists()


def test_code_that_lies_beside_a_base_is_not_run(base: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    (base / "modeling_own.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n")
    settings = json.loads((base / "config.json").read_text())
    own = {"AutoModelForCausalLM": "modeling_own.Own", "AutoConfig": "modeling_own.Config"}
    (base / "config.json").write_text(json.dumps(settings | {"auto_map": own}))
    assert model.load(base).config.hidden_size == 16, "a known architecture is loaded as itself"
    (base / "config.json").write_text(json.dumps(settings | {"auto_map": own, "model_type": "own"}))
    with pytest.raises(ValueError, match=r"trust_remote_code|custom code|model type"):
        model.load(base)
    assert not mark.exists()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A model that needs its own code, and the mark which that leaves."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    families._described.cache_clear()
    return local_hub.save_with_code(tmp_path / "own", tmp_path / "was run"), tmp_path / "was run"


def test_code_of_a_models_own_is_run_only_where_the_study_trusts_that_model(
    own: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, mark = own
    with pytest.raises(InputError, match=r'needs code of its own, which is not run .* trust_remote_code = \["'):
        public_base(str(folder))
    assert not mark.exists()
    base = public_base(str(folder), trust=True)
    assert mark.exists()
    out = tmp_path / "bases" / "own"
    out.mkdir(parents=True)
    assert checkpoint.bring(base, str(folder), out, lambda _: None)["apart_from_own_forward"] < 1e-3
    assert type(model.load(out, model.Opening(trust=True))).__name__ == "OwnForCausalLM"
    mark.unlink()
    with pytest.raises(ValueError, match="trust_remote_code"):
        model.load(out)
    assert not mark.exists(), "a base's own folder does not say whether it is trusted"


def test_a_study_names_the_models_whose_code_it_trusts(own: tuple[Path, Path], tmp_path: Path) -> None:
    folder, mark = own
    study = tmp_path / "study"
    study.mkdir()
    other = local_hub.save(tmp_path / "plain", "llama", seed=5)
    asked = TOML.replace(
        'ladder = ["xs", "s"]\npretrain_tokens = [10_000, 20_000]', f'models = ["{folder}", "{other}"]'
    )
    (study / "study.toml").write_text(asked)
    with pytest.raises(InputError, match=r"base\.models\[0\]: .*needs code of its own"):
        config.read(study)
    assert not mark.exists()
    for trusted, what in (("../own", "is unknown"), ("own", "is unknown")):
        (study / "study.toml").write_text(asked.replace("models =", f'trust_remote_code = ["{trusted}"]\nmodels ='))
        with pytest.raises(InputError, match=rf"base\.trust_remote_code\[0\]: model '{trusted}' {what}"):
            config.read(study)
    assert not mark.exists()
    (study / "study.toml").write_text(asked.replace("models =", f'trust_remote_code = ["{folder}"]\nmodels ='))
    plan = make_plan(config.read(study), Digests(corpus="0" * 64, tasks={}))
    trusts = {step.spec.name: step.spec.trust_remote_code for step in plan.of("base")}
    assert trusts == {"own": True, "plain": False}
    bases = {step.id: step.spec for step in plan.of("base")}
    assert {step.id for step in plan.steps.values() if plan.trusts_base_of(step)} == {
        step.id for step in plan.steps.values() if "base" in step.needs and bases[step.needs["base"]].name == "own"
    }


def test_trust_and_the_code_trusted_are_part_of_what_a_base_is(own: tuple[Path, Path]) -> None:
    folder, _ = own
    before = public_base(str(folder), trust=True)
    (folder / "modeling_own.py").write_text((folder / "modeling_own.py").read_text() + "# other code\n")
    families._described.cache_clear()
    assert public_base(str(folder), trust=True).fingerprint() != before.fingerprint()
    known = "EleutherAI/pythia-160m@step1000"
    assert public_base(known).fingerprint() != public_base(known, trust=True).fingerprint()
    assert "trust_remote_code" not in public_base(known).model_dump(), "what was made before keeps its name"


def test_a_damaged_safetensors_header_cannot_reach_beyond_the_file(base: Path) -> None:
    content = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + content[8:])
    with pytest.raises(Exception, match=r"(?i)header"):
        model.load(base)


def test_records_and_records_files_hold_no_pickle(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "runs.parquet")
    assert call(["compare", str(tmp_path / "runs.parquet")]) == 1


# ---------------------------------------------------------------------------------------------------------------- names

BAD_NAMES = [
    "../up",
    "/abs",
    "a/../b",
    "..",
    ".",
    "",
    ".hidden",
    "a b",
    "a:dev",
    "a\\b",
    "a\u0000b",
    "=x",
    "@x",
    "x" * 61,
]


@pytest.mark.parametrize("name", [*BAD_NAMES, *HOSTILE])
@pytest.mark.parametrize("table", ["tasks", "base.shapes"])
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str, table: str) -> None:
    lines = {"tasks": 'file = "a.jsonl"', "base.shapes": "layers = 1\nheads = 1\nwidth = 16\nff = 16"}
    head, _, rest = TOML.partition("[finetune]")
    (tmp_path / "study.toml").write_text(f"{head}[finetune]{rest}\n[{table}.{json.dumps(name)}]\n{lines[table]}\n")
    with pytest.raises(InputError, match="is not a name"):
        config.read(tmp_path)


def test_a_task_cannot_take_the_place_of_a_prepared_file(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(f'{TOML}\n[tasks.stream]\nfile = "a.jsonl"\n')
    with pytest.raises(InputError, match="is a reserved name"):
        config.read(tmp_path)


@pytest.mark.parametrize("name", ["...toml", "..toml", ".. .toml"])
def test_a_pattern_cannot_name_a_folder_outside(tmp_path: Path, name: str) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / name).write_text(TOML)
    (tmp_path / "other").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    try:
        made = settle(here / name, here)
    except InputError:
        assert sorted(tmp_path.rglob("*")) == before
    else:
        assert made.resolve().parent == here.resolve()


@pytest.mark.parametrize("file", ["../secret.jsonl", "a/../../secret.jsonl"])
def test_a_pattern_copies_nothing_from_outside_its_folder(tmp_path: Path, file: str) -> None:
    here = tmp_path / "here"
    (here / "a").mkdir(parents=True)
    rows = "".join(json.dumps({"q": f"{n}", "a": f"{n}"}) + "\n" for n in range(2000))
    (tmp_path / "secret.jsonl").write_text(rows)
    own = f'[tasks.own]\nfile = "{file}"\ntemplate = "{{q}}"\ntarget = "a"\n'
    (here / "pattern.toml").write_text(TOML.replace('["mt-en-de"]', '["own"]') + own)
    with pytest.raises(InputError, match="cannot be copied"):
        settle(here / "pattern.toml", here)
    assert not (here / "pattern").exists()


def test_every_step_lies_in_the_study_whatever_its_label(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    names = {step.id for step in study.plan.steps.values()}
    assert all("/" not in name and not name.startswith(".") and len(name) < 250 for name in names)
    for step in study.plan.steps.values():
        assert study.store.done(step).resolve().is_relative_to(tmp_path.resolve())


def test_the_longest_names_still_make_a_folder(tmp_path: Path) -> None:
    task, rung = "t" * 60, "r" * 60
    rows = "".join(json.dumps({"q": f"{n}", "a": f"{n}"}) + "\n" for n in range(3000))
    (tmp_path / "a.jsonl").write_text(rows)
    own = f'[tasks.{task}]\nfile = "a.jsonl"\ntemplate = "{{q}}"\ntarget = "a"\n'
    shape = f"[base.shapes.{rung}]\nlayers = 1\nheads = 2\nwidth = 16\nff = 16\n"
    toml = TOML.replace('["mt-en-de"]', f'["{task}"]').replace('["xs", "s"]', f'["{rung}"]')
    (tmp_path / "study.toml").write_text(toml + own + shape)
    study = Study(tmp_path, config.read(tmp_path), Digests(corpus="0" * 64, tasks={task: "1" * 64}), {})
    for step in study.plan.steps.values():
        study.store.begin(step)


# ---------------------------------------------------------------------------------------------------------------- links


def outside(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def toy_run(study: Study) -> Outcome:
    return run(study, workers=2, function=WORK)


def places(study: Study) -> list[Path]:
    """Every kind of place that a study writes to, as it is while and after it is run."""
    step = study.plan.of("run")[0]
    part, steps = study.store.part(step), study.folder / "runs"
    named = ("study.lock.json", "sessions.jsonl", "conflicts.jsonl", "openmetrics.prom", "leases/driver.json")
    inside = ("record.json", "output.txt", "worker", "spec.json.tmp", "deep/trunk.safetensors")
    return [
        *(study.folder / name for name in (*named, "leases/workers", "index/records.parquet", "fits/power.json")),
        *(study.folder / name for name in ("leases", "index", "queue", "fits", "report", "damaged")),
        *(steps, study.store.done(step), part, *(part / name for name in inside)),
        study.store.done(study.plan.of("base")[0]) / "untouched-test.parquet",
    ]


@pytest.mark.parametrize("number", range(23))
def test_nothing_is_written_through_a_link_and_it_is_said(
    tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    study = toy_study(tmp_path / "study")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "folder").mkdir(parents=True)
    for name in ("file", "folder/record.json", "folder/spec.json", "folder/driver.json"):
        (elsewhere / name).write_text("mine")
    before = outside(elsewhere)
    assert len(places(study)) == 23
    place = places(study)[number]
    place.parent.mkdir(parents=True, exist_ok=True)
    is_file = "." in place.name and place.suffix != ".part" and place.parent != study.folder / "runs"
    place.symlink_to(elsewhere / ("file" if is_file else "folder"))
    with pytest.raises(StudyError, match="holds links where only its own files may be") as said:
        toy_run(study)
    assert f"{place} → {elsewhere}" in str(said.value)
    for verb in ("status", "check", "table"):
        call([verb, str(study.folder)])
    assert outside(elsewhere) == before


def test_all_that_a_study_writes_is_looked_at(tmp_path: Path) -> None:
    """No file of a study that was run and answered lies where links are not looked for."""
    study = toy_study(tmp_path)
    assert toy_run(study).complete
    analyse(study)
    known = {*links.STEPS, *links.OTHERS, *links.FILES, "study.toml", "attempts", "parts"}
    assert {path.name for path in tmp_path.iterdir()} <= known
    assert tuple(store.FOLDERS.values()) == links.STEPS


def test_a_record_that_is_a_link_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = toy_study(tmp_path / "study")
    assert toy_run(study).complete
    path = study.store.done(study.plan.of("run")[0]) / "record.json"
    moved = path.rename(tmp_path / "record.json")
    path.symlink_to(moved)
    assert call(["check", str(study.folder)]) == 3
    assert f"{path}: cannot be read: it is a link" in capsys.readouterr().out
    with pytest.raises(StudyError, match="it is a link"):
        study.table()


@pytest.mark.parametrize("name", ["study", "study.toml"])
def test_what_is_only_read_may_be_a_link(tmp_path: Path, name: str) -> None:
    real = tmp_path / "real"
    toy_study(real)
    if name == "study":
        (tmp_path / name).symlink_to(real)
    else:
        (tmp_path / "study").mkdir()
        (tmp_path / "study" / name).symlink_to(real / name)
    folder = tmp_path / "study"
    study = Study(folder, config.read(folder), Digests(corpus="0" * 64, tasks={}), {})
    assert toy_run(study).complete


def test_a_file_left_aside_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("mine")
    (tmp_path / "a.json.tmp").symlink_to(tmp_path / "theirs")
    store.write_json(tmp_path / "a.json", {"a": 1})
    assert store.read_json(tmp_path / "a.json") == {"a": 1}
    assert (tmp_path / "theirs").read_text() == "mine"


# ----------------------------------------------------------------------------------------------------------------- text


class Names(HTMLParser):
    """Collects the elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen += [name, *(key for key, _ in attrs)]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_in_a_page_is_text(text: str) -> None:
    parser = Names()
    parser.feed(tag("p", text, title=text) + json_block("data", {text: [text]}))
    assert parser.seen == ["p", "title", "script", "id", "type"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_in_a_latex_table_is_text(text: str) -> None:
    made = latex(pd.DataFrame({text: [text], "low": [0.1], "high": [0.2]}), text, "tab:x")
    assert "\\input" not in made
    body = made.partition("\\endhead")[2]
    assert body.count("\\\\") == 1, "one row"
    assert not any(line.startswith("[") for line in made.splitlines()), "no argument of the row before"
    for char in "%$#&":
        assert made.count(f"\\{char}") >= 2 * text.count(char)
    assert "[$0.1$, $0.2$]" in made


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_of_a_spreadsheet_begins_like_a_formula(text: str) -> None:
    made = plain(pd.DataFrame({text: [text, None], "loss": [-0.5, 1.0]})).to_csv(index=False)
    found = pd.read_csv(StringIO(made), dtype=str)
    cells = [str(cell) for cell in [*found.columns, *found.iloc[:, 0].dropna()]]
    assert not [cell for cell in cells if cell.startswith(FORMULA)]
    assert found["loss"].tolist() == ["-0.5", "1.0"], "numbers stay as they are"


@pytest.mark.parametrize("text", HOSTILE)
def test_text_on_a_terminal_is_text(text: str) -> None:
    said = StringIO()
    with showing(InertConsole(file=said, width=500)) as show:
        show(Outcome(2, set(), {"c": Failure("bug", text, "")}))
    line = " ".join(text.replace("\u0000", "").split())
    assert line in " ".join(said.getvalue().split())


ESCAPES = [
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x1b]8;;http://a\x1b\\b\x1b]8;;\x1b\\",
    "\x9b31m",
    "\r\x08\x7f",
    "\x1bP1$r\x1b\\",
]
"""Clear, title, link, the one-byte form of an escape, rubbing out, a device's own command."""


@pytest.mark.parametrize("text", ESCAPES)
@pytest.mark.parametrize("terminal", [False, True])
def test_no_text_can_move_the_cursor(text: str, terminal: bool) -> None:
    """What a terminal receives is the same, but for plain letters, whatever a message and a name say."""
    seen = []
    for word in (f"a{text}", "plain"):
        plainly = {"markup": False, "highlight": False, "width": 500}
        console = InertConsole(file=(said := StringIO()), force_terminal=terminal, **plainly)
        with showing(console) as show:
            show(Outcome(2, set(), {"c": Failure("bug", word, "")}, running={f"{word}-b": 0.5}))
        console.print(word, Text(word, "red"), soft_wrap=True)
        seen.append([char for char in said.getvalue() if ord(char) in CONTROLS])
    assert seen[0] == seen[1]
    assert bool(seen[0]) == terminal, "its own styles still work"


@pytest.mark.parametrize("text", ESCAPES)
def test_printed_values_are_inert_and_json_keeps_what_it_says(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(text)
    assert not [char for char in capsys.readouterr().out if ord(char) in CONTROLS]
    say({text: [text]})
    printed = capsys.readouterr().out
    assert not [char for char in printed if ord(char) in CONTROLS]
    assert json.loads(printed) == {text: [text]}


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["check"], ["check", "--json"], ["run"]])
def test_verbs_print_no_escape_that_a_study_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error's text, a conflict, a damaged record and a key of study.toml, each with an escape in it."""
    study, text = toy_study(tmp_path / "\x1b[31mstudy"), "".join(ESCAPES)
    lock.write_lock(study)
    failed, done = study.plan.of("rate")[0], study.plan.of("base")[0]
    study.store.begin(failed)
    study.store.tell_failure(study.store.part(failed), Failure("bug", text, text))
    study.store.begin(done)
    store.finish(study.store.part(done), {"learning_rate": 1.0})
    (study.folder / store.CONFLICTS).write_text(json.dumps({"step": text, "first → late": [text]}) + "\n")
    (study.store.done(done) / "record.json").write_text(json.dumps({"layout": text}))
    if words == ["run"]:
        (study.folder / "study.toml").write_text(f'{TOML}\n[tasks."\\u001b[2J"]\nfile = "\\u009bm"\n')
    call([*words, str(study.folder)])
    said = capsys.readouterr()
    assert len(said.out + said.err) > 20
    assert not [char for char in said.out + said.err if ord(char) in CONTROLS]
