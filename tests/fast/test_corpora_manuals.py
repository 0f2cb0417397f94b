"""Readers of manuals in several languages: folders, DocBook, Mallard, reStructuredText, and catalogues of many."""

from __future__ import annotations

from pathlib import Path

import polib
import pytest
from test_corpora_readers import opened

from finescale.lab.corpora.readers import READERS, descriptions, man, markup, rst
from finescale.lab.corpora.rows import Document, Summary

PAGE = """.. SPDX-License-Identifier: GPL-2.0

.. include:: ../disclaimer-zh_CN.rst

:Original: Documentation/made.rst
:Translator: somebody

=======
Heading
=======

The first paragraph names ``code``, *stress*, **weight**,
:ref:`a place <target>` and `a link <https://example.org>`_::

    not running text

    nor this

Another paragraph, with :c:func:`printk` in it.

- an item
  that is wrapped
- the next item

.. code-block:: c

    int x;

+------+------+
| cell | cell |
+------+------+

The last paragraph.
"""


def test_restructured_text_becomes_paragraphs() -> None:
    assert rst.paragraphs_of(PAGE) == [
        "Heading",
        "The first paragraph names code, stress, weight, a place and a link",
        "Another paragraph, with printk in it.",
        "an item that is wrapped",
        "the next item",
        "The last paragraph.",
    ]


def test_wrapped_chinese_is_joined_without_spaces() -> None:
    assert rst.paragraphs_of("第一段文字，\n接着上一行。\n") == ["第一段文字，接着上一行。"]
    assert man.paragraphs_of(".TH A 1\n.SH 名称\n列出文件，\n以及 ls 文件夹。\n") == ["列出文件，以及 ls 文件夹。"]


@pytest.mark.parametrize("empty", ["", "\n\n", "..\n", "::\n\n  code"])
def test_pages_without_text(empty: str) -> None:
    assert [text for text in rst.paragraphs_of(empty) if text] == []
    assert markup.paragraphs_of("") == []


def test_mallard_and_docbook_become_paragraphs() -> None:
    mallard = """<page xmlns="http://projectmallard.org/1.0/" type="topic" id="a"><info><credit type="author">
      <name>Somebody</name></credit><desc>What it is about.</desc></info><title>A title</title>
      <p>Press <gui>Save</gui> or <link xref="b"/><keyseq><key>Ctrl</key><key>S</key></keyseq>.</p>
      <steps><item><p>The first step.</p></item></steps><screen>ls -l</screen></page>"""
    assert markup.paragraphs_of(mallard) == [
        "What it is about.",
        "A title",
        "Press Save or CtrlS.",
        "The first step.",
    ]
    docbook = """<article><articleinfo><legalnotice><para>All rights.</para></legalnotice></articleinfo>
      <sect1 id="x"><title>Start</title><para>Text with <emphasis>stress</emphasis>.</para>
      <programlisting>x = 1</programlisting><variablelist><varlistentry><term>Word</term><listitem><simpara>What it
      means.</simpara></listitem></varlistentry></variablelist></sect1></article>"""
    assert markup.paragraphs_of(docbook) == ["Start", "Text with stress.", "Word", "What it means."]


def test_manuals_in_several_languages_go_by_their_folder(tmp_path: Path) -> None:
    files = {
        f"usr/share/help/{folder}/made/a.page": f"<page><p>Text in {folder}.</p></page>".encode()
        for folder in ("C", "de", "zh_CN")
    }
    archive = opened(tmp_path, "html", "en de zh", files)
    assert [(one.lang, one.text) for one in READERS["html"]([archive]) if isinstance(one, Document)] == [
        ("en", "Text in C."),
        ("de", "Text in de."),
        ("zh", "Text in zh_CN."),
    ]
    pages = {
        "Documentation/a.rst": b"English text.",
        "Documentation/translations/zh_CN/a.rst": "中文".encode(),
    }
    kernel = opened(tmp_path, "rst", "en zh", pages)
    found = [one for one in READERS["rst"]([kernel]) if isinstance(one, Document)]
    assert {one.lang: one.text for one in found} == {"en": "English text.", "zh": "中文"}


def test_a_manual_page_in_chinese_is_in_its_own_folder(tmp_path: Path) -> None:
    page = ".TH A 1\n.SH 名称\n列出文件\n".encode()
    files = {"usr/share/man/zh_CN/man1/ls.1": page, "usr/share/man/zh_TW/man1/ls.1": page}
    archive = opened(tmp_path, "man", "zh", files)
    assert list(READERS["man"]([archive])) == [Document("zh", "列出文件", "man-pages", "man:ls.1")]


def test_one_catalogue_package_gives_pairs_with_every_language(tmp_path: Path) -> None:
    def catalogue(translation: str) -> bytes:
        made = polib.MOFile()
        made.metadata = {"Content-Type": "text/plain; charset=utf-8"}
        made.append(polib.POEntry(msgid="_Open the old file", msgstr=translation))
        return bytes(made.to_binary())

    said = {"de": "Die alte Datei ö_ffnen", "zh_CN": "打开旧文件(_O)", "pt_BR": "_Abrir o arquivo antigo", "ro": "nu"}
    files = {f"usr/share/locale/{name}/LC_MESSAGES/made.mo": catalogue(text) for name, text in said.items()}
    archive = opened(tmp_path, "gettext", "en de zh pt", files)
    pairs = [row for row in READERS["gettext"]([archive]) if not isinstance(row, Document | Summary)]
    assert {(pair.langs, pair.tgt) for pair in pairs} == {
        ("en-de", "Die alte Datei öffnen"),
        ("en-zh", "打开旧文件"),
        ("en-pt", "Abrir o arquivo antigo"),
    }
    assert {pair.group for pair in pairs} == {"mo:open the old file"}


def test_a_chinese_description_is_long_enough_by_its_characters() -> None:
    text = "这是一个图形界面配置工具，\n 用于帮助系统管理员选择哪些程序需要设置默认命令，并且可以随时修改。"
    index = f"Package: a\nDescription-md5: 1\nDescription-zh_CN: 图形界面配置工具\n {text}\n"
    (found,) = descriptions.descriptions(index)
    assert found.paragraphs == (text.replace("\n ", ""),)
    rows = list(descriptions._rows("zh", [found], {}, {}))
    assert [type(row) for row in rows] == [Document, Summary]
    empty = descriptions.descriptions(index.replace("图形界面配置工具\n", "过渡软件包以供升级\n"))
    assert [type(row) for row in descriptions._rows("zh", empty, {}, {})] == [Document]
