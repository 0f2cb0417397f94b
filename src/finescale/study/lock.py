"""A study on disk, opened: what was asked for, the data it stands on, its plan and its records.

``study.lock.json`` holds the spec with every default spelled out, the digests of the data and the versions in use, so
that reading a study needs neither the network nor the files it was made from.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

import finescale
from finescale import registry
from finescale.errors import Fault, InputError, Refused, StudyError, collecting
from finescale.lab import sources
from finescale.lab.corpora.recipes import RECIPES
from finescale.lab.ladder import count
from finescale.lab.probes import FLORES
from finescale.stats.paths import there
from finescale.study import config, files, relate, remote, store
from finescale.study.plan import Digests, Plan, make_plan
from finescale.study.shapes import shape_of
from finescale.study.spec import Data, StudySpec

if TYPE_CHECKING:
    import pandas as pd

    from finescale.lab.corpora import Corpus

LOCK_FILE = "study.lock.json"
LOCK_LAYOUT = 1
BYTES_A_TRAINED_WEIGHT = 16
"""A weight, its gradient and two moments, four bytes each."""
BYTES_A_FROZEN_WEIGHT = 4
UNSEEN = "not here yet"
"""Digest of data that a plan is made without."""
PACKAGES = ("numpy", "scipy", "pandas", "torch", "transformers", "peft", "tokenizers", "safetensors")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """A study folder with its spec, its data's digests and the corpus's manifest; the rest follows from them."""

    folder: Path
    spec: StudySpec
    digests: Digests
    provenance: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the study: that of its folder."""
        return self.folder.resolve().name

    @cached_property
    def plan(self) -> Plan:
        """All steps of the study.

        Raises:
            StudyError: its spec cannot be planned, which one read from ``study.toml`` always can: the lock is damaged.
        """
        try:
            return make_plan(self.spec, self.digests)
        except (ValueError, LookupError, TypeError, ArithmeticError) as error:
            path = self.folder / LOCK_FILE
            raise StudyError(f"{path}: cannot be planned; delete it and run the study again: {error}") from error

    @property
    def store(self) -> store.Store:
        """Records of the study."""
        return remote.store_of(self.folder)

    def table(self) -> pd.DataFrame:
        """One row per finished run."""
        from finescale.study.table import table

        return table(self.store, self.plan)


def read_study(folder: Path, tell: Tell = lambda line: None) -> Study:
    """Read ``study.toml`` and find its data, fetching the corpus if it is not cached; writes nothing to the folder.

    Raises:
        InputError: the study file, a data file or the corpus is at fault.
    """
    from finescale.lab import corpora

    spec = config.read(folder)
    check_packages(spec.methods)
    wanted = spec.data.corpus != "none"
    corpus = corpora.fetch(tier=spec.data.tier, source=spec.data.source, tell=tell) if wanted else corpora.NOTHING
    check_pools(spec, corpus.manifest)
    tasks = files.digests(spec.tasks, [*spec.task_names, *spec.flores], folder)
    models = {name: spec.base.published(name) for name in spec.base.models}
    check_models(spec.base.models, spec.base.trust_remote_code, tell)
    provenance = corpus.manifest if wanted else {}
    return Study(folder, spec, Digests(corpus=corpus.digest, tasks=tasks, models=models, chat=_chat(spec)), provenance)


def _chat(spec: StudySpec) -> str:
    """Identity of the chat template that some task is written by, the same for all models; "" where none is.

    Raises:
        InputError: a model has none, or one unlike that of another.
    """
    if not any(isinstance(task, files.FileTask) and task.chat for task in spec.tasks.values()):
        return ""
    from finescale.lab.checkpoint import same_chat

    return same_chat({name: name in spec.base.trust_remote_code for name in spec.base.models})


def check_packages(methods: Iterable[str]) -> None:
    """Hold that the packages which some methods need are installed here.

    Raises:
        InputError: one is not.
    """
    with collecting() as faults:
        for name in methods:
            package = registry.get("method", name).package
            if package is not None and find_spec(package) is None:
                faults.add(f"methods.{name}", f"needs the package {package}", f"pip install 'finescale[{name}]'")


