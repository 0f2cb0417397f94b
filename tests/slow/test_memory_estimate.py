"""The plan's estimate of memory against real steps, each in a process of its own (``benchmarks/memory.py``)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "fast"))

from tiny_corpus import write_tiny_corpus  # noqa: E402

from finescale import registry  # noqa: E402
from finescale.core import DataSpec  # noqa: E402
from finescale.lab import prepare  # noqa: E402

pytestmark = pytest.mark.slow
BENCHMARK = HERE.parent.parent / "benchmarks" / "memory.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache, out = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINESCALE_CACHE", str(cache))
        digest = write_tiny_corpus(cache, documents=1600)
        task = registry.get("task", "mt-en-de").spec(digest=digest, dev_examples=64, test_examples=64)
        spec = DataSpec(
            corpus="tiny", corpus_digest=digest, languages=("en", "de"), vocab=2000, context=192,
            stream_tokens=200_000, tasks=(task,),
        )  # fmt: skip
        prepare.prepare(spec, out, {}, lambda _: None)
    return out


@pytest.mark.parametrize("rung", ["xs", "l"])
@pytest.mark.parametrize("method", ["pretraining", "full", "lora", "prompt"])
def test_the_estimate_is_within_a_quarter_of_the_peak(rung: str, method: str, data: Path) -> None:
    command = [sys.executable, BENCHMARK, data, "--fitted", "--case", rung, method, "16"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["estimate"] == pytest.approx(found["peak"], rel=0.25)
