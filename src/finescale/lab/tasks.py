"""Tasks: what is learned, as a strict template over fields, and the built-in ones over the real-text corpus."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finescale.core import TaskSpec
from finescale.errors import Faults, InputError, collecting, near
from finescale.lab.corpora.recipes import RECIPES

if TYPE_CHECKING:
    from finescale.lab.corpora import Corpus

LANGUAGE_NAMES = {
    "ar": "Arabic", "cs": "Czech", "da": "Danish", "de": "German", "en": "English", "es": "Spanish", "fi": "Finnish",
    "fr": "French", "hi": "Hindi", "hu": "Hungarian", "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sv": "Swedish",
    "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
"""English name of each language by its code, as prompts spell it."""

LANGUAGE = "language"
"""Field that names a row's language: as prompts spell it, or by its code in a task of one's own with several."""

Row = tuple[str, dict[str, str]]
"""Code of the target's language, and the fields a template may name."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a built-in task's rows come from: the study's corpus, and a local copy of the hub if there is one."""

    corpus: Corpus | None = None
    mirror: Path | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """One example as text.

    Attributes:
        prompt: what the model is given.
        target: what it should answer.
        language: code of the target's language, "" where it is not known.
        source: what is to be translated or summarised, without the template and demonstrations around it.
        turns: role and content of each message before the answer, where the example is a conversation.
    """

    prompt: str
    target: str
    language: str = ""
    source: str = ""
    turns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Task:
    """A built-in task: its template and where its fields come from.

    ``languages`` are the target languages it can have, ``usual`` those it has unless a study chooses; ``pool`` is the
    corpus's pool it reads (for a hub task: none) and ``sizes`` the published training rows of a language.
    """

    name: str
    template: str
    target: str
    max_source_tokens: int
    max_target_tokens: int
    rows: Callable[[Origin, str, tuple[str, ...]], Iterator[Row]]
    source: str
    languages: tuple[str, ...]
    usual: tuple[str, ...]
    origin: Literal["corpus", "hub"] = "corpus"
    pool: str = ""
    sizes: Mapping[str, int | None] | None = None

    def spec(self, digest: str, dev_examples: int, test_examples: int, languages: tuple[str, ...] = ()) -> TaskSpec:
        """The task as it enters a study's identity; ``digest`` is that of the corpus or the data set.

        Raises:
            InputError: it has no such language.
        """
        with collecting() as faults:
            self.check_languages(languages, f"task {self.name!r}", faults)
        return TaskSpec(
            name=self.name,
            source=self.origin,
            digest=digest,
            template=self.template,
            target=self.target,
            dev_examples=dev_examples,
            test_examples=test_examples,
            max_source_tokens=self.max_source_tokens,
            max_target_tokens=self.max_target_tokens,
            languages=languages or self.usual,
        )

    def check_languages(self, languages: tuple[str, ...], where: str, faults: Faults) -> None:
        """Note each of ``languages`` that this task cannot have."""
        for language in languages:
            if language not in self.languages:
                faults.add(where, f"has no examples in {language!r}", near(language, self.languages))

    def languages_in(self, tier: str) -> tuple[str, ...]:
        """Those of the usual languages that a tier of the corpus has; for a hub task all of them."""
        artefacts = (a for recipe in RECIPES if recipe.tier == tier for a in recipe.artefacts)
        have = {language for a in artefacts if self.pool.partition(".")[0] in a.pools for language in a.languages}
        return self.usual if self.origin == "hub" else tuple(language for language in self.usual if language in have)

    def size(self, manifest: Mapping[str, Any], languages: tuple[str, ...] = ()) -> int | None:
        """Training rows there are before any is dropped as too long; None where nobody published it.

        Args:
            manifest: the corpus's.
            languages: the study's choice; by default the usual ones.
        """
        if self.origin == "hub":
            sizes = [(self.sizes or {}).get(language) for language in languages or self.usual]
            return None if None in sizes else sum(size or 0 for size in sizes)
        counts: Mapping[str, Any] = manifest.get("counts", {}).get(self.pool, {}).get("train", {})
        if self.pool.startswith("pairs"):
            rows = counts.get("rows")
            return None if rows is None else int(rows)
        by = counts.get("by")
        return None if by is None else sum(int(by.get(language, 0)) for language in languages or self.usual)


@lru_cache
def template_fields(template: str) -> tuple[str, ...]:
    """Names of the fields a template asks for.

    Raises:
        ValueError: its braces do not match.
    """
    return tuple(name for _, name, _, _ in string.Formatter().parse(template) if name)


