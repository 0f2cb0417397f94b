"""What a worker process does with each kind of step. Importing this loads the lab, ahead of the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finescale.core import BaseSpec, DataSpec, ModelDataSpec, PublicBase, RateSearch, RunSpec
from finescale.errors import Fault, InputError
from finescale.lab import steps
from finescale.lab.model import Opening
from finescale.study import lock, store
from finescale.study.files import paths_by_task
from finescale.study.plan import Kind
from finescale.study.serve import Teller, serve


def work(folder: str, step_id: str) -> None:
    """Run a begun step of a study to its record.

    Raises:
        SystemExit: the step failed, and ``error.json`` says why.
    """
    serve(folder, step_id, execute)


def execute(root: Path, part: Path, tell: Teller) -> dict[str, Any]:
    """Do the work of the step whose working folder is ``part`` and return its record."""
    asked = store.read_json(part / "spec.json")
    spec, needs, how = asked["spec"], asked["needs"], store.How(**asked["how"])
    opening = Opening(how.trust, how.checkpointing, how.device_map)
    place = {role: root / store.FOLDERS[_KIND_OF_ROLE[role]] / needed for role, needed in needs.items()}
    match asked["kind"]:
        case "data":
            study = lock.open_study(root)
            files = paths_by_task(study.spec.tasks, root)
            if "tokenizer" not in spec:
                return steps.prepare(DataSpec.model_validate(spec), part, files, tell)
            data = ModelDataSpec.model_validate(spec)
            models = {name: base for name, base in study.digests.models.items() if base.tokenizer == data.tokenizer}
            name, base = next(iter(models.items()))
            if planned := {task.rendering for task in data.tasks if task.chat}:
                _refuse_other_chat(planned, {name: base.trust_remote_code for name, base in models.items()})
            return steps.prepare(data, part, files, tell, steps.words(name, part, base.trust_remote_code))
        case "base" if "revision" in spec:
            brought, models = PublicBase.model_validate(spec), lock.open_study(root).digests.models
            name = next(name for name, model in models.items() if model.digest == brought.digest)
            return steps.bring(brought, name, part, tell)
        case "base":
            return steps.pretrain(
                BaseSpec.model_validate(spec), part, place["data"], place.get("previous"), tell, how.parts
            )
        case "rate":
            search = RateSearch.model_validate(spec)
            return steps.search_rate(search, part, place["data"], place["base"], tell, how.parts, how.shards, opening)
        case _:
            run, folders = RunSpec.model_validate(spec), (place["data"], place["base"], place.get("rate"))
            return steps.finetune(run, part, *folders, tell, how.parts, how.keep, how.shards, opening)


def _refuse_other_chat(planned: set[str], models: dict[str, bool]) -> None:
    """Models whose files changed since the study was planned, or are others on this machine, write other rows."""
    if planned != {steps.same_chat(models)}:
        what = "has changed since the study was planned, or is another on this machine"
        raise InputError(Fault(f"chat template of {', '.join(models)}", what, "run the study again with these files"))


_KIND_OF_ROLE: dict[str, Kind] = {"data": "data", "base": "base", "previous": "base", "rate": "rate"}
