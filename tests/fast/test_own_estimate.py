"""``estimate``: what runs take, from real steps in a folder that is thrown away."""

from __future__ import annotations

import json
from pathlib import Path

import local_hub
import pytest
from test_own_init import dates, snapshot, write

from finescale.cli import DEBUG, call
from finescale.core import FinetuneRecipe, MethodSpec, Shape
from finescale.errors import InputError
from finescale.lab.ladder import count
from finescale.study.cost import tuning_memory
from finescale.study.estimate import Estimate, estimate
from finescale.study.lock import read_study
from finescale.study.propose import Wanted, propose


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Estimate]:
    home = tmp_path_factory.mktemp("home")
    model = str(local_hub.save(home / "tiny", "llama"))
    data = write(home / "d.jsonl", dates(120))
    folder = propose(home / "mine", Wanted(data, (model,), ("full", "prompt"), usd_per_device_hour=2.0)).folder
    return folder, estimate(read_study(folder))


def test_every_cell_is_timed_and_the_study_is_left_as_it_was(found: tuple[Path, Estimate]) -> None:
    folder, said = found
    assert snapshot(folder) == {"study.toml"}
    assert [cell.method for cell in said.cells] == ["full", "prompt-20"]
    for cell in said.cells:
        assert cell.peak is not None
        assert 0.75 < cell.bytes / cell.peak < 1.25
        assert list(cell.seconds) == sorted(cell.seconds)
        assert all(a <= b for a, b in zip(cell.seconds.values(), list(cell.seconds.values())[1:], strict=False))
        assert cell.step[0] >= 0.5 * cell.step[1] > 0
    assert said.seconds["runs"] == pytest.approx(sum(cell.total for cell in said.cells))
    assert said.usd == pytest.approx(said.total / 3600 * 2.0)


def test_memory_grows_with_the_length_of_examples(found: tuple[Path, Estimate]) -> None:
    for cell in found[1].cells:
        assert list(cell.by_length) == [128, 256], "as far as the model reads"
        assert cell.by_length[128] < cell.by_length[256]


def test_an_output_head_of_its_own_is_counted() -> None:
    shape = Shape(layers=2, width=64, heads=4, ff=128, vocab=1000, context=64)
    recipe, head = FinetuneRecipe(), 64_000
    full, lora = (
        [tuning_memory(shape, MethodSpec(name=name, pet_size=size), recipe, 8, 0, beyond=more) for more in (0, head)]
        for name, size in (("full", None), ("lora", 4))
    )
    assert full[1].weights - full[0].weights == 4 * head
    assert full[1].gradients == 4 * (count(shape).total + head)
    assert lora[1].weights - lora[0].weights == 4 * head
    assert lora[1].gradients == lora[0].gradients


@pytest.mark.slow
def test_the_verb_takes_a_study_or_a_model_with_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEBUG, "")
    assert call(["estimate"]) == 1
    said = capsys.readouterr().err
    assert "--model: is missing" in said
    assert "--data: is missing" in said
    assert call(["estimate", str(tmp_path), "--method", "lora"]) == 1
    assert "stands beside a study" in capsys.readouterr().err
    model = str(local_hub.save(tmp_path / "tiny", "gpt_neox"))
    data = write(tmp_path / "d.jsonl", dates(120))
    before = snapshot(tmp_path)
    assert call(["estimate", "--model", model, "--data", str(data), "--method", "lora", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["cells"][0]["method"] == "lora-8"
    assert body["total_seconds"] > 0
    assert snapshot(tmp_path) == before


def test_a_study_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_study(tmp_path / "nowhere")