def check_models(names: Iterable[str], trusted: Collection[str], tell: Tell) -> None:
    """Have the weights of published models here, and hold them against each other, before any compute is spent.

    Code is fetched as well for those that are ``trusted``.

    Raises:
        InputError: a model cannot be had, or two are one and the same file under two names.
    """
    places = {}
    with collecting() as faults:
        for name in names:
            tell(f"The weights of {name} are looked for, and fetched if they are not here.")
            if name in trusted:
                tell(f"Code that {name} brings is run, as study.toml asks.")
            if (place := faults.tried(sources.whole, name, name in trusted)) is not None:
                places[name] = place
        faults.found += sources.same_weights(places)


def preview(path: Path, tell: Tell = lambda line: None) -> Study:
    """Read a study to plan it, from its folder or a ``.toml`` file alone; nothing is fetched and nothing written.

    Data that is not here yet stands in the plan by name, so that its steps count as they are though their ids differ.

    Raises:
        InputError: the study file, or data that is here, is at fault.
    """
    spec, folder = config.read(path), config.study_file(path).parent
    corpus = _cached(spec.data)
    if corpus is None:
        tell(f"The text of tier {spec.data.tier} is not here yet: what tasks hold is taken on trust.")
    else:
        check_pools(spec, corpus.manifest)
    here = [name for name, task in spec.tasks.items() if task.paths(folder)]
    read = [*here, *(spec.flores if FLORES in here else ())]
    known = files.digests({name: spec.tasks[name] for name in here}, read, folder)
    tasks = dict.fromkeys([*spec.task_names, *spec.flores], UNSEEN) | known
    chat = _chat(spec) if all(map(sources.is_folder, spec.base.models)) else UNSEEN
    found = Digests(corpus=corpus.digest if corpus else UNSEEN, tasks=tasks, chat=chat)
    return Study(folder, spec, found, corpus.manifest if corpus else {})


def _cached(data: Data) -> Corpus | None:
    """The corpus that ``fetch`` would return without fetching anything; None where it would have to."""
    from finescale.lab.corpora.cache import cache_folder, load
    from finescale.lab.corpora.corpus import NOTHING

    if data.corpus == "none":
        return NOTHING
    for recipe in RECIPES:
        root = cache_folder() / "corpora" / f"{recipe.tier}-{recipe.source}-{recipe.fingerprint()}"
        if recipe.tier == data.tier and data.source in ("auto", recipe.source) and root.is_dir():
            return load(root)
    return None


def check_pools(spec: StudySpec, manifest: Mapping[str, Any]) -> None:
    """Hold the numbers of examples asked for against what built-in tasks have.

    Raises:
        InputError: some task has fewer training examples, before any is dropped as too long.
    """
    pools = {}
    for name in spec.task_names:
        own = spec.tasks.get(name)
        if not isinstance(own, files.FileTask):
            task = registry.get("task", name)
            languages = (own.languages if own else ()) or task.languages_in(spec.data.tier)
            if (size := task.size(manifest, languages)) is not None:
                pools[name] = size
    with collecting() as faults:
        for where, task, examples in relate.asked(spec.methods, spec.finetune, spec.rate_search):
            relate.check_pool(where, examples, task, pools, faults)


def open_study(folder: Path) -> Study:
    """Open a study that was run before, from its lock alone.

    Raises:
        InputError: the folder has no lock: nothing was run in it.
        StudyError: the lock is damaged or of another layout.
    """
    path = there(folder, "a study's folder") / LOCK_FILE
    if not path.exists():
        raise InputError(Fault(str(folder), f"has no {LOCK_FILE}: nothing was run in it", f"finescale run {folder}"))
    lock = store.read_json(path)
    if lock.get("layout") != LOCK_LAYOUT:
        raise StudyError(f"{path}: has layout {lock.get('layout')}, this version reads {LOCK_LAYOUT}")
    try:
        spec, digests = StudySpec.model_validate(lock["spec"]), Digests.model_validate(lock["digests"])
        return Study(folder, spec, digests, lock["provenance"])
    except (KeyError, ValidationError) as error:
        raise StudyError(f"{path}: is damaged; delete it and run the study again: {error}") from error


