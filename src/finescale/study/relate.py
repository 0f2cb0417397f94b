"""Faults between the sections of a ``study.toml``; a section that failed alone is None and is passed over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finescale import registry
from finescale.core import FACTORS, FinetuneRecipe
from finescale.errors import Faults, InputError, near
from finescale.lab import ladder, probes
from finescale.lab.corpora.recipes import RECIPES
from finescale.study.families import tokens_of
from finescale.study.fields import ALL
from finescale.study.files import FileTask, check_built_in, check_task, spelled_out
from finescale.study.shapes import shape_of
from finescale.study.spec import (
    TASK_PROBE,
    Base,
    Data,
    EvaluateChoice,
    Finetune,
    FitChoice,
    MethodChoice,
    OneFactor,
    RateSearchChoice,
)

ONE_STUDY_EACH = (
    "make one study of each, join their tables (`finescale table`) and fit bits per byte: "
    "finescale fit all.csv --column loss=nats --column bits_per_byte=loss"
)
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
RUNG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,59}")
"""Names become names of folders and files, and cells of tables that other programs open."""
RESERVED = ("stream",)
"""Names of other files beside the prepared tasks."""


def check_names(raw: dict[str, Any], faults: Faults) -> None:
    """Names used in one place and made in another; asked of the raw values, so that no other fault hides them."""
    base, finetune = _table(raw, "base"), _table(raw, "finetune")
    tasks = {*registry.names("task"), *_table(raw, "tasks")}
    _named("finetune.tasks", finetune.get("tasks"), "task", tasks, faults)
    _named("base.ladder", base.get("ladder"), "rung", {*ladder.RUNGS, *_table(base, "shapes")}, faults)


def _table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _named(where: str, names: Any, noun: str, valid: Iterable[str], faults: Faults) -> None:
    """Fault each of the names that is not valid."""
    for index, name in enumerate(names if isinstance(names, list | tuple) else ()):
        _valid(f"{where}[{index}]", name, noun, valid, faults)


def _valid(where: str, name: Any, noun: str, valid: Iterable[str], faults: Faults) -> None:
    if isinstance(name, str) and name not in valid:
        faults.add(where, f"{noun} {name!r} is unknown", near(name, valid))


def relate(sections: dict[str, Any], folder: Path, faults: Faults) -> None:
    """Check what relates sections, and spell out what one section leaves to another."""
    base, finetune, search, data = (sections[key] for key in ("base", "finetune", "rate_search", "data"))
    counts = _tasks(sections, folder, faults)
    if base is not None and not base.models:
        fix = "leave it out, or name base.models"
        for name, task in sections["tasks"].items():
            if isinstance(task, FileTask) and task.chat:
                faults.add(f"tasks.{name}.chat", "is for published models: a rung has no chat template", fix)
    if data is not None and data.corpus == "none":
        _without_text(sections, faults)
    elif finetune is not None and data is not None:
        _text_for_tasks(finetune, sections["tasks"], data.tier, faults)
    methods = {name: choice for name, choice in sections["methods"].items() if choice is not None}
    if base is not None:
        _bases(base, faults)
        if data is not None:
            _held_out_text(base, data, faults)
            _named("base.languages", base.languages, "text language", languages(data.tier, "documents"), faults)
        if search is not None and search.base not in {"smallest", *_rungs(base)}:
            said = f"{search.base!r} is no rung of this study"
            faults.add("rate_search.base", said, near(search.base, {"smallest", *_rungs(base)}))
    if finetune is not None:
        _own_recipes(methods, finetune, faults)
        _enough_examples(methods, finetune, search, counts, faults)
    if base is not None:
        _ranks_mean_something(base, methods, faults)
    if base is not None and finetune is not None:
        if sections.get("one_factor") is not None:
            _one_factor(sections["one_factor"], base, finetune, faults)
        if sections["evaluate"] is not None and data is not None:
            _evaluation(sections["evaluate"], base, finetune, sections, faults)
        _context_holds(base, finetune, sections, faults)
        if sections["fit"] is not None:
            sections["fit"] = _hold_out(sections["fit"], _levels(base, finetune, methods), faults)


def languages(tier: str, pool: str | None = None) -> set[str]:
    """Languages that a tier has any text in, or text for one pool."""
    artefacts = [artefact for recipe in RECIPES if recipe.tier == tier for artefact in recipe.artefacts]
    return {lang for one in artefacts if pool is None or pool in one.pools for lang in one.languages}


def _without_text(sections: dict[str, Any], faults: Faults) -> None:
    """Nothing may read a text that is not to be had: rungs, tasks over the corpus, probes of text."""
    base, finetune, evaluate = (sections[key] for key in ("base", "finetune", "evaluate"))
    fix, own = 'leave out `corpus = "none"`', sections["tasks"]
    if base is not None and base.ladder:
        faults.add("base.ladder", "is pretrained on text, and data.corpus is none", f"name base.models, or {fix}")
    for index, name in enumerate(() if finetune is None else finetune.tasks):
        if name in registry.names("task") and registry.get("task", name).origin == "corpus":
            faults.add(f"finetune.tasks[{index}]", f"{name!r} reads the corpus, and data.corpus is none", fix)
    for task, names in () if evaluate is None else evaluate.probes.items():
        where = "evaluate.probes" + ("" if task == ALL else f".{task}")
        for index, name in enumerate(names):
            if name.removeprefix(TASK_PROBE) not in own and not name.startswith(f"{probes.FLORES}:"):
                faults.add(f"{where}[{index}]", f"{name!r} reads the corpus, and data.corpus is none", fix)


def _text_for_tasks(finetune: Finetune, own: Mapping[str, Any], tier: str, faults: Faults) -> None:
    """A built-in task over the corpus needs a tier that holds its languages."""
    for index, name in enumerate(finetune.tasks):
        if name not in registry.names("task") or (task := registry.get("task", name)).origin != "corpus":
            continue
        have = languages(tier, task.pool.partition(".")[0])
        chosen = own[name].languages if own.get(name) is not None else ()
        if not have.intersection(task.usual):
            said = f"the text of tier {tier!r} has nothing for task {name!r}"
            faults.add(f"finetune.tasks[{index}]", said, 'name another under [data], as in tier = "core"')
        elif strange := sorted(set(chosen) - have):
            said = f"the text of tier {tier!r} has nothing in {', '.join(strange)}"
            faults.add(f"tasks.{name}.languages", said, f"choose of {', '.join(sorted(have & set(task.languages)))}")


def _rungs(base: Base) -> list[str]:
    """Names of the bases without their pretraining size."""
    return [*base.ladder, *dict.fromkeys(name.partition("@")[0] for name in base.models)]


def _bases(base: Base, faults: Faults) -> None:
    if bool(base.ladder) == bool(base.models):
        what = "stands beside base.models" if base.ladder else "is missing"
        faults.add("base.ladder", what, "add `ladder = …`, or else `models = …`")
    if not base.models and not base.pretrain_tokens:
        faults.add("base.pretrain_tokens", "is missing", "add `pretrain_tokens = …`")
    if base.ladder and base.precision:
        faults.add("base.precision", "is for published models", "leave it out: a rung is computed as it was pretrained")
    if base.models and base.pretrain_tokens:
        faults.add("base.pretrain_tokens", "stands beside base.models", "a revision says how long a model was trained")
    if "schedule" in base.recipe.model_fields_set:
        faults.add("base.recipe.schedule", "follows from base.pretraining", "leave it out")
    _named("base.trust_remote_code", base.trust_remote_code, "model", base.models, faults)
    _published(base, faults)
    for name in base.shapes:
        where = f"base.shapes.{name}"
        if not RUNG_NAME.fullmatch(name):
            faults.add(where, "is not a name", "use letters, digits and underscores, 60 at most")
        if name in ladder.RUNGS:
            faults.add(where, "is the name of a built-in rung", "choose another name")
        for fault in ladder.faults(shape_of(name, base), where):
            faults.add(fault.where, fault.what, fault.fix)


def _published(base: Base, faults: Faults) -> None:
    """Every model is known or here, and all read text in the same tokens: else a nat per token means as many things."""
    tokenizers: dict[str, str] = {}
    for index, name in enumerate(base.models):
        try:
            tokenizers.setdefault(base.published(name).tokenizer, name)
        except InputError as error:
            fault = error.faults[0]
            faults.add(f"base.models[{index}]", f"{fault.where} {fault.what}", fault.fix)
    if len(tokenizers) > 1:
        what = f"{' and '.join(tokenizers.values())} have different tokenizers, whose losses per token are no one scale"
        faults.add("base.models", what, ONE_STUDY_EACH)


def _held_out_text(base: Base, data: Data, faults: Faults) -> None:
    """A base pretrained here is judged by text held out for it, a context of it at the least."""
    if base.ladder and (held := int(data.stream_tokens * probes.HELD_OUT)) < base.context:
        what = f"of {data.stream_tokens:,} tokens {held:,} are held out, less than one context of {base.context:,}"
        faults.add("data.stream_tokens", what, f"ask for {round(base.context / probes.HELD_OUT):,} or more")


def pretraining_sizes(base: Base) -> set[int]:
    """Pretraining tokens of the study's bases; a model that is unknown has none."""
    return {*base.pretrain_tokens, *(tokens_of(name) for name in base.models if _known(name, base))}


