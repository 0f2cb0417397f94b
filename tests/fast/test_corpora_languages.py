"""Languages: scripts, function words, words without spaces, and Chinese that survives cleaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finescale.lab.corpora.clean import (
    good_pair,
    good_paragraph,
    is_prose,
    no_accelerator,
    plain,
    sentence_pairs,
    without_gaps,
)
from finescale.lab.corpora.languages import KNOWN, count_words, language_of, right_language, size, width, words
from finescale.lab.corpora.recipes import RECIPES

ARTICLE_ONE = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft begabt.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler.",
    "da": "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft.",
    "sk": "Všetci ľudia sa rodia slobodní a sebe rovní, čo sa týka ich dôstojnosti a práv. Sú obdarení rozumom.",
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a svědomím.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и объединены.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}
"""Article 1 of the Universal Declaration of Human Rights (United Nations, translations of the OHCHR), beginnings."""
TRADITIONAL = "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神相對待。"
ENGLISH = ARTICLE_ONE["en"]


def test_every_language_of_the_recipes_can_be_told() -> None:
    assert {lang for recipe in RECIPES for lang in recipe.languages} <= KNOWN
    assert set(ARTICLE_ONE) == KNOWN


@pytest.mark.parametrize("lang", sorted(ARTICLE_ONE))
def test_a_text_is_in_its_language_and_an_untranslated_one_is_not(lang: str) -> None:
    assert right_language(ARTICLE_ONE[lang], lang)
    assert good_paragraph(ARTICLE_ONE[lang], lang)
    if lang != "en":
        assert not right_language(f"{ENGLISH} {ENGLISH}", lang)
        assert good_pair(ENGLISH, ARTICLE_ONE[lang], f"en-{lang}")
        assert not good_pair(ENGLISH, f"{ENGLISH} {ENGLISH}"[:-30], f"en-{lang}")


@pytest.mark.parametrize(("text", "lang"), [("ru", "uk"), ("uk", "ru"), ("ja", "zh"), ("zh", "ja"), ("ko", "zh")])
def test_neighbours_in_one_script_are_told_apart(text: str, lang: str) -> None:
    assert not right_language(ARTICLE_ONE[text], lang)


def test_traditional_chinese_is_not_taken_for_simplified() -> None:
    assert not right_language(TRADITIONAL, "zh")


def test_no_script_but_its_own() -> None:
    for lang in ("zh", "ja", "ko", "ru", "uk"):
        assert not right_language("42 %", lang)
        assert not right_language("", lang)
        assert not right_language(ARTICLE_ONE[lang], "de")


def test_long_chinese_texts_are_prose() -> None:
    """Without spaces, forty characters in a row are a sentence and no code."""
    text = ARTICLE_ONE["zh"] * 3
    assert is_prose(text)
    assert is_prose(text.replace("。", ""))
    assert not is_prose("0123456789abcdef" * 3)


def test_lengths_compare_between_languages() -> None:
    assert words("在Linux 6上 开") == ["在", "linux", "6", "上", "开"]
    assert count_words("在Linux 6上 开") == 5
    assert count_words("state-of-the-art, here - now") == 4  # as between white space
    for lang in ("de", "zh", "ja", "ru"):
        assert size(ARTICLE_ONE[lang]) == pytest.approx(size(ENGLISH), rel=0.75)
        assert 0.5 <= width(ARTICLE_ONE[lang]) / width(ENGLISH) <= 2


@given(st.text(st.characters(max_codepoint=0x2FF)))
def test_in_latin_script_nothing_is_counted_otherwise(text: str) -> None:
    assert count_words(text) == size(text) == len(text.split())
    assert width(text) == len(text)
    assert without_gaps(text) == text


def test_chinese_is_joined_across_wrapped_lines_but_not_with_latin() -> None:
    assert plain("打开 文件，\n 然后 用 Linux 关闭") == "打开文件，然后用 Linux 关闭"


def test_shortcut_keys_of_chinese_menus_go() -> None:
    assert no_accelerator("打开文件(_O)") == "打开文件"
    assert no_accelerator("打开文件（&O）...") == "打开文件..."
    assert no_accelerator("Option (&O)") == "Option (O)"


def test_chinese_paragraphs_are_cut_into_sentences() -> None:
    pairs = sentence_pairs("Open the file first. Then close it again.", "先打开该文件。然后再关闭它。")
    assert list(pairs) == [("Open the file first.", "先打开该文件。"), ("Then close it again.", "然后再关闭它。")]


@pytest.mark.parametrize(
    ("path", "lang"),
    [
        ("usr/share/help/C/made/a.page", "en"),
        ("usr/share/doc/made/html/zh-CN/a.html", "zh"),
        ("usr/share/locale/zh_CN/LC_MESSAGES/a.mo", "zh"),
        ("usr/share/doc/made/html/de-DE/a.html", "de"),
        ("usr/share/doc/made/html/fr/a.html", "fr"),
        ("usr/share/doc/made/html/a.html", "en"),
        ("usr/share/doc/made/html/zh_TW/a.html", "en"),
    ],
)
def test_the_folder_says_the_language(path: str, lang: str) -> None:
    assert language_of(path, ("en", "de", "zh", "fr")) == lang
