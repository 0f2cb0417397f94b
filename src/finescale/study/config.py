"""``study.toml`` read into a typed ``StudySpec``, or one error that lists every fault at once.

Each section is checked on its own, so that a fault in one does not hide those of the others; what relates sections
is checked for those that are sound. Defaults live in the classes below (recipes: ``finescale.core``) and nowhere else.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from finescale import registry
from finescale.core import FACTORS, FinetuneRecipe, PretrainRecipe
from finescale.errors import Faults, collecting, near
from finescale.lab.corpora.cache import FETCHERS
from finescale.lab.corpora.recipes import RECIPES
from finescale.study.fields import (
    Count,
    Counts,
    Distinct,
    Names,
    Positive,
    Rung,
    Section,
    Seed,
    Seeds,
    Some,
    one_of,
)
from finescale.study.files import FileTask, check_task

STUDY_FILE = "study.toml"
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


Law = Annotated[str, one_of(lambda: [*registry.names("law"), "auto"], "law")]


class Data(Section):
    """Where real text comes from."""

    corpus: Literal["debian"] = "debian"
    tier: Annotated[str, one_of(lambda: sorted({recipe.tier for recipe in RECIPES}))] = "starter"
    source: Annotated[str, one_of(lambda: ["auto", *FETCHERS])] = Field(
        default="auto", description="where packages are fetched from; no part of the identity"
    )
    stream_tokens: Count = Field(default=20_000_000, description="most tokens of pretraining text to prepare")


class Base(Section):
    """The bases pretrained here: rungs of the ladder, each at every pretraining size."""

    ladder: Annotated[tuple[Rung, ...], Some, Distinct]
    pretrain_tokens: Counts
    languages: Annotated[tuple[Literal["en", "de"], ...], Some, Distinct] = ("en", "de")
    vocab: Annotated[Count, Field(ge=259, le=65_536, description="256 bytes and 3 marks at least")] = 4096
    context: Count = 128
    seed: Seed = 0
    recipe: PretrainRecipe = PretrainRecipe()


class Finetune(Section):
    """The grid of runs: every task at every number of examples, once per seed."""

    tasks: Names
    examples: Counts
    seeds: Seeds = (0,)
    dev_examples: Count = 256
    test_examples: Count = 512
    recipe: FinetuneRecipe = FinetuneRecipe()


class MethodChoice(Section):
    """A method with the PET sizes and learning rates to run it at; several rates mean a search."""

    sizes: Annotated[tuple[Count, ...], Distinct] = Field(description="ranks or prompt lengths; none for ``full``")
    rates: Annotated[tuple[Positive, ...], Some, Distinct]
    options: dict[str, float | bool | str]


class RateSearchChoice(Section):
    """Where learning rates are searched: at the first listed task, pretraining size and PET size.

    The first, not the middle: a grid that is widened at its end keeps the search, and with it every run made.
    """

    base: str = Field(default="smallest", description="a rung, or 'smallest'")
    examples: Count = 1000
    seed: Seed = 0


class FitChoice(Section):
    """Laws fitted, in which factor besides ``examples``, and how many of a factor's largest levels test them.

    By default one level is held out of the factor and of ``examples``, each where that leaves three or more.
    """

    laws: Annotated[tuple[Law, ...], Some, Distinct] = ("multiplicative",)
    factor: Literal["model_params", "pretrain_tokens", "pet_params"] = "model_params"
    hold_out: dict[str, Count] | None = None
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    seed: Seed = 0


class RunChoice(Section):
    """How the study is run here; no part of any identity."""

    workers: Count | None = Field(default=None, description="processes at a time; by default one per core")
    memory_gb: Positive | None = Field(default=None, description="most memory a step may hold; by default any")
    minutes: Positive | None = Field(default=None, description="longest a step may take; by default any")


class StudySpec(Section):
    """A whole study as the user asked for it, every default spelled out."""

    layout: Literal[1] = Field(alias="schema")
    question: str = ""
    data: Data = Data()
    base: Base
    finetune: Finetune
    methods: dict[str, MethodChoice]
    rate_search: RateSearchChoice = RateSearchChoice()
    tasks: dict[str, FileTask] = Field(default={})
    fit: FitChoice = FitChoice()
    run: RunChoice = RunChoice()


def read(folder: Path) -> StudySpec:
    """Read ``folder/study.toml``.

    Raises:
        InputError: anything is wrong with it or the files it names; lists every fault with its key.
    """
    with collecting() as faults:
        raw = _parse(folder / STUDY_FILE, faults)
    with collecting() as faults:
        spec = _check(raw, folder, faults)
    assert spec is not None, "a study without faults has a spec"
    return spec


def _parse(path: Path, faults: Faults) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        faults.add(
            str(path), "there is no such file", "a study is a folder with a study.toml; `finescale demo` makes one"
        )
    except (OSError, UnicodeDecodeError) as error:
        faults.add(str(path), f"cannot be read: {error}", "it must be a UTF-8 text file")
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        faults.add(f"{path}" + (f", line {line[1]}" if line else ""), f"is not TOML: {error}", "see https://toml.io")
    return {}


def _check(raw: dict[str, Any], folder: Path, faults: Faults) -> StudySpec | None:
    fields = {field.alias or name: field for name, field in StudySpec.model_fields.items()}
    for key in raw.keys() - fields.keys():
        faults.add(key, "is unknown", near(key, fields))
    sections: dict[str, Any] = {"question": raw.get("question", "")}
    if raw.get("schema") != 1:
        faults.add("schema", f"is {raw.get('schema', 'missing')}", "this version reads `schema = 1`")
    if not isinstance(sections["question"], str):
        faults.add("question", "is not text")
    for key in ("data", "base", "finetune", "rate_search", "fit", "run"):
        section = fields[key].annotation
        assert isinstance(section, type)
        sections[key] = _section(section, raw.get(key, {}), key, faults)
    sections["tasks"] = {
        name: _section(FileTask, table, f"tasks.{name}", faults)
        for name, table in _tables(raw, "tasks", faults).items()
    }
    sections["methods"] = _methods(_tables(raw, "methods", faults), "methods" in raw, faults)
    _known_tasks(raw, faults)
    _relate(sections, folder, faults)
    return None if faults.found else StudySpec(schema=1, **sections)


def _tables(raw: dict[str, Any], key: str, faults: Faults) -> dict[str, dict[str, Any]]:
    tables = raw.get(key, {})
    if isinstance(tables, dict) and all(isinstance(table, dict) for table in tables.values()):
        return tables
    faults.add(key, "is not a set of tables", f"write each as [{key}.NAME]")
    return {}


def _section(model: type[BaseModel], raw: Any, where: str, faults: Faults) -> Any:
    """One section, or None with its faults noted."""
    if not isinstance(raw, dict):
        faults.add(where, "is not a table", f"write it as [{where}]")
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        for item in error.errors():
            faults.add(_path(where, item["loc"]), *_say(model, item))
        return None


def _path(where: str, keys: tuple[int | str, ...]) -> str:
    return where + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)


def _say(model: type[BaseModel], item: Any) -> tuple[str, str]:
    kind, keys = item["type"], item["loc"]
    if kind == "extra_forbidden":
        return "is unknown", near(str(keys[-1]), _keys_at(model, keys[:-1]))
    if kind == "missing":
        return "is missing", f"add `{keys[-1]} = …`"
    if kind == "fault":
        return item["msg"], item["ctx"].get("fix", "")
    return f"{item['msg'][:1].lower()}{item['msg'][1:]}, got {item['input']!r}", ""


def _keys_at(model: type[BaseModel], keys: tuple[int | str, ...]) -> list[str]:
    for key in keys:
        inner = model.model_fields[str(key)].annotation
        assert isinstance(inner, type)
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _methods(tables: dict[str, dict[str, Any]], present: bool, faults: Faults) -> dict[str, MethodChoice | None]:
    if not tables and present:
        faults.add("methods", "is empty", f"add a table such as [methods.full]; {near('', registry.names('method'))}")
    if not present:
        faults.add("methods", "is missing", f"add a table such as [methods.full]; {near('', registry.names('method'))}")
    return {name: _method(name, table, faults) for name, table in tables.items()}


def _method(name: str, table: dict[str, Any], faults: Faults) -> MethodChoice | None:
    """A method's table; its own word for a size (``rank``, ``length``) and its own options are its keys."""
    where = f"methods.{name}"
    if name not in registry.names("method"):
        faults.add(where, "is unknown", near(name, registry.names("method")))
        return None
    method = registry.get("method", name)
    known = {"learning_rate", *method.options, *([method.size_word] if method.size_word else [])}
    for key in table.keys() - known:
        faults.add(f"{where}.{key}", "is unknown", near(key, known))
    options = {key: table.get(key, default) for key, default in method.options.items()}
    for key, default in method.options.items():
        if isinstance(default, float) and type(options[key]) is int:
            options[key] = float(options[key])
        if type(options[key]) is not type(default):
            faults.add(
                f"{where}.{key}", f"{options[key]!r} is not a {type(default).__name__}", f"as in {key} = {default}"
            )
    choice = {
        "sizes": _listed(table.get(method.size_word, method.default_sizes)) if method.size_word else (),
        "rates": _listed(table.get("learning_rate", method.default_rates)),
        "options": options,
    }
    found = Faults()
    section: MethodChoice | None = _section(MethodChoice, choice, where, found)
    if method.size_word and not choice["sizes"]:
        found.add(f"{where}.sizes", "is empty", "list at least one value")
    for fault in found:
        place = fault.where.replace(f"{where}.rates", f"{where}.learning_rate")
        faults.add(place.replace(f"{where}.sizes", f"{where}.{method.size_word}"), fault.what, fault.fix)
    return section


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _known_tasks(raw: dict[str, Any], faults: Faults) -> None:
    """Tasks are named in one section and made in another; asked of the raw values, so that no other fault hides it."""
    finetune, own = raw.get("finetune"), raw.get("tasks")
    listed = finetune.get("tasks") if isinstance(finetune, dict) else None
    valid = {*registry.names("task"), *(own if isinstance(own, dict) else ())}
    for index, name in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(name, str) and name not in valid:
            faults.add(f"finetune.tasks[{index}]", f"task {name!r} is unknown", near(name, valid))


