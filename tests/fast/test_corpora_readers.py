"""Readers and cleaning: from each format to plain text."""

from __future__ import annotations

import json
from pathlib import Path

import polib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_packages import artefact, write_wheel

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import (
    good_pair,
    good_paragraph,
    no_accelerator,
    normal,
    plain,
    right_language,
    sentence_pairs,
    sentences,
)
from finescale.lab.corpora.readers import READERS, descriptions, jargon, libreoffice, man, markup
from finescale.lab.corpora.readers.gettext import messages
from finescale.lab.corpora.recipes import RECIPES
from finescale.lab.corpora.rows import Document, Pair, Summary

TEXT = st.text(st.characters(blacklist_characters="\0\x04", blacklist_categories=("Cs",)), min_size=1)


def opened(folder: Path, reader: str, languages: str, files: dict[str, bytes]) -> Archive:
    path = write_wheel(folder, f"made{languages.replace(' ', '')}", "1.0", files)
    return Archive(artefact("made", "wheel", reader, ("pairs",), tuple(languages.split()), "1.0", "0" * 64), path)


def test_every_row_of_the_table_names_a_reader() -> None:
    assert {artefact.reader for recipe in RECIPES for artefact in recipe.artefacts} == set(READERS)


@given(st.dictionaries(TEXT, TEXT))
def test_catalogues_written_by_polib_are_read_back(strings: dict[str, str]) -> None:
    catalogue = polib.MOFile()
    catalogue.metadata = {"Content-Type": "text/plain; charset=utf-8"}
    for message, translation in strings.items():
        catalogue.append(polib.POEntry(msgid=message, msgstr=translation))
    assert dict(messages(catalogue.to_binary())) == strings


def test_contexts_plurals_and_charsets_of_a_catalogue() -> None:
    catalogue = polib.MOFile(encoding="iso-8859-1")
    catalogue.metadata = {"Content-Type": "text/plain; charset=ISO-8859-1"}
    catalogue.append(polib.POEntry(msgctxt="menu", msgid="Open the file", msgstr="Die Datei öffnen"))
    catalogue.append(polib.POEntry(msgid="file", msgid_plural="files", msgstr_plural={0: "Datei", 1: "Dateien"}))
    assert list(messages(catalogue.to_binary())) == [("Open the file", "Die Datei öffnen")]


def test_gettext_pairs_and_sides(tmp_path: Path) -> None:
    catalogue = polib.MOFile()
    catalogue.metadata = {"Content-Type": "text/plain; charset=utf-8"}
    catalogue.append(polib.POEntry(msgid="_Open the old file", msgstr="Die alte Datei ö_ffnen"))
    files = {"locale/de/LC_MESSAGES/made.mo": catalogue.to_binary(), "locale/fr/LC_MESSAGES/made.mo": b"not read"}
    archive = opened(tmp_path, "gettext", "en de", files)
    found = Pair("en-de", "Open the old file", "Die alte Datei öffnen", "made", "mo:open the old file")
    assert list(READERS["gettext"]([archive])) == [found]
    assert list(READERS["gettext-sides"]([archive])) == [
        Document("en", found.src, "made", f"text:{normal(found.src)}"),
        Document("de", found.tgt, "made", f"text:{normal(found.tgt)}"),
    ]


def test_json_strings_beside_each_other(tmp_path: Path) -> None:
    english = {"a": {"title": "The old house", "only": "English"}, "n": 1}
    german = {"a": {"title": "Das alte Haus", "other": "Deutsch"}}
    files = {"x/translations/en.json": english, "x/translations/de.json": german, "y/translations/de.json": german}
    archive = opened(tmp_path, "json", "en de", {name: json.dumps(tree).encode() for name, tree in files.items()})
    assert [(pair.src, pair.tgt) for pair in READERS["json"]([archive])] == [("The old house", "Das alte Haus")]


def test_help_pages_align_by_paragraph_id(tmp_path: Path) -> None:
    def page(*paragraphs: tuple[str, str]) -> bytes:
        body = "".join(f'<p id="{key}" class="paragraph">{text}</p>' for key, text in paragraphs)
        return f'<p id="par_0">menu</p><div id="DisplayArea">{body}</div><div id="SearchFrame">x</div>'.encode()

    english = page(("par_1", "Open <b>the</b> file."), ("par_2", "Only here."), ("par_3", "Same"))
    german = page(("par_3", "Same"), ("par_1", "Die Datei &ouml;ffnen."))
    archives = [
        opened(tmp_path, "libreoffice", lang, {f"libreoffice/help/{folder}/text/scalc/a.html": content})
        for lang, folder, content in (("en", "en-US", english), ("de", "de", german))
    ]
    pair = Pair("en-de", "Open the file.", "Die Datei öffnen.", "libreoffice-help", "lo:scalc/a.html")
    assert list(READERS["libreoffice"](archives)) == [pair]


