"""Fetching Debian packages and apt's indexes with the machine's own ``apt-get``, unprivileged and without installing.

A private apt state directory is used. Mirror, keys, proxy and the like are the machine's own; only the list of
languages is ours, because images for containers often set it to "none".
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from urllib.parse import unquote

from finescale.core import sha256_of
from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.fetched import Fetched, UnreachableError
from finescale.lab.corpora.recipes import Artefact, Recipe

APT_FOLDER = Path("/etc/apt")
ARCHITECTURE = "amd64"
"""Which Packages index to ask for, so that every machine gets the same one."""
OTHER_SUITE = re.compile(r"-(?:security|updates|backports|proposed)\b|/")
KEPT_OPTIONS = ("signed-by", "trusted")
TIME_LIMIT = 3600.0
"""Seconds after which apt-get is given up; stalled connections it gives up itself, much sooner."""


@dataclass(frozen=True)
class Source:
    """One archive in the machine's apt sources; ``options`` are those that say how it is trusted."""

    uri: str
    suite: str
    components: tuple[str, ...]
    options: tuple[str, ...] = ()


def machine_sources(folder: Path | None = None) -> list[Source]:
    """Archives with a ``main`` component in the one-line and deb822 sources of ``folder`` (default ``/etc/apt``).

    Components of equal archive and suite are joined; updates, backports and the like are left out.
    """
    folder = folder or APT_FOLDER
    joined: dict[tuple[str, str], Source] = {}
    for file in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if file.is_file() and file.suffix in {".list", ".sources"}:
            text = file.read_text(encoding="utf-8", errors="replace")
            for one in _deb822(text) if file.suffix == ".sources" else _one_line(text):
                before = joined.get((one.uri, one.suite))
                components = tuple(dict.fromkeys((*(before.components if before else ()), *one.components)))
                joined[one.uri, one.suite] = Source(one.uri, one.suite, components, one.options)
    return [one for one in joined.values() if "main" in one.components and not OTHER_SUITE.search(one.suite)]


def _one_line(text: str) -> list[Source]:
    out = []
    for options, uri, suite, components in re.findall(r"^deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)[ \t]+(.+)$", text, re.M):
        kept = tuple(option for option in options.split() if option.partition("=")[0] in KEPT_OPTIONS)
        out.append(Source(uri, suite, tuple(components.partition("#")[0].split()), kept))
    return out


def _deb822(text: str) -> list[Source]:
    out = []
    for stanza in re.split(r"\n\s*\n", re.sub(r"^#.*\n?", "", text, flags=re.M)):
        fields = {name.lower(): value.strip() for name, value in re.findall(r"^([\w-]+):(.*(?:\n .*)*)", stanza, re.M)}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in {"no", "false", "0"}:
            continue
        # A key written into the stanza itself (many lines) has no one-line form; apt's own key rings are tried then.
        kept = [f"{name}={fields[name]}" for name in KEPT_OPTIONS if name in fields and " " not in fields[name]]
        components = tuple(fields.get("components", "").split())
        places = product(fields.get("uris", "").split(), fields.get("suites", "").split())
        out += [Source(uri, suite, components, tuple(kept)) for uri, suite in places]
    return out


def fetch(recipe: Recipe, folder: Path) -> Fetched:
    """Download the recipe's artefacts into ``folder``.

    The recipe's own suite is asked for first; where the machine's mirrors have no such suite, the machine's own suite
    is taken (and the other versions are reported).

    Raises:
        UnreachableError: there is no apt-get, or no archive in the sources has the packages.
    """
    if shutil.which("apt-get") is None:
        raise UnreachableError("there is no apt-get here")
    sources = machine_sources()
    choices = [(source, recipe.suite, ARCHITECTURE) for source in sources]
    choices += [(source, source.suite, "") for source in sources if source.suite != recipe.suite]
    said = []
    for source, suite, architecture in choices:
        apt = _PrivateApt(folder / "apt", source, suite, architecture, _indexes(recipe.artefacts))
        problem = apt.update()
        if problem is None:
            got = apt.download(recipe.artefacts, folder)
            if any(found.archive.artefact.kind == "deb" for found in got.found):
                return got
            problem = next(iter(got.missing.values()), "no packages")
        said.append(f"{suite}: {problem}")
    raise UnreachableError("; ".join(said) or f"no archive in the sources under {APT_FOLDER}")