def changes(study: Study) -> list[str]:
    """How a study differs from the last one run in its folder, as lines ``field: old → new``; nothing for a new one.

    A setting that came with a later version than the lock, and stands at its default, is no difference.
    """
    path = study.folder / LOCK_FILE
    if not path.exists():
        return []
    before, now = store.read_json(path), _lock(study)
    said = {"spec": _completed(before.get("spec"), study.spec)}
    said |= {"digests": _completed(before.get("digests"), study.digests), "versions": before.get("versions")}
    return [line for key, old in said.items() for line in store.differences(old, now[key], key)]


def _completed(old: Any, now: Any) -> Any:
    """JSON of a lock, or of a part of it, with each setting it does not have whose value now is its default."""
    if isinstance(old, Mapping) and isinstance(now, Mapping):
        return {**old, **{key: _completed(old[key], value) for key, value in now.items() if key in old}}
    if not isinstance(old, Mapping) or not isinstance(now, BaseModel):
        return old
    said, found = now.model_dump(mode="json", by_alias=True), dict(old)
    for name, field in type(now).model_fields.items():
        key, value = field.alias or name, getattr(now, name)
        if key in old:
            found[key] = _completed(old[key], value)
        elif key in said and value == field.get_default(call_default_factory=True):
            found[key] = said[key]
    if isinstance(now, StudySpec) and isinstance(found.get("methods"), Mapping):
        found["methods"] = {name: _with_options(old, name, now) for name, old in found["methods"].items()}
    return found


def _with_options(old: Any, name: str, spec: StudySpec) -> Any:
    """JSON of a method's choice, as ``_completed``: the defaults of options are the method's own."""
    choice = spec.methods.get(name)
    if choice is None or not isinstance(old, Mapping) or not isinstance(old.get("options"), Mapping):
        return old
    usual = registry.get("method", name).options.items()
    return {**old, "options": {key: value for key, value in usual if choice.options.get(key) == value} | old["options"]}


def refuse_what_cannot_run(spec: StudySpec, have: int | None) -> None:
    """Tell a study that can only be planned from one that can be carried out, before anything is fetched or written.

    Args:
        spec: the study.
        have: memory of the largest machine that its steps may get to, bytes; None where nobody can tell.

    Raises:
        Refused: training its largest base needs more memory than that.
    """
    if have is None:
        return
    bytes_a_weight = BYTES_A_TRAINED_WEIGHT if spec.base.ladder or "full" in spec.methods else BYTES_A_FROZEN_WEIGHT
    weights = {rung: count(shape_of(rung, spec.base)).total for rung in spec.base.ladder}
    weights |= {name: spec.base.published(name).total_params for name in spec.base.models}
    sizes = {name: total * bytes_a_weight for name, total in weights.items()}
    largest = max(sizes, key=lambda rung: sizes[rung])
    if sizes[largest] > have:
        beside = ", gradients and two moments" if bytes_a_weight == BYTES_A_TRAINED_WEIGHT else " alone"
        raise Refused(
            f"base {largest!r} takes {sizes[largest] / 2**30:.0f} GiB to train (weights{beside}), "
            f"and the largest machine here has {have / 2**30:.0f} GiB; `finescale plan` shows what the study would take"
        )


def write_lock(study: Study) -> None:
    """Write the lock if it would say something new."""
    path = study.folder / LOCK_FILE
    if not path.exists() or store.read_json(path) != _lock(study):
        store.write_json(path, _lock(study))


def _lock(study: Study) -> dict[str, Any]:
    return {
        "layout": LOCK_LAYOUT,
        "spec": study.spec.model_dump(mode="json", by_alias=True),
        "digests": study.digests.model_dump(mode="json"),
        "versions": versions(),
        "provenance": study.provenance,
    }


def versions() -> dict[str, str]:
    """Versions of everything that can move a number; a package that is not installed is left out."""
    found = {"finescale": finescale.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
