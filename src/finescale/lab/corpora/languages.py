"""Languages: their scripts and function words, what a word is in each, and whether a text is in one."""

from __future__ import annotations

import re
from collections.abc import Sequence

CJK = "\u3040-\u30ff\u3400-\u9fff"
"""Kana and Han, as the inside of a regular expression's character class: scripts without spaces between words."""
CHARACTER = re.compile(f"[{CJK}]")
WORD = re.compile(f"[{CJK}]|[^\\W{CJK}]+")
LETTERS = re.compile(r"[^\W\d_]+")
HANGUL = re.compile("[\uac00-\ud7a3]")
CHARACTERS_A_WORD = 1.5
"""Chinese characters for one English word: the median over the 26,730 pairs of the core tier."""

FOREIGN_SCRIPT = re.compile("[\u0370-\u1fff\u3040-\ud7ff]")
SCRIPTS = {
    "zh": re.compile("[\u3400-\u9fff]"),
    "ja": CHARACTER,
    "ko": HANGUL,
    "ru": re.compile("[\u0400-\u04ff]"),
    "uk": re.compile("[\u0400-\u04ff]"),
}
LEAST_SCRIPT_SHARE = 0.4
"""Of the letters; names of programs and commands stay in Latin script in every language."""
STRANGE = {
    "zh": re.compile("[\u3040-\u30fa這個們說時會來國對開經動無過還問沒讓從進實現點樣當應該為與後]"),
    "ru": re.compile("[іїєґ]", re.I),
    "uk": re.compile("[ыэъё]", re.I),
}
"""Letters that a neighbour in the same script has and the language has not: kana and traditional characters, ..."""
NEEDED = {"ja": re.compile("[\u3040-\u30fa]")}

_LISTED = {
    "en": "the of and to is in that for with this are be it on as by or you from can not if an which will have a has"
    " was its at when used your but all any these other than no more only their",
    "de": "der die das und ist in den von zu mit für dem des ein eine nicht sich auf werden im auch als wird an aus"
    " kann sie es wenn oder bei dieses diese ihr ihre ich eines einen einer zum zur durch nach dass wie sind",
    "fr": "le la les de des du et est un une en à a au aux pour dans que qui ce cette ces sur par pas ou vous avec se"
    " on il elle sont plus ne si son sa ses leur peut être comme tout votre as or",
    "es": "el la los las de y es un una en a al del para que con por se no su sus o este esta estos como más si lo le"
    " son ser está pero cuando puede has",
    "it": "il lo la i gli le di e è un una in a al alla per che con non si del della dei delle da dal nel nella su o"
    " questo questa come sono se più può no",
    "pt": "o a os as de e é um uma em para que com não se do da dos das no na nos nas ou este esta como por ao mais"
    " são ser seu sua pode você",
    "pl": "i w z na do nie się jest to że o lub dla jak przez od po ten ta są być oraz który która które tym a za aby"
    " jego może on",
    "nl": "de het een en van in is op te dat met voor niet zijn of u aan als door deze worden om naar bij dit wordt die"
    " kan uw ook was",
    "tr": "ve bir bu için ile olarak da de ya veya olan en daha ne gibi çok her olduğu kadar sonra değil an at",
    "da": "og i at er et en den det til af for på med som der ikke kan fra eller de om har du vil ved du din dette",
    "sk": "a v na sa je s z do pre ako alebo ktorý ktorá ktoré nie to pri o od sú pomocou môže po aj by",
    "cs": "a v na se je s z do pro jako nebo který která které není to při o od jsou pomocí může po i by ve",
}
FUNCTION_WORDS = {lang: frozenset(listed.split()) for lang, listed in _LISTED.items()}
STRANGE_WORDS = {lang: FUNCTION_WORDS["de" if lang == "en" else "en"] - own for lang, own in FUNCTION_WORDS.items()}
"""Function words of the language a text is most often left in: English, which translations start from."""
KNOWN = frozenset({*FUNCTION_WORDS, *SCRIPTS})
"""Languages that ``right_language`` can tell."""