def _known(model: str, base: Base) -> bool:
    try:
        base.published(model)
    except InputError:
        return False
    return True


def _one_factor(choice: OneFactor, base: Base, finetune: Finetune, faults: Faults) -> None:
    _named("one_factor.bases", choice.bases, "rung", _rungs(base), faults)
    _named("one_factor.tasks", choice.tasks, "task", finetune.tasks, faults)
    sizes = pretraining_sizes(base)
    if choice.pretrain_tokens is not None and choice.pretrain_tokens not in sizes:
        fix = f"one of {', '.join(map(str, sorted(sizes)))}"
        faults.add("one_factor.pretrain_tokens", f"{choice.pretrain_tokens} is no pretraining size of this study", fix)


def _tasks(sections: dict[str, Any], folder: Path, faults: Faults) -> dict[str, int]:
    """Training examples left to each of the user's own tasks once dev and test are taken out.

    A task without a template is replaced by the one that its columns spell out.
    """
    finetune, left = sections["finetune"], {}
    for name, task in sections["tasks"].items():
        if not TASK_NAME.fullmatch(name):
            fix = "use letters, digits, dots, dashes and underscores, 60 at most"
            faults.add(f"tasks.{name}", "is not a name", fix)
        if name in RESERVED:
            faults.add(f"tasks.{name}", "is a reserved name", "choose another name")
        if not isinstance(task, FileTask):
            if task is not None:
                check_built_in(name, task, faults)
            continue
        before = len(faults.found)
        counts = check_task(name, task, folder, faults)
        if len(faults.found) > before:
            continue  # how many examples a faulty file has is not known
        sections["tasks"][name] = spelled_out(task, folder)
        if counts.get("train") and finetune is not None:
            taken = {"dev": finetune.dev_examples, "test": finetune.test_examples}
            left[name] = counts["train"] - sum(size for split, size in taken.items() if split not in counts)
    return left


