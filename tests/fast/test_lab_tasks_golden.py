"""Two rendered examples of every built-in task, held against files.

To renew them: python tests/fast/test_lab_tasks_golden.py

The corpus is the made-up one of ``tiny_corpus``, the hub the made-up one of ``hub_mirror``.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from hub_mirror import write_mirror
from tiny_corpus import SUMMARIES, write_tiny_corpus

from finescale import registry
from finescale.lab import hub, pools
from finescale.lab.corpora import find
from finescale.lab.tasks import Task

GOLDEN = Path(__file__).parent.parent / "golden" / "tasks"


def rendered(name: str, folder: Path) -> str:
    """The first two training examples of a task as JSON lines; of a task in several languages, two of each."""
    cache = folder / "cache" if (folder / "cache").exists() else None
    digest = (folder / "digest").read_text() if cache else write_tiny_corpus(folder / "cache")
    (folder / "digest").write_text(digest)
    mirror = folder / "mirror" if (folder / "mirror").exists() else write_mirror(folder / "mirror")
    task: Task = registry.get("task", name)
    languages = tuple(SUMMARIES) if name == "summarise" else task.usual
    origin = hub.digest(name, languages, mirror) if task.origin == "hub" else digest
    spec = task.spec(origin, 2, 2, languages)
    found = pools.pool(spec, find(digest, folder / "cache"), {name: mirror}).splits["train"]
    shown = [row for language in languages for row in [one for one in found if one.language == language][:2]]
    assert not any(row.turns for row in shown)  # no built-in task is made of conversations
    texts = [{name: text for name, text in asdict(row).items() if name != "turns"} for row in shown]
    return "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.mark.parametrize("name", registry.names("task"))
def test_examples_are_rendered_as_the_file_says(name: str, folder: Path) -> None:
    assert rendered(name, folder) == (GOLDEN / f"{name}.jsonl").read_text(encoding="utf-8")


def test_no_golden_is_of_a_task_that_is_gone() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(registry.names("task"))


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as work:
        for task_name in registry.names("task"):
            (GOLDEN / f"{task_name}.jsonl").write_text(rendered(task_name, Path(work)), encoding="utf-8")
