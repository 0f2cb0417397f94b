"""Where a study stands, in full: what ``finescale status --json`` prints.

``schema`` is raised whenever a key changes its meaning or goes; new keys may come without. The keys of schema 1:

================  ==================================================================================================
``study``         name of the study's folder
``total``         steps of the study; ``done``, ``waiting`` count some of them
``running``       fraction done of each running step, by id
``failed``        why each failed step failed, by id: ``kind`` (its class), ``message``, ``at`` (UTC)
``failures``      failed steps by class
``blocked``       ids of steps that need a failed one
``kinds``         the same counts by kind of step: data, base, rate, run
``flagged``       finished runs that say nothing about the law, by flag
``last_errors``   ids of the failures, latest first, five at most
``driven``        whether a driver is at work; ``driver`` says who holds the study, as its lease tells it, else null
``seconds_left``  wall time left by estimate, null while unknown; ``seconds_left_by`` says what it is reckoned from
``disk``          bytes the steps left may write (``needed``) and bytes free there (``free``)
``keep``          which weights runs leave
``refused``       metrics that could not be computed, with what to install
``findings``      what looks wrong in the table of runs, as sentences
``conflicts``     steps made twice with different results
================  ==================================================================================================
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from finescale.errors import StudyError
from finescale.stats.runs import read_runs
from finescale.study.lease import LEASE, driven
from finescale.study.lock import Study
from finescale.study.plan import Step
from finescale.study.run import Outcome, cores, state
from finescale.study.space import needed
from finescale.study.store import CONFLICTS, FOLDERS, read_json
from finescale.study.table import refused

SCHEMA = 1
MOST_LAST_ERRORS = 5


def standing(study: Study, now: Outcome | None = None) -> dict[str, Any]:
    """Where a study stands on disk; keys as at the head of this file.

    Raises:
        StudyError: a record that has to be read is damaged.
    """
    now = now or state(study)
    steps, active = study.plan.steps, driven(study.folder)
    failed = {
        id: {"kind": why.kind, "message": why.message, "at": _at(study, steps[id])} for id, why in now.failed.items()
    }
    latest = sorted((id for id in failed if failed[id]["at"]), key=lambda id: str(failed[id]["at"]), reverse=True)
    return {
        "schema": SCHEMA,
        "study": study.name,
        "total": now.total,
        "done": len(now.done),
        "waiting": len(_waiting(now, steps)),
        "running": now.running,
        "failed": failed,
        "failures": dict(Counter(why.kind for why in now.failed.values())),
        "blocked": sorted(now.blocked),
        "kinds": {kind: _counts(now, study.plan.of(kind)) for kind in FOLDERS},
        "last_errors": latest[:MOST_LAST_ERRORS],
        "driven": active,
        "driver": _holder(study) if active else None,
        "seconds_left": now.seconds_left,
        "seconds_left_by": _basis(study, now),
        "disk": {"needed": needed(study, now.done), "free": shutil.disk_usage(study.folder).free},
        "keep": study.spec.run.keep,
        "refused": refused(study.store, study.plan),
        "conflicts": _conflicts(study),
    } | _of_runs(study)


def _counts(now: Outcome, steps: list[Step]) -> dict[str, int]:
    ids = {step.id for step in steps}
    counted: dict[str, Collection[str]] = {
        "done": now.done,
        "running": now.running,
        "failed": now.failed,
        "blocked": now.blocked - now.failed.keys(),
        "waiting": _waiting(now, ids),
    }
    return {"total": len(ids)} | {name: len(ids.intersection(some)) for name, some in counted.items()}


def _waiting(now: Outcome, ids: Collection[str]) -> set[str]:
    """Steps that nothing has become of yet."""
    return set(ids) - now.done - now.running.keys() - now.failed.keys() - now.blocked


def _at(study: Study, step: Step) -> str | None:
    """When a step failed."""
    with suppress(OSError):
        seconds = (study.store.part(step) / "error.json").stat().st_mtime
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    return None


def _basis(study: Study, now: Outcome) -> str:
    workers = study.spec.run.workers or cores()
    if now.seconds_left is None:
        return "no step was measured yet"
    return f"seconds per planned FLOP of {len(now.done)} finished steps, by kind, shared by {workers} workers"


def _holder(study: Study) -> dict[str, Any] | None:
    with suppress(StudyError):
        said = read_json(study.folder / LEASE)
        return {key: said.get(key) for key in ("host", "pid", "at")}
    return None


def _conflicts(study: Study) -> int:
    path = study.folder / CONFLICTS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _of_runs(study: Study) -> dict[str, Any]:
    """Flags and findings of the finished runs."""
    table = study.table()
    flags = table["flag"][table["flag"] != ""].value_counts()
    told = [str(finding) for finding in read_runs(table).findings] if len(table) else []
    return {"flagged": {str(flag): int(count) for flag, count in flags.items()}, "findings": told}