def _own_recipes(methods: Mapping[str, MethodChoice], finetune: Finetune, faults: Faults) -> None:
    places = {"finetune.recipe": finetune.recipe.model_fields_set}
    for name, choice in methods.items():
        where = f"methods.{name}.recipe"
        places[where] = set(choice.recipe)
        try:
            FinetuneRecipe.model_validate(choice.recipe)
        except ValidationError as error:
            for item in error.errors():
                key, unknown = str(item["loc"][0]), item["type"] == "extra_forbidden"
                what = "is unknown" if unknown else f"{item['msg'].lower()}, got {item['input']!r}"
                faults.add(f"{where}.{key}", what, near(key, FinetuneRecipe.model_fields) if unknown else "")
    for where, keys in places.items():
        if finetune.epochs and "epochs" in keys:
            faults.add(f"{where}.epochs", "stands beside finetune.epochs", "leave one of them out")


def _enough_examples(
    methods: Mapping[str, MethodChoice],
    finetune: Finetune,
    search: RateSearchChoice | None,
    pools: Mapping[str, int],
    faults: Faults,
) -> None:
    for name, choice in methods.items():
        _of_tasks(f"methods.{name}.examples", choice.examples, finetune, faults)
    for where, task, examples in asked(methods, finetune, search):
        check_pool(where, examples, task, pools, faults)