def render(template: str, target: str, fields: Mapping[str, object], where: str) -> tuple[str, str]:
    """Prompt and target of one example.

    The target follows the prompt after one space, so spaces at the prompt's end and around the target are left out.
    A field of the template may be empty, as the ``input`` of instructions often is, but not all of them.

    Raises:
        InputError: a field of the template or the target is missing or is not text, or the target or all fields of the
            template are empty; every such field is listed.
    """
    faults = Faults()
    shown = template_fields(template)
    for name in dict.fromkeys([*shown, target]):
        value = fields.get(name)
        if value is None:
            faults.add(where, f"has no field {name!r}", near(name, map(str, fields)))
        elif not isinstance(value, str):
            faults.add(where, f"field {name!r} is not text")
        elif name == target and not value.strip():
            faults.add(where, f"field {name!r} is empty")
    if shown and not faults.found and nothing_in(shown, fields):
        faults.add(where, f"{_fields(shown)} empty", "write something to answer")
    faults.raise_if_any()
    try:
        prompt = template.format_map(fields)
    except (ValueError, LookupError, AttributeError) as error:
        faults.add(where, f"its template cannot be filled: {error}", "write fields as {name} or {name:.1000}")
        raise InputError(*faults) from None
    return prompt.rstrip(" "), str(fields[target]).strip()


def nothing_in(shown: Sequence[str], fields: Mapping[str, object]) -> bool:
    """Whether all fields of a template are empty but for one that names a language."""
    told = [str(fields[name]) for name in shown if name != LANGUAGE]
    return bool(told) and not any(text.strip() for text in told)


def _fields(names: Sequence[str]) -> str:
    told = " and ".join(repr(name) for name in dict.fromkeys(names))
    return f"field {told} is" if len(set(names)) == 1 else f"fields {told} are"


def source_of(template: str, fields: Mapping[str, object]) -> str:
    """What a prompt is about: its fields' texts, line by line, without the one that names a language."""
    return "\n".join(str(fields[name]) for name in dict.fromkeys(template_fields(template)) if name != LANGUAGE)


def translation_prompt(src: str, tgt: str) -> str:
    """Template of a translation prompt with the field ``src``; the target follows it."""
    return f"{LANGUAGE_NAMES[src]}: {{src}}\n{LANGUAGE_NAMES[tgt]}:"


def _pairs(src: str, tgt: str) -> Callable[[Origin, str, tuple[str, ...]], Iterator[Row]]:
    def rows(origin: Origin, split: str, languages: tuple[str, ...]) -> Iterator[Row]:
        assert origin.corpus is not None, "a corpus task is prepared from a corpus"
        for pair in origin.corpus.pairs(src, tgt, split):
            yield tgt, {"src": pair.src, "tgt": pair.tgt}

    return rows


def _summaries(origin: Origin, split: str, languages: tuple[str, ...]) -> Iterator[Row]:
    assert origin.corpus is not None, "a corpus task is prepared from a corpus"
    for item in origin.corpus.summaries(split):
        if item.lang in languages:
            yield item.lang, {"text": item.text, "summary": item.summary, "language": LANGUAGE_NAMES[item.lang]}


def _translation(tgt: str) -> Task:
    return Task(
        name=f"mt-en-{tgt}",
        template=translation_prompt("en", tgt),
        target="tgt",
        max_source_tokens=48,
        max_target_tokens=48,
        rows=_pairs("en", tgt),
        source=f"LibreOffice help and gettext catalogues, English to {LANGUAGE_NAMES[tgt]}",
        languages=(tgt,),
        usual=(tgt,),
        pool=f"pairs.en-{tgt}",
    )


MT_EN_DE = _translation("de")
MT_EN_ZH = _translation("zh")
SUMMARY_PROMPT = "Summarise the following document in {{language}}:\n{{{text}}}\nSummary:"
SUMMARISE = Task(
    name="summarise",
    template=SUMMARY_PROMPT.format(text="text"),
    target="summary",
    max_source_tokens=256,
    max_target_tokens=48,
    rows=_summaries,
    source="Debian package descriptions, long text to one-line synopsis, in several languages",
    languages=("en", "de", "fr", "es", "it", "zh", "cs", "da", "fi", "ja", "ko", "nl", "pl", "pt", "ru", "sk", "uk"),
    usual=("en", "de", "fr", "es", "it", "zh"),
    pool="summaries",
)
