"""BLEURT and COMET for real: their own environments by pip, their own loading code, on tiny checkpoints made here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from finescale.errors import Refused
from finescale.lab.answers import grade
from finescale.lab.metrics import outside
from finescale.lab.metrics.text import Answers, TextMetric

pytestmark = pytest.mark.slow
MAKER = Path(__file__).with_name("tiny_learned_metric.py")
METRICS = {"bleurt": outside.BLEURT, "comet": outside.COMET}
SAID = ["das fenster schließen", "", "关闭窗口", "open a " * 60, 'über "diese"\u2028anwendung\n', "close all"] * 4
REFERENCES = ["schließen das fenster", "close all the windows", "关闭所有窗口", "open a new file", "über", "close"] * 4
ANSWERS = Answers(
    ("close the window",) * 24, tuple(SAID), tuple(REFERENCES), ("de",) * 24, (True,) * 24, "greedy-48-tokens"
)


@pytest.fixture(scope="module", params=METRICS)
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> outside.Outside:
    """A metric's environment in a cache of its own; the user's environment is lent to it where there is one."""
    own = outside.OUTSIDE[request.param]
    there = own.home
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINESCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        own.home.parent.mkdir(parents=True)
        if (there / "installed").exists():
            own.home.symlink_to(there)
        assert "metrics install" in own.needs()
        with pytest.raises(Refused, match=r"environment is ready, but the weights '[^']+' are not here"):
            own.install(None, print)
        yield own


def test_absent_weights_are_refused_and_a_folder_of_them_is_scored_as_documented(
    installed: outside.Outside, tmp_path: Path
) -> None:
    metric: TextMetric = METRICS[installed.name]
    refused: dict[str, str] = {}
    assert grade(ANSWERS, metric, refused) is None
    assert "weights are absent" in refused[installed.name]

    pairs = [
        {"source": s, "prediction": p, "reference": r}
        for s, p, r in zip(ANSWERS.sources, ANSWERS.predictions, ANSWERS.references, strict=True)
    ]
    made = subprocess.run(
        [installed.python, MAKER, installed.name, tmp_path, json.dumps(pairs)], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr[-2000:]
    installed.install(str(tmp_path), print)
    assert installed.needs() == ""
    graded = metric.grade(ANSWERS)
    assert graded.each == pytest.approx(np.array(json.loads(made.stdout)), abs=1e-4)
    assert len(set(graded.each[:6].round(6))) == 6, "the checkpoint must tell answers apart"
    assert graded.score.value == pytest.approx(graded.each.mean())
    assert f"checkpoint:{tmp_path.name}@" in graded.score.signature

    weights = next(p for p in tmp_path.rglob("*") if p.name in ("model.safetensors", "model.ckpt") and p.stat().st_size)
    (tmp_path / "checkpoints" / "model.ckpt" if installed.name == "comet" else weights).write_bytes(b"damaged")
    with pytest.raises(Refused, match=f"{installed.name} could not score"):
        metric.grade(ANSWERS)
