"""Tutorials are run as they stand: every block in order, what they print held against what they show, within a time.

So is the program that prints a page of numbers from its tables.
"""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent.parent.parent / "docs" / "tutorials"
MOST_SECONDS = 120
"""Of processor time, all processes together: a busy machine must not decide."""


def runner() -> Any:
    """``docs/tutorials/run.py``, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("tutorials", HERE / "run.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("path", sorted(HERE.glob("*.md")), ids=lambda path: path.stem)
def test_a_tutorial_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    before = spent()
    assert runner().differences(path.read_text(), tmp_path.resolve()) == []
    assert spent() - before < MOST_SECONDS


def test_a_line_that_is_not_printed_is_told(tmp_path: Path) -> None:
    text = "```python\nprint('examples: 3')\nprint('took 1.5 s')\n```\n```text\n{}\n```\n"
    differences = runner().differences
    assert differences(text.format("examples: 3\ntook 99 s"), tmp_path) == []
    assert differences(text.format("examples: 4\ntook 99 s"), tmp_path) != []
    assert differences(text.format("examples: 3\ntakes 1.5 s"), tmp_path) != []
    with pytest.raises(RuntimeError, match="left with 1"):
        differences("```python\nraise SystemExit(1)\n```\n", tmp_path)


def test_the_page_of_the_real_model_is_what_its_program_prints() -> None:
    docs = HERE.parent
    made = subprocess.run([sys.executable, docs / "smollm2_study.py"], capture_output=True, text=True, check=True)
    assert made.stdout == (docs / "smollm2.md").read_text()