def _relate(sections: dict[str, Any], folder: Path, faults: Faults) -> None:
    """Faults between sections; a section that failed alone is None and is passed over."""
    base, finetune, search = sections["base"], sections["finetune"], sections["rate_search"]
    tasks = sections["tasks"]
    counts = _own_tasks(tasks, folder, finetune, faults)
    if finetune is not None:
        _enough_examples(finetune, search, counts, faults)
    if base is not None and search is not None and search.base not in {"smallest", *base.ladder}:
        faults.add(
            "rate_search.base",
            f"{search.base!r} is no rung of this study",
            near(search.base, {"smallest", *base.ladder}),
        )
    if base is not None and finetune is not None:
        _context_holds(base, finetune, sections, faults)
        if sections["fit"] is not None:
            sections["fit"] = _hold_out(sections["fit"], _levels(sections), faults)


def _own_tasks(
    tasks: dict[str, FileTask | None], folder: Path, finetune: Finetune | None, faults: Faults
) -> dict[str, int]:
    """Training examples left to each of the user's own tasks once dev and test are taken out."""
    left = {}
    for name, task in tasks.items():
        if not TASK_NAME.fullmatch(name):
            faults.add(f"tasks.{name}", "is not a name", "use letters, digits, dots, dashes and underscores")
        if name in registry.names("task"):
            faults.add(f"tasks.{name}", "is the name of a built-in task", "choose another name")
        counts = check_task(name, task, folder, faults) if task is not None else {}
        if counts.get("train") and finetune is not None:
            taken = {"dev": finetune.dev_examples, "test": finetune.test_examples}
            left[name] = counts["train"] - sum(size for split, size in taken.items() if split not in counts)
    return left


