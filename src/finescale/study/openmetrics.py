"""Where a study stands, as an OpenMetrics file that a platform's own monitoring collects."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.exposition import generate_latest

from finescale.study.policy import CLASSES
from finescale.study.store import aside_of

if TYPE_CHECKING:
    from finescale.study.run import Outcome

FILE = "openmetrics.prom"
SECONDS_BETWEEN_WRITES = 5.0


def exposed(name: str, outcome: Outcome) -> bytes:
    """The OpenMetrics text of a study of this name."""
    registry = CollectorRegistry()

    def gauge(what: str, meaning: str, unit: str = "", labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(what, meaning, ("study", *labels), namespace="finescale", unit=unit, registry=registry)

    steps = gauge("steps", "Steps of the study by state.", labels=("state",))
    states = {"done": outcome.done, "running": outcome.running, "failed": outcome.failed, "blocked": outcome.blocked}
    for state, ids in states.items():
        steps.labels(name, state).set(len(ids))
    steps.labels(name, "waiting").set(outcome.total - sum(map(len, states.values())))
    failures = gauge("failures", "Failed steps by class of failure.", labels=("class",))
    kinds = Counter(failure.kind for failure in outcome.failed.values())
    for kind in CLASSES:
        failures.labels(name, kind).set(kinds[kind])
    gauge("session", "Wall time of this session.", "seconds").labels(name).set(outcome.seconds)
    gauge("peak_memory", "Upper bound of the memory held at one time.", "bytes").labels(name).set(
        outcome.peak_memory_bytes
    )
    if outcome.seconds_left is not None:
        gauge("left", "Estimated wall time left.", "seconds").labels(name).set(outcome.seconds_left)
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text


def writing(folder: Path, show: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
    """``show``, which also leaves the file in the study's folder, now and then and whenever nothing runs."""
    due = 0.0

    def both(outcome: Outcome) -> None:
        nonlocal due
        show(outcome)
        if (now := time.monotonic()) >= due or not outcome.running:
            due = now + SECONDS_BETWEEN_WRITES
            aside = aside_of(folder / FILE)
            aside.write_bytes(exposed(folder.resolve().name, outcome))
            aside.replace(folder / FILE)

    return both
