"""What a hostile file, name or text can do here: nothing. One test, or more, for each way in."""

from __future__ import annotations

import ast
import json
import pickle
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console
from study_toy import TOML, toy_study

from finescale.cli import call
from finescale.core import Shape
from finescale.errors import InputError
from finescale.lab import model
from finescale.report.latex import latex
from finescale.report.markup import json_block, tag
from finescale.report.spreadsheet import FORMULA, plain
from finescale.study import config
from finescale.study.lock import Study
from finescale.study.place import settle
from finescale.study.plan import Digests
from finescale.study.policy import Failure
from finescale.study.run import Outcome
from finescale.study.show import showing

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
            assert asked.get("trust_remote_code", "False") == "False"


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
    with showing(Console(file=said, width=500)) as show:
        show(Outcome(2, set(), {"c": Failure("bug", text, "")}))
    line = " ".join(text.replace("\u0000", "").split())
    assert line in " ".join(said.getvalue().replace("\u0000", "").split())