def _enough_examples(
    finetune: Finetune, search: RateSearchChoice | None, counts: dict[str, int], faults: Faults
) -> None:
    for task in set(finetune.tasks) & set(counts):
        for index, level in enumerate(finetune.examples):
            if level > counts[task]:
                have = f"task {task!r} has only {max(0, counts[task])} examples to train on"
                faults.add(f"finetune.examples[{index}]", f"{level} are asked for, but {have}", "ask for fewer")
    first = finetune.tasks[0]
    if search is not None and first in counts and search.examples > counts[first]:
        have = f"task {first!r} has only {max(0, counts[first])} examples to train on"
        faults.add("rate_search.examples", f"{search.examples} are asked for, but {have}", "ask for fewer")


def _context_holds(base: Base, finetune: Finetune, sections: dict[str, Any], faults: Faults) -> None:
    """Source, target and soft prompt must fit into the context the base was pretrained with."""
    prompts = [
        max(choice.sizes)
        for name, choice in sections["methods"].items()
        if choice is not None and choice.sizes and registry.get("method", name).size_word == "length"
    ]
    for name in finetune.tasks:
        task = sections["tasks"].get(name) or (registry.get("task", name) if name in registry.names("task") else None)
        if task is None:
            continue
        need = task.max_source_tokens + task.max_target_tokens + max(prompts, default=0)
        if need > base.context:
            parts = (
                f"{task.max_source_tokens} source, {task.max_target_tokens} target, {max(prompts, default=0)} prompt"
            )
            fix = f"use at least {need}, or a shorter prompt"
            faults.add("base.context", f"{base.context} tokens are too few for task {name!r} ({parts})", fix)


def _levels(sections: dict[str, Any]) -> dict[str, int]:
    """Number of levels each factor has in the grid; PET sizes by the method that has most."""
    base, finetune = sections["base"], sections["finetune"]
    sizes = [len(choice.sizes) for choice in sections["methods"].values() if choice is not None]
    counts = len(base.ladder), len(base.pretrain_tokens), max(sizes, default=0), len(finetune.examples)
    return dict(zip(FACTORS, counts, strict=True))


def _hold_out(fit: FitChoice, levels: dict[str, int], faults: Faults) -> FitChoice:
    """The choice with its default hold-out spelled out; one that leaves too little, or nothing known, is a fault."""
    factors = (fit.factor, "examples")
    if fit.hold_out is None:
        return fit.model_copy(update={"hold_out": {name: 1 for name in factors if levels[name] >= 4}})
    for name, count in fit.hold_out.items():
        if name not in factors:
            faults.add(f"fit.hold_out.{name}", "is no factor of this fit", near(name, factors))
        elif count >= levels[name]:
            fix = f"at most {levels[name] - 1}"
            faults.add(f"fit.hold_out.{name}", f"{count} of {levels[name]} levels leaves none to fit", fix)
    return fit