def _of_tasks(where: str, table: Mapping[str, Any], finetune: Finetune, faults: Faults) -> None:
    for task in table:
        if task not in {ALL, *finetune.tasks}:
            faults.add(f"{where}.{task}", "is no task of this study", near(task, finetune.tasks))


def asked(
    methods: Mapping[str, MethodChoice], finetune: Finetune, search: RateSearchChoice | None
) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Where numbers of examples are asked for: place, task, numbers."""
    for task in finetune.tasks:
        if any(task not in choice.examples and ALL not in choice.examples for choice in methods.values()):
            yield "finetune.examples", task, finetune.examples
        for name, choice in methods.items():
            key = task if task in choice.examples else ALL
            if key in choice.examples:
                place = f"methods.{name}.examples" + ("" if key == ALL else f".{task}")
                yield place, task, choice.examples[key]
    if search is not None and any(len(choice.rates) > 1 for choice in methods.values()):
        for task in finetune.tasks if search.per == "task" else finetune.tasks[:1]:
            yield "rate_search.examples", task, (search.examples,)


def check_pool(where: str, examples: tuple[int, ...], task: str, pools: Mapping[str, int], faults: Faults) -> None:
    """Fault every number of examples that a task's pool does not hold; a pool that is not known is passed over."""
    for index, level in enumerate(examples):
        if task in pools and level > pools[task]:
            have = f"task {task!r} has only {max(0, pools[task])} examples to train on"
            place = where if where == "rate_search.examples" else f"{where}[{index}]"
            faults.add(place, f"{level} are asked for, but {have}", "ask for fewer")


def _evaluation(
    evaluate: EvaluateChoice, base: Base, finetune: Finetune, sections: dict[str, Any], faults: Faults
) -> None:
    for name in evaluate.metrics:
        if registry.get("metric", name).decoded and not evaluate.decoded:
            faults.add("evaluate.decoded", f"is 0, but {name!r} is taken over decoded answers", "add `decoded = 200`")
    if evaluate.decoded > finetune.test_examples:
        there = f"{evaluate.decoded} answers are asked for of {finetune.test_examples} test examples"
        faults.add("evaluate.decoded", there, "decode fewer, or raise finetune.test_examples")
    _of_tasks("evaluate.probes", evaluate.probes, finetune, faults)
    for task, names in evaluate.probes.items():
        where = "evaluate.probes" + ("" if task == ALL else f".{task}")
        for index, name in enumerate(names):
            _probe(f"{where}[{index}]", name, base, sections, faults)


