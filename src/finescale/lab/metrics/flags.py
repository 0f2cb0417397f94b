"""Degenerate answers: empty, repeating, in the wrong language, never ending. A loss alone hides them.

The tests are simple on purpose and each says what it looks at; the share of *references* they would flag stands in the
signature of every rate, as a reading of their false alarms on this data.

Wrong language, two tests. Script: fewer than half of an answer's letters are of the language's script. Stop words, for
languages in Latin script: another language of the list has at least two more of its own function words in the answer
than the right one. Languages that are not in ``SCRIPTS`` are not tested. On 400 held-out sentences of the ``core``
corpus in each of de, en, es, fr, it and pl it flagged at most 0.3 % of the right language, and about 60 % of their
English sources (short ones say too little); in zh 2.5 %, terms left in Latin letters, and every English source.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

import numpy as np

from finescale.lab.metrics.interval import Floats
from finescale.lab.metrics.overlap import words
from finescale.lab.metrics.text import Answers, TextMetric, mean, with_count

SCRIPTS = {
    **dict.fromkeys(("en", "de", "fr", "es", "it", "pt", "pl", "nl", "da", "sv", "cs", "sk", "tr"), ("LATIN",)),
    **dict.fromkeys(("ru", "uk", "bg"), ("CYRILLIC",)),
    "zh": ("CJK",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL",),
    "hi": ("DEVANAGARI",),
    "ar": ("ARABIC",),
    "el": ("GREEK",),
}
FUNCTION_WORDS = {
    "en": "the of and to in is for that with this on are be by it from or as you not can which will an at have if",
    "de": "der die das und ist nicht ein eine mit für von den dem des auf zu sie werden wird kann im oder sich aus bei",
    "fr": "le la les des et est une un du pour dans que qui sur pas avec ce cette vous sont par ou au aux être",
    "es": "el la los las de y que en un una para con no se del por es este esta al como su más puede o",
    "it": "il la le gli di e che un una per non con del della dei è sono questo nel alla si da può come più",
    "pt": "o a os as de e que em um uma para com não se do da por é este esta ao como seu mais pode são",
    "pl": "i w na z do nie się jest to że dla o jako przez od po lub tego można który która są tym",
    "nl": "de het een en van is niet op te dat voor met zijn deze wordt kan door aan of bij ook naar als",
    "da": "og i at det en den til er som på de med af for ikke der et om kan denne fra ved eller",
}
LEAD = 2
"""Function words by which another language must lead."""
TIMES = 4
"""How often in a row the same words are a repetition."""
LEAST = 8
"""Words that a repetition has at least, so that a word said four times is not one."""


def _own_words() -> dict[str, frozenset[str]]:
    """Function words that only one language has."""
    owners = Counter(word for listed in FUNCTION_WORDS.values() for word in set(listed.split()))
    return {lang: frozenset(w for w in listed.split() if owners[w] == 1) for lang, listed in FUNCTION_WORDS.items()}


OWN_WORDS = _own_words()


@dataclass(frozen=True)
class Flags:
    """What is wrong with an answer, if anything."""

    empty: bool
    repetition: bool
    wrong_language: bool
    too_long: bool

    @property
    def degenerate(self) -> bool:
        """Whether anything is."""
        return self.empty or self.repetition or self.wrong_language or self.too_long


def look(text: str, language: str, complete: bool) -> Flags:
    """Flags of an answer that should be in ``language`` ("" where unknown: not tested)."""
    return Flags(not text.strip(), repeats(text), wrong_language(text, language), not complete)


def repeats(text: str) -> bool:
    """Whether one to four words stand ``TIMES`` times or more in a row, ``LEAST`` words at least in all.

    Characters count as words in scripts without spaces. A table of numbers is no repetition.
    """
    said = words(text)
    for size in range(1, 5):
        run = 0
        for place in range(size, len(said)):
            run = run + 1 if said[place] == said[place - size] and not said[place].isdigit() else 0
            if run >= max((TIMES - 1) * size, LEAST - size):
                return True
    return False


def wrong_language(text: str, language: str) -> bool:
    """Whether a text is not in ``language``, by script and by function words; False where it cannot be told."""
    scripts = SCRIPTS.get(language)
    letters = [unicodedata.name(c, "").partition(" ")[0] for c in text if c.isalpha()]
    if not scripts or len(letters) < 2:
        return False
    if sum(name in scripts for name in letters) < len(letters) / 2:
        return True
    if language not in OWN_WORDS:
        return False
    said = words(re.sub(r"[‘’']", " ", text))
    hits = {lang: sum(word in own for word in said) for lang, own in OWN_WORDS.items()}
    return max(hits.values()) >= hits[language] + LEAD


def _of(answers: Answers, part: str, texts: tuple[str, ...], complete: tuple[bool, ...]) -> Floats:
    looked = (look(*one) for one in zip(texts, answers.languages, complete, strict=True))
    return np.array([float(getattr(flags, part)) for flags in looked])


def _rate(part: str, words_for_it: str) -> TextMetric:
    def statistics(answers: Answers) -> Floats:
        return with_count(_of(answers, part, answers.predictions, answers.complete))

    def signature(answers: Answers) -> str:
        among = _of(answers, part, answers.references, (True,) * len(answers)).mean()
        untested = sum(language not in SCRIPTS for language in answers.languages)
        return f"references flagged:{among:.4g}|language not tested:{untested}"

    name = "degenerate-rate" if part == "degenerate" else f"{part.replace('_', '-')}-rate"
    return TextMetric(name, f"share of answers {words_for_it}", "lower", statistics, mean, signature)


DEGENERATE = _rate("degenerate", "with any of these faults")
RATES = (
    DEGENERATE,
    _rate("empty", "that are empty"),
    _rate("repetition", "that repeat themselves"),
    _rate("wrong_language", "in another language"),
    _rate("too_long", "that had not ended at the token limit"),
)
