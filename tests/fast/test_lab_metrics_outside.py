"""Metrics in environments of their own: what is said before they are there, and how a worker's failure arrives."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finescale import registry
from finescale.cli_metrics import app
from finescale.errors import InputError, Refused
from finescale.lab.metrics import outside
from finescale.lab.metrics.text import Answers

ANSWERS = Answers(("Haus",), ("house",), ("house",), ("en",), (True,), "greedy")
NAMES = sorted(outside.OUTSIDE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path))
    return tmp_path / "metrics"


def with_environment(own: outside.Outside) -> None:
    """An environment whose interpreter is this one, in which the metric's package is absent."""
    own.python.parent.mkdir(parents=True)
    own.python.symlink_to(sys.executable)
    (own.home / "installed").touch()


def choose(own: outside.Outside, folder: Path) -> None:
    own.install(str(folder), lambda _: None)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_says_what_it_needs_step_by_step(name: str, tmp_path: Path) -> None:
    own = outside.find(name)
    assert own.needs() == f"not installed: finescale metrics install {name}"
    with pytest.raises(Refused, match="not installed"):
        registry.get("metric", name).grade(ANSWERS)
    with_environment(own)
    assert "weights are absent" in own.needs()
    weights = tmp_path / "weights"
    weights.mkdir()
    choose(own, weights)
    assert own.needs() == ""
    weights.rmdir()
    assert "weights are absent" in own.needs()


@pytest.mark.parametrize("name", NAMES)
def test_the_worker_runs_and_its_last_complaint_arrives(name: str, tmp_path: Path) -> None:
    own = outside.find(name)
    with_environment(own)
    choose(own, tmp_path)
    with pytest.raises(Refused, match=rf"{name} could not score \(ModuleNotFoundError: No module named"):
        registry.get("metric", name).grade(ANSWERS)


def test_comet_gets_the_bare_source_and_is_refused_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's interpreter is this one; the worker is a stand-in that gives back how long each source is."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, sys\nfor line in sys.stdin: print(json.dumps({'score': len(json.loads(line)['source'])}))\n"
    )
    monkeypatch.setattr(outside, "WORKER", worker)
    for name in ("comet", "bleurt"):
        with_environment(outside.find(name))
        choose(outside.find(name), tmp_path)
    assert outside.COMET.grade(ANSWERS).score.value == len("Haus")
    none = replace(ANSWERS, sources=("",))
    with pytest.raises(Refused, match="comet reads the source, which was not kept"):
        outside.COMET.grade(none)
    assert outside.BLEURT.grade(none).score.value == 0, "it reads no source"


def test_a_checkpoint_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    own = outside.find("bleurt")
    with_environment(own)
    signatures = []
    for place, content in (("a/tiny", b"1"), ("b/tiny", b"1"), ("c/tiny", b"2")):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(content)
        choose(own, folder)
        signatures.append(own.signature(ANSWERS))
    assert signatures[0] == signatures[1] != signatures[2]
    assert "bleurt-pytorch==0.0.1" in signatures[0]


def test_every_pin_is_exact_and_names_the_metrics_own_package() -> None:
    for own in outside.OUTSIDE.values():
        pins = own.pins.read_text().split()
        assert all("==" in pin for pin in pins)
        assert any(pin.startswith(f"{own.package}==") for pin in pins)


def test_the_list_has_every_metric_with_its_state() -> None:
    rows = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    states = {row["metric"]: row["state"] for row in rows}
    assert set(states) == set(registry.names("metric"))
    assert states["nll"] == states["rouge-l"] == "ready"
    assert "finescale metrics install comet" in states["comet"]
    assert "finescale metrics install comet" in CliRunner().invoke(app, ["list"]).stdout


def test_an_unknown_metric_names_the_near_one() -> None:
    with pytest.raises(InputError, match="did you mean 'bleurt'"):
        outside.find("bluert")
