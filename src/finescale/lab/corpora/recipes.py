"""The table of recipes: which package is read how, and for what. A new tier is more rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from finescale.core import fingerprint
from finescale.lab.corpora.languages import folders
from finescale.lab.corpora.published import DEBIAN, WHEELS, published

Kind = Literal["deb", "index", "wheel"]
Pool = Literal["pairs", "summaries", "documents"]

RULES = 4
"""Version of the cleaning and splitting rules: raise it whenever they change what is written.

Rules 4 part dev from test, as train was parted from both before; the starter tier stays as it was under rules 3.
"""


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
    """How one tier is made from one source: ``apt`` or ``wheels``. ``suite`` is the Debian release.

    Translation pairs are written from the first of ``languages`` into each of ``targets``; what is read in other
    languages is kept where it is held out.
    """

    tier: str
    source: str
    languages: tuple[str, ...]
    suite: str
    note: str
    artefacts: tuple[Artefact, ...]
    targets: tuple[str, ...] = ("de",)
    rules: int = RULES

    @property
    def directions(self) -> tuple[str, ...]:
        """Directions that pairs are written for, as ``en-de``."""
        return tuple(f"{self.languages[0]}-{target}" for target in self.targets)

    @property
    def parts_dev(self) -> bool:
        """Whether dev rows that are close to test rows are dropped."""
        return self.rules > 3

    def fingerprint(self) -> str:
        """Identity of what this recipe would write: the table and the version of the rules."""
        table = asdict(self)
        rules = table.pop("rules")
        if rules == 3:  # as written before there were targets
            del table["targets"]
        return fingerprint({"recipe": table, "rules": rules})


_PUBLISHED = {"deb": published(DEBIAN), "index": published(DEBIAN), "wheel": published(WHEELS)}


def _row(name: str, kind: Kind, licence: str, reader: str, pools: str, languages: str, only: str = "") -> Artefact:
    version, sha256 = _PUBLISHED[kind][name]
    uses: list[Pool] = [pool for pool in ("pairs", "summaries", "documents") if pool in pools.split()]
    return Artefact(name, kind, licence, reader, tuple(uses), tuple(languages.split()), only, version, sha256)


MAN = "GPL-2+ and others, by page"
OWN = "each package's own"
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
    rules=3,
)


def _debs(licence: str, reader: str, pools: str, languages: str, names: str, only: str = "") -> tuple[Artefact, ...]:
    return tuple(_row(name, "deb", licence, reader, pools, languages, only) for name in names.split())


def _help(**packages: str) -> tuple[Artefact, ...]:
    return tuple(
        _row(f"libreoffice-help-{name}", "deb", "MPL-2.0", "libreoffice", "pairs", lang)
        for lang, name in packages.items()
    )


def _indexes(**names: str) -> tuple[Artefact, ...]:
    packages = _row("Packages", "index", "none stated", "descriptions", "", "")
    return packages, *(
        _row(f"Translation-{name}", "index", OWN, "descriptions", "summaries documents", lang)
        for lang, name in names.items()
    )


def _inside(languages: str) -> str:
    """Members below a folder of one of the languages."""
    return f"/(?:{'|'.join(name for lang in languages.split() for name in folders(lang))})/"


SPOKEN = "en de zh fr es it pl"
CORE_HELP = _help(en="en-us", de="de", zh="zh-cn", fr="fr", es="es", it="it", pl="pl")
CORE_INDEXES = _indexes(
    en="en", de="de", fr="fr", es="es", it="it", zh="zh_CN", pt="pt_BR", pl="pl", ru="ru", ja="ja", sk="sk", ko="ko",
    uk="uk", cs="cs",
)  # fmt: skip
CORE_DOCUMENTS = (
    *_debs(MAN, "man", "documents", "en", "manpages manpages-dev"),
    *_debs("GPL-3+", "man", "documents", "de", "manpages-de manpages-de-dev"),
    *_debs("GPL-3+", "man", "documents", "es", "manpages-es manpages-es-dev"),
    *_debs("GFDL-1.2+ and GPL", "man", "documents", "zh", "manpages-zh"),
    *_debs("public domain", "jargon", "documents", "en", "jargon-text"),
    *_debs("GPL-2+", "quotations", "documents", "de", "fortunes-de", r"/fortunes/de/[^/]+(?<!\.u8)$"),
    *_debs("GPL-2+", "quotations", "documents", "zh", "fortunes-zh", r"/fortunes/[^/.]+$"),
    *_debs("copyleft, own text", "html", "documents", "en", "debian-faq", r"/FAQ/[^/]+$"),
    *_debs("copyleft, own text", "html", "documents", "de", "debian-faq-de", "/FAQ/de/"),
    *_debs("copyleft, own text", "html", "documents", "zh", "debian-faq-zh-cn", "/FAQ/zh-cn/"),
    *_debs("GPL-2+", "html", "documents", "en", "debian-reference-en"),
    *_debs("GPL-2+", "html", "documents", "de", "debian-reference-de"),
    *_debs("GPL-2+", "html", "documents", "zh", "debian-reference-zh-cn"),
)


def _in(languages: str, artefacts: tuple[Artefact, ...]) -> tuple[Artefact, ...]:
    """Those of the artefacts that are in these languages alone."""
    return tuple(artefact for artefact in artefacts if set(artefact.languages) <= set(languages.split()))


NOTE = (
    "From Debian packages, read in place; nothing was installed. Texts of the summarisation train split are also "
    "pretraining text; their summaries are not."
)
STARTER_APT = Recipe(
    tier="starter",
    source="apt",
    languages=("en", "de"),
    suite="bookworm",
    note=NOTE,
    artefacts=(
        *_in("en de", CORE_HELP),
        *_debs("GPL-3+", "gettext", "pairs", "en de", "gcc-12-locales claws-mail-i18n"),
        *_in("en de", CORE_DOCUMENTS),
        *_in("en de", CORE_INDEXES),
    ),
    rules=3,
)
CORE_APT = Recipe(
    tier="core",
    source="apt",
    languages=tuple(f"{SPOKEN} pt ru ja sk ko uk cs".split()),
    suite="bookworm",
    note=NOTE,
    artefacts=(
        *CORE_HELP,
        *_debs("GPL-3+", "gettext", "pairs", SPOKEN, "gcc-12-locales claws-mail-i18n"),
        *_debs("LGPL-2.1+", "gettext", "pairs", SPOKEN, "libvirt-l10n"),
        *_debs("GPL-2+", "gettext", "pairs", SPOKEN, "krita-l10n filezilla-common gnumeric-common"),
        *CORE_DOCUMENTS,
        *CORE_INDEXES,
    ),
    targets=("de", "zh"),
)
STANDARD_SPOKEN = f"{SPOKEN} ru pt ja ko nl tr"
MANUALS = "en de zh fr es it"
STANDARD_CATALOGUES = (
    *_debs("CC-BY-SA-3.0", "gettext", "pairs", STANDARD_SPOKEN, "cataclysm-dda-data"),
    *_debs(
        "GPL-2+ and others, by file",
        "gettext",
        "pairs",
        STANDARD_SPOKEN,
        "claws-mail-i18n krita-l10n filezilla-common gnumeric-common git gnucash-common kile-l10n k3b-i18n gramps"
        " vlc-l10n cinnamon-l10n pidgin-data konversation-data audacity-data wesnoth-1.16-utbs wesnoth-1.16-httt"
        " wesnoth-1.16-nr wesnoth-1.16-did wesnoth-1.16-tsg wesnoth-1.16-dm",
    ),
    *_debs("GPL-3+", "gettext", "pairs", STANDARD_SPOKEN, "gcc-12-locales darktable gnupg-l10n"),
    *_debs(
        "LGPL-2.1+ and others, by file",
        "gettext",
        "pairs",
        STANDARD_SPOKEN,
        "libvirt-l10n libgtk-3-common evolution-common util-linux-locales minetest-data",
    ),
    *_debs("Apache-2.0", "gettext", "pairs", STANDARD_SPOKEN, "subversion"),
)
STANDARD_DOCUMENTS = (
    *CORE_DOCUMENTS,
    *_debs("LGPL-2.1+ and GPL-2+", "man", "documents", "en", "systemd util-linux libsane-common"),
    *_debs("GPL-3+", "man", "documents", "en", "coreutils"),
    *_debs("GPL-2", "rst", "documents", "en zh", "linux-doc-6.1", r"/Documentation/(?!translations/(?!zh_CN/))"),
    *_debs("PSF-2", "html", "documents", "en", "python3.11-doc"),
    *_debs("GPL-2", "html", "documents", "en", "anarchism", "/html/sec"),
    *_debs("CC-BY-SA-3.0", "html", "documents", MANUALS, "gnome-user-docs evince-common", _inside(MANUALS)),
    *_debs("GPL-2+ or CC-BY-SA-3.0", "html", "documents", MANUALS, "debian-handbook", _inside(MANUALS)),
    *_debs("GFDL-1.1+", "html", "documents", MANUALS, "mate-user-guide", _inside(MANUALS)),
    *_debs("GPL-2+", "html", "documents", MANUALS, "installation-guide-amd64 harden-doc mplayer-doc", _inside(MANUALS)),
    *_debs("GPL-3+", "html", "documents", MANUALS, "aisleriot", _inside(MANUALS)),
    *_debs("Apache-2.0", "html", "documents", MANUALS, "apache2-doc", _inside(MANUALS)),
    *_debs("GPL-2+", "html", "documents", "de", "developers-reference-de maint-guide-de"),
    *_debs("GPL-2+", "html", "documents", "zh", "maint-guide-zh-cn"),
    *_debs("GFDL-1.3+", "html", "documents", "de", "lilypond-doc-html-de", r"(?<!big-page)\.de\.html$"),
    *_debs("GFDL-1.3+", "html", "documents", "zh", "lilypond-doc-html-zh", r"(?<!big-page)\.zh\.html$"),
)
STANDARD_APT = Recipe(
    tier="standard",
    source="apt",
    languages=tuple(f"{STANDARD_SPOKEN} da sk uk cs".split()),
    suite="bookworm",
    note=NOTE,
    artefacts=(
        *CORE_HELP,
        *_help(ru="ru", pt="pt-br", ja="ja", ko="ko", nl="nl", tr="tr"),
        *STANDARD_CATALOGUES,
        *STANDARD_DOCUMENTS,
        *CORE_INDEXES,
        _row("Translation-da", "index", OWN, "descriptions", "summaries documents", "da"),
    ),
    targets=("de", "zh"),
)
RECIPES: tuple[Recipe, ...] = (STARTER_APT, STARTER_WHEELS, CORE_APT, STANDARD_APT)
