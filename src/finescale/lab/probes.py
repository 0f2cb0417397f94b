"""Probes: further evaluation sets that say what finetuning does to other abilities.

A probe's name spells it: ``fr-de`` (translation, zero-shot), ``fr-de@5`` (after five demonstrations), ``flores:fr-de``
(the same on FLORES), ``text:en`` (held-out pretraining text), ``task:summarise`` (another task's test set).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finescale.core import ProbeSpec
from finescale.errors import Fault, Faults, InputError, near
from finescale.lab import hub
from finescale.lab.corpora import Corpus
from finescale.lab.tasks import LANGUAGE_NAMES, Rendered, render, translation_prompt

FLORES = "flores"
SPELLINGS = "as in fr-de, fr-de@5, flores:fr-de, text:en or task:summarise"
HELD_OUT = 0.02
"""Share of the pretraining text that no base is trained on, for their own loss and for text probes."""
LEAST_SHOT, USUAL_SHOT = 12, 35
"""Tokens of a demonstration: four words, two or more words' translation, two language names and their marks at the
least; as measured from English, French and Spanish into German with a vocabulary of 4096 (medians 33 to 37)."""
TRANSLATION = re.compile(rf"(?:({FLORES}):)?([a-z]{{2,3}})-([a-z]{{2,3}})(?:@([1-9][0-9]?))?")


def parse(name: str, examples: int = 200) -> ProbeSpec:
    """The probe that ``name`` spells, over at most ``examples`` examples.

    Raises:
        InputError: it spells none, or a language is unknown.
    """
    kind, _, rest = name.partition(":")
    faults = Faults()
    if kind == "text":
        _known(name, (rest,), faults)
        return ProbeSpec(name=name, kind="text", tgt=rest, examples=examples)
    if kind == "task" and rest:
        return ProbeSpec(name=name, kind="task", task=rest, examples=examples)
    spelled = TRANSLATION.fullmatch(name)
    if spelled is None:
        raise InputError(Fault(f"probe {name!r}", "spells no probe", SPELLINGS))
    source, src, tgt, shots = spelled.groups()
    _known(name, (src, tgt), faults)
    if src == tgt:
        raise InputError(Fault(f"probe {name!r}", "translates a language into itself", "name two languages"))
    return ProbeSpec(
        name=name, kind="translation", src=src, tgt=tgt, task=source, shots=int(shots or 0), examples=examples
    )


def _known(name: str, languages: Iterable[str], faults: Faults) -> None:
    for language in languages:
        if language not in LANGUAGE_NAMES:
            faults.add(f"probe {name!r}", f"language {language!r} is unknown", near(language, LANGUAGE_NAMES))
    faults.raise_if_any()


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence in two languages, and the document it is from."""

    src: str
    tgt: str
    group: str


def translation(probe: ProbeSpec, corpus: Corpus, mirror: Path | None) -> list[Rendered]:
    """Test sentences of a translation probe in the manner of the translation tasks, in an order decided by hash.

    Demonstrations are drawn from the shortest quarter of the dev sentences, which leaves more of a context to the test;
    each test sentence has its own, none of its document.

    Raises:
        InputError: there are no sentences in these languages, or fewer than the shots; the data set has changed.
    """
    assert probe.src, "a translation probe has a source language"
    assert probe.tgt, "a translation probe has a target language"
    _refuse_changed(probe, mirror)
    test = sorted(_sentences(probe, corpus, mirror, "test"), key=lambda one: _hash(one.src, one.tgt))
    pool = sorted(_sentences(probe, corpus, mirror, "dev"), key=lambda one: len(one.src) + len(one.tgt))
    pool = pool[: max(2 * probe.shots, len(pool) // 4)]
    if not test:
        have = "no test sentence is in both languages"
        raise InputError(Fault(f"probe {probe.name!r}", have, "another pair, another tier, or flores:"))
    template = translation_prompt(probe.src, probe.tgt)
    return [_asked(one, _drawn(one, pool, probe), template, probe) for one in test]


def _refuse_changed(probe: ProbeSpec, mirror: Path | None) -> None:
    if probe.digest is not None and probe.digest != hub.flores_digest((probe.src or "", probe.tgt or ""), mirror):
        what = "the data set it reads has changed since the study was planned"
        raise InputError(
            Fault(f"probe {probe.name!r}", what, "run the study again; runs on the old one stay as they are")
        )


def _sentences(probe: ProbeSpec, corpus: Corpus, mirror: Path | None, split: str) -> Iterator[Sentence]:
    """Sentences of a held-out split in both languages; those left untranslated are passed over."""
    assert probe.src, "a translation probe has a source language"
    assert probe.tgt, "a translation probe has a target language"
    if split == "dev" and not probe.shots:
        return
    if probe.task == FLORES:
        languages, name = (probe.src, probe.tgt), {"test": "devtest", "dev": "dev"}[split]
        found = ((texts, str(number)) for number, texts in enumerate(hub.flores(languages, mirror, name)))
    else:
        found = ((row.texts, row.group) for row in corpus.multiway(split))
    for texts, group in found:
        if probe.src in texts and probe.tgt in texts and texts[probe.src] != texts[probe.tgt]:
            yield Sentence(texts[probe.src], texts[probe.tgt], group)


def _drawn(one: Sentence, pool: Sequence[Sentence], probe: ProbeSpec) -> list[Sentence]:
    """The demonstrations of one test sentence."""
    others = [other for other in pool if other.group != one.group and other.src != one.src]
    if len(others) < probe.shots:
        what = f"has {len(others)} sentences to demonstrate with, {probe.shots} are asked for"
        raise InputError(Fault(f"probe {probe.name!r}", what, "ask for fewer shots"))
    seed = int.from_bytes(_hash(probe.name, one.src)[:8], "big")
    return [others[i] for i in np.random.default_rng(seed).permutation(len(others))[: probe.shots]]


def _asked(one: Sentence, shown: Sequence[Sentence], template: str, probe: ProbeSpec) -> Rendered:
    pairs = [render(template, "tgt", {"src": s.src, "tgt": s.tgt}, f"probe {probe.name!r}") for s in (*shown, one)]
    told = "".join(f"{prompt} {target}\n" for prompt, target in pairs[:-1])
    return Rendered(told + pairs[-1][0], pairs[-1][1], probe.tgt or "", one.src)


def _hash(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()


def text_rows(tokens: NDArray[np.uint16], context: int, most: int) -> list[NDArray[np.uint16]]:
    """At most ``most`` rows of running text, each half a context long, so that a soft prompt fits before it."""
    row = max(1, context // 2)
    return list(tokens[: min(most, len(tokens) // row) * row].reshape(-1, row))
