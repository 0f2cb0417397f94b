"""The house rules that a program can hold: floors, sizes, light imports, documents that are true."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "finescale"
FILES = sorted(SOURCE.rglob("*.py"))
FLOORS = {"errors": 0, "core": 0, "registry": 0, "stats": 1, "lab": 1, "study": 2, "demo": 2}
FLOORS |= {"terminal": 3, "report": 3, "exchange": 3, "cli": 4}


def room(module: str) -> str:
    """The room of ``finescale.room.…``; the command line may be several files that start with ``cli``."""
    part = module.split(".")[1] if "." in module else "__init__"
    return "cli" if part.startswith("cli") else part


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "finescale":
            found |= {node.module} if node.module != "finescale" else {f"finescale.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "finescale"}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_downwards_only(path: Path) -> None:
    own = room("finescale." + ".".join(path.relative_to(SOURCE).with_suffix("").parts))
    if own == "__init__":
        return
    for module in imports(path):
        other = room(module)
        if other == "__init__" or other not in FLOORS:
            continue
        assert FLOORS[other] <= FLOORS[own], f"{own} must not import {other}"
        assert other == own or FLOORS[other] < FLOORS[own] or FLOORS[own] == 0 or {own, other} == {"study", "demo"}


def test_architecture_page_names_every_room_and_only_those() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"^\| `(\w+)(?:/|\.py)`", text, re.M))
    assert named == {p.stem for p in SOURCE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()} - {
        "__init__"
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_public_things_have_docstrings() -> None:
    bare = []
    for path in FILES:
        module = ast.parse(path.read_text())
        nodes = [module, *(n for n in module.body if isinstance(n, ast.FunctionDef | ast.ClassDef))]
        bare += [
            f"{path.relative_to(SOURCE)}:{getattr(n, 'name', 'module')}"
            for n in nodes
            if not getattr(n, "name", "").startswith("_") and not ast.get_docstring(n)
        ]
    assert not bare


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "[m for m in ('torch', 'transformers', 'pandas', 'scipy', 'numpy', 'pydantic') if m in sys.modules]"
    code = f"import sys, finescale; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_statistics_and_planning_load_no_torch() -> None:
    code = (
        "import sys, finescale as fs, finescale.cli, finescale.study.plan, finescale.study.analyse;"
        "import finescale.report.page;"
        "from finescale import registry;"
        "[registry.get(s, n) for s in ('law', 'method', 'task', 'metric') for n in registry.names(s)];"
        "[getattr(fs, n) for n in fs.__all__];"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_public_name_can_be_had() -> None:
    import finescale

    assert all(hasattr(finescale, name) for name in finescale.__all__)
    with pytest.raises(AttributeError, match="public names"):
        _ = finescale.nothing  # type: ignore[attr-defined]


def test_the_readmes_tree_is_the_tree() -> None:
    spec = importlib.util.spec_from_file_location("tree", ROOT / "docs" / "tree.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme = (ROOT / "README.md").read_text()
    assert "<!-- tree -->" in readme
    assert module.with_tree(readme) == readme, "run: python docs/tree.py"


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
)
def test_links_inside_the_project_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_dependency_has_a_reason_and_a_pin() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    asked = set(re.findall(r'^    "([A-Za-z0-9_-]+)[^"]*",$', text, re.M))
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    pins = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert {name for name in asked if f"`{name}`" not in reasons} == set()
    assert {name for name in asked if name.lower() not in pins} == set()
