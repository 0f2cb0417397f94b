"""What every registered metric must do, a contributor's own included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finescale import registry
from finescale.core import Score
from finescale.errors import Refused
from finescale.lab.metrics import Rows
from finescale.lab.metrics.flags import RATES
from finescale.lab.metrics.text import Answers, TextMetric

METRICS = [registry.get("metric", name) for name in registry.names("metric")]
DECODED = [*(metric for metric in METRICS if metric.decoded), *RATES]
SUMS = [metric for metric in METRICS if not metric.decoded]
REFERENCES = ("Alle Fenster schließen", "Über diese Anwendung", "打开一个新文件", "Die Datei wurde nicht gefunden.")
SAID = ("Alle Fenster öffnen", "", "打开文件", "Die Datei \U0001f4c4 wurde gefunden")


def answers(said: tuple[str, ...] = SAID) -> Answers:
    return Answers(("Fenster",) * 4, said, REFERENCES, ("de", "de", "zh", "de"), (True,) * 4, "greedy")


def ready(metric: TextMetric) -> TextMetric:
    if needed := metric.needs():
        with pytest.raises(Refused):
            metric.grade(answers())
        pytest.skip(needed)
    return metric


def check(score: Score, name: str, n: int) -> None:
    assert score.metric == name
    assert score.n == n
    assert score.low <= score.value <= score.high
    assert np.isfinite([score.low, score.value, score.high]).all()
    assert score.unit
    assert score.signature.startswith(f"{name}|")
    assert score.signature.endswith(f"|n:{n}")


@pytest.mark.parametrize("metric", SUMS, ids=lambda m: m.name)
def test_a_metric_of_sums_scores_with_an_interval_and_knows_better_from_worse(metric) -> None:
    rng = np.random.default_rng(0)
    rows = Rows(rng.uniform(5, 20, 50), rng.integers(3, 9, 50).astype(float), rng.integers(9, 40, 50).astype(float))
    score = metric.score(rows, "sig")
    check(score, metric.name, 50)
    worse = metric.score(replace(rows, nats=rows.nats * 2), "sig")
    assert (worse.value > score.value) == (metric.direction == "lower")
    assert metric.score(rows, "sig") == score, "the same rows give the same interval"


@pytest.mark.parametrize("metric", DECODED, ids=lambda m: m.name)
def test_a_metric_of_answers_scores_with_an_interval_and_per_example(metric: TextMetric) -> None:
    graded = ready(metric).grade(answers())
    check(graded.score, metric.name, 4)
    assert graded.each.shape == (4,)
    assert np.isfinite(graded.each).all()
    assert metric.grade(answers()).score == graded.score, "the same answers give the same score and interval"


@pytest.mark.parametrize("metric", DECODED, ids=lambda m: m.name)
def test_the_reference_itself_is_no_worse_than_an_answer(metric: TextMetric) -> None:
    sign = 1 if ready(metric).direction == "higher" else -1
    assert sign * metric.grade(answers(REFERENCES)).score.value >= sign * metric.grade(answers()).score.value


@pytest.mark.parametrize("metric", DECODED, ids=lambda m: m.name)
def test_a_single_answer_and_only_empty_answers_can_be_scored(metric: TextMetric) -> None:
    single = Answers(("s",), ("Haus",), ("Haus",), ("",), (True,), "greedy")
    check(ready(metric).grade(single).score, metric.name, 1)
    check(metric.grade(answers(("",) * 4)).score, metric.name, 4)


def test_names_are_those_of_the_socket_and_columns_do_not_clash() -> None:
    for metric in METRICS:
        assert registry.get("metric", metric.name) is metric
    columns = [metric.name.replace("-", "_") for metric in (*METRICS, *RATES)]
    assert len(set(columns)) == len(columns)
