"""Tasks: what is learned, as a strict template over fields, and the built-in ones over the real-text corpus."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finescale.core import TaskSpec
from finescale.errors import Fault, InputError, near

if TYPE_CHECKING:
    from finescale.lab.corpora import Corpus

LANGUAGE_NAMES = {"de": "German", "en": "English"}


@dataclass(frozen=True)
class Task:
    """A built-in task: its template and where its fields come from in a corpus."""

    name: str
    template: str
    target: str
    max_source_tokens: int
    max_target_tokens: int
    fields: Callable[[Corpus, str], Iterator[dict[str, str]]]
    source: str

    def spec(self, digest: str, dev_examples: int, test_examples: int) -> TaskSpec:
        """The task as it enters a study's identity; ``digest`` is the corpus's."""
        return TaskSpec(
            name=self.name,
            source="corpus",
            digest=digest,
            template=self.template,
            target=self.target,
            dev_examples=dev_examples,
            test_examples=test_examples,
            max_source_tokens=self.max_source_tokens,
            max_target_tokens=self.max_target_tokens,
        )


def template_fields(template: str) -> list[str]:
    """Names of the fields a template asks for."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def render(template: str, target: str, fields: Mapping[str, object], where: str) -> tuple[str, str]:
    """Prompt and target of one example.

    Raises:
        InputError: a field of the template or the target is missing or is not text; every such field is listed.
    """
    faults = []
    for name in [*template_fields(template), target]:
        value = fields.get(name)
        if value is None:
            faults.append(Fault(where, f"has no field {name!r}", near(name, map(str, fields))))
        elif not isinstance(value, str) or not value.strip():
            faults.append(Fault(where, f"field {name!r} is {'empty' if value == '' else 'not text'}"))
    if faults:
        raise InputError(*faults)
    return template.format_map(fields), str(fields[target])


def _pairs(corpus: Corpus, split: str) -> Iterator[dict[str, str]]:
    for pair in corpus.pairs("en", "de", split):
        yield {"src": pair.src, "tgt": pair.tgt}


def _summaries(corpus: Corpus, split: str) -> Iterator[dict[str, str]]:
    for item in corpus.summaries(split):
        yield {"text": item.text, "summary": item.summary, "language": LANGUAGE_NAMES[item.lang]}


MT_EN_DE = Task(
    name="mt-en-de",
    template="English: {src}\nGerman:",
    target="tgt",
    max_source_tokens=48,
    max_target_tokens=48,
    fields=_pairs,
    source="LibreOffice help and gettext catalogues, English to German",
)
SUMMARISE = Task(
    name="summarise",
    template="Summarise the following document in {language}:\n{text}\nSummary:",
    target="summary",
    max_source_tokens=256,
    max_target_tokens=48,
    fields=_summaries,
    source="Debian package descriptions, long text to one-line synopsis",
)
