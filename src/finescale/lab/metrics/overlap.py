"""BLEU, chrF++ (both by sacrebleu) and ROUGE-L: how much of the reference's wording an answer has.

sacrebleu computes the statistics and the scores; here they are only kept per example, so that a resample sums them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from finescale.errors import Refused
from finescale.lab.metrics.interval import Floats
from finescale.lab.metrics.text import Answers, TextMetric, mean, with_count

TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
"""sacrebleu's tokenizer of a target language; every other language has 13a."""

UNSPACED = (
    "\u0e00-\u0e7f"  # Thai
    "\u0e80-\u0eff"  # Lao
    "\u1780-\u17ff"  # Khmer
    "\u1000-\u109f"  # Burmese
    "\u3040-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
# Planes 0 and 1 and the supplement of variation selectors; the planes between and beyond hold no marks.
_WITH_MARKS = (range(0x20000), range(0xE0100, 0xE01F0))


@cache
def _word() -> re.Pattern[str]:
    """What a word is: a letter or digit and the letters, digits and combining marks (Mn, Mc) after it."""
    single = re.compile(f"[{UNSPACED}]")
    every = (chr(code) for codes in _WITH_MARKS for code in codes)
    marks = "".join(c for c in every if unicodedata.category(c) in ("Mn", "Mc") and not single.match(c))
    return re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}](?:[^\W_{UNSPACED}]|[{marks}])*")


def words(text: str) -> list[str]:
    """Words of a text for ROUGE, without stemming: runs of letters and digits of any script with their combining marks,
    in lower case; single characters of scripts that are written without spaces. Forms that differ in width or make-up
    only are one (NFKC): full-width "Ａ" is "a".

    On ASCII text it gives what ``rouge_score`` does without stemming. Elsewhere the two differ on purpose, in English
    too: ``rouge_score`` keeps a to z and digits alone, so that "naïve café" is to it "na", "ve", "caf".
    """
    return _word().findall(unicodedata.normalize("NFKC", text).lower())


def lcs(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence (bit-parallel: Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        hit = row & places.get(word, 0)
        row = (row + hit | row - hit) & full
    return len(a) - row.bit_count()


def rouge_l(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence of two lists of words, 0 to 1 (Lin 2004, section 3, with beta 1)."""
    common = lcs(prediction, reference)
    if not common:
        return 0.0
    precision, recall = common / len(prediction), common / len(reference)
    return 2 * precision * recall / (precision + recall)


def _rouge(answers: Answers) -> Floats:
    pairs = zip(answers.predictions, answers.references, strict=True)
    return with_count(np.array([100 * rouge_l(words(p), words(r)) for p, r in pairs]))


@cache
def _bleu(language: str) -> Any:
    import sacrebleu

    tokenizer = TOKENIZERS.get(language, "13a")
    try:
        return sacrebleu.BLEU(tokenize=tokenizer)
    except (ImportError, RuntimeError) as error:
        raise Refused(f"BLEU in {language!r} needs its tokenizer: pip install 'sacrebleu[{language}]'") from error


@cache
def _chrf(_: str) -> Any:
    import sacrebleu

    return sacrebleu.CHRF(word_order=2)


def _by_sacrebleu(tool: Callable[[str], Any]) -> Callable[[Answers], Floats]:
    """Statistics of every answer against its one reference, each by the tool of its own language."""

    def statistics(answers: Answers) -> Floats:
        rows = [
            tool(language)._extract_corpus_statistics([prediction], [[reference]])[0]
            for prediction, reference, language in zip(
                answers.predictions, answers.references, answers.languages, strict=True
            )
        ]
        return np.array(rows, float)

    return statistics


def _value(tool: Callable[[str], Any]) -> Callable[[Floats], Floats]:
    def of(totals: Floats) -> Floats:
        from_totals = tool("")._compute_score_from_stats
        return np.array([from_totals([int(x) for x in row]).score for row in totals])

    return of


def _bleu_signature(answers: Answers) -> str:
    used = "+".join(sorted({TOKENIZERS.get(language, "13a") for language in answers.languages}))
    return f"nrefs:1|case:mixed|eff:no|tok:{used}|smooth:exp|version:{version('sacrebleu')}"


BLEU = TextMetric(
    "bleu",
    "BLEU, 0 to 100",
    "higher",
    _by_sacrebleu(_bleu),
    _value(_bleu),
    _bleu_signature,
    "Papineni et al. 2002; sacrebleu, Post 2018 (arXiv 1804.08771)",
)
CHRF = TextMetric(
    "chrf",
    "chrF++, 0 to 100",
    "higher",
    _by_sacrebleu(_chrf),
    _value(_chrf),
    lambda _: f"nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:{version('sacrebleu')}",
    "Popović 2017 (chrF++); sacrebleu",
)
ROUGE_L = TextMetric(
    "rouge-l",
    "ROUGE-L F1, 0 to 100",
    "higher",
    _rouge,
    mean,
    lambda _: "stemmer:no|norm:NFKC|tok:unicode-words with marks, characters in scripts without spaces",
    "Lin 2004; equal to rouge_score without stemming on ASCII English",
)
