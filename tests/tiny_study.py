"""The starter-sized version of a study: the same design on a base and a text so small that it runs in seconds.

The rule. Of every list of levels (bases, pretraining sizes, PET sizes, examples, epochs, rates) the first two are kept,
and replaced by small ones in their order; of the seeds the first. A base becomes one or two layers of width 32, with
one key and value head or two feed-forward matrices where it had them; a published model becomes such a base. Tasks keep
their names, with limits and languages that suit the made-up text. Optimisers, schedules, the way rates are searched,
metrics and kinds of probes stay as they are; every run takes at most four steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from finescale import registry
from finescale.core import FinetuneRecipe
from finescale.lab import probes
from finescale.study.files import BuiltInTask, FileTask
from finescale.study.spec import MethodChoice, OwnShape, StudySpec

SPOKEN = ("en", "de", "zh", "fr")
WRITTEN = ("en", "de", "zh")
SOURCE, TARGET, CONTEXT = 96, 72, 256
HUB, NEWS = 256, 3000
"""Tokens of made-up sentences and news in the layouts of the hub: of words that the tokenizer has not seen."""
SIZES, EXAMPLES = (2, 4), (6, 8)
Value = TypeVar("Value")


def tiny(spec: StudySpec, mirror: Path | None = None) -> StudySpec:
    """The starter-sized version of a study; ``mirror`` holds what its tasks read from the hub."""
    names = list(dict.fromkeys([*spec.base.ladder, *(name.partition("@")[0] for name in spec.base.models)]))[:2]
    rungs = {name: f"tiny_{place}" for place, name in enumerate(names)}
    around = None
    if spec.one_factor is not None:
        around = spec.one_factor.model_copy(update={"bases": ("tiny_0",), "pretrain_tokens": None})
    search = spec.rate_search.model_copy(update={"base": "smallest", "examples": EXAMPLES[0]})
    fit = spec.fit.model_copy(update={"hold_out": {}})
    return spec.model_copy(
        update={
            "data": spec.data.model_copy(update={"tier": "starter", "source": "auto", "stream_tokens": 400_000}),
            "base": _base(spec, rungs),
            "tasks": _tasks(spec, mirror),
            "finetune": _finetune(spec),
            "methods": {name: _method(choice) for name, choice in spec.methods.items()},
            "one_factor": around,
            "rate_search": search,
            "evaluate": _evaluate(spec),
            "fit": fit,
        }
    )


def _few(levels: tuple[Any, ...], small: tuple[Value, ...]) -> tuple[Value, ...]:
    return small[: min(len(levels), len(small))]


def _base(spec: StudySpec, rungs: dict[str, str]) -> Any:
    base, shapes = spec.base, {}
    for place, (name, rung) in enumerate(rungs.items()):
        own = base.shapes.get(name)
        shapes[rung] = OwnShape(
            layers=1 + place,
            heads=2,
            width=32,
            ff=48,
            kv_heads=1 if own is not None and own.kv_heads == 1 else None,
            gated=own is None or own.gated,
        )
    context = _context(spec)
    pretrain = {"batch_tokens": 512, "warmup_tokens": 1_000}
    return base.model_copy(
        update={
            "ladder": tuple(shapes),
            "models": (),
            "shapes": shapes,
            "pretrain_tokens": _few(base.pretrain_tokens or base.models, (16 * context, 32 * context)),
            "languages": tuple(language for language in base.languages if language in WRITTEN),
            "vocab": 400,
            "context": context,
            "recipe": base.recipe.model_copy(update=pretrain),
        }
    )


def _context(spec: StudySpec) -> int:
    """What the longest example needs beside the longest soft prompt."""
    hub = [name for name in spec.task_names if name not in spec.tasks or not isinstance(spec.tasks[name], FileTask)]
    origins = {name for name in hub if registry.get("task", name).origin == "hub"}
    longest = NEWS + HUB if "mlsum" in origins else 2 * HUB if origins else CONTEXT - max(SIZES)
    return longest + max(SIZES)


def _tasks(spec: StudySpec, mirror: Path | None) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in spec.task_names:
        own = spec.tasks.get(name)
        if isinstance(own, FileTask):
            made[name] = own.model_copy(update={"max_source_tokens": SOURCE, "max_target_tokens": TARGET})
            continue
        task = registry.get("task", name)
        source, target = (NEWS if name == "mlsum" else HUB, HUB) if task.origin == "hub" else (SOURCE, TARGET)
        limits = {"max_source_tokens": source, "max_target_tokens": target}
        usual = (own.languages if own else ()) or task.usual
        languages = usual if task.origin == "hub" else tuple(one for one in usual if one in WRITTEN)
        where = str(mirror) if task.origin == "hub" else None
        made[name] = BuiltInTask(languages=languages, mirror=where, **limits)
    return made


def _finetune(spec: StudySpec) -> Any:
    recipe = _recipe(spec.finetune.recipe.model_dump())
    return spec.finetune.model_copy(
        update={
            "examples": _few(spec.finetune.examples, EXAMPLES),
            "epochs": _few(spec.finetune.epochs, (1.0, 2.0)),
            "seeds": spec.finetune.seeds[:1],
            "dev_examples": 4,
            "test_examples": 4,
            "recipe": FinetuneRecipe.model_validate(recipe),
        }
    )


def _recipe(asked: dict[str, Any]) -> dict[str, Any]:
    """Small steps in place of those named; what is not named stays so."""
    small = {"batch_examples": 4, "epochs": 1.0, "min_steps": 1, "max_steps": 4, "dev_checks": 1}
    return asked | {key: value for key, value in small.items() if key in asked}


def _method(choice: MethodChoice) -> MethodChoice:
    return choice.model_copy(
        update={
            "sizes": _few(choice.sizes, SIZES),
            "rates": choice.rates[:2],
            "examples": {task: _few(levels, EXAMPLES) for task, levels in choice.examples.items()},
            "recipe": _recipe(choice.recipe),
        }
    )


def _evaluate(spec: StudySpec) -> Any:
    asked = spec.evaluate
    kept = {task: tuple(name for name in names if _spoken(name)) for task, names in asked.probes.items()}
    small = {"decoded": min(asked.decoded, 3), "probe_examples": 3, "probes": kept}
    return asked.model_copy(update=small)


def _spoken(name: str) -> bool:
    """Whether the made-up text has what a probe asks for: no FLORES, few languages, and room for one demonstration."""
    probe = probes.parse(name)
    if probe.kind == "task":
        return True
    if probe.kind == "text":
        return probe.tgt in WRITTEN
    return probe.task is None and {probe.src, probe.tgt} <= {*SPOKEN} and probe.shots < 2