def test_switches_in_help_pages_take_the_default_wording() -> None:
    system = (
        '<p id="par_1" class="paragraph">Press <span id="swlnsys1" class="switchinline">'
        '<span hidden="true" id="MAC1" class="MAC"><span class="keycode">Command</span></span>'
        '<span hidden="true" id="default1"><span class="keycode">Ctrl</span></span></span>+A.</p>'
    )
    program = '<p id="par_2" class="paragraph">In <span id="swlnappl1" class="switchinline">Calc</span>.</p>'
    code = '<p id="par_3" class="codeintable">x = 1</p>'
    page = f'<div id="DisplayArea">{system}{program}{code}</div>'
    assert libreoffice.paragraphs_of(page) == {"par_1": "Press Ctrl+A."}


def test_manual_pages_become_paragraphs() -> None:
    page = r""".\" a comment
.TH LS 1 "2022"
.SH NAME
ls \- list \fBfiles\fP
.SH DESCRIPTION
List the files
of a folder \(lqhere\(rq.
.TP
\fB\-a\fP
do not ignore
.I hidden
files, see
.BR stat (2)
.nf
$ ls
.fi
.TS
a	b
.TE
Last words.
"""
    assert man.paragraphs_of(page) == [
        "ls - list files",
        "List the files of a folder “here”.",
        "-a",
        "do not ignore hidden files, see stat(2)",
        "Last words.",
    ]
    assert man.paragraphs_of(".Dd today\n.Sh NAME\ntext\n") == []


def test_manuals_in_html_lose_code_and_navigation() -> None:
    page = """<html><head><title>no</title></head><body><div class="toc"><p>no <div>no</div></p></div>
    <h1>Title</h1><p>One <em>text</em> &amp; more.<br>Next<pre>code</pre><script>no</script>
    <ul><li>item</ul><img src="x"><hr/>end</body></html>"""
    assert markup.paragraphs_of(page) == ["Title", "One text & more.", "Next", "item", "end"]


def test_quotations_lose_their_attribution(tmp_path: Path) -> None:
    text = "Der erste\nSpruch.\n\t\t-- Jemand\n%\nDer zweite.\n%\n"
    found = list(READERS["quotations"]([opened(tmp_path, "quotations", "de", {"made/zitate": text.encode()})]))
    assert [row.text for row in found if isinstance(row, Document)][:2] == ["Der erste Spruch.", "Der zweite."]


def test_jargon_entries(tmp_path: Path) -> None:
    one, two = (
        "   :one: n.\n\n   A {link}\n   wraps.\n\n   Second.\n",
        "   :two: /t/ n.\n\n   \u2502 table\n\n   Text.\n",
    )
    text = f"   Preface\n\n{one}\n{two}"
    found = list(jargon.read([opened(tmp_path, "jargon", "en", {"jargon.txt": text.encode()})]))
    assert [(row.group, row.text.strip()) for row in found] == [
        ("jargon:one", "A link wraps.\nSecond."),
        ("jargon:two", "Text."),
    ]


INDEX = """Package: tool
Description-md5: k1
Description-{lang}: {synopsis}
 {first}
 goes on.
  * a point
    goes on
 .
 {second}
"""
ENGLISH = {
    "synopsis": "small tool for tests",
    "first": "This is the first paragraph of a text that",
    "second": "And this is the second one, which has to be long enough to be of any use here.",
}
GERMAN = {
    "synopsis": "Kleines Werkzeug für Tests",
    "first": "Dies ist der erste Absatz eines Textes und er",
    "second": "Und dies ist der zweite, der lang genug sein muss, damit er hier von Nutzen ist und bleibt.",
}


def test_descriptions_join_lines_and_keep_points() -> None:
    (one,) = descriptions.descriptions(INDEX.format(lang="en", **ENGLISH))
    first = f"{ENGLISH['first']} goes on.\n* a point goes on"
    assert one == descriptions.Description("tool", "k1", ENGLISH["synopsis"], (first, ENGLISH["second"]))


