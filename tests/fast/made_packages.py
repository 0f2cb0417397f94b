"""Debian packages, wheels and an apt archive made on the spot, so that fetching is tested with the real tools."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import random
import tarfile
import zipfile
from pathlib import Path

from finescale.core import sha256_of
from finescale.lab.corpora.recipes import Artefact, Kind, Pool, Recipe

SYLLABLES = ("ba", "do", "fe", "gu", "hi", "ka", "lo", "mu", "ne", "po", "ri", "su")
HAN = dict(zip(SYLLABLES, "天地玄黄宇宙洪荒日月星辰", strict=True))
OPENING = {"en": "The", "de": "Der", "fr": "Le", "zh": "这"}
"""How every sentence of a language begins, so that it can be told."""
DEBIAN_NAME = {"zh": "zh_CN"}
RELEASE = "Made 1.0 bookworm"


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar whose members have the leading ``./`` that Debian's have."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def write_deb(path: Path, control: str, files: dict[str, bytes], compression: str = "xz") -> Path:
    """A binary package after deb(5): an ar archive of debian-binary, control.tar and data.tar."""
    pack = {"xz": lzma.compress, "gz": gzip.compress, "": bytes}[compression]
    suffix = f".{compression}" if compression else ""
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar{suffix}": pack(tar_of({"control": control.encode()})),
        f"data.tar{suffix}": pack(tar_of(files)),
    }
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path


def write_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """A wheel that pip can download: the files and the least of metadata."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        meta = {f"{info}/METADATA": metadata, f"{info}/WHEEL": tags, f"{info}/RECORD": ""}
        for member, content in {**files, **{key: value.encode() for key, value in meta.items()}}.items():
            wheel.writestr(zipfile.ZipInfo(member), content)
    return path


def sentence(rng: random.Random, lang: str, length: int = 9) -> str:
    """Made-up words after a function word; two of them practically never look alike.

    In Chinese a syllable is a character, there are half as many, and no spaces.
    """
    words = [[rng.choice(SYLLABLES) for _ in range(3)] for _ in range(length)]
    if lang == "zh":
        return f"{OPENING[lang]}{''.join(HAN[syllable] for word in words for syllable in word[:2])}。"
    return f"{OPENING[lang]} {' '.join(map(''.join, words))}."


def help_pages(lang: str, pages: int = 120) -> dict[str, bytes]:
    """LibreOffice help in one language: the same ids and the same seed in every language."""
    rng = random.Random(1)
    out = {}
    for page in range(pages):
        paragraphs = "".join(f'<p id="par_id{page}{i}" class="paragraph">{sentence(rng, lang)}</p>' for i in range(5))
        body = f'<html><div id="DisplayArea">{paragraphs}</div><div id="SearchFrame"></div></html>'
        out[f"usr/share/libreoffice/help/{lang}/text/page{page}.html"] = body.encode()
    return out


def man_pages(lang: str, pages: int = 10) -> dict[str, bytes]:
    """Manual pages with three paragraphs each."""
    rng = random.Random(lang)
    folder = "usr/share/man/man1" if lang == "en" else f"usr/share/man/{DEBIAN_NAME.get(lang, lang)}/man1"
    out = {}
    for page in range(pages):
        text = "\n.PP\n".join(sentence(rng, lang, 20) for _ in range(3))
        out[f"{folder}/page{page}.1.gz"] = gzip.compress(f".TH PAGE 1\n.SH NAME\n{text}\n".encode(), mtime=0)
    return out


def translation_index(lang: str, packages: int = 60) -> str:
    """Package descriptions; package ``tool7`` belongs to source ``tool7-src``."""
    rng = random.Random(lang)
    stanzas = []
    for i in range(packages):
        key = hashlib.md5(str(i).encode()).hexdigest()
        synopsis, text = sentence(rng, lang, 4), sentence(rng, lang, 25)
        name = DEBIAN_NAME.get(lang, lang)
        stanzas.append(f"Package: tool{i}\nDescription-md5: {key}\nDescription-{name}: {synopsis}\n {text}\n")
    return "\n".join(stanzas)