FOLDERS = {
    "en": ("en", "en-US", "C"),
    "de": ("de", "de-DE"),
    "fr": ("fr", "fr-FR"),
    "es": ("es", "es-ES"),
    "it": ("it", "it-IT"),
    "pt": ("pt_BR", "pt-BR"),
    "zh": ("zh_CN", "zh-CN", "zh-cn", "zh_Hans"),
}
"""Names of folders that hold a language; one that is not here has its code as the name."""


def folders(lang: str) -> tuple[str, ...]:
    """Names that a folder of this language goes by."""
    return FOLDERS.get(lang, (lang,))


def language_of(path: str, languages: Sequence[str]) -> str:
    """Which of ``languages`` a file is in, by the name of a folder on its path; else the first of them."""
    parts = path.split("/")
    return next((lang for lang in languages if not set(folders(lang)).isdisjoint(parts)), languages[0])


def words(text: str) -> list[str]:
    """Lower-case words and numbers, without punctuation; each Chinese or Japanese character is one."""
    return WORD.findall(text.lower())


def count_words(text: str) -> int:
    """Words between white space; in a text with Chinese or Japanese characters, each of these counts as one."""
    return len(WORD.findall(text)) if CHARACTER.search(text) else len(text.split())


def size(text: str) -> float:
    """Length in words, comparable between languages: 1.5 Chinese or Japanese characters are a word."""
    characters = len(CHARACTER.findall(text))
    return count_words(text) - characters + characters / CHARACTERS_A_WORD


def width(text: str) -> int:
    """Length in characters, comparable between languages: Chinese and Japanese ones count thrice, Korean ones twice."""
    return len(text) + 2 * len(CHARACTER.findall(text)) + len(HANGUL.findall(text))


def right_language(text: str, lang: str) -> bool:
    """Whether ``text`` may be in ``lang``: in its script, and not more function words of the likeliest other language.

    Short texts without function words pass.
    """
    if lang in SCRIPTS:
        return _right_script(text, lang)
    if FOREIGN_SCRIPT.search(text):
        return False
    found = LETTERS.findall(text.lower())
    own = sum(map(FUNCTION_WORDS[lang].__contains__, found))
    return sum(map(STRANGE_WORDS[lang].__contains__, found)) <= max(1, own)


LEAST_FUNCTION_WORDS = 0.08
"""Share of a text's words that must be function words of its language: prose has 0.3 and more, labels none."""
CLEARLY = 1.2
"""Times as many function words as the next language has."""


def guess(text: str) -> str | None:
    """The language most of ``text`` is in, by its script or its function words; None where neither tells."""
    letters = sum(map(str.isalpha, text))
    shares = {lang: len(script.findall(text)) / max(1, letters) for lang, script in SCRIPTS.items()}
    if shares["ja"] >= LEAST_SCRIPT_SHARE and NEEDED["ja"].search(text):
        return "ja"
    scripted = max(("zh", "ko", "ru"), key=lambda lang: shares[lang])
    if shares[scripted] >= LEAST_SCRIPT_SHARE:
        other = len(STRANGE["ru"].findall(text)) > len(STRANGE["uk"].findall(text))
        return "uk" if scripted == "ru" and other else scripted
    found = LETTERS.findall(text.lower())
    counts = {lang: sum(map(own.__contains__, found)) for lang, own in FUNCTION_WORDS.items()}
    first, second = sorted(counts, key=lambda lang: -counts[lang])[:2]
    clear = counts[first] >= max(1.0, CLEARLY * counts[second])
    return first if clear and counts[first] >= LEAST_FUNCTION_WORDS * len(found) else None


def _right_script(text: str, lang: str) -> bool:
    if (lang in STRANGE and STRANGE[lang].search(text)) or (lang in NEEDED and not NEEDED[lang].search(text)):
        return False
    letters = sum(map(str.isalpha, text))
    return len(SCRIPTS[lang].findall(text)) >= max(1.0, LEAST_SCRIPT_SHARE * letters)
