"""Cleaning: what counts as a good sentence pair, a good paragraph and the right language.

Everything is a pure function of its text, so that equal packages always give equal corpora.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator

from finescale.lab.corpora.languages import CHARACTER, CJK, LETTERS, right_language, size, width

TAG = re.compile(r"<[^<>]{1,400}>")
SPACE = re.compile(r"\s+")
CJK_PRINT = f"{CJK}\u3000-\u303f\uff00-\uffef"
CJK_GAP = re.compile(f"(?<=[{CJK_PRINT}])\\s+(?=[{CJK_PRINT}])")
CJK_MARKS = re.compile("[，。、；：！？（）《》「」]")
CJK_ACCELERATOR = re.compile(r"\s?[（(][&_]\w[)）]")

# Code, markup and format placeholders; a text that has one of these is not prose.
CODE = re.compile(
    r"%\s?[\w(*.#'+-]|\$\{?\w|@\w+@|[{}\\|~^<>]|==|::|->|https?:|ftp:|www\.|\w\(\)|(?<!\w)--?[a-zA-Z]|/\w+/\w|(?<![^\W_])_|\w_\w"
    rf"|\w\.\w+\.\w|[^\s{CJK_PRINT}]{{40}}"
)
EMAIL = re.compile(r"\w@\w")
ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Nr|Abb|bzw|usw|ca|evtl|ggf|sog|inkl|No|Fig|Mr|Mrs|Dr|St|approx|resp|z\. ?B|d\. ?h"
    r"|u\. ?a|o\. ?ä|u\. ?U)|\b[A-Za-zÄÖÜ]|\d)\.$"
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\sa-zäöü])|(?<=[。！？])(?=[^。！？”」）])")


def plain(text: str) -> str:
    """``text`` without tags, entities, soft hyphens and repeated white space."""
    return one_line(html.unescape(TAG.sub("", text)).replace("\u00ad", "").replace("\u200b", ""))


def one_line(text: str) -> str:
    """``text`` with single spaces between words, and none between Chinese or Japanese characters."""
    return without_gaps(SPACE.sub(" ", text).strip())


def without_gaps(text: str) -> str:
    """``text`` without white space between Chinese or Japanese characters."""
    return text if text.isascii() else CJK_GAP.sub("", text)


def normal(text: str) -> str:
    """Lower-case letters only, one space between words: equal for texts that differ in case, numbers or marks."""
    return " ".join(LETTERS.findall(text.lower()))


def no_accelerator(text: str) -> str:
    """A user-interface string without the mark of its shortcut key (``_File``, ``&Edit``, ``文件(_F)``)."""
    if CHARACTER.search(text):
        text = CJK_ACCELERATOR.sub("", text)
    if len(text) > 120 or len(re.findall(r"[&_](?=[^\W_])", text)) != 1:
        return text
    return re.sub(r"[&_](?=[^\W_])", "", text)


def letter_share(text: str) -> float:
    """Share of the characters that are letters, spaces or Chinese marks, which bring no space; 0 for an empty text."""
    marks = 0 if text.isascii() else len(CJK_MARKS.findall(text))
    return (sum(map(str.isalpha, text)) + text.count(" ") + marks) / len(text) if text else 0.0


def is_prose(text: str) -> bool:
    """Whether a text is mostly letters and has no sign of code or markup."""
    return letter_share(text) >= 0.75 and not CODE.search(text)


def good_pair(src: str, tgt: str, langs: str) -> bool:
    """Whether two clean texts are plausibly translations of each other.

    4 to 120 source words, a length ratio (of ``width``) within a factor of 2, prose in the right languages on both
    sides, not equal, and no disagreement about the numbers of two and more digits.
    """
    src_lang, tgt_lang = langs.split("-")
    if normal(src) == normal(tgt) or not 4 <= size(src) <= 120:
        return False
    if not 0.5 <= width(tgt) / width(src) <= 2.0 or not (is_prose(src) and is_prose(tgt)):
        return False
    if not (right_language(src, src_lang) and right_language(tgt, tgt_lang)):
        return False
    left, right = set(re.findall(r"\d{2,}", src)), set(re.findall(r"\d{2,}", tgt))
    return not (left and right and not left & right)


def good_paragraph(text: str, lang: str) -> bool:
    """Whether a clean paragraph is worth pretraining on: 6 words, mostly letters, no e-mail address, the language."""
    if size(text) < 6 or letter_share(text) < 0.7 or EMAIL.search(text):
        return False
    return right_language(text, lang)


def sentences(text: str) -> list[str]:
    """Sentences of ``text``; does not split after common English and German abbreviations."""
    out: list[str] = []
    open_part = ""
    for part in SENTENCE_END.split(text):
        open_part = f"{open_part} {part}".strip()
        if open_part and not ABBREVIATION.search(open_part):
            out.append(open_part)
            open_part = ""
    return [*out, open_part] if open_part else out


def sentence_pairs(src: str, tgt: str) -> Iterator[tuple[str, str]]:
    """Split a pair of paragraphs into sentence pairs where counts and relative lengths agree, else keep it whole."""
    left, right = sentences(src), sentences(tgt)
    if len(left) == len(right) > 1:
        ratios = [math.log((len(a) + 5) / (len(b) + 5)) for a, b in zip(left, right, strict=True)]
        mean = sum(ratios) / len(ratios)
        if all(abs(ratio - mean) < 0.55 for ratio in ratios):
            yield from zip(left, right, strict=True)
            return
    yield src, tgt
