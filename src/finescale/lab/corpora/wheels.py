"""Fetching wheels with pip where there is no apt: downloaded and read, never installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.fetched import Fetched, UnreachableError, sha256_of
from finescale.lab.corpora.recipes import Recipe

TIME_LIMIT = 900.0


def fetch(recipe: Recipe, folder: Path) -> Fetched:
    """Download the recipe's wheels into ``folder``, each at the recipe's version, else at the newest one.

    Raises:
        UnreachableError: pip found none of them.
    """
    got = Fetched()
    for artefact in recipe.artefacts:
        place = folder / artefact.name
        problem = _download(f"{artefact.name}=={artefact.version}", place)
        if problem is not None:
            _download(artefact.name, place)
        wheel = next(iter(sorted(place.glob("*.whl"))), None)
        if wheel is None:
            got.missing[artefact.name] = problem or "pip brought no wheel"
        else:
            got.add(Archive(artefact, wheel), wheel.name.split("-")[1], sha256_of(wheel))
    if not got.found:
        raise UnreachableError("; ".join(f"{name}: {problem}" for name, problem in got.missing.items()))
    return got


def _download(requirement: str, folder: Path) -> str | None:
    """``None`` if it went well, else what pip said."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return said[-1].removeprefix("ERROR: ") if said else f"pip ended with code {done.returncode}"
