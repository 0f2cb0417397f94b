"""The table of recipes: which package is read how, and for what. A new tier is more rows.

Versions and digests are those found in Debian 12.15 (bookworm) and on the Python package index in November 2026.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from finescale.core import fingerprint

Kind = Literal["deb", "index", "wheel"]
Pool = Literal["pairs", "summaries", "documents"]

RULES = 3
"""Version of the cleaning and splitting rules: raise it whenever they change what is written."""

PUBLISHED = """
libreoffice-help-en-us 4:7.4.7-1+deb12u14 8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712
libreoffice-help-de 4:7.4.7-1+deb12u14 00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f
gcc-12-locales 12.2.0-14+deb12u1 a701516b5e34086f478b0a329dfd9dd8e1695e8bac5917a6b162a87719abe28f
claws-mail-i18n 4.1.1-2 b00c313c90165e35ec55f61ab5e500ea13563430b7495c89dce3fd47da0d83b9
manpages 6.03-2 efa1ba4cd19ad7baeae959c9209a7eb74be2ebb858bcabb412597bfc9f588c91
manpages-dev 6.03-2 96f55cb5e26231d5567c89b692bced63825a14a2d5bd18fdf16ea2ed44eb9838
manpages-de 4.18.1-1 37d2e7ee51f22952aecec3af93647ff59194a3c74bb7a694560f49c7f7ab3978
manpages-de-dev 4.18.1-1 cb3d7c10977dd3c811065d89e0d912196ec5e6f2551308edb0ba72e02da838d7
fortunes-de 0.35-1 03fe7a7912935bd3d4e02e38d79ef32a289097f8718d4488c409595abce067a0
jargon-text 4.4.7-4.1 17d05997e30eb3d5d6713929b8e2f81b63a5f50073858ad2a06701c71f54dcdb
debian-faq 11.1 427426e0cfa6888622fc1d72631071cb4b5a1f86ccde722e7820bcef284de5d0
debian-faq-de 11.1 e9a8d8234f4b182660d521f80f50cea87f797b4541005a3d64fab7777766f6de
debian-reference-en 2.100 9f31d3a17df505de09689ca255512ea58c1fc47c59bb1b0c7bf1c23362e9743f
debian-reference-de 2.100 3b0ce65fd63e75ddf8eb07ca36293425135080e690a07e06a6ac8bc8040ef0aa
Packages Debian 12.15 bookworm 515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f
Translation-en Debian 12.15 bookworm 62f59c3cdca9786e4f7adf9002f9f5729a684adcb4667e58e448dec9b5a46c7f
Translation-de Debian 12.15 bookworm adac331fc51f9a00c1b4120b4ac87423be2b1f1615d4f288c7cbc2d5258c0650
homeassistant 2024.3.3 6e1ec2c07441d63fdcfb8acd2c4bbb6f68bc97330855784d3623d10c38fe3577
gramps 6.0.8 56f03bcb643320eb9f9892d4c3f8bbe7c4c4d2e4c71e56f598584af24561ec1c
pretix 2026.8.0 a78932e698778d873530d67f25a57c28d1c09b1bfb1a22ec817c00d90397db85
"""
"""Name, version and SHA-256 of each artefact: over the file as published, for an index over its uncompressed text."""


@dataclass(frozen=True)
class Artefact:
    """One file to fetch.

    ``kind`` decides how it is fetched and opened, ``reader`` how it is read, ``pools`` what its text is used for (none:
    only to group the others); ``only`` is a regular expression that the paths of its members must match.
    """

    name: str
    kind: Kind
    licence: str
    reader: str
    pools: tuple[Pool, ...]
    languages: tuple[str, ...]
    only: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Recipe:
    """How one tier is made from one source : ``apt`` or ``wheels``. ``suite`` is the Debian release."""

    tier: str
    source: str
    languages: tuple[str, ...]
    suite: str
    note: str
    artefacts: tuple[Artefact, ...]

    def fingerprint(self) -> str:
        """Identity of what this recipe would write: the table and the version of the rules."""
        return fingerprint({"recipe": asdict(self), "rules": RULES})


def _published() -> dict[str, tuple[str, str]]:
    rows = (line.split() for line in PUBLISHED.strip().splitlines())
    return {name: (" ".join(version), digest) for name, *version, digest in rows}


def _row(name: str, kind: Kind, licence: str, reader: str, pools: str, languages: str, only: str = "") -> Artefact:
    version, sha256 = _published()[name]
    uses: list[Pool] = [pool for pool in ("pairs", "summaries", "documents") if pool in pools.split()]
    return Artefact(name, kind, licence, reader, tuple(uses), tuple(languages.split()), only, version, sha256)


MAN = "GPL-2+ and others, by page"
OWN = "each package's own"
STARTER_APT = Recipe(
    tier="starter",
    source="apt",
    languages=("en", "de"),
    suite="bookworm",
    note="From Debian packages, read in place; nothing was installed. Texts of the summarisation train split are also "
    "pretraining text; their summaries are not.",
    artefacts=(
        _row("libreoffice-help-en-us", "deb", "MPL-2.0", "libreoffice", "pairs", "en"),
        _row("libreoffice-help-de", "deb", "MPL-2.0", "libreoffice", "pairs", "de"),
        _row("gcc-12-locales", "deb", "GPL-3+", "gettext", "pairs", "en de"),
        _row("claws-mail-i18n", "deb", "GPL-3+", "gettext", "pairs", "en de"),
        _row("manpages", "deb", MAN, "man", "documents", "en"),
        _row("manpages-dev", "deb", MAN, "man", "documents", "en"),
        _row("manpages-de", "deb", "GPL-3+", "man", "documents", "de"),
        _row("manpages-de-dev", "deb", "GPL-3+", "man", "documents", "de"),
        _row("jargon-text", "deb", "public domain", "jargon", "documents", "en"),
        _row("fortunes-de", "deb", "GPL-2+", "quotations", "documents", "de", only=r"/fortunes/de/[^/]+(?<!\.u8)$"),
        _row("debian-faq", "deb", "copyleft, own text", "html", "documents", "en", only=r"/FAQ/[^/]+$"),
        _row("debian-faq-de", "deb", "copyleft, own text", "html", "documents", "de", only="/FAQ/de/"),
        _row("debian-reference-en", "deb", "GPL-2+", "html", "documents", "en"),
        _row("debian-reference-de", "deb", "GPL-2+", "html", "documents", "de"),
        _row("Packages", "index", "none stated", "descriptions", "", ""),
        _row("Translation-en", "index", OWN, "descriptions", "summaries documents", "en"),
        _row("Translation-de", "index", OWN, "descriptions", "summaries documents", "de"),
    ),
)
STARTER_WHEELS = Recipe(
    tier="starter",
    source="wheels",
    languages=("en", "de"),
    suite="",
    note="From wheels that pip downloads: a small stand-in for the Debian packages. It has no summaries, and its "
    "pretraining text is the user-interface strings of one program, some hundred kilobytes a language.",
    artefacts=(
        _row("homeassistant", "wheel", "Apache-2.0", "json", "pairs", "en de"),
        _row("gramps", "wheel", "GPL-2+", "gettext", "pairs", "en de"),
        _row("pretix", "wheel", "AGPL-3 with additional terms", "gettext-sides", "documents", "en de"),
    ),
)
RECIPES: tuple[Recipe, ...] = (STARTER_APT, STARTER_WHEELS)