def _probe(where: str, name: str, base: Base, sections: dict[str, Any], faults: Faults) -> None:
    tasks = {*registry.names("task"), *sections["tasks"]}
    if name in tasks:
        faults.add(where, f"{name!r} is the name of a task", f"write task:{name}")
        return
    try:
        spec = probes.parse(name)
    except InputError as error:
        fault = error.faults[0]
        faults.add(where, f"{fault.where} {fault.what}", fault.fix)
        return
    if spec.kind == "task":
        _valid(where, spec.task, "task", tasks, faults)
        return
    if spec.kind == "text":
        _valid(where, spec.tgt, "base language", base.languages, faults)
        return
    if spec.task is None:
        for language in (spec.src, spec.tgt):
            _valid(where, language, "tier language", languages(sections["data"].tier), faults)
    if (least := spec.shots * probes.LEAST_SHOT) >= (context := context_of(base)):
        what = f"{spec.shots} demonstrations take {least} tokens or more, and base.context is {context}"
        fix = f"ask for {(context - 1) // probes.USUAL_SHOT} at most: one takes about {probes.USUAL_SHOT} tokens"
        faults.add(where, what, fix)


def context_of(base: Base) -> int:
    """Tokens that all bases of a study can read at a time."""
    return min((shape_of(name, base).context for name in base.models if _known(name, base)), default=base.context)


def widths_of(base: Base) -> dict[str, int]:
    """Width of each base that has a sound name, by that name."""
    names = [*base.ladder, *(name for name in base.models if _known(name, base))]
    known = [name for name in names if name in {*base.models, *base.shapes, *ladder.RUNGS}]
    return {name: shape_of(name, base).width for name in known}


def _ranks_mean_something(base: Base, methods: Mapping[str, MethodChoice], faults: Faults) -> None:
    """A change to a matrix has no rank beyond its width; one that no base can have is refused."""
    widest = max(widths_of(base).values(), default=None)
    for name, choice in methods.items():
        for index, size in enumerate(choice.sizes):
            if registry.get("method", name).size_word == "rank" and widest is not None and size > widest:
                what = f"rank {size} is beyond the width of every base; the widest has {widest}"
                faults.add(f"methods.{name}.rank[{index}]", what, f"use at most {widest}; full finetuning has no rank")


def _context_holds(base: Base, finetune: Finetune, sections: dict[str, Any], faults: Faults) -> None:
    """Source, target and soft prompt must fit into the context the base was pretrained with; so must probed tasks'."""
    prompts = [
        max(choice.sizes)
        for name, choice in sections["methods"].items()
        if choice is not None and choice.sizes and registry.get("method", name).size_word == "length"
    ]
    prompt = max(prompts, default=0)
    context, evaluate = context_of(base), sections["evaluate"]
    probed = () if evaluate is None else [name for names in evaluate.probes.values() for name in names]
    others = [name.removeprefix(TASK_PROBE) for name in probed if name.startswith(TASK_PROBE)]
    for name in dict.fromkeys([*finetune.tasks, *others]):
        if (limits := _limits(name, sections["tasks"])) is None or sum(limits) + prompt <= context:
            continue
        parts = f"{limits[0]} source, {limits[1]} target, {prompt} prompt"
        fix = f"use at least {sum(limits) + prompt}, or a shorter prompt"
        faults.add("base.context", f"{context} tokens are too few for task {name!r} ({parts})", fix)


def _limits(name: str, own: Mapping[str, Any]) -> tuple[int, int] | None:
    """Most source and target tokens of a task, its own table first; None for a task that is unknown or faulty."""
    built_in = registry.get("task", name) if name in registry.names("task") else None
    places = [place for place in (own.get(name), built_in) if place is not None]
    found = [
        next((size for place in places if (size := getattr(place, key)) is not None), None)
        for key in ("max_source_tokens", "max_target_tokens")
    ]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _levels(base: Base, finetune: Finetune, methods: Mapping[str, MethodChoice]) -> dict[str, int]:
    """Number of levels each factor has in the grid; PET sizes and examples by the method that has most."""
    sizes = max((len(choice.sizes) for choice in methods.values()), default=0)
    examples = max(len(levels) for _, _, levels in asked(methods, finetune, None)) if methods else 0
    counts = len(_rungs(base)), len(pretraining_sizes(base)), sizes, examples
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