def write_archive(folder: Path, languages: tuple[str, ...] = ("en", "de")) -> Recipe:
    """An apt archive under ``folder`` and the recipe that fits it: pairs into German, and Chinese if it is there."""
    pool, main = folder / "pool", folder / "dists/bookworm/main"
    for needed in (pool, main / "binary-amd64", main / "i18n"):
        needed.mkdir(parents=True)
    contents = {f"made-{kind}-{lang}": make(lang) for kind, make in MADE.items() for lang in languages}
    index, artefacts = [], []
    for name, files in contents.items():
        control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody\nDescription: made\n"
        path = write_deb(pool / f"{name}_1.0_all.deb", control, files)
        size = path.stat().st_size
        place = f"Filename: pool/{path.name}\nSize: {size}\nSHA256: {sha256_of(path)}\n"
        index.append(f"{control}{place}")
        reader, use = ("libreoffice", "pairs") if "help" in name else ("man", "documents")
        artefacts.append(artefact(name, "deb", reader, (use,), (name[-2:],), "1.0", sha256_of(path)))
    index += [f"Package: tool{i}\nSource: tool{i}-src\nVersion: 1\nArchitecture: all\n" for i in range(60)]
    indexes = {"binary-amd64/Packages": "\n".join(index)}
    indexes |= {f"i18n/Translation-{DEBIAN_NAME.get(lang, lang)}": translation_index(lang) for lang in languages}
    lines = []
    for name, text in indexes.items():
        path = main / name
        path.write_text(text)
        lines.append(f" {sha256_of(path)} {path.stat().st_size} main/{name}")
        pools: tuple[Pool, ...] = ("summaries", "documents") if "Translation" in name else ()
        langs = (name.rpartition("-")[2].partition("_")[0],) if pools else ()
        artefacts.append(artefact(path.name, "index", "descriptions", pools, langs, RELEASE, sha256_of(path)))
    head = "Origin: Made\nVersion: 1.0\nCodename: bookworm\nSuite: bookworm\nArchitectures: amd64\nComponents: main\n"
    text = f"{head}Date: Sun, 01 Nov 2026 00:00:00 UTC\nSHA256:\n" + "\n".join(lines) + "\n"
    (folder / "dists/bookworm/Release").write_text(text)
    targets = tuple(lang for lang in ("de", "zh") if lang in languages)
    return Recipe("starter", "apt", languages, "bookworm", "Made for a test.", tuple(artefacts), targets)


def write_wheels(folder: Path) -> Recipe:
    """Two wheels under ``folder`` and the recipe that fits them."""
    rng = random.Random(2)
    strings: dict[str, dict[str, str]] = {"en": {}, "de": {}}
    for i in range(600):
        strings["en"][f"key{i}"], strings["de"][f"key{i}"] = sentence(rng, "en"), sentence(rng, "de")
    files = {f"home/translations/{lang}.json": json.dumps(table).encode() for lang, table in strings.items()}
    pairs = write_wheel(folder, "madestrings", "1.0", files)
    both = {**man_pages("en"), **man_pages("de")}
    texts = {lang: {name: both[name] for name in both if ("/de/" in name) == (lang == "de")} for lang in ("en", "de")}
    wheels = {lang: write_wheel(folder, f"madetexts{lang}", "1.0", texts[lang]) for lang in texts}
    rows = [artefact("madestrings", "wheel", "json", ("pairs",), ("en", "de"), "1.0", sha256_of(pairs))]
    rows += [
        artefact(f"madetexts{lang}", "wheel", "man", ("documents",), (lang,), "1.0", sha256_of(path))
        for lang, path in wheels.items()
    ]
    return Recipe("starter", "wheels", ("en", "de"), "", "Made for a test, from wheels.", tuple(rows))


def artefact(
    name: str, kind: Kind, reader: str, pools: tuple[Pool, ...], languages: tuple[str, ...], version: str, sha256: str
) -> Artefact:
    """A row of a recipe without a licence worth speaking of."""
    return Artefact(name, kind, "CC0-1.0", reader, pools, languages, "", version, sha256)


MADE = {"help": help_pages, "man": man_pages}
