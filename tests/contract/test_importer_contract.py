"""Every importer there is, held to the same promises: on what its tool wrote, and on anything that is damaged.

An importer needs a folder of fixtures, made by its tool (``tests/golden/exchange/make.py``), and a line here.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from finescale.errors import FinescaleError, InputError
from finescale.exchange.account import Imported
from finescale.exchange.ask import Ask
from finescale.exchange.found import Found, Skipped
from finescale.exchange.gather import import_runs, importer, names
from finescale.stats.runs import CANONICAL, read_runs

GOLDEN = Path(__file__).parent.parent / "golden" / "exchange"
NAMED = r"n(?P<examples>\d+)"


@dataclass(frozen=True)
class Case:
    """What an importer is tried on: a path, what has to be told besides, and how many runs are usable."""

    path: Path
    runs: int
    ask: dict[str, object] = field(default_factory=dict)


CASES = {
    "axolotl": Case(GOLDEN / "axolotl", 1, {"values": {"examples": "64"}}),
    "llama-factory": Case(GOLDEN / "llama_factory", 1, {"columns": {"max_samples": "examples"}}),
    "lm-eval": Case(GOLDEN / "lm_eval", 2, {"pattern": NAMED}),
    "mlflow": Case(GOLDEN / "mlflow" / "search_runs.csv", 3, {"pattern": NAMED}),
    "peft-comparison": Case(GOLDEN / "peft_comparison", 2, {"loss": "1 - test accuracy", "values": {"examples": "9"}}),
    "table": Case(GOLDEN / "table" / "runs.csv", 6, {"columns": {"n": "examples", "nll": "loss"}}),
    "tensorboard": Case(GOLDEN / "tensorboard", 3, {"pattern": NAMED}),
    "trainer": Case(GOLDEN / "trainer", 14, {"pattern": NAMED}),
    "wandb": Case(GOLDEN / "wandb" / "project.csv", 3, {"pattern": NAMED}),
}
every = pytest.mark.parametrize("name", names())


def read(name: str, path: Path | None = None) -> Imported:
    return import_runs(name, [path or CASES[name].path], Ask(**CASES[name].ask))  # type: ignore[arg-type]


def test_every_importer_has_a_case() -> None:
    assert set(names()) == set(CASES)


@every
def test_it_says_what_it_is(name: str) -> None:
    assert importer(name).name == name
    assert importer(name).summary


@every
def test_it_reads_what_its_tool_wrote_into_a_table_that_fits_read(name: str, tmp_path: Path) -> None:
    found = read(name)
    assert len(found.runs.usable) == CASES[name].runs
    assert {"examples", "loss", "run"} <= set(found.frame)
    assert next(iter(found.frame)) in CANONICAL
    assert found.frame["run"].is_unique
    assert (found.runs.usable["loss"] > 0).all()
    found.frame.to_csv(tmp_path / "runs.csv", index=False)
    assert len(read_runs(tmp_path / "runs.csv").usable) == CASES[name].runs


@every
def test_it_says_the_same_again_and_in_json(name: str) -> None:
    one, two = read(name), read(name)
    assert one.frame.equals(two.frame)
    assert str(one) == str(two)
    assert json.loads(json.dumps(one.to_dict(), allow_nan=False))["runs"] == len(one.frame)


@every
def test_what_it_does_not_know_it_asks_for_by_name(name: str) -> None:
    found = read(name)
    for unknown in found.unknown:
        assert f"--set {unknown.column}=" in unknown.way or "--loss" in unknown.way
        given = import_runs(
            name,
            [CASES[name].path],
            Ask(**{**CASES[name].ask, "values": {**CASES[name].ask.get("values", {}), unknown.column: "7"}}),  # type: ignore[arg-type,dict-item]
        )
        assert given.frame[unknown.column].notna().all(), "what was asked for and given is there"


@every
def test_a_place_that_is_not_there_or_holds_nothing_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        list(importer(name).read(tmp_path / "nothing"))
    with pytest.raises(InputError):
        import_runs(name, [tmp_path])


def copied(name: str, to: Path) -> Path:
    source = CASES[name].path
    if source.is_file():
        return Path(shutil.copy(source, to / source.name))
    return Path(shutil.copytree(source, to / "copy"))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.path.is_dir()])
def test_circles_of_links_end_and_runs_are_taken_once(name: str, tmp_path: Path) -> None:
    place = copied(name, tmp_path)
    os.symlink(place, place / "again", target_is_directory=True)
    os.symlink(tmp_path / "nowhere", place / "broken")
    assert len(read(name, place).runs.usable) == CASES[name].runs


@every
def test_only_our_own_errors_come_out_of_damaged_files(name: str, tmp_path: Path) -> None:
    chance = random.Random(name)
    for number in range(25):
        home = tmp_path / str(number)
        home.mkdir()
        place = copied(name, home)
        files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
        for file in chance.sample(files, min(len(files), 3)):
            file.chmod(0o600)
            file.write_bytes(damaged(file.read_bytes(), chance))
        said = ""
        try:
            said = str(read(name, place))
        except FinescaleError as error:
            said = str(error)
        assert said.strip()


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Cut off, emptied, overwritten in places, or with words of trouble spliced in."""
    at = chance.randrange(len(content) + 1)
    trouble = [
        b"NaN",
        b"1e999",
        b"9" * 400,
        b"\xff\xfe",
        b"[" * 3000,
        b"null",
        b"{}",
        b"\x00" * 9,
        "任务\ud83d".encode("utf-8", "replace"),
    ]
    deed = chance.random()
    if deed < 0.3:
        return content[:at]
    if deed < 0.4:
        return b""
    return content[:at] + chance.choice(trouble) + content[at + chance.choice((0, 1, 5)) :]


@every
def test_what_it_yields_is_plain(name: str) -> None:
    for one in importer(name).read(CASES[name].path):
        assert isinstance(one, Found | Skipped)
        if isinstance(one, Found):
            assert all(isinstance(value, str | int | float | bool) for value in one.facts.values())
            assert all(isinstance(step, float) for points in one.scores.values() for step, _ in points)


def test_importing_needs_no_torch_and_no_tool() -> None:
    heavy = "('torch', 'transformers', 'mlflow', 'wandb', 'tensorboard', 'lm_eval')"
    code = (
        "import sys; from finescale.exchange.gather import importer, names; [importer(name) for name in names()];"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