def _indexes(artefacts: Sequence[Artefact]) -> list[str]:
    """Languages of package descriptions to ask for, as the archive writes them (``zh_CN``)."""
    prefix = "Translation-"
    return [artefact.name.removeprefix(prefix) for artefact in artefacts if artefact.name.startswith(prefix)]


class _PrivateApt:
    """apt-get with its own state, cache and sources under ``folder``."""

    def __init__(self, folder: Path, source: Source, suite: str, architecture: str, languages: Sequence[str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        for needed in ("lists/partial", "cache/archives/partial"):
            (folder / needed).mkdir(parents=True)
        self.lists = folder / "lists"
        options = [f"arch={architecture}"] * bool(architecture) + list(source.options)
        bracket = f"[{' '.join(options)}] " if options else ""
        components = "main" if architecture else " ".join(source.components)
        (folder / "sources.list").write_text(f"deb {bracket}{source.uri} {suite} {components}\n", encoding="utf-8")
        settings = {
            "Dir::State::lists": self.lists,
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            "Acquire::Retries": "1",
            "Acquire::GzipIndexes": "false",
            "APT::Sandbox::User": "root",
        }
        if architecture:
            settings |= {"APT::Architecture": architecture, "APT::Architectures": architecture}
        wanted = "".join(f'"{lang}"; ' for lang in languages)
        lines = [f'{name} "{value}";' for name, value in settings.items()]
        lines = [*_machine_settings(), *lines, f"Acquire::Languages {{ {wanted}}};"]
        (folder / "apt.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C.UTF-8"}

    def _run(self, *arguments: str, folder: Path | None = None) -> str | None:
        """``None`` if it went well, else the first error it printed."""
        command = ["apt-get", "-qq", *arguments]
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=TIME_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {TIME_LIMIT:.0f} s"
        if done.returncode == 0:
            return None
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        return errors[0].removeprefix("E: ") if errors else f"apt-get ended with code {done.returncode}"

    def update(self) -> str | None:
        return self._run("update", "--error-on=any")

    def download(self, artefacts: Sequence[Artefact], folder: Path) -> Fetched:
        got = Fetched()
        release = _release(next(iter(self.lists.glob("*Release"))).read_text(encoding="utf-8"))
        debs = folder / "debs"
        debs.mkdir(exist_ok=True)
        names = [artefact.name for artefact in artefacts if artefact.kind == "deb"]
        if self._run("download", *names, folder=debs) is not None:
            for name in names:  # one by one: a renamed package must not stop the rest
                if (problem := self._run("download", name, folder=debs)) is not None:
                    got.missing[name] = problem
        files = {path.name.partition("_")[0]: path for path in sorted(debs.glob("*.deb"))}
        for artefact in artefacts:
            if artefact.kind == "deb" and artefact.name in files:
                path = files[artefact.name]
                got.add(Archive(artefact, path), unquote(path.name.split("_")[1]), sha256_of(path))
            elif artefact.kind == "index":
                paths = sorted(
                    self.lists.glob(f"*_{artefact.name.replace('_', '%5f')}"), key=lambda path: path.stat().st_size
                )
                if paths:  # of several components, the one with most packages
                    got.add(Archive(artefact, paths[-1]), release, sha256_of(paths[-1]))
                else:
                    got.missing[artefact.name] = "the archive has no such index"
        return got


def _release(text: str) -> str:
    fields = dict(re.findall(r"^(Origin|Version|Codename): (.+)$", text, re.M))
    return " ".join(fields[name] for name in ("Origin", "Version", "Codename") if name in fields)


def _machine_settings() -> list[str]:
    """The machine's own settings of how to reach archives (proxies, time-outs), without the list of languages."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    kept = re.findall(r"^(Acquire::(?:https?|ftp|ForceIPv[46]|By-Hash)\b.*;)$", dump, re.M | re.I)
    return [line for line in kept if not line.endswith('"";')]