def test_descriptions_give_summaries_grouped_by_source(tmp_path: Path) -> None:
    def index(name: str, text: str, *languages: str) -> Archive:
        path = tmp_path / name
        path.write_text(text)
        return Archive(artefact(name, "index", "descriptions", (), languages, "1", "0" * 64), path)

    archives = [
        index("Packages", "Package: tool\nVersion: 1\nSource: toolbox (2)\n\nPackage: other\n"),
        index("Translation-en", INDEX.format(lang="en", **ENGLISH), "en"),
        index("Translation-de", INDEX.format(lang="de", **GERMAN), "de"),
    ]
    rows = list(READERS["descriptions"](archives))
    assert {row.group for row in rows} == {"deb:toolbox"}
    assert [row.summary for row in rows if isinstance(row, Summary)] == [ENGLISH["synopsis"], GERMAN["synopsis"]]
    assert all(ENGLISH["synopsis"] not in row.text for row in rows if isinstance(row, Document))
    untranslated = index("Translation-de", INDEX.format(lang="de", **{**GERMAN, "synopsis": ENGLISH["synopsis"]}), "de")
    assert {row.lang for row in READERS["descriptions"]([*archives[:2], untranslated]) if isinstance(row, Summary)} == {
        "en"
    }


@pytest.mark.parametrize(
    ("src", "tgt"),
    [
        ("Open the old file", "Open the old file"),
        ("Open file", "Datei öffnen"),
        ("Could not open the file %s", "Die Datei %s konnte nicht geöffnet werden"),
        ("Use {name} in the text", "Verwenden Sie {name} im Text"),
        ("See https://example.org for more", "Siehe https://example.org für mehr"),
        ("The file has 25 lines now", "Die Datei hat jetzt 52 Zeilen"),
        ("The file is not there", "The file is not in that folder"),
        ("The file is not there", "Nein"),
        ("Pass the option --force to it", "Übergeben Sie die Option --force"),
        ("1 2 3 4 5 6 7", "1 2 3 4 5 6 7 8"),
        ("The file is not there", "Файл не найден здесь"),
    ],
)
def test_bad_pairs(src: str, tgt: str) -> None:
    assert not good_pair(src, tgt, "en-de")


def test_good_pairs() -> None:
    assert good_pair("Open the old file.", "Öffnen Sie die alte Datei.", "en-de")
    assert good_pair("The file has 25 lines.", "Die Datei hat 25 Zeilen.", "en-de")


def test_language_and_prose() -> None:
    assert right_language("Das ist ein Satz und er ist auf Deutsch.", "de")
    assert not right_language("This is a sentence and it is in English.", "de")
    assert not right_language("Das ist ein Satz und er ist auf Deutsch.", "en")
    assert good_paragraph("Das ist ein Satz und er ist auf Deutsch.", "de")
    assert not good_paragraph("Zu kurz für uns.", "de")
    assert not good_paragraph("Schreiben Sie bitte an jemand@example.org und an sie.", "de")
    assert not good_paragraph("", "de")


def test_accelerators() -> None:
    assert no_accelerator("_File") == "File"
    assert no_accelerator("Save &As") == "Save As"
    assert no_accelerator("a_b_c") == "a_b_c"
    assert no_accelerator("R & D") == "R & D"


@given(st.lists(st.sampled_from(["One is here.", "See e.g. Two!", "Is it 3. Maybe?", "Dr. Who came."]), max_size=6))
def test_sentences_lose_nothing(parts: list[str]) -> None:
    text = " ".join(parts)
    assert " ".join(sentences(text)) == text
    assert len(sentences(text)) == len(parts)


def test_sentence_pairs_split_only_where_counts_agree() -> None:
    assert list(sentence_pairs("One is here. Two is there.", "Eins ist hier. Zwei ist dort.")) == [
        ("One is here.", "Eins ist hier."),
        ("Two is there.", "Zwei ist dort."),
    ]
    whole = ("One is here. Two is there.", "Eins ist hier und zwei ist dort.")
    assert list(sentence_pairs(*whole)) == [whole]


@given(st.text())
def test_plain_and_normal_are_idempotent_on_text(text: str) -> None:
    assert normal(normal(text)) == normal(text)
    once = plain(text.replace("<", "").replace("&", ""))
    assert plain(once) == once
